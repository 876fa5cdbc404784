"""The books as the journal alone tells them: balances at any instant, and every account replayed from its postings."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from gateway.federation.storage.sessions import LONG_READ_SECONDS_MAX
from participants.ledger.accounts import AccountKey
from participants.ledger.instants import last_event_at

ACCOUNTS_AT = """
SELECT a.kind, a.code, a.currency, coalesce(p.balance, 0)
FROM account a LEFT JOIN LATERAL (
    SELECT version, balance FROM (
        SELECT version, balance FROM posting
        WHERE account_id = a.id AND event_sequence <= $1 ORDER BY version DESC LIMIT 1
    ) here UNION ALL SELECT version, balance FROM carried_balance WHERE account_id = a.id
    ORDER BY version DESC LIMIT 1
) p ON true
WHERE a.opened_by <= $1
"""
BALANCES_AT = f"""
SELECT kind, CASE kind WHEN 'customer' THEN '' ELSE code END, currency, count(*), sum(balance)::text
FROM ({ACCOUNTS_AT}) a (kind, code, currency, balance) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 - a constant
REPLAY = """
SELECT a.kind, a.code, a.currency, coalesce(c.balance, 0) + coalesce(sum(p.amount), 0)::bigint,
    coalesce(c.version, 0) + count(p.amount)
FROM account a CROSS JOIN journal_floor f LEFT JOIN carried_balance c ON c.account_id = a.id
LEFT JOIN posting p ON p.account_id = a.id AND p.event_sequence >= f.sequence GROUP BY a.id, c.balance, c.version
"""


async def accounts_at(connection: asyncpg.Connection, instant: datetime | None = None) -> dict[AccountKey, int]:
    """Return the balance (debits minus credits) of every account that was open at an instant, now if None."""
    rows = await connection.fetch(ACCOUNTS_AT, await last_event_at(connection, instant))
    return {AccountKey(row[0], row[1], row[2]): row[3] for row in rows}


async def balances_at(connection: asyncpg.Connection, instant: datetime | None = None) -> list[dict[str, str]]:
    """Return the books at an instant for people: each chart account, and customers summed, by currency.

    Balances are debits minus credits in minor units; those of one currency sum to zero.
    """
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{LONG_READ_SECONDS_MAX:.0f}s'")
        last = await last_event_at(connection, instant)
        rows = await connection.fetch(BALANCES_AT, last, timeout=LONG_READ_SECONDS_MAX)
    names = ("kind", "code", "currency", "accounts", "balance_minor")
    return [dict(zip(names, map(str, row), strict=True)) for row in rows]


async def replay(connection: asyncpg.Connection) -> dict[AccountKey, tuple[int, int]]:
    """Return the balance and version of every account as its postings add up, without looking at any projection."""
    return {AccountKey(row[0], row[1], row[2]): (row[3], row[4]) for row in await connection.fetch(REPLAY)}
