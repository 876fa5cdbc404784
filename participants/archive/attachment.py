"""Puts the part of the journal that was taken out last back in its place, from its file."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from participants.archive.detachment import SWAP
from participants.archive.document import (
    COLUMNS,
    EVENTS,
    POSTINGS,
    ArchiveReason,
    ArchiveRefusedError,
    JournalArchive,
    opened,
    stored,
    unpacked,
)

LAST = """
SELECT first, encode(manifest_sha256, 'hex') FROM journal_archive WHERE attached_at IS NULL ORDER BY first DESC LIMIT 1
"""
# Known before the rows come, so that nobody waits while they are looked at again.
BOUNDS = """
ALTER TABLE event_{part}_back ADD CONSTRAINT bounds CHECK (sequence >= {part} AND sequence < {bound});
ALTER TABLE posting_{part}_back ADD CONSTRAINT bounds CHECK (event_sequence >= {part} AND event_sequence < {bound});
"""
INDEXES = """
ALTER TABLE event_{part}_back ADD PRIMARY KEY (sequence);
CREATE INDEX ON event_{part}_back (type, sequence)
    WHERE type IN ('payment.opinion', 'cycle.cut', 'cycle.attested', 'cycle.instructed', 'cycle.settled');
ANALYZE event_{part}_back, posting_{part}_back;
"""
WITHOUT_BOUNDS = """
ALTER TABLE event_{part} DROP CONSTRAINT bounds;
ALTER TABLE posting_{part} DROP CONSTRAINT bounds;
UPDATE journal_archive SET attached_at = now() WHERE first = {part} AND attached_at IS NULL;
"""


async def attach(connection: asyncpg.Connection, path: Path) -> JournalArchive:
    """Put a part back. Raises ArchiveRefusedError; then nothing is changed. The connection is the owner's."""
    archive = opened(path)
    manifest = archive.manifest
    last = await connection.fetchrow(LAST)
    if last is None or tuple(last) != (manifest.first, archive.sha256):
        expected = "nothing is detached" if last is None else f"the part from event {last[0]} on was detached last"
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNKNOWN, f"{path}: {expected}")
    part, bound = str(manifest.first), manifest.bound
    back = f"{part}_back"
    await connection.execute(f"DROP TABLE IF EXISTS event_{back}, posting_{back}")
    await connection.execute("SELECT make_journal_tables($1)", back)
    await connection.execute(BOUNDS.format(part=part, bound=bound))
    for table, name in (("event", EVENTS), ("posting", POSTINGS)):
        await connection.copy_to_table(
            f"{table}_{back}", source=unpacked(path, name), columns=COLUMNS[name], format="csv"
        )
        if await stored(connection, name, back, bound) != manifest.member(name):
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: {name} is read as something else")
    await connection.execute(INDEXES.format(part=part))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            await connection.execute(SWAP.format(part=part, other="back", bound=bound))
            await connection.execute(WITHOUT_BOUNDS.format(part=part))
    except asyncpg.LockNotAvailableError as error:
        raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, "the journal is being read at length") from error
    return manifest
