"""Puts the part of the journal that was taken out last back in its place, from its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import asyncpg
from msgspec import Struct

from compliance.crypto.keys import VerifyingKey
from participants.archive.detachment import SWAP
from participants.archive.document import (
    COLUMNS,
    EVENTS,
    POSTINGS,
    Archive,
    ArchiveReason,
    ArchiveRefusedError,
    JournalArchive,
    opened,
    stored,
)
from participants.archive.turn import stand_still, turn

ATTACHED = """
SELECT EXISTS (SELECT FROM journal_archive WHERE encode(manifest_sha256, 'hex') = $1 AND attached_at IS NOT NULL)
    AND NOT EXISTS (SELECT FROM journal_archive WHERE first = $2 AND attached_at IS NULL)
"""
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


class Attached(Struct, frozen=True):
    """A part that is in the journal, and whether it was before."""

    manifest: JournalArchive
    already: bool


async def attach(
    connection: asyncpg.Connection, path: Path, *, bank: str, keys: Mapping[str, VerifyingKey]
) -> Attached:
    """Put a part back, unless it is. Raises ArchiveRefusedError; then nothing is changed.

    The connection is the owner's. `keys` are the bank's own, by key id, those that it signed with before included.
    """
    with opened(path, bank, keys) as archive:
        if await connection.fetchval(ATTACHED, archive.sha256, archive.manifest.first):
            return Attached(archive.manifest, already=True)
        await _require_last(connection, archive)
        archive.require_whole()
        async with turn(connection):
            await _require_last(connection, archive)
            await _fill(connection, archive)
            part, bound = str(archive.manifest.first), archive.manifest.bound
            await stand_still(connection)
            await connection.execute(SWAP.format(part=part, other="back", bound=bound))
            await connection.execute(WITHOUT_BOUNDS.format(part=part))
        return Attached(archive.manifest, already=False)


async def _require_last(connection: asyncpg.Connection, archive: Archive) -> None:
    manifest = archive.manifest
    last = await connection.fetchrow(LAST)
    if last is None or tuple(last) != (manifest.first, archive.sha256):
        expected = "nothing is detached" if last is None else f"the part from event {last[0]} on was detached last"
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNKNOWN, f"{archive.path}: {expected}")


async def _fill(connection: asyncpg.Connection, archive: Archive) -> None:
    """Make tables of what is in the file, and compare what they give again with what was signed."""
    part, bound = str(archive.manifest.first), archive.manifest.bound
    back = f"{part}_back"
    await connection.execute("SELECT make_journal_tables($1)", back)
    await connection.execute(BOUNDS.format(part=part, bound=bound))
    for table, name in (("event", EVENTS), ("posting", POSTINGS)):
        try:
            await connection.copy_to_table(
                f"{table}_{back}", source=archive.unpacked(name), columns=COLUMNS[name], format="csv"
            )
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            detail = f"{archive.path}: {name} isn't what was signed: {error}"
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, detail) from error
        if await stored(connection, name, back, bound) != archive.manifest.member(name):
            raise ArchiveRefusedError(
                ArchiveReason.ARCHIVE_DIFFERS, f"{archive.path}: {name} is read as something else"
            )
    await connection.execute(INDEXES.format(part=part))
