"""Which events an instant comes after: the journal is in the order of numbers, and clocks may step back a little.

An instant's state is everything before the first event that was recorded at it or later. So it stays what it is once
such an event is there, however the clocks of a bank's nodes differ, and what ends one day begins the next.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg

from participants.ledger.partitions import detached

INVERSION_MAX = timedelta(seconds=60)
"""How much earlier than an event before it one may be recorded: a writer waits for its turn, or a clock is set back."""
# Found by halving on the primary key, as far as clocks can be trusted, and from there on event by event.
LAST_EVENT_BEFORE = """
WITH RECURSIVE search (low, high) AS (
    SELECT greatest(f.sequence - 1, 0), h.sequence + 1 FROM ledger_head h CROSS JOIN journal_floor f
    UNION ALL
    SELECT CASE WHEN e.recorded_at < $2 THEN e.sequence ELSE low END,
           CASE WHEN e.recorded_at < $2 THEN high ELSE e.sequence END
    FROM search JOIN event e ON e.sequence = (low + high) / 2 WHERE high - low > 1
)
SELECT coalesce(
    (SELECT sequence - 1 FROM event
     WHERE sequence > (SELECT max(low) FROM search) AND recorded_at >= $1 ORDER BY sequence LIMIT 1),
    (SELECT sequence FROM ledger_head)
), ends_at FROM journal_floor
"""
# Whoever writes at a time before has come to it, or given up, a little later.
PASSED = "SELECT now() >= $1 OR EXISTS (SELECT FROM event WHERE sequence = $2 + 1)"


async def last_event_before(connection: asyncpg.Connection, instant: datetime) -> int:
    """Return the number of the last event before an instant, 0 if there is none. Raises JournalDetached."""
    last, detached_until = await connection.fetchrow(LAST_EVENT_BEFORE, instant, instant - INVERSION_MAX)
    if detached_until is not None and instant <= detached_until:
        until = f"events until {detached_until:%Y-%m-%dT%H:%M:%S.%fZ} are"
        raise await detached(connection, until, instant=instant)
    return int(last)


async def last_event_at(connection: asyncpg.Connection, instant: datetime | None) -> int:
    """Return the number of the last event at an instant, 0 if there is none; None means now. Raises JournalDetached."""
    if instant is None:
        return int(await connection.fetchval("SELECT sequence FROM ledger_head"))
    return await last_event_before(connection, instant + timedelta(microseconds=1))


async def is_past(connection: asyncpg.Connection, instant: datetime, last_event: int) -> bool:
    """Tell whether `last_event` stays the last one before an instant."""
    return bool(await connection.fetchval(PASSED, instant + INVERSION_MAX, last_event))
