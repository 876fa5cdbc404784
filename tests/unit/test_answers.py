"""What is left aside of an answer, what is told of it, and what stays closed."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Annotated, Any

import msgspec
import pytest
from structlog.testing import capture_logs

from compliance.crypto.dsse import Envelope, Signature
from compliance.statements import Document
from gateway.federation.http import answers
from gateway.federation.http.answers import read_answer
from gateway.federation.messages.base import Answer, Request, open_words


class Line(Answer, frozen=True, kw_only=True):
    text: str
    colour: Annotated[str, open_words("red", "green")] = "red"


class Proof(Document, frozen=True, kw_only=True):
    digest: str


class Page(Answer, frozen=True, kw_only=True):
    lines: tuple[Line, ...] = ()
    best: Line | None = None
    by_name: dict[str, Line] = {}  # noqa: RUF012 - msgspec copies it
    proof: Proof | None = None
    envelope: Envelope | None = None
    data: dict[str, Any] = {}  # noqa: RUF012


class Wish(Request, frozen=True, kw_only=True):
    text: str


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_logged", defaultdict(set))


def read(document: Any, kind: Any = Page) -> tuple[Any, list[tuple[str, str, str | None]]]:
    """Read an answer; return it and what is told."""
    with capture_logs() as lines:
        answer = read_answer(json.dumps(document).encode(), kind, peer="CNCDXXC0")
    return answer, [(line["type"], line["member"], line.get("word")) for line in lines]


ENVELOPE = {"payload": "", "payloadType": "t", "signatures": [{"keyid": "k", "sig": "s"}]}

CASES: dict[str, tuple[Any, Any, list[tuple[str, str, str | None]]]] = {
    "nothing new": ({"lines": [{"text": "a"}]}, Page(lines=(Line(text="a"),)), []),
    "a member": ({"more": 1}, Page(), [("Page", "more", None)]),
    "in an item": ({"lines": [{"text": "a", "more": {}}]}, Page(lines=(Line(text="a"),)), [("Line", "more", None)]),
    "in an optional": ({"best": {"text": "a", "more": 1}}, Page(best=Line(text="a")), [("Line", "more", None)]),
    "in a map": ({"by_name": {"x": {"text": "a", "m": 1}}}, Page(by_name={"x": Line(text="a")}), [("Line", "m", None)]),
    "in free data": ({"data": {"more": {"more": 1}}}, Page(data={"more": {"more": 1}}), []),
    "the same twice": ({"lines": [{"text": "a", "more": 1}] * 2}, Page(lines=(Line(text="a"),) * 2),
                       [("Line", "more", None)]),
    "a word": ({"best": {"text": "a", "colour": "blue"}}, Page(best=Line(text="a", colour="blue")),
               [("Line", "colour", "blue")]),
    "an envelope": ({"envelope": {**ENVELOPE, "more": 1}},
                    Page(envelope=Envelope("", "t", (Signature("k", "s"),))), [("Envelope", "more", None)]),
    "a signature": ({"envelope": {**ENVELOPE, "signatures": [{"keyid": "k", "sig": "s", "more": 1}]}},
                    Page(envelope=Envelope("", "t", (Signature("k", "s"),))), [("Signature", "more", None)]),
    "a name that isn't one": ({"\x1b[31m": 1}, Page(), [("Page", "(not a name)", None)]),
}  # fmt: skip


@pytest.mark.parametrize(("document", "expected", "told"), CASES.values(), ids=CASES)
def test_it_is_read_and_told_once(document: Any, expected: Any, told: Any) -> None:
    assert read(document) == (expected, told)
    assert read(document) == (expected, [])


CLOSED: dict[str, tuple[Any, Any]] = {
    "a document": ({"proof": {"digest": "d", "more": 1}}, Page),
    "a request": ([], Wish),
    "a member of another type": ({"lines": 1}, Page),
    "a member that is missing": ({"best": {"more": 1}}, Page),
    "a word that is no word": ({"best": {"text": "a", "colour": "\x1b[31mred"}}, Page),
}


@pytest.mark.parametrize(("document", "kind"), CLOSED.values(), ids=CLOSED)
def test_it_is_refused(document: Any, kind: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(document, kind)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a":"\xff"}', b"nonsense"])
def test_what_isn_t_json_is_refused(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_answer(content, Page, peer="CNCDXXC0")


def test_a_request_takes_nothing_else() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `more`"):
        msgspec.json.decode(b'{"text":"a","more":1}', type=Wish)


@pytest.mark.parametrize("member", ['"free":', '"data":{"more":', '"lines":['])
def test_nothing_is_told_of_what_is_no_answer(member: str) -> None:
    """However long or deep it is, and whatever words are in it."""
    deep = f"{{{member}{'[' * 100_000}".encode()
    with pytest.raises(msgspec.DecodeError):
        read_answer(deep, Page, peer="CNCDXXC0")
    with capture_logs() as told, pytest.raises(msgspec.ValidationError):
        read_answer(b'{"lines":1,"best":{"text":"a","colour":"' + b"x" * 100_000 + b'"}}', Page, peer="CNCDXXC0")
    assert told == []
    assert not answers._logged["CNCDXXC0"]


def test_a_peer_can_t_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LOGGED_MAX", 10)
    _, told = read({f"more_{number}": number for number in range(100)})
    assert len(told) == 10
