"""One command at a time changes which parts the journal has, and either all of it or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from participants.archive.document import ArchiveReason, ArchiveRefusedError

# A second one would fill, or take away, the tables that the first one is about to put in their place.
KEEP_OUT = "SELECT pg_advisory_xact_lock(hashtextextended('journal parts', 0))"

# Both at once: a writer that waits for the head may have locked the tables before.
STAND_STILL = "SELECT FROM ledger_head FOR UPDATE; LOCK TABLE event, posting IN ACCESS EXCLUSIVE MODE"
# Shorter than what a server takes for a deadlock.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
ATTEMPTS_MAX = 8
PAUSE_SECONDS = 0.1


@asynccontextmanager
async def turn(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Give a transaction in which no other command is at the parts. Raises ArchiveRefusedError; then it is undone."""
    try:
        async with connection.transaction():
            await connection.execute(KEEP_OUT)
            yield
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        detail = "the journal is being read at length, or another command is at its parts"
        raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, detail) from error


async def stand_still(connection: asyncpg.Connection) -> None:
    """Keep who writes or reads the journal waiting until the transaction ends. Raises asyncpg.LockNotAvailableError.

    While somebody has what is needed, all is let go of again and again, so that nobody waits for each other.
    """
    await connection.execute(LOCK_TIMEOUT)
    for attempt in range(ATTEMPTS_MAX):
        try:
            async with connection.transaction():
                await connection.execute(STAND_STILL)
        except asyncpg.LockNotAvailableError:
            if attempt + 1 == ATTEMPTS_MAX:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
