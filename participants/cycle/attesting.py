"""Attesting: a bank says what its books say at the cuts, pair by pair, until the cycle is matched.

Each pair is judged by itself. What is known at the cuts is attested, under one signature; a lane whose cut names
payments that this bank doesn't know is contested, by name, and its pair attested as soon as the missing answers have
come. A break is answered by a further attestation, where there is something new to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import asyncpg
import msgspec
import structlog

from compliance.crypto.keys import Signer
from compliance.cycle.contests import ContestedLane
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position
from compliance.statements import ScreeningStatement
from gateway.federation.http.answers import read_answer
from gateway.federation.messages.attestation import (
    SUBMITTED_MAX,
    AttestationVerdict,
    BreakNotice,
    Breaks,
    SenderCuts,
)
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.supervision import Supervised
from participants.cycle import attestations, reads
from participants.cycle.commands import RecordAttestation
from participants.cycle.coordinator import Coordinator, report
from participants.cycle.statements import LanePoint, pair_of, positions
from participants.ledger.events import CycleAttested, attested_subject
from participants.ledger.lanes import LaneKey
from participants.ledger.rows import Rows
from participants.ledger.writer import Ledger
from participants.payments.outbound import Outbound
from participants.payments.screening import Screener

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
# Answers under way at the cut-off come within this time, and nobody has to be told of them.
ANSWERS_SECONDS = 1.0
# Commits of this node wake who waits for a lane; those of another replica are looked for this often.
LOOK_SECONDS_MIN = 1.0
LOOK_SECONDS_MAX = 15.0
MENDED = ("different", "missing")
"""The kinds of breaks that a new revision mends."""

log = structlog.get_logger(__name__)


class Attesting:
    """The cycles that attest now, each as a background task."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: Coordinator,
        ledger: Ledger,
        pool: asyncpg.Pool,
        signer: Signer,
        outbound: Outbound,
        screener: Screener,
    ) -> None:
        self._begin = partial(
            CycleAttestation,
            bank=bank,
            coordinator=coordinator,
            ledger=ledger,
            pool=pool,
            signer=signer,
            outbound=outbound,
            screener=screener,
        )
        self._cycles: dict[str, CycleAttestation] = {}

    @property
    def tasks(self) -> list[Supervised]:
        """What works on the cycles."""
        return [cycle.task for cycle in self._cycles.values()]

    def begin(self, cycle: str) -> bool:
        """Attest a cycle; False if that has begun already."""
        if cycle in self._cycles:
            return False
        self._cycles[cycle] = self._begin(cycle)
        self._cycles[cycle].task.start()
        return True

    def end(self, cycle: str) -> None:
        """Leave a cycle that went on."""
        if (attestation := self._cycles.pop(cycle, None)) is not None:
            attestation.task.cancel()

    async def stop(self) -> None:
        """Leave all cycles."""
        await asyncio.gather(*(task.stop() for task in self.tasks))
        self._cycles.clear()

    def look_again(self, cycle: str | None = None) -> None:
        """Answer the breaks of a cycle, or of all that attest, as far as there is something new to say."""
        for name, attestation in self._cycles.items():
            if cycle in (None, name):
                attestation.look_again()


class CycleAttestation:
    """All that a bank says of one cycle, by one task: what is signed of a cycle is numbered."""

    def __init__(
        self,
        cycle: str,
        *,
        bank: str,
        coordinator: Coordinator,
        ledger: Ledger,
        pool: asyncpg.Pool,
        signer: Signer,
        outbound: Outbound,
        screener: Screener,
    ) -> None:
        self._cycle = cycle
        self._bank = bank
        self._coordinator = coordinator
        self._ledger = ledger
        self._pool = pool
        self._signer = signer
        self._outbound = outbound
        self._screener = screener
        self._news = asyncio.Event()
        self._breaks_due = False
        self._cuts: Mapping[LaneKey, int] = {}
        self._unknown: dict[LaneKey, int] = {}
        self._said: dict[PairKey, Position] = {}
        """The newest that was signed of each pair."""
        self._version = 0
        """Of the next event that keeps what was signed: another node of the bank may be quicker to write it."""
        self._due: list[CycleAttested] = []
        """What was signed and isn't answered since this began."""
        self._answered: set[str] = set()
        self.task = Supervised("attesting", self._attest_patiently, may_return=True)

    def look_again(self) -> None:
        """Answer the open breaks of this bank's pairs."""
        self._breaks_due = True
        self._news.set()

    async def _attest_patiently(self) -> None:
        delay = RETRY_SECONDS_MIN
        while True:
            began = time.monotonic()
            try:
                if not await self._begin():
                    return
                with self._commits():
                    await self._attest()
            except Exception as error:  # the attestation is due until the cycle goes on without it
                report(error, "attestation delayed", cycle=self._cycle)
                self._breaks_due = True
                if time.monotonic() - began > RETRY_SECONDS_MAX:
                    delay = RETRY_SECONDS_MIN
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _begin(self) -> bool:
        """Take up what was cut and what was signed before; False if there is nothing to be said of this cycle."""
        cut, _ = await reads.cut(self._pool, self._cycle)
        if cut is None:
            return False
        version = await reads.next_version(self._pool, attested_subject(self._cycle))
        signed = await reads.attested(self._pool, self._cycle)
        if any(said.attestation is None for said in signed):
            log.warning("the cycle was attested by a release before this one", cycle=self._cycle)
            return False
        sending = await self._coordinator.get(f"/cycles/{self._cycle}/cuts", SenderCuts)
        # Whoever isn't in the cycle, or has no cut in it, is nobody to state a position with.
        cuts = {
            LaneKey(lane.sender, self._bank, lane.currency): lane.last_sequence
            for lane in cut.lanes
            if lane.sender in sending.delivered
        }
        for lane in sending.lanes:
            cuts[LaneKey(self._bank, lane.receiver, lane.currency)] = lane.last_sequence
        self._cuts, self._unknown = cuts, dict.fromkeys(cuts, 0)
        self._said, self._version = attestations.newest(signed), version
        self._due = [said for said in signed if said.attestation and said.attestation.payload not in self._answered]
        return True

    async def _attest(self) -> None:
        """Attest what is known, contest what isn't, attest that too once it is known, and answer breaks."""
        began, delay = time.monotonic(), LOOK_SECONDS_MIN
        ask_at = began
        points: dict[LaneKey, LanePoint] = {}
        spoken = False
        while True:
            self._news.clear()
            more, self._unknown = await reads.points(self._pool, {key: self._cuts[key] for key in self._unknown})
            points |= more
            waiting = ANSWERS_SECONDS - (time.monotonic() - began) if self._unknown else 0
            if waiting <= 0 and (more or not spoken):
                stated = await asyncio.to_thread(positions, points, unknown=self._unknown)
                await self._speak(stated)
                # What was said of these pairs is known; what comes may complete one of the others.
                unsaid = set(map(pair_of, self._unknown))
                points, spoken = {key: point for key, point in points.items() if pair_of(key) in unsaid}, True
            if spoken and self._breaks_due:
                self._breaks_due = False
                await self._mend()
            if self._unknown and time.monotonic() >= ask_at:
                await self._ask()
                ask_at, delay = time.monotonic() + delay, min(delay * 2, LOOK_SECONDS_MAX)
            timeout = ask_at - time.monotonic() if waiting <= 0 else waiting
            try:
                async with asyncio.timeout(max(timeout, 0.01) if self._unknown else None):
                    await self._news.wait()
            except TimeoutError:
                continue

    @contextmanager
    def _commits(self) -> Iterator[None]:
        """Hear whenever a lane that isn't known up to its cut has come as far as that."""

        def listen(rows: Rows) -> None:
            waited = ((lane.tree.size, lane.key) for lane in rows.numbered_lanes.values() if lane.key in self._unknown)
            if any(size >= self._cuts[key] for size, key in waited):
                self._news.set()

        self._ledger.listeners.append(listen)
        try:
            yield
        finally:
            self._ledger.listeners.remove(listen)

    def _contested(self) -> list[ContestedLane]:
        lanes = [
            ContestedLane(
                receiver=key.receiver, currency=key.currency, cut_at=self._cuts[key], known_through=known_through
            )
            for key, known_through in sorted(self._unknown.items())
            # Of its own cut a bank can say nothing against anybody.
            if key.sender == self._bank
        ]
        return lanes[:SUBMITTED_MAX]

    async def _ask(self) -> None:
        """Ask the receivers again for the answers that their cuts are ahead by, and for no others."""
        for key, known_through in sorted(self._unknown.items()):
            log.info(
                "a cut names payments that aren't known here",
                cycle=self._cycle,
                sender=key.sender,
                receiver=key.receiver,
                currency=key.currency,
                cut_at=self._cuts[key],
                known_through=known_through,
            )
        missing = {
            key: min(self._cuts[key] - known_through, BATCH_ITEMS_MAX)
            for key, known_through in self._unknown.items()
            if key.sender == self._bank
        }
        payments = await reads.unanswered(self._pool, missing)
        for receiver in sorted({key.receiver for key in missing}):
            self._outbound.wake(receiver, payments=payments.get(receiver, ()))

    # --- speaking ----------------------------------------------------------------------------------------

    async def _speak(self, stated: Sequence[Position]) -> None:
        """Sign what wasn't signed yet, keep it, and hand in all that isn't answered yet."""
        fresh = [position for position in stated if position.key not in self._said]
        if fresh or self._version == 1:
            # The screening speaks of all pairs, and the last one counts.
            newest = {**{position.key: position for position in fresh}, **self._said}.values()
            payments = sum(p.forth_last - p.forth_first + p.back_last - p.back_first + 2 for p in newest)
            screening = await self._screener.statement(self._cycle, payments)
            while len(fresh) > SUBMITTED_MAX:
                await self._sign(fresh[:SUBMITTED_MAX], complete=False)
                fresh = fresh[SUBMITTED_MAX:]
            contested = self._contested()
            complete = len(contested) == len(self._unknown)
            await self._sign(fresh, screening=screening, contested=contested, complete=complete)
        await self._hand_in()

    async def _sign(
        self,
        stated: Sequence[Position],
        *,
        screening: ScreeningStatement | None = None,
        contested: Sequence[ContestedLane] = (),
        complete: bool,
    ) -> None:
        """Sign for positions and contested lanes, and keep that before it is handed in."""
        # In a thread, as there may be thousands.
        signed = await asyncio.to_thread(
            attestations.attest,
            bank=self._bank,
            cycle=self._cycle,
            stated=stated,
            screening=screening,
            contested=contested,
            complete=complete,
            signer=self._signer,
        )
        await self._ledger.submit(RecordAttestation(signed, self._version))
        self._version += 1
        self._said |= {position.key: position for position in stated}
        self._due.append(signed.value)

    async def _hand_in(self) -> None:
        """Hand in what isn't answered yet."""
        while self._due:
            submission = attestations.submission_of(self._due[0])
            answer = await self._coordinator.submit("POST", f"/cycles/{self._cycle}/attestations", submission)
            if answer is not None:
                self._report_refused(answer)
            self._due.pop(0)
            self._answered.add(submission.attestation.payload)

    def _report_refused(self, answer: bytes) -> None:
        """Log which statements the coordinator refused beside those that it took in."""
        try:
            verdict = read_answer(answer, AttestationVerdict, peer=self._coordinator.bic)
        except msgspec.DecodeError as error:
            log.warning("verdict can't be read", cycle=self._cycle, error=str(error)[:200])
            return
        for part in verdict.refused:
            log.error(
                "statement refused by the coordinator",
                cycle=self._cycle,
                counterparty=part.counterparty,
                currency=part.currency,
                reason=part.reason,
                detail=part.detail,
            )

    # --- mending -----------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Answer the open breaks of this bank's pairs with a new revision where there is something new to say."""
        breaks = await self._coordinator.get(f"/cycles/{self._cycle}/breaks", Breaks)
        mine = {
            (notice.currency, *notice.pair): notice
            for notice in breaks.breaks
            if self._bank in notice.pair and not notice.resolved and notice.kind in MENDED
        }
        cuts = {key: number for key, number in self._cuts.items() if pair_of(key) in mine}
        points, unknown = await reads.points(self._pool, cuts)
        renewed = [
            position
            for now in positions(points, unknown=unknown)
            if (position := next_revision(mine[now.key], self._bank, self._said.get(now.key), now)) is not None
        ]
        if renewed:
            await self._sign(renewed, complete=False)
        await self._hand_in()


def next_revision(notice: BreakNotice, bank: str, last: Position | None, now: Position) -> Position | None:
    """Return the position to sign for a break, or None where this bank has nothing new to say.

    `last` is what it signed last, `now` what its books say. A bank speaks again when the other one has signed a higher
    revision, or when its own books have changed.
    """
    if last is None:
        return None
    if notice.kind == "missing":
        revision = notice.revision if notice.missing_from == bank else 0
        return msgspec.structs.replace(now, revision=revision) if revision > last.revision else None
    again = msgspec.structs.replace(now, revision=last.revision)
    return msgspec.structs.replace(now, revision=last.revision + 1) if again != last else None
