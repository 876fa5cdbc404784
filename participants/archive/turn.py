"""One command at a time changes which parts the journal has, and either all of it or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from participants.archive.document import ArchiveReason, ArchiveRefusedError

# A second one would fill, or take away, the tables that the first one is about to put in their place.
KEEP_OUT = "SELECT pg_advisory_xact_lock(hashtextextended('journal parts', 0))"


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
