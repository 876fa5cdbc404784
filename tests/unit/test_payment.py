"""A payment is what its events make of it, by one table: every state against every event."""

from __future__ import annotations

from itertools import product
from typing import Any

import msgspec
import pytest

from compliance.recall_reasons import RecallReason, RecallRefusal
from gateway.federation.messages.payments import PaymentOutcome, PaymentTerms
from participants.ledger import events
from participants.ledger.books import Books
from participants.ledger.events import Event, PaymentOrder
from participants.ledger.payment import TRANSITIONS, ImpossibleEventError, Payment, Status, apply
from participants.payments.incoming import outcome_of

ID, OTHER = "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c12"
SHA = "ab" * 32
ORDER = PaymentOrder(
    id=ID, creditor_agent="BETAFRPP", amount_minor="1050", currency="EUR", debtor_account="a-1", debtor_name="Anton",
    creditor_account="b-1", creditor_name="Berta",
)  # fmt: skip
TAKEN = events.OrderTaken(**msgspec.structs.asdict(ORDER), actor="mona")
TERMS = ORDER.terms()
INCOMING: dict[str, Any] = {"sender": "BETAFRPP", "batch": SHA, "terms": TERMS}
DATA: dict[str, Any] = {
    "payment.reserved": TAKEN,
    "payment.held_out": events.OutgoingHeld(order=ORDER, hits=()),
    "payment.accepted": events.IncomingAccepted(**INCOMING, sequence=5),
    "payment.held_in": events.IncomingHeld(**INCOMING, hits=()),
    "payment.declined": events.IncomingDeclined(**INCOMING, reason="creditor_account_unknown"),
    "payment.opinion": events.Opinion(person="dora", decision="release", reason="hm"),
    "payment.released": events.Released(people=("dora", "egon")),
    "payment.posted": events.Numbered(sequence=7, acknowledgement=SHA),
    "payment.credited": events.Numbered(sequence=6),
    "payment.refused": events.Refused(reason="screening_rejected"),
    "payment.disputed": events.Disputed(person="dora", reason="hm"),
    "payment.dispute_withdrawn": events.Disputed(person="dora", reason="hm"),
    "payment.cancellation_requested": events.CancellationRequested(person="mona"),
    "payment.cancelled": events.Refused(reason="cancelled_by_sender", acknowledgement=SHA),
    "payment.recall_requested": events.RecallRequested(id=OTHER, reason=RecallReason.DUPL, person="mona"),
    "payment.recall_received": events.RecallReceived(id=OTHER, reason=RecallReason.DUPL, recall=SHA, status="accepted"),
    "payment.recall_answered": events.RecallAnswered(
        id=OTHER, answer="refused", reason=RecallRefusal.LEGL, status="accepted"
    ),
    "payment.returned": events.Returned(by=OTHER, amount_minor="1050"),
    "payment.returned_in_part": events.Returned(by=OTHER, amount_minor="50"),
    "payment.return_failed": events.Returned(by=OTHER, amount_minor="50"),
}
# A way to each status.
HISTORIES: dict[Status | None, tuple[str, ...]] = {
    None: (),
    Status.RESERVED: ("payment.reserved",),
    Status.CANCELLING: ("payment.reserved", "payment.cancellation_requested"),
    Status.HELD: ("payment.held_out",),
    Status.POSTED: ("payment.reserved", "payment.posted"),
    Status.ACCEPTED: ("payment.accepted",),
    Status.DECLINED: ("payment.declined",),
    Status.REFUSED: ("payment.held_in", "payment.refused"),
    Status.DISPUTED: ("payment.accepted", "payment.disputed"),
    Status.RETURNED: ("payment.accepted", "payment.returned"),
    Status.CANCELLED: ("payment.reserved", "payment.cancellation_requested", "payment.cancelled"),
}

# What an event needs to have happened besides.
NEEDS: dict[tuple[Status | None, str], tuple[str, ...]] = {
    (Status.ACCEPTED, "payment.return_failed"): ("payment.accepted", "payment.returned_in_part"),
    (Status.POSTED, "payment.recall_answered"): ("payment.reserved", "payment.posted", "payment.recall_requested"),
    (Status.ACCEPTED, "payment.recall_answered"): ("payment.accepted", "payment.recall_received"),
    (Status.DISPUTED, "payment.recall_answered"): (
        "payment.accepted", "payment.recall_received", "payment.disputed",
    ),
    (Status.RETURNED, "payment.recall_answered"): (
        "payment.accepted", "payment.recall_received", "payment.returned",
    ),
}  # fmt: skip


def history(*types: str) -> Payment | None:
    payment = None
    for number, type_ in enumerate(types, start=1):
        payment = apply(payment, Event(number, ID, number, type_, DATA[type_]))
    return payment


def test_the_tables_are_whole() -> None:
    assert DATA.keys() == {type_ for _, type_ in TRANSITIONS} == {t for t in events.TYPES if t.startswith("payment.")}
    assert HISTORIES.keys() == {None, *Status}


@pytest.mark.parametrize(("before", "type_"), list(product(HISTORIES, DATA)))
def test_an_event_happens_where_the_table_has_it_and_nowhere_else(before: Status | None, type_: str) -> None:
    payment = history(*HISTORIES[before])
    version = len(HISTORIES[before]) + 1
    assert (payment and payment.status) == before
    event = Event(9, ID, version, type_, DATA[type_])
    after = TRANSITIONS.get((before, type_))
    if (before, type_) in NEEDS:
        needed = NEEDS[before, type_]
        payment, version = history(*needed), len(needed) + 1
        event = Event(9, ID, version, type_, DATA[type_])
    if after is None:
        with pytest.raises(ImpossibleEventError, match=type_):
            apply(payment, event)
        books = Books("ALFADEFF", "AGNTBEB1")
        with pytest.raises(ImpossibleEventError):
            books.advance(payment, ID, type_, DATA[type_])
        assert books.payments == {}
    else:
        applied = apply(payment, event)
        assert (applied.status, applied.version, applied.terms) == (after, version, TERMS)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("payment.reserved",), {"direction": "out", "counterparty": "BETAFRPP", "waiting_since": 1}),
        (("payment.held_out", "payment.opinion"), {"was_held": True, "opinions": (DATA["payment.opinion"],)}),
        (("payment.held_out", "payment.opinion", "payment.released"), {"waiting_since": 3, "was_held": True}),
        (("payment.reserved", "payment.posted"), {"sequence": 7}),
        (("payment.reserved", "payment.refused"), {"reason": "screening_rejected"}),
        (("payment.accepted",), {"direction": "in", "counterparty": "BETAFRPP", "sequence": 5, "was_held": False}),
        (("payment.held_in", "payment.credited"), {"sequence": 6, "waiting_since": 1}),
        (("payment.declined",), {"reason": "creditor_account_unknown", "sequence": None}),
        (("payment.accepted", "payment.returned", "payment.return_failed", "payment.disputed"), {"sequence": 5}),
    ],
)
def test_what_events_leave_behind(types: tuple[str, ...], expected: dict[str, Any]) -> None:
    payment = history(*types)
    assert {name: getattr(payment, name) for name in expected} == expected
    assert type(payment.terms) is PaymentTerms  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("types", "type_", "data"),
    [
        (("payment.accepted",), "payment.returned", events.Returned(by=OTHER, amount_minor="1049")),
        (("payment.accepted",), "payment.returned_in_part", events.Returned(by=OTHER, amount_minor="1050")),
        (("payment.accepted",), "payment.returned_in_part", events.Returned(by=OTHER, amount_minor="1051")),
        (
            ("payment.accepted", "payment.returned_in_part"),
            "payment.returned",
            events.Returned(by=ID, amount_minor="1050"),
        ),
        (
            ("payment.accepted", "payment.returned_in_part"),
            "payment.returned_in_part",
            DATA["payment.returned_in_part"],
        ),
        (("payment.accepted", "payment.returned"), "payment.return_failed", events.Returned(by=ID, amount_minor="1")),
        (("payment.accepted", "payment.recall_received"), "payment.recall_received", DATA["payment.recall_received"]),
        (("payment.accepted",), "payment.recall_answered", DATA["payment.recall_answered"]),
    ],
    ids=[
        "less than the whole",
        "the whole in part",
        "more",
        "more than the rest",
        "twice",
        "another's",
        "open",
        "none",
    ],
)
def test_what_does_not_add_up_is_impossible(types: tuple[str, ...], type_: str, data: Any) -> None:
    with pytest.raises(ImpossibleEventError):
        apply(history(*types), Event(9, ID, len(types) + 1, type_, data))


def test_a_return_of_before_gave_the_whole_back() -> None:
    event = Event(2, ID, 2, "payment.returned", events.Returned(by=OTHER))
    assert apply(history("payment.accepted"), event).returned == 1050


@pytest.mark.parametrize(
    "changes",
    [{"subject": OTHER}, {"version": 1}, {"version": 3}],
    ids=["another payment's", "a version again", "a version left out"],
)
def test_an_event_out_of_its_place_is_impossible(changes: dict[str, Any]) -> None:
    event = Event(2, ID, 2, "payment.posted", DATA["payment.posted"])
    apply(history("payment.reserved"), event)
    with pytest.raises(ImpossibleEventError):
        apply(history("payment.reserved"), msgspec.structs.replace(event, **changes))


@pytest.mark.parametrize("changes", [{"subject": OTHER}, {"version": 2}])
def test_a_payment_begins_with_its_own_first_event(changes: dict[str, Any]) -> None:
    event = msgspec.structs.replace(Event(1, ID, 1, "payment.reserved", ORDER), **changes)
    with pytest.raises(ImpossibleEventError):
        apply(None, event)


def test_an_order_is_no_terms_and_flat_all_the_same() -> None:
    assert not isinstance(ORDER, PaymentTerms)
    assert msgspec.to_builtins(ORDER) == msgspec.to_builtins(TERMS) | {"creditor_agent": "BETAFRPP"}


@pytest.mark.parametrize(
    ("types", "outcome"),
    [
        (("payment.held_in",), PaymentOutcome(id=ID, status="held")),
        (("payment.accepted",), PaymentOutcome(id=ID, status="accepted", sequence=5)),
        (("payment.accepted", "payment.disputed"), PaymentOutcome(id=ID, status="accepted", sequence=5)),
        (("payment.accepted", "payment.returned"), PaymentOutcome(id=ID, status="accepted", sequence=5)),
        (("payment.declined",), PaymentOutcome(id=ID, status="refused", reason="creditor_account_unknown")),
        (("payment.held_in", "payment.refused"), PaymentOutcome(id=ID, status="refused", reason="screening_rejected")),
    ],
)
def test_the_sender_is_told_the_same_however_often(types: tuple[str, ...], outcome: PaymentOutcome) -> None:
    payment = history(*types)
    assert payment is not None
    assert outcome_of(payment) == outcome
