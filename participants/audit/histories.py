"""Walking through the journal, one subject after another: is each history possible, and what follows from it?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
from msgspec import Struct

from participants.ledger import events
from participants.ledger.account_events import (
    ENTRY_TYPES,
    AccountOpening,
    AccountsOpened,
    NostroMoved,
    OpeningsMoved,
    OwnEntry,
)
from participants.ledger.payment import ImpossibleEventError, Payment, apply

PREFETCH_ROWS = 2_000

# Each posting as `str(Leg)` writes it.
LEGS_OF_EVENTS = """
SELECT p.event_sequence, array_agg(
    concat_ws(' ', a.kind, CASE WHEN a.kind <> 'nostro' THEN a.code END, a.currency, p.amount)
    ORDER BY p.amount DESC
) AS legs
FROM posting p LEFT JOIN account a ON a.id = p.account_id GROUP BY p.event_sequence
"""
HISTORIES = f"""
SELECT e.sequence, e.subject::text, e.version, e.type, e.schema_version, e.data, p.legs
FROM event e LEFT JOIN ({LEGS_OF_EVENTS}) p ON p.event_sequence = e.sequence
ORDER BY e.subject, e.version
"""  # noqa: S608 - a constant
# Their entries follow from documents of other subjects; `fsck` looks at them by themselves.
CYCLE_SETTLED = "cycle.settled"


class History(Struct):
    """A subject's events in brief: the payment they tell of, if any, and what is wrong with them."""

    subject: str
    events: int = 0
    payment: Payment | None = None
    impossible: str | None = None
    misposted: str | None = None


class Leg(NamedTuple):
    """One posting as an event's data imply it; `code` is empty where the kind says enough."""

    kind: str
    code: str
    currency: str
    amount: int

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.code, self.currency, str(self.amount))))


async def histories(connection: asyncpg.Connection) -> AsyncIterator[History]:
    """Yield every subject's history in the order of subjects. Needs a transaction; holds one history at a time."""
    history: History | None = None
    async for row in connection.cursor(HISTORIES, prefetch=PREFETCH_ROWS):
        if history is None or history.subject != row[1]:
            if history is not None:
                yield history
            history = History(row[1])
        history.events += 1
        if history.impossible is None:
            _take(history, events.EventRow(row[0], row[1], row[2], row[3], row[4], row[5]), row[6] or [])
    if history is not None:
        yield history


def _take(history: History, row: events.EventRow, legs: list[str]) -> None:
    """Add an event to a history."""
    place = f"event {row.sequence} ({row.type}, version {row.version} of {row.subject})"
    if row.version != history.events:
        history.impossible = f"{place} follows version {history.events - 1}"
        return
    try:
        event = events.read(row)
        if row.type.startswith("payment."):
            history.payment = apply(history.payment, event)
        elif history.payment is not None:
            raise ImpossibleEventError(f"{row.type} on a payment")
    except (events.EventUnreadableError, ImpossibleEventError) as error:
        history.impossible = f"{place}: {error}"
        return
    if row.type != CYCLE_SETTLED:
        implied = sorted(_legs(event, history.payment), key=lambda leg: -leg.amount)
        if history.misposted is None and [str(leg) for leg in implied] != legs:
            history.misposted = f"{place} has {legs or 'no postings'}, its data say {[str(leg) for leg in implied]}"


def _legs(event: events.Event, payment: Payment | None) -> list[Leg]:
    """Return the postings that an event gives rise to."""
    if payment is not None:
        return _payment_legs(event.type, payment)
    if isinstance(event.data, AccountsOpened):
        return [leg for opening in event.data.accounts for leg in _opening_legs(opening)]
    if isinstance(event.data, OwnEntry):
        entry, amount = event.data, int(event.data.amount_minor)
        amount = amount if event.type == ENTRY_TYPES["deposit"] else -amount
        return [
            Leg("internal", entry.against, entry.currency, amount),
            Leg("customer", entry.account, entry.currency, -amount),
        ]
    if isinstance(event.data, NostroMoved | OpeningsMoved):
        moved, amount = event.data, int(event.data.amount_minor)
        amount = amount if isinstance(moved, NostroMoved) else -amount
        return [Leg("nostro", "", moved.currency, amount), Leg("internal", moved.against, moved.currency, -amount)]
    return []


def _opening_legs(opening: AccountOpening) -> list[Leg]:
    amount, currency = int(opening.opening_balance_minor), opening.currency
    if not amount:
        return []
    against = opening.against
    source = Leg("nostro", "", currency, amount) if against is None else Leg("internal", against, currency, amount)
    return [source, Leg(opening.kind, opening.code, currency, -amount)]


def _payment_legs(kind: str, payment: Payment) -> list[Leg]:
    terms, counterparty = payment.terms, payment.counterparty
    amount, currency = payment.amount, terms.currency
    debtor = ("customer", terms.debtor_account, currency)
    creditor = ("customer", terms.creditor_account, currency)
    reserved, due_to = ("reserved", counterparty, currency), ("due_to", counterparty, currency)
    pairs = {
        "payment.reserved": (debtor, reserved),
        "payment.held_out": (debtor, reserved),
        "payment.posted": (reserved, due_to),
        "payment.accepted": (("due_from", counterparty, currency), creditor),
        "payment.credited": (("due_from", counterparty, currency), creditor),
    }
    if payment.direction == "out":
        pairs["payment.refused"] = pairs["payment.cancelled"] = (reserved, debtor)
    if kind not in pairs:
        return []
    debit, credit = pairs[kind]
    return [Leg(*debit, amount), Leg(*credit, -amount)]
