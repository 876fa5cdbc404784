"""Sanctions screening as a service of the bank's node: lists in the database, a matcher in memory, counts for
statements.

Lists are kept whole, as they were imported, and never changed: the newest of each name is in force, and an older one
can be read again to show what a payment was screened against.
"""

from __future__ import annotations

import asyncio
import csv
import lzma
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

import asyncpg
import msgspec
from msgspec import Struct

from compliance.screening.lists import ListError, SanctionsList, decompress, read_list
from compliance.screening.matcher import Matcher, Verdict
from compliance.screening.weakening import names_lost, weakens
from compliance.statements import ScreeningList, ScreeningStatement
from gateway.federation.messages.payments import PaymentDetails
from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger.events import Hit, cut_subject, earlier_subject
from participants.proposals import Proposal, propose

HITS_PER_PARTY_MAX = 10
CLEAN_NAMES_MAX = 500_000
# So many new names may be screened without letting other requests in between: some milliseconds.
UNSEEN_NAMES_AT_ONCE = 32
LIST_NAME_CHARACTERS_MAX = 64
# OFAC's files have no header; the number of columns tells them apart.
_OFAC_COLUMNS = {12: "sdn", 5: "alt", 6: "add"}

IN_FORCE = """
SELECT DISTINCT ON (name) name, imported_at, files, content FROM screening_list ORDER BY name, imported_at DESC
"""
NEWEST = """
SELECT name, imported_at, files, content FROM screening_list WHERE name = $1 ORDER BY imported_at DESC LIMIT 1
"""
VERSIONS_IN_FORCE = "SELECT name, max(imported_at) FROM screening_list GROUP BY name ORDER BY name"
KEEP = """
INSERT INTO screening_list (name, sha256, imported_at, imported_by, entries, files, content, names_lost, proposed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
KEEP_OUT = "SELECT pg_advisory_xact_lock(hashtextextended('screening list ' || $1, 0))"
VERSION_IN_FORCE = "SELECT max(imported_at) FROM screening_list WHERE name = $1"
# Since two people last agreed on a version of the list, or since its first one.
LOST_BEFORE = """
SELECT coalesce(sum(names_lost), 0) FROM screening_list WHERE name = $1 AND imported_at > (
    SELECT coalesce(max(imported_at), '-infinity') FROM screening_list WHERE name = $1 AND proposed_by IS NOT NULL
)
"""
# The version of a list that two people agreed on last before an instant, or its first one.
AGREED_BEFORE = """
SELECT name, imported_at, files, content FROM screening_list WHERE name = $1 AND imported_at < $2
ORDER BY proposed_by IS NULL, CASE WHEN proposed_by IS NULL THEN imported_at END, imported_at DESC LIMIT 1
"""
# Decisions carry the number right after the word that made them, in the same transaction.
DECISIONS = """
WITH span AS (
    SELECT (SELECT coalesce(max(p.sequence), 0) FROM event p
            WHERE p.type = 'cycle.cut' AND p.sequence < c.sequence) AS after, c.sequence AS last
    FROM subject_event c WHERE c.subject = ANY ($1::uuid[]) AND c.type = 'cycle.cut'
)
SELECT count(*) FILTER (WHERE d.type IN ('payment.released', 'payment.credited') OR d.data ->> 'reason' = 'expired'),
    count(*) FILTER (WHERE d.type = 'payment.refused' AND d.data ->> 'reason' <> 'expired')
FROM span
JOIN event o ON o.type = 'payment.opinion' AND o.sequence > span.after AND o.sequence <= span.last
JOIN subject_event d ON d.subject = o.subject AND d.version = o.version + 1
"""
PENDING = "SELECT count(*) FROM payment_open WHERE state = 'held'"


class ImportReason(RefusalReason):
    """Why files aren't taken as a list, in order of precedence; what is wrong inside a file has a ListRefusal."""

    NAME_INVALID = "list_name_invalid", 422
    FILES_MISSING = "list_files_missing", 422
    FILES_DONT_BELONG = "list_files_dont_belong_together", 422
    SECOND_PERSON_MISSING = "list_needs_second_person", 409
    """Many names would go: it is proposed, and taken once another person imports the very same."""


class ListFile(Struct, frozen=True):
    """One file of an imported list: its name and size as given, the digest of its content uncompressed."""

    name: str
    bytes: int
    sha256: str
    role: str


class ScreeningCounts(Struct, frozen=True):
    """What a screening statement counts; hits are those that were released, rejected, or still wait."""

    screened: int
    released: int
    rejected: int
    pending: int

    @property
    def hits(self) -> int:
        return self.released + self.rejected + self.pending


async def screening_counts(connection: asyncpg.Connection, cycle: str, taken_in: int) -> ScreeningCounts:
    """Return the counts of a bank's screening statement for a cycle that takes in `taken_in` of its payments.

    Released and rejected are what people decided from the bank's previous cut to its cut of this cycle, so each
    decision is counted in one statement; pending is what waits for people now. Screened are the payments taken in,
    in both directions (whoever sends screens, and whoever accepts), and those that screening kept out.
    """
    subject = cut_subject(cycle)
    row = await connection.fetchrow(DECISIONS, [subject, earlier_subject(subject)])
    released, rejected = (row[0], row[1]) if row else (0, 0)
    pending = await connection.fetchval(PENDING)
    return ScreeningCounts(taken_in + rejected + pending, released, rejected, pending)


class Screener:
    """Screens the parties of payments against the lists in force. `start` before use.

    Without a list nothing is screened, and the statement says so.
    """

    def __init__(self, pool: asyncpg.Pool, bank: str) -> None:
        self._pool = pool
        self._bank = bank
        self._matcher = Matcher(())
        self._versions: list[tuple[str, datetime]] = []
        self._clean: set[str] = set()
        self._loading = asyncio.Lock()

    async def start(self) -> None:
        """Read the lists in force. Raises asyncpg.PostgresError, OSError."""
        await self.refresh()

    async def refresh(self) -> bool:
        """Take up lists that were imported since, by this process or another; tell whether there were any."""
        async with self._loading:
            versions = [(row[0], row[1]) for row in await self._pool.fetch(VERSIONS_IN_FORCE)]
            if versions == self._versions:
                return False
            rows = [tuple(row) for row in await self._pool.fetch(IN_FORCE)]
            # Reading and normalising tens of thousands of names takes about a second: payments go on meanwhile.
            self._matcher = await asyncio.to_thread(lambda: Matcher([stored(*row) for row in rows]))
            self._versions = [(row[0], row[1]) for row in rows]
            self._clean = set()
            return True

    async def import_list(self, name: str, files: Mapping[str, bytes], imported_by: str) -> ScreeningList:
        """Import a list from its files and screen against it from now on. Raises Refusal; then nothing changed.

        `files` maps file names to contents, plain or xz: OFAC's sdn.csv with alt.csv (and add.csv, which is checked
        in and not needed), OFAC's one-file CSV, or the UN's XML. What a file is, its content says.
        """
        now = datetime.now(UTC)
        read, content, described = await asyncio.to_thread(_read, name, files, now)
        # Others import the same list before this or after, not in between; what is proposed stays, refused or not.
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(KEEP_OUT, name)
            lost, many = await self._lost(connection, read)
            proposed_by = await self._proposed_by(connection, read, imported_by, lost) if many else None
            if proposed_by is not None or not many:
                await connection.execute(
                    KEEP,
                    read.name,
                    bytes.fromhex(read.sha256),
                    now,
                    imported_by,
                    len(read.entries),
                    msgspec.json.encode(described).decode(),
                    content,
                    lost,
                    proposed_by,
                )
        if many and proposed_by is None:
            detail = f"{lost} names of the list in force aren't in this one: another person must import the very same"
            raise Refusal(ImportReason.SECOND_PERSON_MISSING, detail)
        await self.refresh()
        return read.statement()

    async def _lost(self, connection: asyncpg.Connection, read: SanctionsList) -> tuple[int, bool]:
        """Return how many names a list loses by its next version, and whether that takes two people."""
        before = self._in_force(read.name)
        version = await connection.fetchval(VERSION_IN_FORCE, read.name)
        if version is None:
            return 0, False
        if before is None or before.imported_at != _timestamp(version):
            row = await connection.fetchrow(NEWEST, read.name)
            before = await asyncio.to_thread(stored, *row)
        lost = await asyncio.to_thread(names_lost, before, read)
        if not lost:
            return 0, False
        earlier = await connection.fetchval(LOST_BEFORE, read.name)
        row = await connection.fetchrow(AGREED_BEFORE, read.name, datetime.now(UTC))
        agreed = await asyncio.to_thread(stored, *row)
        return lost, weakens(agreed, before, lost + earlier)

    async def _proposed_by(
        self, connection: asyncpg.Connection, read: SanctionsList, person: str, lost: int
    ) -> str | None:
        """Return who proposed this very list to take the place of the one in force, before `person` did."""
        version = await connection.fetchval(VERSION_IN_FORCE, read.name)
        digest = sha256(f"{read.name}\n{read.sha256}\n{_timestamp(version)}".encode()).digest()
        content = {"name": read.name, "sha256": read.sha256, "entries": str(len(read.entries)), "names_lost": str(lost)}
        (other,) = await propose(connection, "list", [Proposal(read.name, digest, content)], person)
        return other

    def _in_force(self, name: str) -> SanctionsList | None:
        return next((sanctions for sanctions in self._matcher.lists if sanctions.name == name), None)

    @property
    def lists(self) -> tuple[ScreeningList, ...]:
        """The lists in force."""
        return tuple(sanctions.statement() for sanctions in self._matcher.lists)

    def hits_for(self, terms: PaymentDetails) -> tuple[Hit, ...]:
        """Return the listed names that a payment's parties resemble. A name seen before costs next to nothing."""
        clean = self._clean
        if terms.debtor_name in clean and terms.creditor_name in clean:
            return ()
        if not self._matcher.lists:
            return ()
        return (*self._party("debtor", terms.debtor_name), *self._party("creditor", terms.creditor_name))

    async def prepare(self, many: Sequence[PaymentDetails]) -> None:
        """Screen the names of a batch that weren't seen before beside the event loop, so that `hits_for` is cheap."""
        matcher, clean = self._matcher, self._clean
        if not matcher.lists or 2 * len(many) <= UNSEEN_NAMES_AT_ONCE:
            return
        unseen = {name for terms in many for name in (terms.debtor_name, terms.creditor_name) if name not in clean}
        if len(unseen) > UNSEEN_NAMES_AT_ONCE:
            clean.update(await asyncio.to_thread(lambda: [name for name in unseen if not matcher.screen(name).hit]))

    async def statement(self, cycle: str, taken_in: int) -> ScreeningStatement:
        """Return the bank's word on its screening in a cycle that takes in so many payments."""
        await self.refresh()
        async with self._pool.acquire() as connection:
            counts = await screening_counts(connection, cycle, taken_in)
        return ScreeningStatement(
            cycle=cycle,
            participant=self._bank,
            lists=self.lists,
            matcher=self._matcher.version,
            screened=counts.screened if self.lists else 0,
            hits=counts.hits,
            released=counts.released,
            rejected=counts.rejected,
            pending=counts.pending,
        )

    def _party(self, party: Literal["debtor", "creditor"], name: str) -> Iterable[Hit]:
        if name in self._clean:
            return ()
        verdict = self._matcher.screen(name)
        if verdict.hit:
            return _hits(party, verdict)
        if len(self._clean) >= CLEAN_NAMES_MAX:
            self._clean.clear()
        self._clean.add(name)
        return ()


def _hits(party: Literal["debtor", "creditor"], verdict: Verdict) -> list[Hit]:
    if not verdict.matches:
        # A name without a letter or digit resembles none, and can't be cleared either.
        return [Hit(party=party, list="", entry="", listed_name="", score=0, method="unscreenable")]
    return [
        Hit(party=party, list=m.list, entry=m.entry, listed_name=m.listed_name, score=m.score, method=m.method)
        for m in verdict.matches[:HITS_PER_PARTY_MAX]
    ]


# --- files and rows ------------------------------------------------------------------------------------------


def _read(name: str, files: Mapping[str, bytes], now: datetime) -> tuple[SanctionsList, bytes, list[ListFile]]:
    """Read a list's files; return it with its content as it is stored and what the files are."""
    if not 0 < len(name) <= LIST_NAME_CHARACTERS_MAX or not name.isprintable():
        raise Refusal(ImportReason.NAME_INVALID, f"a name has 1 to {LIST_NAME_CHARACTERS_MAX} characters")
    if not files:
        raise Refusal(ImportReason.FILES_MISSING, "no file")
    plain: dict[str, bytes] = {}
    described = []
    try:
        for file_name, data in files.items():
            content = decompress(data)
            role = _role(content)
            if role in plain:
                raise Refusal(ImportReason.FILES_DONT_BELONG, f"two files are a list's {role}")
            plain[role] = content
            described.append(
                ListFile(name=file_name, bytes=len(content), sha256=sha256(content).hexdigest(), role=role)
            )
        if ("list" in plain) == ("sdn" in plain) or ("list" in plain and len(plain) > 1):
            roles = ", ".join(sorted(plain))
            raise Refusal(ImportReason.FILES_DONT_BELONG, f"these files together are no list: {roles}")
        read = _read_plain(name, plain, now)
    except ListError as error:
        raise Refusal(error.reason, str(error), status=422) from error
    screened = [file for file in described if file.role != "add"]
    return read, lzma.compress(b"".join(plain[file.role] for file in screened), preset=2), described


def _role(content: bytes) -> str:
    start = content[:65_536].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith((b"<", b"uid,")):
        return "list"
    first = start.split(b"\n", 1)[0].decode("utf-8", errors="replace")
    # What is no list at all goes to the reader too, which says what is wrong with it.
    return _OFAC_COLUMNS.get(len(next(csv.reader([first]), [])), "list")


def _read_plain(name: str, plain: Mapping[str, bytes], imported_at: datetime) -> SanctionsList:
    primary = plain["list"] if "list" in plain else plain["sdn"]
    return read_list(name, primary, imported_at=_timestamp(imported_at), aliases=plain.get("alt"))


def _timestamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stored(name: str, imported_at: datetime, files: str, content: bytes) -> SanctionsList:
    """Read a list again from its row."""
    data = lzma.decompress(content)
    plain: dict[str, bytes] = {}
    start = 0
    for file in msgspec.json.decode(files, type=list[ListFile]):
        if file.role != "add":
            plain[file.role] = data[start : start + file.bytes]
            start += file.bytes
    return _read_plain(name, plain, imported_at)
