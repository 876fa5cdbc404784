"""A payment at one bank: what its events make of it, by one table, whoever asks: commands, queries, `fsck`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.federation.messages.payments import PaymentDetails, PaymentTerms
from participants.ledger import events
from participants.ledger.accounts import AccountKey
from participants.ledger.events import Event

Direction = Literal["out", "in"]


class Status(StrEnum):
    """Where a payment stands at this bank (docs/reference/payment-states.md)."""

    RESERVED = "reserved"
    HELD = "held"
    POSTED = "posted"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REFUSED = "refused"
    DISPUTED = "disputed"
    RETURNED = "returned"


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
    (Status.ACCEPTED, "payment.disputed"): Status.DISPUTED,
    (Status.DISPUTED, "payment.dispute_withdrawn"): Status.ACCEPTED,
    (Status.ACCEPTED, "payment.returned"): Status.RETURNED,
    (Status.POSTED, "payment.returned"): Status.RETURNED,
    (Status.RETURNED, "payment.return_failed"): Status.ACCEPTED,
}


class ImpossibleEventError(ValueError):
    """An event that can't happen to a payment as it stands: nothing like it is recorded, and no history has it."""


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

    @property
    def amount(self) -> int:
        """The amount in minor units."""
        return int(self.terms.amount_minor)

    @property
    def own_account(self) -> AccountKey:
        """The customer's account at this bank."""
        terms = self.terms
        code = terms.debtor_account if self.direction == "out" else terms.creditor_account
        return AccountKey("customer", code, terms.currency)

    def is_given_back_by(self, details: PaymentDetails, counterparty: str) -> bool:
        """Tell whether a return gives the whole of this payment back, to the bank and account it came from."""
        terms = self.terms
        return (
            self.counterparty == counterparty
            and terms.returns is None
            and (details.amount_minor, details.currency) == (terms.amount_minor, terms.currency)
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
    return msgspec.structs.replace(payment, **changes)


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
