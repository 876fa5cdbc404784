"""The partitions of the journal: which there are, and that there are always empty ones ahead.

A partition is a stretch of the journal's numbers, with the events that have them and their postings. Numbers are given
in the order of commits, so a stretch of numbers is one of time, and no clock says where it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

import asyncpg
import structlog
from msgspec import Struct

from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised

LOOK_SECONDS = 5.0
"""Two partitions ahead hold two million events and more: that is minutes of what PostgreSQL can write at all."""
DETACHED = """
SELECT k.subject::text, k.sequence FROM event_key k CROSS JOIN journal_floor f
WHERE k.subject = ANY($1::uuid[]) AND k.version = 1 AND k.sequence < f.sequence
  AND NOT EXISTS (SELECT FROM event WHERE event.sequence = k.sequence) LIMIT 1
"""
# The part that an event is in, or else one of a time, and how many were taken out after it.
DETACHED_PART = """
SELECT coalesce((SELECT bic || '-' FROM owner), '') || 'journal-' || a.first || '-' || a.bound - 1,
    (SELECT count(*) FROM journal_archive later WHERE later.attached_at IS NULL AND later.first > a.first)
FROM journal_archive a WHERE a.attached_at IS NULL AND (a.bound > $1 OR a.ends_at >= $2) ORDER BY a.first LIMIT 1
"""
FLOOR = "SELECT sequence FROM journal_floor"
DETACHED_UNTIL = "SELECT ends_at FROM journal_floor"
EXTEND = "SELECT extend_journal()"
# The first event and the last one that are there, by the primary key of each partition.
PARTITIONS = """
SELECT p.first, p.bound, least(p.bound, h.sequence + 1) - greatest(p.first, 1) AS events, b.recorded_at, e.recorded_at,
    pg_total_relation_size(to_regclass('event_' || p.first)), pg_total_relation_size(to_regclass('posting_' || p.first))
FROM journal_partition p CROSS JOIN ledger_head h
LEFT JOIN event b ON b.sequence = greatest(p.first, 1)
LEFT JOIN event e ON e.sequence = least(p.bound - 1, h.sequence) AND e.sequence >= p.first
ORDER BY p.first
"""

log = structlog.get_logger(__name__)


class JournalReason(RefusalReason):
    """Why the journal can't be read where somebody asks."""

    JOURNAL_DETACHED = "journal_detached", 410
    """What is asked for stands in a part of the journal that was taken out into a file: attach that, and ask again."""


class JournalDetached(Refusal):
    """What is asked for stands in a part of the journal that isn't here. `where` is for the bank's own people."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(JournalReason.JOURNAL_DETACHED, what + where)
        self._what = what

    def for_others(self) -> JournalDetached:
        """Return what another bank is told: nothing of how long the journal is."""
        return JournalDetached(self._what)


class Partition(Struct, frozen=True):
    """A stretch of the journal: numbers from `first` on and before `bound`, how many are given, and what they take."""

    first: int
    bound: int
    events: int
    begins_at: datetime | None
    ends_at: datetime | None
    event_bytes: int
    posting_bytes: int


async def partitions(connection: asyncpg.Connection) -> list[Partition]:
    """Return the partitions in the order of the journal, the empty ones ahead included."""
    return [
        Partition(row[0], row[1], max(0, row[2]), row[3], row[4], row[5] or 0, row[6] or 0)
        for row in await connection.fetch(PARTITIONS)
    ]


async def detached(
    connection: asyncpg.Connection, what: str, *, event: int | None = None, instant: datetime | None = None
) -> JournalDetached:
    """Return what is raised where something stands with an event, or at an instant, that is detached.

    It names the part, and how many have to be put back before it.
    """
    part = await connection.fetchrow(DETACHED_PART, event, instant)
    if part is None:
        return JournalDetached(f"{what} detached")
    name, later = part
    before = "" if not later else f", after the {later:,} part{'s' if later > 1 else ''} taken out after it"
    return JournalDetached(f"{what} detached", f": put {name} back{before}")


async def require_none(connection: asyncpg.Connection, detached_payments: Iterable[str]) -> None:
    """Raise JournalDetached if there is any payment that was found to be detached."""
    if (payment := min(detached_payments, default=None)) is not None:
        await require_attached(connection, [payment])
        raise JournalDetached(f"the events of {payment} are detached")


async def require_attached(connection: asyncpg.Connection, payments: Iterable[str]) -> None:
    """Raise JournalDetached where the events of any of these payments are detached."""
    if (row := await connection.fetchrow(DETACHED, list(payments))) is not None:
        raise await detached(connection, f"the events of {row[0]} are", event=row[1])


class Partitions:
    """The task that makes partitions ahead. Belongs to one event loop."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.task = Supervised("journal-partitions", self._run)

    async def extend(self) -> int:
        """Make what is missing ahead, and return how many partitions that was."""
        made: int = await self._pool.fetchval(EXTEND)
        if made:
            log.info("journal extended", partitions=made)
        return made

    async def _run(self) -> None:
        while True:
            try:
                await self.extend()
            except Exception as error:
                # A failing database is told of elsewhere, and one that is busy is asked again.
                if failure_of(error) is None:
                    raise
            await asyncio.sleep(LOOK_SECONDS)
