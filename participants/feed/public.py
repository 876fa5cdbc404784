"""From the journal's form of an event to the public one: a pure function, and the table of what is public."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from participants.feed.messages import (
    EventAccount,
    EventBreak,
    EventEntry,
    EventNostro,
    EventPayment,
    EventRecall,
    EventSettlement,
    EventType,
    LedgerEvent,
    SettledLane,
)
from participants.ledger import events
from participants.ledger.account_events import (
    ENTRY_TYPES,
    NOSTRO_MOVED,
    OPENINGS_MOVED,
    RENAMED,
    STATE_TYPES,
    NostroMoved,
    OpeningsMoved,
)
from participants.ledger.events import Event
from participants.ledger.payment import Status, first_of

VALUE_DATE_CHARS = len("2026-11-28")

# Journal type -> public type, and how the payment stands then. What isn't here is nobody's business outside. A status
# that depends on the direction is that of a payment which was received; `SENT` has the other.
PAYMENTS: Mapping[str, tuple[EventType, Status]] = {
    "payment.reserved": (EventType.PAYMENT_RESERVED, Status.RESERVED),
    "payment.held_out": (EventType.PAYMENT_HELD, Status.HELD),
    "payment.held_in": (EventType.PAYMENT_HELD, Status.HELD),
    "payment.released": (EventType.PAYMENT_RELEASED, Status.RESERVED),
    "payment.posted": (EventType.PAYMENT_POSTED, Status.POSTED),
    "payment.accepted": (EventType.PAYMENT_ACCEPTED, Status.ACCEPTED),
    "payment.credited": (EventType.PAYMENT_ACCEPTED, Status.ACCEPTED),
    "payment.declined": (EventType.PAYMENT_DECLINED, Status.DECLINED),
    "payment.refused": (EventType.PAYMENT_REFUSED, Status.REFUSED),
    "payment.disputed": (EventType.PAYMENT_DISPUTED, Status.DISPUTED),
    "payment.dispute_withdrawn": (EventType.PAYMENT_DISPUTE_WITHDRAWN, Status.ACCEPTED),
    "payment.cancellation_requested": (EventType.PAYMENT_CANCELLATION_REQUESTED, Status.CANCELLING),
    "payment.cancelled": (EventType.PAYMENT_CANCELLED, Status.CANCELLED),
    "payment.recall_requested": (EventType.PAYMENT_RECALL_REQUESTED, Status.POSTED),
    "payment.recall_received": (EventType.PAYMENT_RECALL_RECEIVED, Status.ACCEPTED),
    "payment.recall_answered": (EventType.PAYMENT_RECALL_ANSWERED, Status.ACCEPTED),
    "payment.returned": (EventType.PAYMENT_RETURNED, Status.RETURNED),
    "payment.returned_in_part": (EventType.PAYMENT_RETURNED_IN_PART, Status.ACCEPTED),
    "payment.return_failed": (EventType.PAYMENT_RETURN_FAILED, Status.ACCEPTED),
}
SENT: Mapping[str, Status] = {"payment.returned_in_part": Status.POSTED}
ACCOUNTS_OPENED, CYCLE_SETTLED, CYCLE_BREAK = "accounts.opened", "cycle.settled", "cycle.break"
ENTRIES: Mapping[str, EventType] = {type_: EventType(type_) for type_ in ENTRY_TYPES.values()}
CHANGES: Mapping[str, EventType] = {type_: EventType(type_) for type_ in (*STATE_TYPES.values(), RENAMED)}
NOSTRO: Mapping[str, EventType] = {type_: EventType(type_) for type_ in (NOSTRO_MOVED, OPENINGS_MOVED)}
PUBLIC: Mapping[str, EventType] = {
    **ENTRIES,
    **CHANGES,
    **NOSTRO,
    **{type_: public for type_, (public, _) in PAYMENTS.items()},
    ACCOUNTS_OPENED: EventType.ACCOUNTS_OPENED,
    CYCLE_SETTLED: EventType.CYCLE_SETTLED,
    CYCLE_BREAK: EventType.CYCLE_BREAK,
}
# What stays inside, and why.
PRIVATE: Mapping[str, str] = {
    "payment.opinion": "who said what of a held payment is between the two who decide",
    "cycle.cut": "evidence: GET /cycles/{cycle}/attestations shows what was signed",
    "cycle.cut_signed": "the same",
    "cycle.attested": "the same",
    "cycle.instructed": "evidence: GET /cycles/{cycle}/instructions shows it",
    "cycle.result_shown": "evidence: `concordat participant proof` shows it",
    "cycle.proofs_required": "a rule of the node for itself",
    "exposure.limits": "GET /exposures shows what is in force",
    "exposure.ceilings": "the same",
}


class Recorded(Struct, frozen=True):
    """An event of the journal with all that its public form is made of.

    `first` is the first event of its payment, `lanes` what a cycle settled.
    """

    event: Event
    recorded_at: datetime
    effective_at: datetime | None = None
    first: Event | None = None
    lanes: Sequence[SettledLane] = ()


def public_event(recorded: Recorded) -> LedgerEvent | None:
    """Return an event's public form; None where it concerns nobody outside."""
    event = recorded.event
    type_ = PUBLIC.get(event.type)
    if type_ is None:
        return None
    payment: EventPayment | None = None
    entry: EventEntry | None = None
    nostro: EventNostro | None = None
    accounts: tuple[EventAccount, ...] = ()
    settlement: EventSettlement | None = None
    break_: EventBreak | None = None
    if event.type in PAYMENTS:
        payment = _payment(event, recorded.first or event)
    elif event.type == ACCOUNTS_OPENED:
        accounts = tuple(
            EventAccount(
                code=account.code,
                currency=account.currency,
                name=account.name,
                kind=account.kind,
                opening_balance_minor=account.opening_balance_minor,
                against=account.against,
            )
            for account in event.data.accounts
        )
        if not accounts:
            return None  # An account of the bank's own chart, which opens by itself.
    elif event.type in CHANGES:
        accounts = (_changed(event),)
    elif event.type in ENTRIES:
        entry = _entry(event)
    elif event.type in NOSTRO:
        nostro = _nostro(event.data)
    elif event.type == CYCLE_BREAK:
        break_ = EventBreak(
            cycle=event.data.cycle,
            counterparty=event.data.counterparty,
            currency=event.data.currency,
            kind=event.data.kind,
            resolved=event.data.resolved,
        )
    else:
        settlement = EventSettlement(
            cycle=event.data.cycle,
            value_date=event.data.cycle[:VALUE_DATE_CHARS],
            settled_at=timestamp(recorded.effective_at or recorded.recorded_at),
            currency=event.data.currency,
            lanes=tuple(recorded.lanes),
        )
    return LedgerEvent(
        sequence=event.sequence,
        type=type_.value,
        at=timestamp(recorded.recorded_at),
        payment=payment,
        accounts=accounts,
        entry=entry,
        nostro=nostro,
        settlement=settlement,
        break_=break_,
    )


def _changed(event: Event) -> EventAccount:
    change = event.data
    return EventAccount(
        code=change.code,
        currency=change.currency,
        kind=change.kind,
        name=change.name if event.type == RENAMED else None,
        state=None if event.type == RENAMED else change.state.value,
    )


def _entry(event: Event) -> EventEntry:
    made = event.data
    return EventEntry(
        id=made.id,
        account=made.account,
        currency=made.currency,
        amount_minor=made.amount_minor,
        against=made.against,
        reference=made.reference,
        text=made.text,
    )


def _nostro(moved: NostroMoved | OpeningsMoved) -> EventNostro:
    if isinstance(moved, OpeningsMoved):
        return EventNostro(
            agent=moved.agent, currency=moved.currency, amount_minor=f"-{moved.amount_minor}", against=moved.against
        )
    return EventNostro(
        agent=moved.agent,
        currency=moved.currency,
        amount_minor=moved.amount_minor,
        against=moved.against,
        entry=moved.entry,
        reference=moved.reference,
        cycle=moved.cycle,
    )


def _payment(event: Event, first: Event) -> EventPayment:
    begun = first_of(first)
    terms, outgoing = begun.terms, begun.direction == "out"
    says: Any = event.data
    refused = event.type in ("payment.declined", "payment.refused", "payment.cancelled")
    recall: EventRecall | None = None
    status = ((outgoing and SENT.get(event.type)) or PAYMENTS[event.type][1]).value
    if type(says) in (events.RecallRequested, events.RecallReceived):
        recall = EventRecall(id=says.id, reason=says.reason, text=says.text)
    elif type(says) is events.RecallAnswered:
        recall = EventRecall(
            id=says.id, answer=says.answer, returned_by=says.returned_by, reason=says.reason, text=says.text
        )
    if type(says) in (events.RecallReceived, events.RecallAnswered):
        status = says.status
    given_back = event.type in ("payment.returned", "payment.returned_in_part", "payment.return_failed")
    numbered = event.type in ("payment.accepted", "payment.credited", "payment.posted")
    return EventPayment(
        id=begun.id,
        direction=begun.direction,
        status=status,
        counterparty=begun.counterparty,
        account=terms.debtor_account if outgoing else terms.creditor_account,
        currency=terms.currency,
        amount_minor=terms.amount_minor,
        debtor_account=terms.debtor_account,
        debtor_name=terms.debtor_name,
        creditor_account=terms.creditor_account,
        creditor_name=terms.creditor_name,
        remittance=terms.remittance,
        sequence=says.sequence if numbered else None,
        reason=says.reason if refused else None,
        returns=terms.returns,
        return_reason=terms.return_reason,
        end_to_end_id=terms.end_to_end_id,
        instruction_id=terms.instruction_id,
        uetr=terms.uetr,
        expires_at=terms.expires_at,
        returned_by=says.by if given_back else None,
        # Before there were returns in part, it was the whole.
        recall=recall,
        returned_minor=(says.amount_minor or terms.amount_minor) if given_back else None,
    )


def timestamp(value: datetime) -> str:
    """Return a timestamptz as RFC 3339 in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
