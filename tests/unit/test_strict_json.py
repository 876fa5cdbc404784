"""A request's body names no member twice, however it is spelled; and a reason knows its status."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import pytest

from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.strict_json import DEPTH_MAX, ITEMS_MAX, MEMBERS_MAX, VALUES_MAX, read_strictly

TAKEN = {
    "compact": b'{"id":"1","lines":[{"text":"a"},{}]}',
    "in another order": b'{"lines":[],"id":"1"}',
    "white space": b' { "id" : "1",\n "lines" : [ {"count": 2} ] } ',
    "defaults written out": b'{"id":"1","note":null,"lines":[{"text":"","count":0}]}',
    "escapes": rb'{"\u0069d":"\u0041 \"quoted\" \\ \/"}',
    "a text that looks like a member": rb'{"id":"\",\"id\":\"2"}',
    "not ASCII": '{"id":"ß€😀"}'.encode(),
}

REPEATED = {
    "the same value": b'{"id":"1","id":"1"}',
    "another value": b'{"id":"2","id":"1"}',
    "white space": b'{"id":"1", "id" :"1"}',
    "in escapes": rb'{"id":"1","\u0069d":"1"}',
    "in an item": b'{"id":"1","lines":[{"text":"a","text":"a"}]}',
    "in an item that is replaced": b'{"id":"1","lines":[{"text":"a","text":"a"}],"lines":[]}',
    "a default, to make up for its length": b'{"id":"1","note":null,"note":null}',
    "an item's default": b'{"id":"1","lines":[{"count":0,"count":0}]}',
    "white space of each kind": b'{"id"\n:"1","id"\t:"1","id"\r:"1","id" \n :"1"}',
    "beside a text that looks like the end of a name": rb'{"id":"\":","id":"\\"}',
    "beside a text with white space before a colon": b'{"id":"1 :","id":"1"}',
    "a name that looks like an end": rb'{"\":":1,"\":":2}',
}

MALFORMED = {
    "nothing": b"",
    "not JSON": b"{",
    "not a number": b'{"id":NaN}',
    "half of a surrogate pair": rb'{"id":"\ud800"}',
    "not UTF-8": b'{"id":"\xff"}',
    "too deep": b"[" * 100_000,
    "two texts": b"{} {}",
}


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN)
def test_taken(body: bytes) -> None:
    assert read_strictly(body) == msgspec.json.decode(body)


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_a_repeated_member_is_refused(body: bytes) -> None:
    msgspec.json.decode(body)
    with pytest.raises(msgspec.DecodeError, match="repeated"):
        read_strictly(body)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_strictly(body)


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"[]" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (nested(DEPTH_MAX), None),
        (nested(DEPTH_MAX + 1), "levels"),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, None),
        (b"[" * 2_000 + b"]" * 2_000, "levels"),
        (msgspec.json.encode(dict.fromkeys(map(str, range(MEMBERS_MAX)))), None),
        (msgspec.json.encode(dict.fromkeys(map(str, range(MEMBERS_MAX + 1)))), "members"),
        (msgspec.json.encode([0] * ITEMS_MAX), None),
        (msgspec.json.encode([[0] * (ITEMS_MAX + 1)]), "items"),
        (msgspec.json.encode("x" * 1_000_000), None),
        (msgspec.json.encode([[0] * 1_000] * 255), None),
        (msgspec.json.encode([[0] * 1_000] * 265), str(VALUES_MAX)),
        (msgspec.json.encode({"crowd": dict.fromkeys(map(str, range(VALUES_MAX)))}), str(VALUES_MAX)),
        (b"[" * (VALUES_MAX + 1), str(VALUES_MAX)),
    ],
)
def test_depth_and_width_are_bounded(body: bytes, refused: str | None) -> None:
    if refused is None:
        assert read_strictly(body) == msgspec.json.decode(body)
    else:
        with pytest.raises(msgspec.DecodeError, match=refused):
            read_strictly(body)


class Reason(RefusalReason):
    UNKNOWN = "order_unknown", 404
    TAKEN = "order_taken", 409


class OtherReason(StrEnum):
    TAKEN = "order_taken"


def test_a_reason_is_its_code_and_knows_its_status() -> None:
    assert (Reason.UNKNOWN, Reason.UNKNOWN.value, str(Reason.UNKNOWN)) == ("order_unknown",) * 3
    assert Reason("order_unknown") is Reason.UNKNOWN
    assert Reason(OtherReason.TAKEN) is Reason.TAKEN
    assert msgspec.json.encode(Reason.UNKNOWN) == b'"order_unknown"'
    assert msgspec.json.decode(b'"order_unknown"', type=Reason) is Reason.UNKNOWN
    assert Refusal(Reason.UNKNOWN, "no such order").status == 404
    assert Refusal(Reason.UNKNOWN, "no such order", status=410).status == 410
    assert Refusal(OtherReason.TAKEN, "another has it").status == 409
