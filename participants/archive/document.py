"""What an archive of a part of the journal says of itself, and how it is packed: a zip file of text."""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256
from io import FileIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import asyncpg
import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.statements import Document
from gateway.federation.storage.whole_file import owner_only

ARCHIVE_TYPE = "application/vnd.concordat.journal-archive.v1+json"
MANIFEST, EVENTS, POSTINGS, CLOSING = "manifest.json", "events.csv", "postings.csv", "closing.csv"
MEMBERS = (EVENTS, POSTINGS, CLOSING)
DRAFT = ".part"
BLOCK_BYTES = 1 << 20
MANIFEST_BYTES_MAX = 1 << 20
READ_BYTES_MAX = 2 << 20
# What reading a file made by anybody may raise.
_MALFORMED = (
    OSError, LookupError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error, msgspec.MsgspecError,
)  # fmt: skip
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
    """Payments in it, or returns of these, wait for another bank or for people."""
    PAYMENTS_DISPUTED = "payments_disputed"
    """Payments in it are contested."""
    PAYMENTS_UNSETTLED = "payments_unsettled"
    """Payments in it aren't settled by any cycle."""
    WEBHOOK_BEHIND = "webhook_behind"
    """A webhook hasn't got all of its events."""
    SEARCH_BEHIND = "search_behind"
    """What payments are found by isn't taken down of all of it yet."""
    ARCHIVE_UNWRITABLE = "archive_unwritable"
    """The file can't be written."""
    ARCHIVE_EXISTS = "archive_exists"
    """There is a file of this name, and it isn't what would be written."""
    ARCHIVE_UNREADABLE = "archive_unreadable"
    """The file isn't an archive of a journal."""
    ARCHIVE_NOT_OURS = "archive_not_ours"
    """None of this bank's own keys signed the manifest, or it is of another bank."""
    ARCHIVE_UNKNOWN = "archive_unknown"
    """The file isn't of the part that was detached last: parts are attached in the opposite order."""
    ARCHIVE_DIFFERS = "archive_differs"
    """The file doesn't hold what its manifest says, or what the journal holds."""
    JOURNAL_MOVED = "journal_moved"
    """Something came to payments in it meanwhile, or the journal is busy: ask again."""


class ArchiveRefusedError(Exception):
    """Nothing was done, and why."""

    def __init__(self, reason: ArchiveReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Lines:
    """Counts lines and bytes and their digest as they pass."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self.rows = 0
        self.size = 0

    def take(self, data: bytes) -> None:
        self._sha256.update(data)
        self.rows += data.count(b"\n")
        self.size += len(data)

    @property
    def member(self) -> Member:
        return Member(rows=self.rows, sha256=self._sha256.hexdigest())


class Archive:
    """An open file whose manifest the bank signed. What else is in it is believed once `require_whole` has read it."""

    def __init__(self, path: Path, packed: ZipFile, manifest: JournalArchive, envelope: Envelope) -> None:
        self.path = path
        self.manifest = manifest
        self.envelope = envelope
        self._packed = packed
        self._sizes: dict[str, int] = {}

    @property
    def sha256(self) -> str:
        return canonical.digest(self.envelope.payload_bytes())

    def require_whole(self) -> None:
        """Compare each file with what was signed, a block at a time. Raises ArchiveRefusedError."""
        for name in MEMBERS:
            signed, lines = self.manifest.member(name), Lines()
            for block in self._blocks(name):
                lines.take(block)
                if lines.rows > signed.rows:
                    break
            if lines.member != signed:
                raise self._differs(name)
            self._sizes[name] = lines.size

    async def unpacked(self, name: str) -> AsyncIterator[bytes]:
        """Yield a file, no more of it than was compared. Raises ArchiveRefusedError if it has changed in length."""
        lines = Lines()
        for block in self._blocks(name):
            lines.take(block)
            if lines.size > self._sizes[name]:
                raise self._differs(name)
            yield block

    def _blocks(self, name: str) -> Iterator[bytes]:
        with _readable(self.path):
            file = self._packed.open(_info(self._packed, name))
        with file:
            while True:
                with _readable(self.path):
                    block = file.read(BLOCK_BYTES)
                if not block:
                    return
                yield block

    def _differs(self, name: str) -> ArchiveRefusedError:
        return ArchiveRefusedError(ArchiveReason.ARCHIVE_DIFFERS, f"{self.path}: {name} isn't what was signed")


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


def clear_drafts(path: Path) -> None:
    """Take away what killed commands left unfinished: never written over, it may be a second name of what is whole."""
    with _writable(path):
        for draft in path.parent.glob(f"{path.stem}.*{DRAFT}"):
            draft.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Iterator[ZipFile]:
    """Give a new archive; when the block ends well its name is that of a whole one. Raises ArchiveRefusedError."""
    # A name of its own: nobody else's unfinished file is ever called an archive.
    unfinished = path.with_suffix(f".{secrets.token_hex(8)}{DRAFT}")
    # There are customers' names in it.
    with _writable(path), open(unfinished, "xb", opener=owner_only) as file:
        try:
            with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=6) as archive:
                yield archive
            file.flush()
            os.fsync(file.fileno())
            os.link(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Let a file and its name outlive a power cut, whoever wrote it. Raises ArchiveRefusedError."""
    with _writable(path):
        for place in (path, path.parent):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Raise ArchiveRefusedError where a file can't be written."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        # What is written comes from the database, which may be lost.
        raise
    except OSError as error:
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNWRITABLE, f"{path}: {error}") from error


@contextmanager
def opened(path: Path, bank: str, keys: Mapping[str, VerifyingKey]) -> Iterator[Archive]:
    """Open an archive that this bank signed with one of its own `keys`, by key id. Raises ArchiveRefusedError."""
    with _readable(path):
        file = _Source(path)
    with file:
        with _readable(path):
            packed = ZipFile(file)
            with packed.open(_info(packed, MANIFEST)) as member:
                said = member.read(MANIFEST_BYTES_MAX + 1)
            if len(said) > MANIFEST_BYTES_MAX:
                raise ValueError("a manifest of such a size")
            envelope = msgspec.json.decode(said, type=Envelope)
        try:
            dsse.require_nothing_free(envelope)
            manifest = dsse.verify(envelope, JournalArchive, keys, payload_type=ARCHIVE_TYPE)
        except EvidenceError as error:
            detail = f"{path}: {error.reason}: {error}"
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_NOT_OURS, detail) from error
        if manifest.bank != bank:
            raise ArchiveRefusedError(ArchiveReason.ARCHIVE_NOT_OURS, f"{path}: it is of {manifest.bank}")
        yield Archive(path, packed, manifest, envelope)


class _Source(FileIO):
    """A file of which no more is read at once than a block, nor a list of as many files as an archive never has."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > READ_BYTES_MAX:
            raise ValueError("its list of files is of such a size")
        return super().read(size) or b""


def _info(packed: ZipFile, name: str) -> ZipInfo:
    """Return where a file is. Raises KeyError, and ValueError if it would be unpacked otherwise than block by block."""
    info = packed.getinfo(name)
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in another way than deflate")
    return info


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise ArchiveRefusedError where a file can't be read."""
    try:
        yield
    except _MALFORMED as error:
        raise ArchiveRefusedError(ArchiveReason.ARCHIVE_UNREADABLE, f"{path}: {error}") from error
