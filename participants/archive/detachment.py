"""Takes the oldest part of the journal out into a file, once nothing here needs it and the file is proved.

What other parts build on stays: everything that is no payment's (cuts, instructions, settlements, openings, limits),
returns with what they give back, and payments that have events elsewhere. So the rest of the journal stays provable.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
from msgspec import Struct

from compliance.crypto import dsse
from compliance.crypto.keys import Signer
from participants.archive.document import (
    ARCHIVE_TYPE,
    CLOSING,
    EVENTS,
    MANIFEST,
    MEMBERS,
    POSTINGS,
    Archive,
    ArchiveReason,
    ArchiveRefusedError,
    JournalArchive,
    Member,
    clear_drafts,
    flush,
    opened,
    pack,
    stored,
    written,
)
from participants.archive.turn import stand_still, turn

RETENTION = timedelta(days=92)
"""So long disputes, recalls and returns are about; and the least that is asked of a bank's own books at hand."""
OLDEST = """
SELECT p.first, p.bound,
    (SELECT encode(manifest_sha256, 'hex') FROM journal_archive WHERE attached_at IS NULL AND bound = p.first)
FROM journal_partition p CROSS JOIN journal_floor f CROSS JOIN ledger_head h
WHERE p.first >= f.sequence AND p.bound <= h.sequence + 1 ORDER BY p.first LIMIT 1
"""
SPAN = "SELECT min(recorded_at), max(recorded_at) FROM event_{part}"
OF_THE_FILE = (ArchiveReason.ARCHIVE_UNREADABLE, ArchiveReason.ARCHIVE_NOT_OURS, ArchiveReason.ARCHIVE_DIFFERS)
# Each with how many there are, or nothing. What an open payment gives back is needed to end it.
OBSTACLES = {
    ArchiveReason.PAYMENTS_OPEN: """
SELECT count(*) FROM payment_open o JOIN subject_event e ON e.subject = o.payment_id AND e.version = 1
CROSS JOIN LATERAL (SELECT coalesce(e.data -> 'order', e.data -> 'terms', e.data) ->> 'returns' AS returns) t
JOIN event_key k ON k.subject = ANY (ARRAY[o.payment_id, t.returns::uuid])
WHERE k.version = 1 AND k.sequence < $1
""",
    ArchiveReason.PAYMENTS_DISPUTED: """
SELECT count(*) FROM dispute d JOIN event_key k ON k.subject = d.payment_id WHERE k.version = 1 AND k.sequence < $1
""",
    ArchiveReason.PAYMENTS_UNSETTLED: """
SELECT count(*) FROM lane l
JOIN lane_entry e ON e.lane_id = l.id
    AND e.sequence > coalesce((SELECT max(sequence) FROM lane_settled WHERE lane_id = l.id), 0)
JOIN event_key k ON k.subject = e.payment_id WHERE k.version = 1 AND k.sequence < $1
""",
    ArchiveReason.WEBHOOK_BEHIND: "SELECT count(*) FROM webhook WHERE cursor + 1 < $1",
    ArchiveReason.SEARCH_BEHIND: "SELECT count(*) FROM event_term_cursor WHERE through + 1 < $1",
}
CARRY = """
INSERT INTO journal_closing (bound, account_id, version, balance)
SELECT DISTINCT ON (account_id) {bound}, account_id, version, balance FROM (
    SELECT account_id, version, balance FROM posting_{part}
    UNION ALL SELECT account_id, version, balance FROM carried_balance
) stood ORDER BY account_id, version DESC
"""
KEEP_EVENTS = """
INSERT INTO event_{part}_kept SELECT * FROM event_{part} e
WHERE e.type NOT LIKE 'payment.%'
    OR e.subject IN (
        SELECT subject FROM event_{part} WHERE type LIKE 'payment.return%'
            OR (version = 1 AND strpos(data::text, '"returns":') > 0)
    )
    OR EXISTS (SELECT FROM event_key k WHERE k.subject = e.subject AND (k.sequence < {first} OR k.sequence >= {bound}))
"""
KEEP_POSTINGS = """
INSERT INTO posting_{part}_kept SELECT p.* FROM posting_{part} p
WHERE EXISTS (SELECT FROM event_{part}_kept k WHERE k.sequence = p.event_sequence)
"""
# Whether anything came to a payment of the part since an event.
CAME_SINCE = """
SELECT EXISTS (SELECT FROM event e JOIN event_key k ON k.subject = e.subject
WHERE e.sequence > $1 AND k.sequence >= $2 AND k.sequence < $3)
"""
SWAP = """
ALTER TABLE event DETACH PARTITION event_{part};
ALTER TABLE posting DETACH PARTITION posting_{part};
DROP TABLE event_{part}, posting_{part};
ALTER TABLE event_{part}_{other} RENAME TO event_{part};
ALTER TABLE posting_{part}_{other} RENAME TO posting_{part};
SELECT attach_journal_tables({part}, {bound});
"""
NOTE = """
INSERT INTO journal_archive (first, bound, manifest, manifest_sha256, kept, ends_at) VALUES ($1, $2, $3, $4, $5, $6)
"""


class _Part(Struct, frozen=True):
    """The part that is to be taken out. `previous` is the digest of the manifest of the one before."""

    first: int
    bound: int
    begins_at: datetime
    ends_at: datetime
    previous: str

    def manifest(self, bank: str, files: Mapping[str, Member]) -> JournalArchive:
        """Return what is signed of it, given what is in its files."""
        return JournalArchive(
            bank=bank, first=self.first, bound=self.bound, begins_at=_text(self.begins_at), ends_at=_text(self.ends_at),
            events=files[EVENTS], postings=files[POSTINGS], closing=files[CLOSING], previous=self.previous,
        )  # fmt: skip


class Detached(Struct, frozen=True):
    """A part that was taken out: where it is, what was signed of it, and how many of its events stay."""

    path: Path
    manifest: JournalArchive
    kept: int


async def detach(
    connection: asyncpg.Connection,
    bank: str,
    signer: Signer,
    directory: Path,
    *,
    before: datetime,
    retention: timedelta = RETENTION,
) -> Detached:
    """Take out the oldest part, recorded before an instant. Raises ArchiveRefusedError; then nothing is changed.

    The connection is the owner's. Payments wait for the moment in which the tables change places.
    """
    async with turn(connection):
        # The file is flushed within it, and nobody waits for what it has locked.
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '15min'")
        part = await _oldest(connection, before, retention)
        await _require_at_rest(connection, part.bound)
        await connection.execute("DELETE FROM journal_closing WHERE bound = $1", part.bound)
        await connection.execute(CARRY.format(part=part.first, bound=part.bound))
        path = directory / f"{bank}-journal-{part.first}-{part.bound - 1}.zip"
        clear_drafts(path)
        # Of a command that was ended before it had taken the part out; or it was put back since.
        made = not path.exists()
        if made:
            await _write(connection, bank, signer, part, path)
    # Whatever happens the file stays: another command may have taken the part out by it.
    try:
        with opened(path, bank, {signer.kid: signer.verifying_key}) as archive:
            archive.require_whole()
            flush(path)
            async with turn(connection):
                await _require_proved(connection, part, archive)
                kept = await _swap(connection, archive, part.ends_at)
            return Detached(path, archive.manifest, kept)
    except ArchiveRefusedError as error:
        if error.reason in OF_THE_FILE and not made:
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_EXISTS, str(error)) from error
        raise


async def _oldest(connection: asyncpg.Connection, before: datetime, retention: timedelta) -> _Part:
    part = await connection.fetchrow(OLDEST)
    if part is None:
        raise ArchiveRefusedError(ArchiveReason.NOTHING_TO_DETACH, "no part of the journal is full")
    first, bound, previous = part
    begins_at, ends_at = await connection.fetchrow(SPAN.format(part=first))
    if ends_at >= before:
        detail = f"events {first} to {bound - 1} were recorded until {ends_at:%Y-%m-%d %H:%M}"
        raise ArchiveRefusedError(ArchiveReason.NOTHING_TO_DETACH, detail)
    if ends_at >= datetime.now(UTC) - retention:
        raise ArchiveRefusedError(ArchiveReason.TOO_YOUNG, f"it was written until {ends_at:%Y-%m-%d}")
    return _Part(first, bound, begins_at, ends_at, previous or "")


async def _write(connection: asyncpg.Connection, bank: str, signer: Signer, part: _Part, path: Path) -> None:
    with written(path) as file:
        files = {name: await pack(connection, file, name, str(part.first), part.bound) for name in MEMBERS}
        envelope = dsse.sign(part.manifest(bank, files), signer, payload_type=ARCHIVE_TYPE)
        file.writestr(MANIFEST, msgspec.json.encode(envelope))


async def _require_proved(connection: asyncpg.Connection, part: _Part, archive: Archive) -> None:
    """Compare what was read from the disk with what the database says anew."""
    first, bound, path = part.first, part.bound, archive.path
    if (await connection.fetchrow(OLDEST) or ())[:2] != (first, bound):
        raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, "another command has taken it out")
    files = {name: await stored(connection, name, str(first), bound) for name in MEMBERS}
    expected = part.manifest(archive.manifest.bank, files)
    for name in MEMBERS:
        if archive.manifest.member(name) != expected.member(name):
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: {name} isn't what the journal holds")
    if archive.manifest != expected:
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: it is of another part of the journal")


async def _require_at_rest(connection: asyncpg.Connection, bound: int) -> None:
    for reason, query in OBSTACLES.items():
        if number := await connection.fetchval(query, bound):
            raise ArchiveRefusedError(reason, f"{number:,} before event {bound}")


async def _swap(connection: asyncpg.Connection, archive: Archive, ends_at: datetime) -> int:
    """Let a table of what stays take the part's place; return how many events that are."""
    first, bound = archive.manifest.first, archive.manifest.bound
    head = await connection.fetchval("SELECT sequence FROM ledger_head")
    await connection.execute("SELECT make_journal_tables($1)", f"{first}_kept")
    await connection.execute(KEEP_EVENTS.format(part=first, first=first, bound=bound))
    await connection.execute(KEEP_POSTINGS.format(part=first))
    kept: int = await connection.fetchval(f"SELECT count(*) FROM event_{first}_kept")  # noqa: S608 - a number of ours
    await stand_still(connection)
    if await connection.fetchval(CAME_SINCE, head, first, bound):
        raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, "something came to its payments: ask again")
    await _require_at_rest(connection, bound)
    await connection.execute(SWAP.format(part=first, other="kept", bound=bound))
    signed = msgspec.json.encode(archive.envelope).decode()
    await connection.execute(NOTE, first, bound, signed, bytes.fromhex(archive.sha256), kept, ends_at)
    return kept


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
