"""Taking in what the banks sign: cuts, statements, screening.

Signatures are verified before the cycle's row is locked, so that a submission holds up others only while its
verdict is found and its rows are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance import canonical
from compliance.dsse import Envelope, EvidenceError
from compliance.keys import VerifyingKey
from gateway.coordinator import events
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles import signed, store
from gateway.coordinator.cycles.matching import Attested, Match, PairKey, Placement, match, place
from gateway.coordinator.cycles.reasons import CycleReason, refusal
from gateway.coordinator.cycles.states import State
from gateway.coordinator.cycles.store import Cycle, Roster
from gateway.coordinator.cycles.submission import (
    CycleTerms,
    ReadScreening,
    ReadStatement,
    check_cut,
    check_sequences,
    read_cut,
    read_screening,
    read_statement,
    to_json,
)
from gateway.federation.database import transaction
from gateway.federation.problems import Refusal
from gateway.federation.wire import ReceiverCut, SenderCuts, StatementSubmission, StatementVerdict

# All banks submit at the same moment. They wait here, in order, and not for a connection or for the cycle's row, where
# waiting ends with a timeout and everybody else's requests would wait too.
SUBMISSIONS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class _Caller:
    """An active participant and its part in a cycle, if the cycle has fixed its participants already."""

    bic: str
    keys: Mapping[str, VerifyingKey]
    cycle: Cycle
    roster: Roster

    @property
    def terms(self) -> CycleTerms:
        return CycleTerms(id=self.cycle.id, currencies=self.cycle.currencies, participants=self.roster.participants)


class Attestation:
    """Loads, lets `submission` and `matching` decide, and stores. `wake` tells that a cycle may move on."""

    def __init__(self, engine: AsyncEngine, *, now: Callable[[], datetime], wake: Callable[[], None]) -> None:
        self._engine = engine
        self._now = now
        self._wake = wake
        self._turns = asyncio.Semaphore(SUBMISSIONS_AT_ONCE)

    async def submit_cut(self, bank: str, cycle_id: str, envelope: Envelope) -> None:
        """Take in a bank's cut. Raises Refusal; the same cut again is fine, a different one is equivocation."""
        async with self._turns, transaction(self._engine) as conn:
            caller = await _caller(conn, bank, cycle_id)
            # Once a cut is delivered, the same one again is fine and another one is evidence, whenever it comes.
            if bank not in caller.roster.delivered:
                _require(caller, State.CUT_OFF, CycleReason.CYCLE_NOT_CUT_OFF, self._now())
            cut = read_cut(envelope, bank, caller.terms, caller.keys)
            cycle = await store.find(conn, cycle_id, lock=True)
            existing = await signed.cut_of(conn, cycle_id, bank)
            if existing is None:
                if cycle.state is not State.CUT_OFF:
                    raise refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle_id} is {cycle.state}")
                check_cut(cut.document, await signed.settled_lanes(conn, bank))
                await signed.insert_cut(conn, cut, self._now())
                complete = (await store.roster(conn, cycle_id)).cuts_awaited == 0
            elif existing[0] != cut.sha256:
                digests, envelopes = (existing[0], cut.sha256), (existing[1], to_json(envelope))
                await self._keep_equivocation(conn, caller, digests, envelopes)
        if existing is None:
            if complete:
                self._wake()
        elif existing[0] != cut.sha256:
            raise refusal(CycleReason.EQUIVOCATION, f"{bank} signed another cut for cycle {cycle_id} before")

    async def cuts_for(self, bank: str, cycle_id: str) -> SenderCuts:
        """Return what every receiver accepted from a bank. Raises Refusal."""
        async with transaction(self._engine) as conn:
            cycle = await store.find(conn, cycle_id)
            roster = await store.roster(conn, cycle_id)
            lanes = await signed.cut_lanes(conn, cycle_id, bank)
        return SenderCuts(
            cycle=cycle_id,
            complete=cycle.state not in (State.OPEN, State.CUT_OFF),
            lanes=tuple(
                ReceiverCut(receiver=receiver, currency=currency, last_sequence=last)
                for (sender, receiver, currency), last in sorted(lanes.items())
                if sender == bank
            ),
            delivered=tuple(sorted(roster.delivered)),
        )

    async def submit_statements(
        self, bank: str, cycle_id: str, submission: StatementSubmission
    ) -> tuple[StatementVerdict, ...]:
        """Take in a bank's statements and its screening, all or none; return a verdict for each statement.

        What was taken in before is answered again, with its verdict as it is now. Raises Refusal; its pointer names
        the statement.
        """
        refused: Refusal | None = None
        async with self._turns, transaction(self._engine) as conn:
            caller = await _caller(conn, bank, cycle_id)
            if caller.cycle.state is not State.ATTESTING:
                again = await _verdicts_again(conn, caller, submission)
                if again is not None:
                    return again
            _require(caller, State.ATTESTING, CycleReason.CYCLE_NOT_ATTESTING, self._now())
            if bank not in caller.roster.delivered:
                raise refusal(CycleReason.CUT_MISSING, f"{bank} delivered no cut for cycle {cycle_id}")
            # Verification releases the interpreter's lock, so it may use another core.
            statements, screening = await asyncio.to_thread(_read, caller, submission)
            declared = await signed.declared(conn, cycle_id, bank, caller.roster.delivered)
            revisions_max = (await store.rulebook_of(conn, caller.cycle)).revisions_max

            if (await store.find(conn, cycle_id, lock=True)).state is not State.ATTESTING:
                raise refusal(CycleReason.DEADLINE_PASSED, f"attestation of cycle {cycle_id} is closed")
            before = await signed.attested(conn, cycle_id, bank)
            fresh, equivocal = _placed(bank, statements, before, revisions_max)
            if equivocal is None:
                for statement in fresh:
                    check_sequences(statement, declared)
                after = match(before + [Attested(s.key, bank, s.document.revision, s.sha256) for s in fresh])
                complete = await self._take_in(conn, caller, submission.complete, fresh, screening, after)
            else:
                refused = await self._equivocation(conn, caller, equivocal, statements, before)
        if refused is not None:
            raise refused
        if complete:
            self._wake()
        return _verdicts(bank, [(s.key, s.document.revision) for s in statements], after)

    async def _take_in(
        self,
        conn: AsyncConnection,
        caller: _Caller,
        complete: bool,
        fresh: Sequence[ReadStatement],
        screening: ReadScreening | None,
        after: Mapping[PairKey, Match],
    ) -> bool:
        """Store a submission and tell of its breaks; return whether nobody is waited for any more."""
        cycle, bank, now = caller.cycle.id, caller.bic, self._now()
        if fresh:
            await signed.insert_statements(conn, cycle, bank, fresh, now)
        if screening is not None:
            await signed.insert_screening(conn, screening, now)
        if complete:
            await signed.mark_attested(conn, cycle, bank, now)
        roster = await store.roster(conn, cycle)
        await self._tell_breaks(conn, caller, after, roster.attested)
        return roster.statements_awaited == 0

    async def _tell_breaks(
        self, conn: AsyncConnection, caller: _Caller, matches: Mapping[PairKey, Match], finished: frozenset[str]
    ) -> None:
        """Notice the breaks of the caller's pairs, resolve the mended ones, and tell both banks of either.

        A statement is missing only once its bank says that it has no more to come.
        """
        cycle, now = caller.cycle.id, self._now()
        for key, found in matches.items():
            missing = found.status == "missing" and not found.differed and found.missing_from in finished
            if found.status != "different" and not missing:
                continue
            notice = await signed.notice_break(conn, cycle, found, now)
            if notice is not None:
                await events.append(conn, "cycle.break", msgspec.to_builtins(notice), cycle=cycle, audience=key[1:])
        if all(found.revision == 1 for found in matches.values()) and caller.bic not in caller.roster.attested:
            return  # A bank's first word can't mend anything.
        for one in await signed.breaks(conn, cycle, caller.bic):
            if one.notice.resolved or (resolved := matches.get(one.key)) is None or resolved.status != "agreed":
                continue
            await signed.resolve_breaks(conn, cycle, one.key, now)
            notice = msgspec.structs.replace(one.notice, resolved=True)
            await events.append(conn, "cycle.break", msgspec.to_builtins(notice), cycle=cycle, audience=one.key[1:])

    async def _equivocation(
        self,
        conn: AsyncConnection,
        caller: _Caller,
        second: ReadStatement,
        statements: Sequence[ReadStatement],
        before: Sequence[Attested],
    ) -> Refusal:
        """Keep both signed statements and return the refusal."""
        key, revision = second.key, second.document.revision
        stored = next(
            (a.sha256 for a in before if (a.key, a.participant, a.revision) == (key, caller.bic, revision)), None
        )
        if stored is None:
            # Both came in one submission.
            first = next(s for s in statements if (s.key, s.document.revision) == (key, revision))
            digest, envelope = first.sha256, to_json(first.envelope)
        else:
            digest = stored
            envelope = await signed.statement_envelope(conn, caller.cycle.id, caller.bic, key, revision)
        await self._keep_equivocation(conn, caller, (digest, second.sha256), (envelope, to_json(second.envelope)))
        detail = f"{caller.bic} signed another revision {revision} for {' '.join(key)} before"
        return refusal(CycleReason.EQUIVOCATION, detail, pointer=second.pointer)

    async def _keep_equivocation(
        self, conn: AsyncConnection, caller: _Caller, digests: tuple[str, str], envelopes: tuple[str, str]
    ) -> None:
        """Keep two contradicting documents of one bank, and tell operators and auditors."""
        added = await signed.insert_equivocation(
            conn, cycle=caller.cycle.id, bank=caller.bic, digests=digests, envelopes=envelopes, at=self._now()
        )
        if added:
            data = {"participant": caller.bic, "first": digests[0], "second": digests[1]}
            await events.append(conn, "cycle.equivocation", data, cycle=caller.cycle.id, audience=events.OPERATORS)


async def _caller(conn: AsyncConnection, bank: str, cycle_id: str) -> _Caller:
    """Return the calling bank and its part in the cycle. Raises Refusal."""
    keys = await store.signing_keys(conn, bank)
    if keys is None:
        raise refusal(CycleReason.NOT_A_PARTICIPANT, f"{bank} isn't an active participant")
    cycle = await store.find(conn, cycle_id)
    roster = await store.roster(conn, cycle_id)
    if cycle.state is not State.OPEN and bank not in roster.participants:
        raise refusal(CycleReason.NOT_A_PARTICIPANT, f"{bank} wasn't active when cycle {cycle_id} was cut off")
    return _Caller(bic=bank, keys=keys, cycle=cycle, roster=roster)


def _require(caller: _Caller, state: State, otherwise: CycleReason, now: datetime) -> None:
    """Refuse unless the cycle is in a state whose deadline hasn't passed."""
    cycle = caller.cycle
    early = (State.OPEN, State.CUT_OFF) if state is State.ATTESTING else (State.OPEN,)
    if cycle.state in early:
        raise refusal(otherwise, f"cycle {cycle.id} is {cycle.state}")
    if cycle.state is not state or (cycle.deadline_at is not None and now > cycle.deadline_at):
        closed = "" if cycle.deadline_at is None else f", the deadline was {timestamp(cycle.deadline_at)}"
        raise refusal(CycleReason.DEADLINE_PASSED, f"cycle {cycle.id} is {cycle.state}{closed}")


def _read(caller: _Caller, submission: StatementSubmission) -> tuple[list[ReadStatement], ReadScreening | None]:
    """Verify all of a submission."""
    terms = caller.terms
    statements = [
        read_statement(envelope, caller.bic, terms, caller.keys, pointer=f"/statements/{number}")
        for number, envelope in enumerate(submission.statements)
    ]
    if submission.screening is None:
        return statements, None
    return statements, read_screening(submission.screening, caller.bic, terms, caller.keys)


def _placed(
    bank: str, statements: Sequence[ReadStatement], before: Sequence[Attested], revisions_max: int
) -> tuple[list[ReadStatement], ReadStatement | None]:
    """Return the statements that are new, and the first that contradicts an earlier one. Raises Refusal."""
    signed_by: dict[tuple[PairKey, bool], dict[int, str]] = {}
    for one in before:
        signed_by.setdefault((one.key, one.participant == bank), {})[one.revision] = one.sha256
    fresh: list[ReadStatement] = []
    for statement in statements:
        own = signed_by.setdefault((statement.key, True), {})
        theirs = signed_by.get((statement.key, False), {})
        revision = statement.document.revision
        placement = place(
            revision=revision, sha256=statement.sha256, own=own, theirs=theirs, revisions_max=revisions_max
        )
        if placement is Placement.EQUIVOCATION:
            return [], statement
        if placement is Placement.REVISION_REFUSED:
            detail = f"{' '.join(statement.key)}: revision {revision} doesn't follow, or nothing is left to mend"
            raise refusal(CycleReason.REVISION_REFUSED, detail, pointer=statement.pointer)
        if placement is Placement.NEW:
            own[revision] = statement.sha256
            fresh.append(statement)
    return fresh, None


def _verdicts(
    bank: str, asked: Sequence[tuple[PairKey, int]], matches: Mapping[PairKey, Match]
) -> tuple[StatementVerdict, ...]:
    return tuple(
        StatementVerdict(
            counterparty=key[2] if key[1] == bank else key[1],
            currency=key[0],
            revision=revision,
            status={"agreed": "agreed", "different": "break", "missing": "stored"}[matches[key].status],  # type: ignore[arg-type]
        )
        for key, revision in asked
    )


async def _verdicts_again(
    conn: AsyncConnection, caller: _Caller, submission: StatementSubmission
) -> tuple[StatementVerdict, ...] | None:
    """Return the verdicts of statements that were all taken in while the cycle attested; None if any is new."""
    try:
        digests = [canonical.digest(envelope.payload_bytes()) for envelope in submission.statements]
    except EvidenceError:
        return None
    stored = await signed.attested(conn, caller.cycle.id, caller.bic)
    own = {one.sha256: (one.key, one.revision) for one in stored if one.participant == caller.bic}
    if not digests or not own.keys() >= set(digests):
        return None
    return _verdicts(caller.bic, [own[digest] for digest in digests], match(stored))
