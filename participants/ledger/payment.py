"""A payment at one bank: what its events make of it, by one table, whoever asks: commands, queries, `fsck`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Struct

from compliance.recall_reasons import RecallReason
from gateway.federation.messages.payments import PaymentDetails, PaymentTerms
from participants.ledger import events
from participants.ledger.accounts import AccountKey
from participants.ledger.events import Event

Direction = Literal["out", "in"]


class Status(StrEnum):
    """Where a payment stands at this bank (docs/reference/payment-states.md)."""

    RESERVED = "reserved"
    CANCELLING = "cancelling"
    """The sender doesn't want it paid any more; whether it is in already, the receiver says."""
    HELD = "held"
    POSTED = "posted"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REFUSED = "refused"
    DISPUTED = "disputed"
    RETURNED = "returned"
    CANCELLED = "cancelled"


CAME_TO_NOTHING = frozenset({Status.DECLINED, Status.REFUSED, Status.CANCELLED})
"""How a payment ends that moves no money."""

# (status before, event) -> status after. What isn't here doesn't happen.
TRANSITIONS: dict[tuple[Status | None, str], Status] = {
    (None, "payment.reserved"): Status.RESERVED,
    (None, "payment.held_out"): Status.HELD,
    (None, "payment.accepted"): Status.ACCEPTED,
    (None, "payment.held_in"): Status.HELD,
    (None, "payment.declined"): Status.DECLINED,
    (Status.HELD, "payment.opinion"): Status.HELD,
    (Status.HELD, "payment.released"): Status.RESERVED,
    (Status.HELD, "payment.credited"): Status.ACCEPTED,
    (Status.HELD, "payment.refused"): Status.REFUSED,
    (Status.RESERVED, "payment.posted"): Status.POSTED,
    (Status.RESERVED, "payment.refused"): Status.REFUSED,
    (Status.RESERVED, "payment.cancellation_requested"): Status.CANCELLING,
    (Status.CANCELLING, "payment.posted"): Status.POSTED,
    (Status.CANCELLING, "payment.refused"): Status.REFUSED,
    (Status.CANCELLING, "payment.cancelled"): Status.CANCELLED,
    (Status.ACCEPTED, "payment.disputed"): Status.DISPUTED,
    (Status.DISPUTED, "payment.dispute_withdrawn"): Status.ACCEPTED,
    (Status.ACCEPTED, "payment.returned_in_part"): Status.ACCEPTED,
    (Status.POSTED, "payment.returned_in_part"): Status.POSTED,
    (Status.ACCEPTED, "payment.returned"): Status.RETURNED,
    (Status.POSTED, "payment.returned"): Status.RETURNED,
    (Status.ACCEPTED, "payment.return_failed"): Status.ACCEPTED,
    (Status.RETURNED, "payment.return_failed"): Status.ACCEPTED,
    (Status.POSTED, "payment.recall_requested"): Status.POSTED,
    (Status.ACCEPTED, "payment.recall_received"): Status.ACCEPTED,
    (Status.DISPUTED, "payment.recall_received"): Status.DISPUTED,
    (Status.POSTED, "payment.recall_answered"): Status.POSTED,
    (Status.ACCEPTED, "payment.recall_answered"): Status.ACCEPTED,
    (Status.DISPUTED, "payment.recall_answered"): Status.DISPUTED,
    (Status.RETURNED, "payment.recall_answered"): Status.RETURNED,
}
UNMOVED = frozenset(type_ for (_, type_) in TRANSITIONS) - {
    type_ for (before, type_), after in TRANSITIONS.items() if before is not after
}
"""The types of events after which a payment stands as it did before."""
STATUS_AFTER: dict[str, Status] = {type_: status for (_, type_), status in TRANSITIONS.items() if type_ not in UNMOVED}
"""How a payment stands after the last event that moved it, by that event's type alone."""


class ImpossibleEventError(ValueError):
    """An event that can't happen to a payment as it stands: nothing like it is recorded, and no history has it."""


class PartGivenBack(Struct, frozen=True, gc=False):
    """A return of a payment: the payment that gives it back, and how much of it, in minor units."""

    by: str
    amount: int


class AskedBack(Struct, frozen=True, gc=False):
    """A recall of a payment, and what was answered; None while it is open."""

    id: str
    reason: RecallReason
    text: str
    answer: events.RecallAnswered | None = None


class Payment(Struct, frozen=True, kw_only=True, gc=False):
    """A payment as its events tell it. `counterparty` is the other bank; `sequence` its number in the lane.

    `waiting_since` is the event that put it into the queue or before people.
    """

    id: str
    version: int
    status: Status
    direction: Direction
    counterparty: str
    terms: PaymentTerms
    waiting_since: int
    sequence: int | None = None
    reason: str | None = None
    was_held: bool = False
    maker: str | None = None
    """Who ordered it, of one that this bank sends. Events of version 1 don't say."""
    opinions: tuple[events.Opinion, ...] = ()
    cancelled_by: str | None = None
    """Who asked for its cancellation, whatever came of that."""
    given_back: tuple[PartGivenBack, ...] = ()
    """Its returns, but those that failed; where it was received, those that are under way are among them."""
    recalls: tuple[AskedBack, ...] = ()
    """All that were ever asked for; the last one may be open."""

    @property
    def amount(self) -> int:
        """The amount in minor units."""
        return int(self.terms.amount_minor)

    @property
    def open_recall(self) -> AskedBack | None:
        """The recall that waits for its answer."""
        return self.recalls[-1] if self.recalls and self.recalls[-1].answer is None else None

    def recall(self, id_: str) -> AskedBack | None:
        """Return its recall with this id."""
        return next((recall for recall in self.recalls if recall.id == id_), None)

    @property
    def returned(self) -> int:
        """How much of it is given back, in minor units."""
        return sum(part.amount for part in self.given_back)

    @property
    def own_account(self) -> AccountKey:
        """The customer's account at this bank."""
        terms = self.terms
        code = terms.debtor_account if self.direction == "out" else terms.creditor_account
        return AccountKey("customer", code, terms.currency)

    def is_given_back_by(self, details: PaymentDetails, counterparty: str) -> bool:
        """Tell whether a return gives something of this payment back, to the bank and account it came from."""
        terms = self.terms
        return (
            self.counterparty == counterparty
            and terms.returns is None
            and details.currency == terms.currency
            and (details.debtor_account, details.creditor_account) == (terms.creditor_account, terms.debtor_account)
        )


def apply(payment: Payment | None, event: Event) -> Payment:
    """Return a payment after one more event, its first one where there is none yet. Raises ImpossibleEventError."""
    if payment is None:
        return first_of(event)
    status = TRANSITIONS.get((payment.status, event.type))
    if status is None:
        raise ImpossibleEventError(f"{event.type} on a payment that is {payment.status}")
    if (event.subject, event.version) != (payment.id, payment.version + 1):
        raise ImpossibleEventError(
            f"{event.type} as version {event.version} of {event.subject}, after {payment.version} of {payment.id}"
        )
    changes: dict[str, Any] = {"version": event.version, "status": status}
    match event.type:
        case "payment.posted" | "payment.credited":
            changes["sequence"] = event.data.sequence
        case "payment.refused":
            changes["reason"] = event.data.reason
        case "payment.opinion":
            changes["opinions"] = (*payment.opinions, event.data)
        case "payment.released":
            changes["waiting_since"] = event.sequence
        case "payment.cancellation_requested":
            changes.update(waiting_since=event.sequence, cancelled_by=event.data.person)
        case "payment.cancelled":
            changes["reason"] = event.data.reason
        case "payment.returned" | "payment.returned_in_part" | "payment.return_failed":
            changes["given_back"] = _given_back_after(payment, event)
        case "payment.recall_requested" | "payment.recall_received":
            if payment.open_recall is not None or payment.recall(event.data.id) is not None:
                raise ImpossibleEventError(f"{event.type} of {payment.id}, and one is open or was this one")
            asked = AskedBack(event.data.id, event.data.reason, event.data.text)
            changes.update(waiting_since=event.sequence, recalls=(*payment.recalls, asked))
        case "payment.recall_answered":
            recall = payment.open_recall
            if recall is None or recall.id != event.data.id:
                raise ImpossibleEventError(f"an answer to {event.data.id}, and that isn't the open one of {payment.id}")
            answered = AskedBack(recall.id, recall.reason, recall.text, event.data)
            changes["recalls"] = (*payment.recalls[:-1], answered)
    return msgspec.structs.replace(payment, **changes)


def _given_back_after(payment: Payment, event: Event) -> tuple[PartGivenBack, ...]:
    """Return what is given back of a payment after a return, or after one that failed. Raises ImpossibleEventError."""
    data: events.Returned = event.data
    before, rest = payment.given_back, payment.amount - payment.returned
    if event.type == "payment.return_failed":
        after = tuple(part for part in before if part.by != data.by)
        if len(after) == len(before):
            raise ImpossibleEventError(f"return {data.by} of {payment.id} failed, and isn't one of its returns")
        return after
    # Before there were returns in part, the amount wasn't said.
    amount = rest if data.amount_minor is None else int(data.amount_minor)
    if amount != rest if event.type == "payment.returned" else not 0 < amount < rest:
        raise ImpossibleEventError(f"{event.type} of {payment.id} by {amount}, and {rest} of it is left")
    if any(part.by == data.by for part in before):
        raise ImpossibleEventError(f"return {data.by} gives {payment.id} back twice")
    return (*before, PartGivenBack(data.by, amount))


def first_of(event: Event) -> Payment:
    """Return a payment after the first of its events. Raises ImpossibleEventError for one that can't be the first."""
    type_, data = event.type, event.data
    status = TRANSITIONS.get((None, type_))
    if status is None:
        raise ImpossibleEventError(f"{type_} on nothing")
    direction: Direction = "out"
    terms: PaymentTerms
    maker: str | None = None
    if type_ == "payment.reserved":
        counterparty, terms = data.creditor_agent, data.terms()
        maker = data.actor if type(data) is events.OrderTaken else None
    elif type_ == "payment.held_out":
        counterparty, terms, maker = data.order.creditor_agent, data.order.terms(), data.actor
    else:
        direction, counterparty, terms = "in", data.sender, data.terms
    if (event.subject, event.version) != (terms.id, 1):
        raise ImpossibleEventError(f"{type_} as version {event.version} of {event.subject} begins {terms.id}")
    return Payment(
        id=terms.id,
        version=1,
        status=status,
        direction=direction,
        counterparty=counterparty,
        terms=terms,
        waiting_since=event.sequence,
        sequence=data.sequence if type_ == "payment.accepted" else None,
        reason=data.reason if type_ == "payment.declined" else None,
        was_held=status is Status.HELD,
        maker=maker,
    )
