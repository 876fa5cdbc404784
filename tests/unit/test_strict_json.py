"""A request's body names no member twice, however it is spelled; and a reason knows its status."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import pytest
from msgspec import Struct

from gateway.federation.http.problems import Refusal, RefusalReason
from gateway.federation.http.strict_json import decode_strictly, read_strictly


class Line(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    text: str = ""
    count: int = 0


class Order(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    id: str
    lines: tuple[Line, ...] = ()
    note: str | None = None


ORDER = msgspec.json.Decoder(Order)

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
    assert decode_strictly(ORDER, body) == ORDER.decode(body)
    assert read_strictly(body) == msgspec.json.decode(body)


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_a_repeated_member_is_refused(body: bytes) -> None:
    ORDER.decode(body)
    for read in (read_strictly, lambda data: decode_strictly(ORDER, data)):
        with pytest.raises(msgspec.DecodeError, match="repeated"):
            read(body)


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes) -> None:
    for read in (read_strictly, lambda data: decode_strictly(ORDER, data)):
        with pytest.raises(msgspec.DecodeError):
            read(body)


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
