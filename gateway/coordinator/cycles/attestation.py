"""Taking in what the banks attest: positions and screening.

All banks submit at the same moment, so what has come in is dealt with together: signatures are verified before the
cycle's row is locked, then each submission finds its verdict as if it had come alone, and all rows are written at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto import canonical
from compliance.crypto.dsse import EvidenceError
from compliance.cycle import positions
from compliance.cycle.contests import CONTEST_EVENT
from compliance.cycle.cuts import Lane
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position, PositionError, ProvenStatement
from compliance.cycle.states import State
from gateway.coordinator.cycles import equivocations
from gateway.coordinator.cycles.batching import Batcher
from gateway.coordinator.cycles.book import Book
from gateway.coordinator.cycles.books import Books
from gateway.coordinator.cycles.callers import Callers, require_state
from gateway.coordinator.cycles.judgement import (
    Submitted,
    answer,
    answer_again,
    fresh_contests,
    judge,
    judge_contests,
    judge_screenings,
)
from gateway.coordinator.cycles.reasons import CycleReason, evidence_refusal
from gateway.coordinator.cycles.rows import NotPlainError, Rows
from gateway.coordinator.cycles.submission import CycleTerms, Stated, read_attestation, to_json
from gateway.coordinator.cycles.tables import attestations, cycles, pairs, submissions
from gateway.coordinator.cycles.tables.attestations import Fresh
from gateway.coordinator.cycles.tables.cycles import Roster
from gateway.coordinator.log import events
from gateway.federation.messages.attestation import (
    AttestationSubmission,
    AttestationVerdict,
    BreakNotice,
)
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction

READ_BATCH_MAX = 16
"""Submissions verified at once, while those before them are being stored."""

_Coming = tuple[str, AttestationSubmission, bytes | None]


class Attestation:
    """Loads, lets `submission`, `judgement` and the book decide, and stores. `wake` tells that a cycle may move on."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        books: Books,
        scheme: str | None,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._books = books
        self._scheme = scheme
        self._now = now
        self._wake = wake
        self._unread: Batcher[_Coming, Submitted | AttestationVerdict] = Batcher(
            self._read_attestations, batch_max=READ_BATCH_MAX
        )
        self._rows = Rows()
        self._read = Batcher(self._take_attestations, batch_max=Submitted.WEIGHT_MAX, weigh=Submitted.weight)

    async def submit_attestation(
        self, bank: str, cycle_id: str, submission: AttestationSubmission, rows: bytes | None = None
    ) -> AttestationVerdict:
        """Take in a bank's attestation, statement by statement and its screening; return what became of it.

        Its positions may come as the `rows` that they were written as. What was taken in before is answered again, with
        its verdict as it is now. Raises Refusal where nothing is taken in: the first reason, whose pointer names the
        statement. Where there are `rows` that can't be taken in as they are, raises NotPlainError: their positions may
        be handed in then.
        """
        # While one group is stored, the next one is verified.
        read = await self._unread.add(cycle_id, (bank, submission, rows))
        return await self._read.add(cycle_id, read) if isinstance(read, Submitted) else read

    async def _read_attestations(
        self, cycle_id: str, submitted: Sequence[_Coming]
    ) -> list[Submitted | AttestationVerdict | Exception]:
        """Verify submissions; where they come too late for that, answer what was taken in before."""
        async with transaction(self._engine) as conn:
            try:
                callers = await Callers.find(conn, cycle_id, {bank for bank, _, _ in submitted}, self._scheme)
            except Refusal as refused:
                # Rows may have faults of their own, which are told first.
                return [
                    refused if rows is None else NotPlainError("not read, for a cycle that there isn't")
                    for _, _, rows in submitted
                ]
            if callers.cycle.state is not State.ATTESTING:
                return [
                    NotPlainError("too late to be read")
                    if rows is not None
                    else await self._answer_again(conn, callers, bank, submission)
                    for bank, submission, rows in submitted
                ]
        return await asyncio.to_thread(_read_all, callers, submitted, self._now(), self._rows)

    async def _answer_again(
        self, conn: AsyncConnection, callers: Callers, bank: str, submission: AttestationSubmission
    ) -> AttestationVerdict | Refusal:
        """Answer a submission to a cycle that doesn't attest: what was taken in before is answered again."""
        cycle = callers.cycle
        try:
            callers.require(bank)
            sha256 = canonical.digest(submission.attestation.payload_bytes())
            stored = await attestations.find(conn, cycle.id, bank, sha256)
            if stored is None:
                require_state(cycle, State.ATTESTING, CycleReason.CYCLE_NOT_ATTESTING, self._now())
                raise AssertionError("a cycle that doesn't attest was required to")
            digests = await asyncio.to_thread(positions.digests, cycle.id, submission.positions)
        except EvidenceError as error:
            return evidence_refusal(error, pointer="/attestation")
        except PositionError as error:
            return Refusal(CycleReason.SCHEMA_VIOLATION, str(error), pointer=f"/positions/{error.index}")
        except Refusal as refused:
            return refused
        if tuple(digests) != stored.leaves:
            return Refusal(
                CycleReason.NOT_ATTESTED, "these aren't the statements that were signed", pointer="/positions"
            )
        return answer_again(bank, submission.positions, stored.refused, await pairs.closed_with(conn, cycle.id, bank))

    async def _take_attestations(
        self, cycle_id: str, group: Sequence[Submitted]
    ) -> list[AttestationVerdict | Exception]:
        banks = [submitted.bank for submitted in group]
        async with self._books.transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            if cycle.state is not State.ATTESTING:
                return [await _answer_late(conn, cycle_id, submitted) for submitted in group]
            revisions_max = (await cycles.rulebook_of(conn, cycle)).revisions_max
            before = await cycles.roster(conn, cycle_id)
            book = await self._books.of(conn, cycle)
            terms = CycleTerms(id=cycle_id, currencies=cycle.currencies, participants=before.participants)
            known = await attestations.handed_in(conn, cycle_id, [submitted.sha256 for submitted in group])
            screenings = await attestations.screening_digests(conn, cycle_id, banks)
            heard = await attestations.heard(conn, cycle_id, banks)
            await asyncio.to_thread(_judge_all, group, book, terms, revisions_max, known, heard, screenings)
            complete = await self._take_in(conn, cycle_id, group, book, before, screenings)
        if complete:
            self._wake()
        return [submitted.refusal or answer(submitted) for submitted in group]

    async def _take_in(
        self,
        conn: AsyncConnection,
        cycle: str,
        group: Sequence[Submitted],
        book: Book,
        before: Roster,
        screenings: Mapping[str, Collection[str]],
    ) -> bool:
        """Store what was judged and tell of it; return whether nobody is waited for any more."""
        now = self._now()
        accepted = [submitted for submitted in group if submitted.refusal is None]
        contests = fresh_contests(accepted, book)
        contested = {contest.lane for contest in contests}
        says_more = [s for s in accepted if not s.replayed and _says_more(s, before, screenings, contested)]
        if says_more:
            await self._store(conn, cycle, says_more, book, now)
        finished = [s.bank for s in accepted if s.complete and s.bank not in before.attested]
        if finished:
            await cycles.mark_attested(conn, cycle, finished, now)
        roster = await cycles.roster(conn, cycle)
        notices = await self._breaks(
            conn, cycle, accepted, book, before.attested, roster.attested, book.contested(contests)
        )
        await events.append_all(conn, "cycle.break", [msgspec.to_builtins(notice) for notice in notices], cycle=cycle)
        appended = await events.append_all(conn, CONTEST_EVENT, [contest.data() for contest in contests], cycle=cycle)
        book.take_contests(zip((event.id for event in appended), contests, strict=True))
        for submitted in group:
            if submitted.equivocal is not None:
                await self._equivocation(conn, cycle, submitted, submitted.equivocal, book)
        return roster.statements_awaited == 0

    async def _store(
        self, conn: AsyncConnection, cycle: str, says_more: Sequence[Submitted], book: Book, now: datetime
    ) -> None:
        rows = [
            Fresh(
                participant=submitted.bank,
                sha256=submitted.sha256,
                envelope=submitted.read.envelope,
                leaves=submitted.read.digests,
                refused=submitted.left_out,
                screening=submitted.screening,
                contested=submitted.read.contested,
            )
            for submitted in says_more
        ]
        numbers = await attestations.insert(conn, cycle, rows, now)
        book.seen = max(numbers)
        bodies = await asyncio.to_thread(_bodies, says_more, numbers)
        if bodies:
            await attestations.insert_positions(conn, cycle, bodies)
        screened = [
            (submitted.read.screening, submitted.screening, number)
            for submitted, number in zip(says_more, numbers, strict=True)
            if submitted.read.screening is not None and submitted.screening is not None
        ]
        if screened:
            await attestations.insert_screenings(conn, cycle, screened, now)

    async def _breaks(
        self,
        conn: AsyncConnection,
        cycle: str,
        accepted: Sequence[Submitted],
        book: Book,
        finished_before: frozenset[str],
        finished: frozenset[str],
        contested: Collection[PairKey],
    ) -> list[BreakNotice]:
        """Notice the breaks of what is new, resolve the mended ones, and return both.

        A statement is missing only once its bank says that it has no more to come. Where a cut is contested nothing is
        missing yet.
        """
        now = self._now()
        broken: set[PairKey] = set()
        mended: set[PairKey] = set()
        for submitted in accepted:
            for statement in submitted.fresh:
                pair = book.pair(statement.key)
                assert pair is not None
                if pair.standing == "differing" or (pair.standing == "missing" and pair.missing_from in finished):
                    broken.add(statement.key)
                elif pair.standing == "agreed" and (statement.revision > 1 or submitted.bank in finished_before):
                    # A bank's first word can't mend anything.
                    mended.add(statement.key)
            if submitted.bank in finished and submitted.bank not in finished_before:
                broken.update(book.awaited_from(submitted.bank))
        matches = [book.match(key) for key in sorted(broken - set(contested))]
        notices = await submissions.notice_breaks(conn, cycle, matches, now) if matches else []
        if mended:
            notices += await submissions.resolve_breaks(conn, cycle, sorted(mended), now)
        return notices

    # --- equivocations

    async def _equivocation(
        self, conn: AsyncConnection, cycle: str, submitted: Submitted, index: int, book: Book
    ) -> None:
        """Keep what proves that a bank signed two statements of one pair and revision; the first one is stored."""
        bank, read = submitted.bank, submitted.read
        second = read.positions[index]
        pair = book.pair(second.key)
        assert pair is not None, "what contradicts nothing is equivocal"
        own, _ = pair.of(bank, second.key)
        first = next(statement.sha256 for statement in own if statement.revision == second.revision)
        held, envelope = await attestations.holding(conn, cycle, bank, first.hex())
        body = await attestations.position(conn, cycle, first.hex())
        [stated] = positions.texts(cycle, [body])
        [contradicting] = positions.texts(cycle, [second])
        proofs: tuple[ProvenStatement, ProvenStatement] = (
            positions.prove(envelope, held.leaves, held.leaves.index(first), stated),
            positions.prove(read.envelope, read.digests, index, contradicting),
        )
        digests = (first.hex(), read.digests[index].hex())
        await equivocations.keep(conn, cycle, bank, digests, (to_json(proofs[0]), to_json(proofs[1])), at=self._now())


def _bodies(says_more: Iterable[Submitted], numbers: Iterable[int]) -> list[tuple[Position, bytes, int]]:
    """Return the positions that attestations with these ids brought, with their digests."""
    return [
        (submitted.read.positions[index], submitted.read.digests[index], number)
        for submitted, number in zip(says_more, numbers, strict=True)
        for index in submitted.bodies
    ]


def _says_more(
    submitted: Submitted, before: Roster, screenings: Mapping[str, Collection[str]], contested: Collection[Lane]
) -> bool:
    """Tell whether an attestation holds anything that isn't known of its bank, so that it has to be kept.

    `contested` are the lanes that are contested for the first time.
    """
    screening = submitted.screening
    return (
        bool(submitted.fresh)
        or any(contest.lane in contested for contest in submitted.contests)
        or (submitted.complete and submitted.bank not in before.attested)
        or (screening is not None and screening not in screenings.get(submitted.bank, ()))
    )


async def _answer_late(conn: AsyncConnection, cycle: str, submitted: Submitted) -> AttestationVerdict | Exception:
    """Answer what was read in time, and attestation closed since: what was taken in before is answered again."""
    bank, read = submitted.bank, submitted.read
    stored = await attestations.find(conn, cycle, bank, submitted.sha256)
    if stored is None:
        return Refusal(CycleReason.DEADLINE_PASSED, f"attestation of cycle {cycle} is closed")
    return answer_again(bank, read.positions, stored.refused, await pairs.closed_with(conn, cycle, bank))


def _judge_all(
    group: Iterable[Submitted],
    book: Book,
    terms: CycleTerms,
    revisions_max: int,
    known: Collection[tuple[str, str]],
    heard: Collection[str],
    screenings: Mapping[str, Collection[str]],
) -> None:
    """Judge attestations one after another.

    `known` are those that were taken in before, with their banks; `heard` are the banks with any.
    """
    taken, speakers = set(known), set(heard)
    for submitted in group:
        submitted.replayed = (submitted.bank, submitted.sha256) in taken
        submitted.first = submitted.bank not in speakers
        judge(submitted, book, terms, revisions_max)
        judge_contests(submitted, book.bounds)
        if submitted.refusal is None:
            taken.add((submitted.bank, submitted.sha256))
            speakers.add(submitted.bank)
    judge_screenings(group, screenings)


def _read_all(
    callers: Callers, submitted: Iterable[_Coming], now: datetime, known: Rows
) -> list[Submitted | AttestationVerdict | Exception]:
    """Verify submissions to a cycle that attests."""
    answers: list[Submitted | AttestationVerdict | Exception] = []
    for bank, submission, rows in submitted:
        try:
            stated = None if rows is None else known.read(callers.cycle.id, rows)
            answers.append(_read(callers, bank, submission, stated, now))
        except (Refusal, NotPlainError) as refused:
            answers.append(refused)
    return answers


def _read(
    callers: Callers, bank: str, submission: AttestationSubmission, stated: Stated | None, now: datetime
) -> Submitted:
    """Verify a submission; `stated` is what it states, if that is known. Raises Refusal if nothing can be taken in."""
    keys = callers.require(bank)
    require_state(callers.cycle, State.ATTESTING, CycleReason.CYCLE_NOT_ATTESTING, now)
    if bank not in callers.roster.delivered:
        raise Refusal(CycleReason.CUT_MISSING, f"{bank} delivered no cut for cycle {callers.cycle.id}")
    return Submitted(bank=bank, read=read_attestation(submission, bank, callers.terms, keys, stated))
