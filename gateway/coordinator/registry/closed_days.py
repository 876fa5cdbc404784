"""The days on which operators declared a currency closed: its table, and what a cycle leaves out for it.

Each function works in the caller's transaction.
"""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.coordinator.rulebook import Rulebook

OVER = "the value date is over"
DECLARED = "declared closed"
"""Why a currency is closed that its system's own calendar has open."""


async def closed(conn: AsyncConnection, rulebook: Rulebook, day: date, *, now: datetime) -> dict[str, str]:
    """Return the currencies that don't settle on a day, each with why: by calendar, or by the word of operators.

    All of them once the day is over, as for a cycle that was left open: the agent would refuse what comes so late.
    """
    if day < rulebook.days.today(now):
        return dict.fromkeys(sorted(rulebook.currencies), OVER)
    rows = await conn.execute(text("SELECT currency FROM closed_days WHERE day = :day"), {"day": day})
    declared = {currency: DECLARED for currency in rows.scalars() if currency in rulebook.currencies}
    return declared | rulebook.days.closed_of(rulebook.currencies, day)


async def declared(conn: AsyncConnection, since: date) -> list[tuple[date, str, str]]:
    """Return the days from one on that are declared closed, each with currency and reason, in order."""
    query = text("SELECT day, currency, reason FROM closed_days WHERE day >= :since ORDER BY day, currency")
    return [(row.day, row.currency, row.reason) for row in await conn.execute(query, {"since": since})]


async def close(conn: AsyncConnection, currency: str, day: date, reason: str) -> bool:
    """Declare a day closed; tell whether it wasn't."""
    query = text(
        "INSERT INTO closed_days (currency, day, reason) VALUES (:currency, :day, :reason)"
        " ON CONFLICT DO NOTHING RETURNING true"
    )
    done = await conn.execute(query, {"currency": currency, "day": day, "reason": reason})
    return done.scalar_one_or_none() is not None


async def reopen(conn: AsyncConnection, currency: str, day: date) -> bool:
    """Take a declaration back; tell whether there was one."""
    query = text("DELETE FROM closed_days WHERE (currency, day) = (:currency, :day) RETURNING true")
    return (await conn.execute(query, {"currency": currency, "day": day})).scalar_one_or_none() is not None


async def taken_in_by(conn: AsyncConnection, currency: str, day: date) -> tuple[str, bool] | None:
    """Return a cycle that took in a currency for a value date, and whether it is final; None if none did.

    One that isn't final comes first. Nobody cuts one off meanwhile.
    """
    settled: tuple[str, bool] | None = None
    query = text("SELECT id, state, currencies FROM cycles WHERE value_date = :day ORDER BY number FOR UPDATE")
    for cycle in await conn.execute(query, {"day": day}):
        if cycle.state not in ("open", "abandoned") and currency in cycle.currencies:
            if cycle.state != "final":
                return str(cycle.id), False
            settled = str(cycle.id), True
    return settled
