"""Takes the oldest part of the journal out into a file, once nothing here needs it and the file is proved.

What other parts build on stays: everything that is no payment's (cuts, instructions, settlements, openings, limits),
returns with what they give back, and payments that have events elsewhere. So the rest of the journal stays provable.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import Signer
from participants.archive.document import (
    ARCHIVE_TYPE,
    CLOSING,
    EVENTS,
    MANIFEST,
    MEMBERS,
    POSTINGS,
    ArchiveReason,
    ArchiveRefusedError,
    JournalArchive,
    opened,
    pack,
    stored,
    written,
)

RETENTION = timedelta(days=92)
"""So long disputes, recalls and returns are about; and the least that is asked of a bank's own books at hand."""
OLDEST = """
SELECT p.first, p.bound FROM journal_partition p CROSS JOIN journal_floor f CROSS JOIN ledger_head h
WHERE p.first >= f.sequence AND p.bound <= h.sequence + 1 ORDER BY p.first LIMIT 1
"""
SPAN = "SELECT min(recorded_at), max(recorded_at) FROM event_{part}"
# Each with how many there are, or nothing.
OBSTACLES = {
    ArchiveReason.PAYMENTS_OPEN: """
SELECT count(*) FROM payment_open o JOIN event_key k ON k.subject = o.payment_id WHERE k.version = 1 AND k.sequence < $1
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
PREVIOUS = "SELECT encode(manifest_sha256, 'hex') FROM journal_archive WHERE attached_at IS NULL AND bound = $1"


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
    part = await connection.fetchrow(OLDEST)
    if part is None:
        raise ArchiveRefusedError(ArchiveReason.NOTHING_TO_DETACH, "no part of the journal is full")
    first, bound = part
    begins_at, ends_at = await connection.fetchrow(SPAN.format(part=first))
    if ends_at >= before:
        detail = f"events {first} to {bound - 1} were recorded until {ends_at:%Y-%m-%d %H:%M}"
        raise ArchiveRefusedError(ArchiveReason.NOTHING_TO_DETACH, detail)
    if ends_at >= datetime.now(UTC) - retention:
        raise ArchiveRefusedError(ArchiveReason.TOO_YOUNG, f"it was written until {ends_at:%Y-%m-%d}")
    await _require_at_rest(connection, bound)
    await connection.execute("DELETE FROM journal_closing WHERE bound = $1", bound)
    await connection.execute(CARRY.format(part=first, bound=bound))
    path = directory / f"{bank}-journal-{first}-{bound - 1}.zip"
    if path.exists():
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_EXISTS, str(path))
    previous = await connection.fetchval(PREVIOUS, first)
    with written(path) as archive:
        files = {name: await pack(connection, archive, name, str(first), bound) for name in MEMBERS}
        manifest = JournalArchive(
            bank=bank, first=first, bound=bound, begins_at=_text(begins_at), ends_at=_text(ends_at),
            events=files[EVENTS], postings=files[POSTINGS], closing=files[CLOSING], previous=previous or "",
        )  # fmt: skip
        envelope = dsse.sign(manifest, signer, payload_type=ARCHIVE_TYPE)
        archive.writestr(MANIFEST, msgspec.json.encode(envelope))
    try:
        await _require_proved(connection, path, manifest)
        kept = await _swap(connection, manifest, envelope, ends_at)
    except ArchiveRefusedError:
        # Nothing was taken out. After any other error nobody knows, and the file stays.
        path.unlink()
        raise
    return Detached(path, manifest, kept)


async def _require_proved(connection: asyncpg.Connection, path: Path, manifest: JournalArchive) -> None:
    """Read what was written from the disk, and what it should be from the database, both anew."""
    if opened(path).manifest != manifest:
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: it is read as something else")
    for name in MEMBERS:
        if await stored(connection, name, str(manifest.first), manifest.bound) != manifest.member(name):
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: {name} isn't what the journal holds")


async def _require_at_rest(connection: asyncpg.Connection, bound: int) -> None:
    for reason, query in OBSTACLES.items():
        if number := await connection.fetchval(query, bound):
            raise ArchiveRefusedError(reason, f"{number:,} before event {bound}")


async def _swap(
    connection: asyncpg.Connection, manifest: JournalArchive, envelope: dsse.Envelope, ends_at: datetime
) -> int:
    first, bound = manifest.first, manifest.bound
    await connection.execute(f"DROP TABLE IF EXISTS event_{first}_kept, posting_{first}_kept")
    head = await connection.fetchval("SELECT sequence FROM ledger_head")
    await connection.execute("SELECT make_journal_tables($1)", f"{first}_kept")
    await connection.execute(KEEP_EVENTS.format(part=first, first=first, bound=bound))
    await connection.execute(KEEP_POSTINGS.format(part=first))
    kept: int = await connection.fetchval(f"SELECT count(*) FROM event_{first}_kept")  # noqa: S608 - a number of ours
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger_head FOR UPDATE")
            if await connection.fetchval(CAME_SINCE, head, first, bound):
                raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, "something came to its payments: ask again")
            await _require_at_rest(connection, bound)
            await connection.execute(SWAP.format(part=first, other="kept", bound=bound))
            sha256 = bytes.fromhex(canonical.digest(envelope.payload_bytes()))
            signed = msgspec.json.encode(envelope).decode()
            await connection.execute(NOTE, first, bound, signed, sha256, kept, ends_at)
    except asyncpg.LockNotAvailableError as error:
        raise ArchiveRefusedError(ArchiveReason.JOURNAL_MOVED, "the journal is being read at length") from error
    return kept


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
