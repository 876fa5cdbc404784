"""Balances and statements of one account: what its postings say between two events of the journal.

Postings never change, so a statement of a time that is past is the same whenever it is asked for, while payments go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
from msgspec import Struct

from gateway.federation.messages.payments import PaymentDetails
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.sessions import LONG_READ_SECONDS_MAX
from participants.ledger import events
from participants.ledger.account_events import AccountsOpened, NostroMoved, OpeningsMoved, OwnEntry
from participants.ledger.instants import is_past, last_event_at, last_event_before
from participants.ledger.payment import Direction

ACCOUNT = """
SELECT a.id, a.kind, a.code, a.currency, coalesce(b.name, a.name)
FROM account a JOIN account_balance b ON b.account_id = a.id WHERE a.id = $1
"""
# By halving on the primary key: an account's postings are numbered without a gap, in the order of events.
LAST_POSTING = """
WITH RECURSIVE search (low, high) AS (
    SELECT coalesce(c.version, 0), b.version + 1
    FROM account_balance b LEFT JOIN carried_balance c USING (account_id) WHERE b.account_id = $1
    UNION ALL
    SELECT CASE WHEN p.event_sequence <= $2 THEN p.version ELSE low END,
           CASE WHEN p.event_sequence <= $2 THEN high ELSE p.version END
    FROM search JOIN posting p ON p.account_id = $1 AND p.version = (low + high) / 2 WHERE high - low > 1
)
SELECT s.low, coalesce(c.balance, p.balance, 0)
FROM (SELECT max(low) AS low FROM search) s LEFT JOIN posting p ON p.account_id = $1 AND p.version = s.low
LEFT JOIN carried_balance c ON c.account_id = $1 AND c.version = s.low
"""
TOTALS = """
SELECT count(*) FILTER (WHERE amount > 0), coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::text,
       count(*) FILTER (WHERE amount < 0), coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)::text
FROM posting WHERE account_id = $1 AND version > $2 AND version <= $3
"""
# The first event of what a posting is about says who and what for.
ENTRIES = """
SELECT p.version AS posting, p.amount, p.previous_balance, p.balance, e.type, e.recorded_at, e.effective_at,
    f.sequence, f.subject::text, f.version, f.type, f.schema_version, f.data, p.event_sequence
FROM posting p JOIN event e ON e.sequence = p.event_sequence
JOIN subject_event f ON f.subject = e.subject AND f.version = 1
WHERE p.account_id = $1 AND p.version > $2 AND p.version <= $3 ORDER BY p.version LIMIT $4
"""
PAGE = 1_000


FIRST_YEAR, LAST_YEAR = 1900, 9998
"""Of what is asked for: before any books, and where a calendar still goes on a little."""


class StatementReason(RefusalReason):
    """Why there is no balance or statement, in order of precedence."""

    ACCOUNT_UNKNOWN = "account_unknown", 404
    PERIOD_MALFORMED = "period_malformed", 400
    """A statement is of a `date`, or `from` an instant `to` a later one."""
    STATEMENT_TOO_LONG = "statement_too_long", 422
    """More entries than one message holds: ask for a shorter period."""
    STATEMENT_UNWRITABLE = "statement_unwritable", 422
    """ISO 20022 has no form for it: a currency that ISO 4217 doesn't have, or more than 18 digits."""


class StatementAccount(Struct, frozen=True):
    """The account that a statement is of."""

    id: int
    kind: str
    code: str
    currency: str
    name: str


class Standing(Struct, frozen=True):
    """Where an account stood after an event: its last posting by then, and its balance."""

    event: int
    posting: int
    balance: int


class Totals(Struct, frozen=True):
    """How many entries there are, and what they come to, by direction."""

    debits: int
    debited: int
    credits: int
    credited: int


class Period(Struct, frozen=True):
    """From an instant on, until before another one; `day` where that is a calendar day."""

    begins_at: datetime
    ends_at: datetime
    day: date | None = None

    @classmethod
    def of_day(cls, day: date, zone: ZoneInfo) -> Period:
        """Return a calendar day of a time zone; it may have 23 hours, or 25. Raises OverflowError."""
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            raise OverflowError(f"{day} is of no books")
        begins, ends = (datetime.combine(d, time.min, zone) for d in (day, day + timedelta(days=1)))
        return cls(begins, ends, day)


class Statement(Struct, frozen=True):
    """An account over a period: what it stood at before and after, and what there is between.

    `final` says that nothing can come into the period any more.
    """

    account: StatementAccount
    period: Period
    opening: Standing
    closing: Standing
    totals: Totals
    final: bool


class Entry(Struct, frozen=True):
    """One entry, with what it is about. `amount` and `balance` are debits minus credits in minor units.

    `counterparty` is the other bank of a payment, and its account and name the other customer's; of an entry that the
    bank made itself, its internal account. `direction` is that of a payment.
    """

    posting: int
    event: int
    type: str
    booked_at: datetime
    value_at: datetime
    amount: int
    balance: int
    reference: str | None = None
    payment_id: str | None = None
    external_reference: str | None = None
    direction: Direction | None = None
    counterparty: str | None = None
    counterparty_account: str | None = None
    counterparty_name: str | None = None
    text: str | None = None
    returns: str | None = None
    return_reason: str | None = None
    end_to_end_id: str | None = None
    instruction_id: str | None = None
    uetr: str | None = None


async def account(connection: asyncpg.Connection, account_id: int) -> StatementAccount:
    """Return an account. Raises Refusal `account_unknown`."""
    row = await connection.fetchrow(ACCOUNT, account_id)
    if row is None:
        raise Refusal(StatementReason.ACCOUNT_UNKNOWN, f"no account {account_id}")
    return StatementAccount(*row)


async def standing(connection: asyncpg.Connection, account_id: int, event: int) -> Standing:
    """Return where an account stood after an event."""
    row = await connection.fetchrow(LAST_POSTING, account_id, event)
    return Standing(event, row[0], row[1])


async def standing_at(connection: asyncpg.Connection, account_id: int, instant: datetime | None) -> Standing:
    """Return where an account stood at an instant; None means now."""
    return await standing(connection, account_id, await last_event_at(connection, instant))


async def statement(connection: asyncpg.Connection, account_id: int, period: Period) -> Statement:
    """Return an account's statement without its entries. Raises Refusal `account_unknown`.

    What it opened with and its entries come to what it closes with, or something is badly wrong: RuntimeError.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{LONG_READ_SECONDS_MAX:.0f}s'")
        about = await account(connection, account_id)
        opening = await standing(connection, account_id, await last_event_before(connection, period.begins_at))
        closing = await standing(connection, account_id, await last_event_before(connection, period.ends_at))
        row = await connection.fetchrow(
            TOTALS, account_id, opening.posting, closing.posting, timeout=LONG_READ_SECONDS_MAX
        )
        final = await is_past(connection, period.ends_at, closing.event)
    totals = Totals(row[0], int(row[1]), row[2], int(row[3]))
    if opening.balance + totals.debited - totals.credited != closing.balance:
        raise RuntimeError(f"account {account_id}: {opening} and {totals} don't come to {closing}")
    return Statement(about, period, opening, closing, totals, final)


async def entries(
    connection: asyncpg.Connection, account_statement: Statement, *, after: int | None = None, limit: int = PAGE
) -> list[Entry]:
    """Return entries of a statement in their order, those after a posting; each follows the one before."""
    before = account_statement.opening.posting if after is None else max(after, account_statement.opening.posting)
    rows = await connection.fetch(
        ENTRIES, account_statement.account.id, before, account_statement.closing.posting, limit
    )
    balance = rows[0]["previous_balance"] if rows else 0
    if rows and before == account_statement.opening.posting and balance != account_statement.opening.balance:
        raise RuntimeError(
            f"account {account_statement.account.id}: posting {rows[0][0]} doesn't follow {account_statement.opening}"
        )
    for row in rows:
        if row["previous_balance"] != balance:
            raise RuntimeError(
                f"account {account_statement.account.id}: posting {row[0]} doesn't follow the one before"
            )
        balance = row["balance"]
    return [_entry(row) for row in rows]


async def all_entries(pool: asyncpg.Pool, account_statement: Statement) -> AsyncIterator[list[Entry]]:
    """Yield all entries of a statement, a page at a time; nobody waits for a connection meanwhile."""
    after: int | None = None
    while True:
        async with pool.acquire() as connection:
            page = await entries(connection, account_statement, after=after)
        if page:
            yield page
            after = page[-1].posting
        if len(page) < PAGE:
            return


def _entry(row: asyncpg.Record) -> Entry:
    first = events.read(events.EventRow(*tuple(row)[7:13]))
    return Entry(
        posting=row["posting"],
        event=row["event_sequence"],
        type=row[4],
        booked_at=row["recorded_at"],
        value_at=row["effective_at"] or row["recorded_at"],
        amount=row["amount"],
        balance=row["balance"],
        **_about(first.data),
    )


def _about(data: Any) -> dict[str, Any]:
    """Return what an entry is about, by the first event of its subject."""
    match data:
        case OwnEntry():
            return {
                "reference": data.id,
                "external_reference": data.reference,
                "counterparty_account": data.against,
                "text": data.text or None,
            }
        case AccountsOpened():
            against = next((opening.against for opening in data.accounts), None)
            return {"counterparty_account": against}
        case NostroMoved():
            return {"reference": data.reference, "counterparty": data.agent, "counterparty_account": data.against}
        case OpeningsMoved():
            return {"counterparty": data.agent, "counterparty_account": data.against}
        case events.CycleSettled():
            return {"reference": data.cycle}
        case events.Incoming():
            terms = data.terms
            return {
                "reference": terms.id,
                "payment_id": terms.id,
                "direction": "in",
                "counterparty": data.sender,
                "counterparty_account": terms.debtor_account,
                "counterparty_name": terms.debtor_name,
                **_of_terms(terms),
            }
        case events.PaymentOrder() | events.OutgoingHeld():
            order = data.order if isinstance(data, events.OutgoingHeld) else data
            return {
                "reference": order.id,
                "payment_id": order.id,
                "direction": "out",
                "counterparty": order.creditor_agent,
                "counterparty_account": order.creditor_account,
                "counterparty_name": order.creditor_name,
                **_of_terms(order),
            }
    return {}


def _of_terms(terms: PaymentDetails) -> dict[str, Any]:
    return {
        "text": terms.remittance or None,
        "returns": terms.returns,
        "return_reason": terms.return_reason,
        "end_to_end_id": terms.end_to_end_id,
        "instruction_id": terms.instruction_id,
        "uetr": terms.uetr,
    }
