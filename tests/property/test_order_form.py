"""One expression over an order takes nothing that a member's own pattern refuses, and refuses nothing for good."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compliance.crypto import canonical
from participants.ledger import events
from participants.ledger.events import EventData, PaymentOrder, beginning

PLAIN = {
    "id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "amount_minor": "123450",
    "currency": "EUR",
    "debtor_account": "DE89370400440532013000",
    "debtor_name": "Ada Alder",
    "creditor_account": "acc-7",
    "creditor_name": "Bo Ølsen",
    "creditor_agent": "BRCHXXB0",
}
BESIDES = {
    "remittance": "invoice 17",
    "end_to_end_id": "INV-17",
    "instruction_id": "I-17",
    "uetr": "5f0c2ad4-8a86-4b1e-9d4e-0c3c2a6f7b11",
    "expires_at": "2026-11-30T16:00:00Z",
    "returns": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e11",
    "return_reason": "AC04",
}
NEAR = [
    "", " ", "\n", "x\n", '"', "\\", "\x7f", "\u2028", "0", "00", "1" * 16, "a" * 35, "a" * 36, "é" * 140, "é" * 141,
    None, 7,
]  # fmt: skip
SAID = st.sampled_from(NEAR) | st.text(max_size=150)
MEMBERS = sorted(PLAIN | BESIDES)


def taken(body: bytes) -> str | None:
    """Return what the journal gets of an order, or None if it is refused."""
    try:
        (order,) = EventData.orders([body], maker="mona")
    except (msgspec.MsgspecError, UnicodeError):
        return None
    assert canonical.encode(order.value).decode()[1:] == order.text.removeprefix(beginning("mona"))
    return order.text


def read(body: bytes) -> str | None:
    """Return the same as the patterns of the members have it."""
    try:
        order = msgspec.json.decode(body, type=PaymentOrder)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return beginning("mona") + canonical.encode(order).decode()[1:]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    besides=st.sets(st.sampled_from(sorted(BESIDES))),
    changed=st.dictionaries(st.sampled_from(MEMBERS), SAID, max_size=2),
    left_out=st.sets(st.sampled_from(sorted(PLAIN)), max_size=1),
)
@example(besides=set(), changed={"debtor_name": "a\n"}, left_out=set())
@example(besides=set(), changed={"currency": "EUR\n"}, left_out=set())
@example(besides={"uetr"}, changed={"uetr": None}, left_out=set())
def test_what_is_taken_is_what_the_patterns_take(
    besides: set[str], changed: dict[str, Any], left_out: set[str]
) -> None:
    order = {**PLAIN, **{member: BESIDES[member] for member in besides}, **changed}
    body = json.dumps({member: said for member, said in order.items() if member not in left_out}).encode()
    assert taken(body) == read(body)


def test_a_plain_order_matches_at_once() -> None:
    for besides in ({}, {member: said for member, said in BESIDES.items() if not member.startswith("return")}):
        (order,) = EventData.orders([canonical.encode(PLAIN | besides)], maker="mona")
        assert type(order.value) is not PaymentOrder, "left to the patterns"
        assert events.read(events.EventRow(1, order.value.id, 1, order.type, 2, order.text)).data.actor == "mona"
