"""Taking in what the banks sign: cuts, statements, screening.

All banks submit at the same moment, so what has come in is dealt with together: signatures are verified before the
cycle's row is locked, then each submission finds its verdict as if it had come alone, and all rows are written at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.cycle.contests import CONTEST_EVENT, contested_pairs
from compliance.cycle.cuts import Lane
from compliance.cycle.matching import Attested, Match, PairKey, match
from compliance.cycle.states import State
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.batching import Batcher
from gateway.coordinator.cycles.callers import Callers
from gateway.coordinator.cycles.judgement import Submitted, fresh_contests, judge_all, judge_screenings, verdicts
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import (
    ReadCut,
    ReadStatement,
    check_cut,
    pair_in,
    read_contests,
    read_cut,
    read_screening,
    read_statement,
    to_json,
)
from gateway.coordinator.cycles.tables import cycles, submissions
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.log import events
from gateway.federation.messages.attestation import (
    ReceiverCut,
    SenderCuts,
    StatementSubmission,
    StatementVerdicts,
)
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction

READ_BATCH_MAX = 8
"""Submissions verified at once, while those before them are being stored."""


class Attestation:
    """Loads, lets `submission` and `matching` decide, and stores. `wake` tells that a cycle may move on."""

    def __init__(
        self, engine: AsyncEngine, *, scheme: str | None, now: Callable[[], datetime], wake: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._scheme = scheme
        self._now = now
        self._wake = wake
        self._cuts = Batcher(self._take_cuts)
        self._cut_answers = Batcher(self._cuts_for_all)
        self._unread: Batcher[tuple[str, StatementSubmission], Submitted | StatementVerdicts] = Batcher(
            self._read_statements, batch_max=READ_BATCH_MAX
        )
        self._read = Batcher(self._take_statements, batch_max=Submitted.WEIGHT_MAX, weigh=Submitted.weight)

    async def submit_cut(self, bank: str, cycle_id: str, envelope: Envelope) -> Cycle:
        """Take in a bank's cut and return the cycle. Raises Refusal.

        The same cut again is fine, a different one is equivocation.
        """
        return await self._cuts.add(cycle_id, (bank, envelope))

    async def _take_cuts(self, cycle_id: str, submitted: Sequence[tuple[str, Envelope]]) -> list[Cycle | Exception]:
        banks = {bank for bank, _ in submitted}
        answers: list[Cycle | Exception] = []
        added: dict[str, ReadCut] = {}
        async with transaction(self._engine) as conn:
            callers = await Callers.find(conn, cycle_id, banks, self._scheme)
            read = [self._read_cut(callers, bank, envelope) for bank, envelope in submitted]
            cycle = await cycles.find(conn, cycle_id, lock=True)
            existing = await submissions.cuts_of(conn, cycle_id, banks)
            settled: defaultdict[str, dict[Lane, int]] = defaultdict(dict)
            for lane, sequence in (await submissions.settled_lanes(conn, banks)).items():
                if lane[2] in cycle.currencies:  # a currency that is closed is in nobody's cut
                    settled[lane[1]][lane] = sequence
            now = self._now()
            senders = {lane.sender for cut in read if isinstance(cut, ReadCut) for lane in cut.document.lanes}
            strangers = senders - await cycles.known_participants(conn, senders)
            for (bank, _), cut in zip(submitted, read, strict=True):
                if isinstance(cut, Refusal):
                    answers.append(cut)
                    continue
                first = existing.get(bank)
                if first is None:
                    refused = _cut_refused(cut, cycle, settled[bank], strangers)
                    if refused is None:
                        added[bank] = cut
                        existing[bank] = (cut.sha256, to_json(cut.envelope))
                    answers.append(refused or cycle)
                elif first[0] == cut.sha256:
                    answers.append(cycle)
                else:
                    digests, envelopes = (first[0], cut.sha256), (first[1], to_json(cut.envelope))
                    await self._keep_equivocation(conn, cycle_id, bank, digests, envelopes)
                    detail = f"{bank} signed another cut for cycle {cycle_id} before"
                    answers.append(Refusal(CycleReason.EQUIVOCATION, detail))
            if added:
                await submissions.insert_cuts(conn, cycle_id, list(added.values()), now)
            complete = added and (await cycles.roster(conn, cycle_id)).cuts_awaited == 0
        if complete:
            self._wake()
        return answers

    def _read_cut(self, callers: Callers, bank: str, envelope: Envelope) -> ReadCut | Refusal:
        """Verify a cut, if its bank may submit one now."""
        try:
            caller = callers.require(bank)
            # Once a cut is delivered, the same one again is fine and another one is evidence, whenever it comes.
            if bank not in callers.roster.delivered:
                _require(callers.cycle, State.CUT_OFF, CycleReason.CYCLE_NOT_CUT_OFF, self._now())
            return read_cut(envelope, bank, callers.terms, caller)
        except Refusal as refused:
            return refused

    async def cuts_for(self, bank: str, cycle_id: str) -> SenderCuts:
        """Return what every receiver accepted from a bank. Raises Refusal."""
        return await self._cut_answers.add(cycle_id, bank)

    async def _cuts_for_all(self, cycle_id: str, banks: Sequence[str]) -> list[SenderCuts]:
        """Return it for each of some banks: once all cuts are in, all ask at the same moment."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id)
            delivered = tuple(sorted((await cycles.roster(conn, cycle_id)).delivered))
            lanes = await submissions.cut_lanes(conn, cycle_id, banks)
        accepted: dict[str, list[ReceiverCut]] = {bank: [] for bank in banks}
        for (sender, receiver, currency), last in sorted(lanes.items()):
            if sender in accepted:
                accepted[sender].append(ReceiverCut(receiver=receiver, currency=currency, last_sequence=last))
        return [
            SenderCuts(
                cycle=cycle_id,
                complete=cycle.state not in (State.OPEN, State.CUT_OFF),
                lanes=tuple(accepted[bank]),
                delivered=delivered,
            )
            for bank in banks
        ]

    async def submit_statements(self, bank: str, cycle_id: str, submission: StatementSubmission) -> StatementVerdicts:
        """Take in a bank's statements and its screening, each judged by itself; return what became of each.

        What was taken in before is answered again, with its verdict as it is now. Raises Refusal where nothing is taken
        in: the first reason, whose pointer names the statement.
        """
        # While one group is stored, the next one is verified.
        read = await self._unread.add(cycle_id, (bank, submission))
        return await self._read.add(cycle_id, read) if isinstance(read, Submitted) else read

    async def _read_statements(
        self, cycle_id: str, submitted: Sequence[tuple[str, StatementSubmission]]
    ) -> list[Submitted | StatementVerdicts | Exception]:
        """Verify submissions; where they come too late for that, answer what was taken in before."""
        async with transaction(self._engine) as conn:
            callers = await Callers.find(conn, cycle_id, {bank for bank, _ in submitted}, self._scheme)
            if callers.cycle.state is not State.ATTESTING:
                return [await self._answer_again(conn, callers, bank, submission) for bank, submission in submitted]
        # Verification releases the interpreter's lock, so two threads may use two cores.
        half = (len(submitted) + 1) // 2
        threads = [
            asyncio.to_thread(_read_all, callers, part, self._now()) for part in (submitted[:half], submitted[half:])
        ]
        return [answer for part in await asyncio.gather(*threads) for answer in part]

    async def _take_statements(
        self, cycle_id: str, submitted: Sequence[Submitted]
    ) -> list[StatementVerdicts | Exception]:
        banks = [judged.bank for judged in submitted]
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            if cycle.state is not State.ATTESTING:
                raise Refusal(CycleReason.DEADLINE_PASSED, f"attestation of cycle {cycle_id} is closed")
            revisions_max = (await cycles.rulebook_of(conn, cycle)).revisions_max
            before = await cycles.roster(conn, cycle_id)
            bounds = await submissions.bounds(conn, cycle_id, banks, before.delivered)
            after = await submissions.attested(conn, cycle_id, banks)
            judge_all(submitted, after, bounds, revisions_max)
            judge_screenings(submitted, await submissions.screening_digests(conn, cycle_id, banks))
            matches = match(after)
            accepted = [judged for judged in submitted if judged.refusal is None]
            earlier = await submissions.contests(conn, cycle_id)
            contests = fresh_contests(accepted, earlier, after)
            contested = contested_pairs([*earlier, *contests], cuts=bounds.cuts, attested=after)
            # Where a cut is contested nothing is missing yet.
            outcomes = [outcome for outcome in matches.values() if outcome.key not in contested]
            complete = await self._take_in(conn, cycle_id, accepted, outcomes, before.attested)
            for contest in contests:
                await events.append(conn, CONTEST_EVENT, contest.data(), cycle=cycle_id)
            for judged in submitted:
                if judged.equivocal is not None:
                    await self._equivocation(conn, cycle_id, judged.bank, judged.equivocal, after)
        if complete:
            self._wake()
        return [judged.refusal or _answer(judged, matches) for judged in submitted]

    async def _answer_again(
        self, conn: AsyncConnection, callers: Callers, bank: str, submission: StatementSubmission
    ) -> StatementVerdicts | Refusal:
        """Answer a submission to a cycle that doesn't attest: what was taken in before is answered again."""
        try:
            callers.require(bank)
            again = await _verdicts_again(conn, callers.cycle.id, bank, submission)
            if again is None:
                _require(callers.cycle, State.ATTESTING, CycleReason.CYCLE_NOT_ATTESTING, self._now())
        except Refusal as refused:
            return refused
        assert again is not None, "a cycle that doesn't attest was required to"
        return again

    async def _take_in(
        self,
        conn: AsyncConnection,
        cycle: str,
        accepted: Sequence[Submitted],
        outcomes: Sequence[Match],
        attested_before: Collection[str],
    ) -> bool:
        """Store submissions and tell of their breaks; return whether nobody is waited for any more."""
        now = self._now()
        fresh = [(submission.bank, statement) for submission in accepted for statement in submission.fresh]
        screenings = [submission.screening for submission in accepted if submission.screening is not None]
        finished = [submission.bank for submission in accepted if submission.complete and not submission.refused]
        if fresh:
            await submissions.insert_statements(conn, cycle, fresh, now)
        if screenings:
            await submissions.insert_screenings(conn, cycle, screenings, now)
        if finished:
            await submissions.mark_attested(conn, cycle, finished, now)
        roster = await cycles.roster(conn, cycle)
        again = any(submission.bank in attested_before for submission in accepted)
        await self._tell_breaks(conn, cycle, outcomes, roster.attested, again=again)
        return roster.statements_awaited == 0

    async def _tell_breaks(
        self,
        conn: AsyncConnection,
        cycle: str,
        outcomes: Sequence[Match],
        finished: frozenset[str],
        *,
        again: bool,
    ) -> None:
        """Notice the breaks among some pairs, resolve the mended ones, and tell both banks of either.

        A statement is missing only once its bank says that it has no more to come. `again` tells that a bank has
        attested before.
        """
        now = self._now()
        for outcome in outcomes:
            missing = outcome.status == "missing" and outcome.missing_from in finished
            if outcome.status != "different" and not missing:
                continue
            notice = await submissions.notice_break(conn, cycle, outcome, now)
            if notice is not None:
                await events.append(conn, "cycle.break", msgspec.to_builtins(notice), cycle=cycle)
        if not again and all(outcome.revision == 1 for outcome in outcomes):
            return  # A bank's first word can't mend anything.
        matches = {outcome.key: outcome for outcome in outcomes}
        for noticed in await submissions.breaks(conn, cycle):
            if noticed.notice.resolved or (resolved := matches.get(noticed.key)) is None or resolved.status != "agreed":
                continue
            await submissions.resolve_breaks(conn, cycle, noticed.key, now)
            notice = msgspec.structs.replace(noticed.notice, resolved=True)
            await events.append(conn, "cycle.break", msgspec.to_builtins(notice), cycle=cycle)

    async def _equivocation(
        self, conn: AsyncConnection, cycle: str, bank: str, second: ReadStatement, stored: Sequence[Attested]
    ) -> None:
        """Keep both signed statements; the first one is stored."""
        key, revision = second.key, second.document.revision
        first = next(a.sha256 for a in stored if (a.key, a.participant, a.revision) == (key, bank, revision))
        envelope = await submissions.statement_envelope(conn, cycle, bank, key, revision)
        await self._keep_equivocation(conn, cycle, bank, (first, second.sha256), (envelope, to_json(second.envelope)))

    async def _keep_equivocation(
        self, conn: AsyncConnection, cycle: str, bank: str, digests: tuple[str, str], envelopes: tuple[str, str]
    ) -> None:
        """Keep two contradicting documents of one bank, if they are the first of their kind, and tell of them."""
        added = await submissions.insert_equivocation(
            conn, cycle=cycle, bank=bank, digests=digests, envelopes=envelopes, at=self._now()
        )
        if added:
            data = {"participant": bank, "first": digests[0], "second": digests[1]}
            await events.append(conn, "cycle.equivocation", data, cycle=cycle)


def _require(cycle: Cycle, state: State, otherwise: CycleReason, now: datetime) -> None:
    """Refuse unless the cycle is in a state whose deadline hasn't passed."""
    if cycle.state in ((State.OPEN, State.CUT_OFF) if state is State.ATTESTING else (State.OPEN,)):
        raise Refusal(otherwise, f"cycle {cycle.id} is {cycle.state}")
    if cycle.state is not state or (cycle.deadline_at is not None and now > cycle.deadline_at):
        closed = "" if cycle.deadline_at is None else f", the deadline was {timestamp(cycle.deadline_at)}"
        raise Refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle.id} is {cycle.state}{closed}")


def _cut_refused(cut: ReadCut, cycle: Cycle, settled: Mapping[Lane, int], strangers: Collection[str]) -> Refusal | None:
    """Return why a bank's first cut can't be taken in, if so."""
    if cycle.state is not State.CUT_OFF:
        return Refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle.id} is {cycle.state}")
    try:
        check_cut(cut.document, settled, strangers)
    except Refusal as refused:
        return refused
    return None


def _answer(judged: Submitted, matches: Mapping[PairKey, Match]) -> StatementVerdicts:
    keys = [(statement.key, statement.document.revision) for statement in judged.statements]
    return verdicts(judged.bank, keys, matches, judged.refused)


def _read_all(
    callers: Callers, submitted: Iterable[tuple[str, StatementSubmission]], now: datetime
) -> list[Submitted | Refusal]:
    """Verify submissions to a cycle that attests."""
    answers: list[Submitted | Refusal] = []
    for bank, submission in submitted:
        try:
            answers.append(_read(callers, bank, submission, now))
        except Refusal as refused:
            answers.append(refused)
    return answers


def _read(callers: Callers, bank: str, submission: StatementSubmission, now: datetime) -> Submitted:
    """Verify a submission, part by part. Raises Refusal if nothing can be taken in."""
    keys, terms = callers.require(bank), callers.terms
    _require(callers.cycle, State.ATTESTING, CycleReason.CYCLE_NOT_ATTESTING, now)
    if bank not in callers.roster.delivered:
        raise Refusal(CycleReason.CUT_MISSING, f"{bank} delivered no cut for cycle {callers.cycle.id}")
    contests = read_contests(submission.contested, bank)
    read = Submitted(bank=bank, statements=[], screening=None, complete=submission.complete, contests=contests)
    for number, envelope in enumerate(submission.statements):
        try:
            read.statements.append(read_statement(envelope, bank, terms, keys, pointer=f"/statements/{number}"))
        except Refusal as refused:
            read.refuse(refused, pair_in(envelope))
    try:
        if submission.screening is not None:
            read.screening = read_screening(submission.screening, bank, terms, keys)
    except Refusal as refused:
        read.refuse(refused)
    if (refusal := read.refusal) is not None:
        raise refusal
    return read


async def _verdicts_again(
    conn: AsyncConnection, cycle: str, bank: str, submission: StatementSubmission
) -> StatementVerdicts | None:
    """Return the verdicts of statements that were taken in while the cycle attested; None if none of them was."""
    stored = await submissions.attested(conn, cycle, [bank])
    own = {
        statement.sha256: (statement.key, statement.revision) for statement in stored if statement.participant == bank
    }
    again = Submitted(bank=bank, statements=[], screening=None, complete=False)
    known: list[tuple[PairKey, int]] = []
    for number, envelope in enumerate(submission.statements):
        with suppress(EvidenceError):
            if (taken := own.get(canonical.digest(envelope.payload_bytes()))) is not None:
                known.append(taken)
                continue
        late = Refusal(CycleReason.DEADLINE_PASSED, "attestation is closed", pointer=f"/statements/{number}")
        again.refuse(late, pair_in(envelope))
    return verdicts(bank, known, match(stored), again.refused) if known else None
