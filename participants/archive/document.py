"""What an archive of a part of the journal says of itself, and how it is packed: a zip file of text."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import asyncpg
import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.statements import Document

ARCHIVE_TYPE = "application/vnd.concordat.journal-archive.v1+json"
MANIFEST, EVENTS, POSTINGS, CLOSING = "manifest.json", "events.csv", "postings.csv", "closing.csv"
MEMBERS = (EVENTS, POSTINGS, CLOSING)
BLOCK_BYTES = 1 << 20
MANIFEST_BYTES_MAX = 1 << 20
# Of a table, or of the accounts where a part ends. Canonical JSON has no line break, so each row is a line.
QUERIES = {
    EVENTS: "SELECT sequence, subject, version, type, schema_version, recorded_at, effective_at, data"
    " FROM event_{part} ORDER BY sequence",
    POSTINGS: "SELECT event_sequence, account_id, version, amount, previous_balance, balance"
    " FROM posting_{part} ORDER BY event_sequence, account_id, version",
    CLOSING: "SELECT c.account_id, a.kind, a.code, a.currency, c.version, c.balance"
    " FROM journal_closing c JOIN account a ON a.id = c.account_id WHERE c.bound = {bound} ORDER BY c.account_id",
}
COLUMNS = {
    name: QUERIES[name].removeprefix("SELECT ").partition(" FROM ")[0].split(", ") for name in (EVENTS, POSTINGS)
}


class Member(Document, frozen=True, kw_only=True):
    """One file of an archive: how many lines it has, and the SHA-256 of its bytes."""

    rows: int
    sha256: str


class JournalArchive(Document, frozen=True, kw_only=True):
    """What a bank signs of a part of its journal: events from `first` on and before `bound`, and what they posted.

    `closing` has where every account stood at its end. `previous` is the digest of the manifest of the part before.
    """

    bank: str
    first: int
    bound: int
    begins_at: str
    ends_at: str
    events: Member
    postings: Member
    closing: Member
    previous: str = ""

    def member(self, name: str) -> Member:
        """Return what is said of a file."""
        return {EVENTS: self.events, POSTINGS: self.postings, CLOSING: self.closing}[name]


class ArchiveReason(StrEnum):
    """Why a part of the journal isn't detached or attached, in order of precedence."""

    NOTHING_TO_DETACH = "nothing_to_detach"
    """No part is full that is older than what was asked for."""
    TOO_YOUNG = "too_young"
    """Something in it was recorded within the retention."""
    PAYMENTS_OPEN = "payments_open"
    """Payments in it wait for another bank or for people."""
    PAYMENTS_DISPUTED = "payments_disputed"
    """Payments in it are contested."""
    PAYMENTS_UNSETTLED = "payments_unsettled"
    """Payments in it aren't settled by any cycle."""
    WEBHOOK_BEHIND = "webhook_behind"
    """A webhook hasn't got all of its events."""
    SEARCH_BEHIND = "search_behind"
    """What payments are found by isn't taken down of all of it yet."""
    ARCHIVE_EXISTS = "archive_exists"
    """There is a file of this name."""
    ARCHIVE_UNREADABLE = "archive_unreadable"
    """The file isn't an archive of a journal."""
    ARCHIVE_DIFFERS = "archive_differs"
    """The file doesn't hold what its manifest says, or what the journal holds."""
    ARCHIVE_UNKNOWN = "archive_unknown"
    """The file isn't of the part that was detached last: parts are attached in the opposite order."""
    JOURNAL_MOVED = "journal_moved"
    """Something came to payments in it meanwhile, or the journal is busy: ask again."""


class ArchiveRefusedError(Exception):
    """Nothing was done, and why."""

    def __init__(self, reason: ArchiveReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Lines:
    """Counts lines and their digest as they pass, and hands them on."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self._rows = 0

    def take(self, data: bytes) -> None:
        self._sha256.update(data)
        self._rows += data.count(b"\n")

    @property
    def member(self) -> Member:
        return Member(rows=self._rows, sha256=self._sha256.hexdigest())


class Opened(Struct, frozen=True):
    """An archive's manifest with its envelope."""

    manifest: JournalArchive
    envelope: Envelope

    @property
    def sha256(self) -> str:
        return canonical.digest(self.envelope.payload_bytes())


async def stored(connection: asyncpg.Connection, name: str, part: str, bound: int) -> Member:
    """Return what the database holds of a file."""
    lines = Lines()

    async def take(data: bytes) -> None:
        lines.take(data)

    await connection.copy_from_query(QUERIES[name].format(part=part, bound=bound), output=take, format="csv")
    return lines.member


async def pack(connection: asyncpg.Connection, archive: ZipFile, name: str, part: str, bound: int) -> Member:
    """Write a file of an archive from the database."""
    lines = Lines()
    with archive.open(name, "w", force_zip64=True) as out:

        async def take(data: bytes) -> None:
            lines.take(data)
            out.write(data)

        await connection.copy_from_query(QUERIES[name].format(part=part, bound=bound), output=take, format="csv")
    return lines.member


@contextmanager
def written(path: Path) -> Iterator[ZipFile]:
    """Give a new archive; when the block ends well it is on the disk under its name, whole. Raises FileExistsError."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("xb") as file:
        try:
            with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=6) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
            os.link(unfinished, path)
        finally:
            unfinished.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def opened(path: Path) -> Opened:
    """Read an archive whole and compare each file with what its manifest says. Raises ArchiveRefusedError."""
    try:
        with ZipFile(path) as archive:
            if archive.getinfo(MANIFEST).file_size > MANIFEST_BYTES_MAX:
                raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNREADABLE, f"{path}: a manifest of such a size")
            envelope = msgspec.json.decode(archive.read(MANIFEST), type=Envelope)
            manifest = canonical.decode(envelope.payload_bytes(), JournalArchive)
            for name in MEMBERS:
                lines = Lines()
                for block in _blocks(archive, name):
                    lines.take(block)
                if lines.member != manifest.member(name):
                    raise ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{path}: {name} isn't what was signed")
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, msgspec.MsgspecError) as error:
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNREADABLE, f"{path}: {error}") from error
    return Opened(manifest, envelope)


async def unpacked(path: Path, name: str) -> AsyncIterator[bytes]:
    """Yield a file of an archive."""
    with ZipFile(path) as archive:
        for block in _blocks(archive, name):
            yield block


def _blocks(archive: ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(name) as file:
        while block := file.read(BLOCK_BYTES):
            yield block
