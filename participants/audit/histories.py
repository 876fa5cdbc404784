"""Walking through the journal, one subject after another: is each history possible, and what follows from it?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import msgspec
from msgspec import Struct

from participants.ledger import events
from participants.ledger.books import Payment
from participants.payments.decisions import advance, first

PREFETCH_ROWS = 2_000

# Each posting as `str(Leg)` writes it.
LEGS_OF_EVENTS = """
SELECT p.event_sequence, array_agg(
    concat_ws(' ', a.kind, CASE WHEN a.kind NOT IN ('nostro', 'suspense') THEN a.code END, a.currency, p.amount)
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
SETTLED = "cycle.settled"


class History(Struct):
    """A subject's events in brief: the payment they tell of, if any, and what is wrong with them.

    `waiting_since` is the event that last put the payment into a queue or before people.
    """

    subject: str
    events: int = 0
    payment: Payment | None = None
    waiting_since: int = 0
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
    try:
        data = events.read(row)
    except (events.EventUnreadableError, msgspec.MsgspecError) as error:
        history.impossible = f"{place}: {error}"
        return
    if row.version != history.events:
        history.impossible = f"{place} follows version {history.events - 1}"
        return
    before = history.payment
    if row.type.startswith("payment."):
        after = first(row, data) if row.version == 1 else None
        if before is not None:
            after = advance(before, row.type, data, row.sequence)
        if after is None or after.terms.id != row.subject:
            history.impossible = f"{place} on {before.status if before else 'nothing'}"
            return
        history.payment = after
    elif before is not None:
        history.impossible = f"{place} on a payment"
        return
    if row.version == 1 or row.type == "payment.released":
        history.waiting_since = row.sequence
    if row.type != SETTLED:
        implied = sorted(_legs(row.type, data, history.payment), key=lambda leg: -leg.amount)
        if history.misposted is None and [str(leg) for leg in implied] != legs:
            history.misposted = f"{place} has {legs or 'no postings'}, its data say {[str(leg) for leg in implied]}"


def _legs(kind: str, data: Any, payment: Payment | None) -> list[Leg]:
    """Return the postings that an event gives rise to."""
    if payment is not None:
        return _payment_legs(kind, payment)
    if isinstance(data, events.AccountsOpened):
        opened = [(a.code, a.currency, int(a.opening_balance_minor)) for a in data.accounts]
        return [
            leg
            for code, currency, amount in opened
            if amount
            for leg in (Leg("nostro", "", currency, amount), Leg("customer", code, currency, -amount))
        ]
    if isinstance(data, events.NostroFunded):
        amount = int(data.amount_minor)
        return [Leg("nostro", "", data.currency, amount), Leg("suspense", "", data.currency, -amount)]
    return []


def _payment_legs(kind: str, payment: Payment) -> list[Leg]:
    terms, other = payment.terms, payment.counterparty
    amount, currency = int(terms.amount_minor), terms.currency
    debtor = ("customer", terms.debtor_account, currency)
    creditor = ("customer", terms.creditor_account, currency)
    reserved, due_to = ("reserved", other, currency), ("due_to", other, currency)
    pairs = {
        "payment.reserved": (debtor, reserved),
        "payment.held_out": (debtor, reserved),
        "payment.posted": (reserved, due_to),
        "payment.accepted": (("due_from", other, currency), creditor),
        "payment.credited": (("due_from", other, currency), creditor),
    }
    if payment.direction == "out":
        pairs["payment.refused"] = (reserved, debtor)
    if kind not in pairs:
        return []
    debit, credit = pairs[kind]
    return [Leg(*debit, amount), Leg(*credit, -amount)]
