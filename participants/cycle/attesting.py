"""Attesting: a bank says what its books say at the cuts, pair by pair, until the cycle is matched.

Each pair is judged by itself. What is known at the cuts is attested; a lane whose cut names payments that this bank
doesn't know is contested, by name, and its pair attested as soon as the missing answers have come.
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

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.statements import PositionStatement
from gateway.federation.http.answers import read_answer
from gateway.federation.messages.attestation import (
    BreakNotice,
    Breaks,
    ContestedLane,
    SenderCuts,
    StatementSubmission,
    StatementVerdicts,
)
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.signers.signing import signing
from gateway.federation.supervision import Supervised
from participants.cycle import reads
from participants.cycle.commands import RecordStatements
from participants.cycle.coordinator import Coordinator, report
from participants.cycle.statements import LanePoint, statements
from participants.ledger.events import CycleDocuments, attested_subject
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

Pair = tuple[str, str, str]
"""Both banks, sorted, and the currency."""

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
        self._bank = bank
        self._coordinator = coordinator
        self._ledger = ledger
        self._pool = pool
        self._signer = signer
        self._outbound = outbound
        self._screener = screener
        self._tasks: dict[str, Supervised] = {}
        # What is signed of a cycle is numbered, so it is signed by one at a time.
        self._speaking = asyncio.Lock()

    @property
    def tasks(self) -> list[Supervised]:
        """What works on the cycles."""
        return list(self._tasks.values())

    def begin(self, cycle: str) -> bool:
        """Attest a cycle; False if that has begun already."""
        if cycle in self._tasks:
            return False
        task = Supervised("attesting", partial(self._attest_patiently, cycle), may_return=True)
        self._tasks[cycle] = task
        task.start()
        return True

    def end(self, cycle: str) -> None:
        """Leave a cycle that went on."""
        if (task := self._tasks.pop(cycle, None)) is not None:
            task.cancel()

    async def stop(self) -> None:
        """Leave all cycles."""
        await asyncio.gather(*(task.stop() for task in self._tasks.values()))
        self._tasks.clear()

    # --- attesting ---------------------------------------------------------------------------------------

    async def _attest_patiently(self, cycle: str) -> None:
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                cuts = await self._cuts(cycle)
                if cuts is not None:
                    await self._attest(cycle, cuts)
                return
            except Exception as error:  # the attestation is due until the cycle goes on without it
                report(error, "attestation delayed", cycle=cycle)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _cuts(self, cycle: str) -> dict[LaneKey, int] | None:
        """Return where each lane of this bank is cut in a cycle, or None if this bank has no cut in it."""
        cut, _ = await reads.cut(self._pool, cycle)
        if cut is None:
            return None
        sending = await self._coordinator.get(f"/cycles/{cycle}/cuts", SenderCuts)
        # Whoever isn't in the cycle, or has no cut in it, is nobody to state a position with.
        cuts = {
            LaneKey(lane.sender, self._bank, lane.currency): lane.last_sequence
            for lane in cut.lanes
            if lane.sender in sending.delivered
        }
        for lane in sending.lanes:
            cuts[LaneKey(self._bank, lane.receiver, lane.currency)] = lane.last_sequence
        return cuts

    async def _attest(self, cycle: str, cuts: Mapping[LaneKey, int]) -> None:
        """Attest what is known, contest what isn't, and attest that too once it is known."""
        began, delay = time.monotonic(), LOOK_SECONDS_MIN
        points: dict[LaneKey, LanePoint] = {}
        unknown: dict[LaneKey, int] = dict.fromkeys(cuts, 0)
        attested: set[Pair] | None = None
        ask_at = began
        with self._commits(cuts) as committed:
            while True:
                committed.clear()
                more, unknown = await reads.points(self._pool, {key: cuts[key] for key in unknown})
                points |= more
                known = statements(bank=self._bank, cycle=cycle, points=points, unknown=unknown)
                waiting = ANSWERS_SECONDS - (time.monotonic() - began) if unknown else 0
                if waiting <= 0 and attested != {_pair(statement) for statement in known}:
                    await self._speak(cycle, known, self._contested(cuts, unknown), again=attested is None)
                    attested = {_pair(statement) for statement in known}
                if not unknown:
                    return
                if time.monotonic() >= ask_at:
                    await self._ask(cycle, cuts, unknown)
                    ask_at, delay = time.monotonic() + delay, min(delay * 2, LOOK_SECONDS_MAX)
                timeout = ask_at - time.monotonic() if waiting <= 0 else waiting
                try:
                    async with asyncio.timeout(max(timeout, 0.01)):
                        await committed.wait()
                except TimeoutError:
                    continue

    @contextmanager
    def _commits(self, cuts: Mapping[LaneKey, int]) -> Iterator[asyncio.Event]:
        """Yield what is set whenever a lane has come as far as its cut."""
        committed = asyncio.Event()

        def listen(rows: Rows) -> None:
            if any(lane.tree.size >= cuts.get(lane.key, lane.tree.size + 1) for lane in rows.numbered_lanes.values()):
                committed.set()

        self._ledger.listeners.append(listen)
        try:
            yield committed
        finally:
            self._ledger.listeners.remove(listen)

    def _contested(self, cuts: Mapping[LaneKey, int], unknown: Mapping[LaneKey, int]) -> list[ContestedLane]:
        return [
            ContestedLane(receiver=key.receiver, currency=key.currency, cut_at=cuts[key], known_through=known_through)
            for key, known_through in sorted(unknown.items())
            # Of its own cut a bank can say nothing against anybody.
            if key.sender == self._bank
        ]

    async def _ask(self, cycle: str, cuts: Mapping[LaneKey, int], unknown: Mapping[LaneKey, int]) -> None:
        """Ask the receivers again for the answers that their cuts are ahead by, and for no others."""
        for key, known_through in sorted(unknown.items()):
            log.info(
                "a cut names payments that aren't known here",
                cycle=cycle,
                sender=key.sender,
                receiver=key.receiver,
                currency=key.currency,
                cut_at=cuts[key],
                known_through=known_through,
            )
            if key.sender == self._bank:
                count = min(cuts[key] - known_through, BATCH_ITEMS_MAX)
                payments = await reads.unanswered(self._pool, key.receiver, key.currency, count)
                self._outbound.wake(key.receiver, payments=payments)

    async def _speak(
        self, cycle: str, known: Sequence[PositionStatement], contested: Sequence[ContestedLane], *, again: bool
    ) -> None:
        """Sign what wasn't signed yet, keep it, hand it in; `again` hands in what was signed before, too."""
        async with self._speaking:
            signed = await reads.submissions(self._pool, cycle)
            earlier = _latest(signed)
            fresh = [statement for statement in known if _pair(statement) not in earlier]
            if fresh or not signed:
                # It speaks of all pairs, and the last one counts.
                screening = await self._screener.statement(cycle, known)
                envelopes = await signing(
                    lambda: [dsse.sign(document, self._signer) for document in (*fresh, screening)], self._signer
                )
                await self._record(cycle, envelopes)
                signed = await reads.submissions(self._pool, cycle)
        documents = signed if again else signed[-1:] if fresh else []
        await self._submit(cycle, _first_word(documents), contested=tuple(contested), complete=True)

    async def _record(self, cycle: str, envelopes: Sequence[Envelope]) -> None:
        """Keep what was signed, before it is handed in."""
        version = await reads.next_version(self._pool, attested_subject(cycle))
        await self._ledger.submit(RecordStatements(cycle, version, envelopes))

    async def _submit(
        self,
        cycle: str,
        envelopes: Sequence[Envelope],
        *,
        complete: bool,
        contested: tuple[ContestedLane, ...] = (),
    ) -> None:
        positions = tuple(e for e in envelopes if "position" in e.document_type)
        screening = next((e for e in reversed(envelopes) if "screening" in e.document_type), None)
        submission = StatementSubmission(
            statements=positions, screening=screening, complete=complete, contested=contested
        )
        answer = await self._coordinator.submit("POST", f"/cycles/{cycle}/statements", submission)
        if answer is not None:
            self._report_refused(cycle, answer)

    def _report_refused(self, cycle: str, answer: bytes) -> None:
        """Log which statements the coordinator refused beside those that it took in."""
        try:
            verdicts = read_answer(answer, StatementVerdicts, peer=self._coordinator.bic)
        except msgspec.DecodeError as error:
            log.warning("verdicts can't be read", cycle=cycle, error=str(error)[:200])
            return
        for part in verdicts.refused:
            log.error(
                "statement refused by the coordinator",
                cycle=cycle,
                counterparty=part.counterparty,
                currency=part.currency,
                reason=part.reason,
                detail=part.detail,
            )

    # --- mending -----------------------------------------------------------------------------------------

    async def mend_all(self) -> None:
        """Look again at the breaks of the cycles being attested."""
        for cycle in list(self._tasks):
            try:
                await self.mend(cycle)
            except Exception as error:  # the dispute stands whatever becomes of the break
                report(error, "break not mended", cycle=cycle)

    async def mend(self, cycle: str) -> None:
        """Answer the open breaks of this bank's pairs with a new revision where there is something new to say."""
        breaks = await self._coordinator.get(f"/cycles/{cycle}/breaks", Breaks)
        mine = [b for b in breaks.breaks if self._bank in b.pair and not b.resolved and b.kind in MENDED]
        if not mine:
            return
        async with self._speaking:
            signed = await reads.submissions(self._pool, cycle)
            cuts = await self._cuts(cycle) if signed else None
            if cuts is None:
                return
            earlier = _latest(signed)
            points, unknown = await reads.points(self._pool, cuts)
            present = {_pair(s): s for s in statements(bank=self._bank, cycle=cycle, points=points, unknown=unknown)}
            renewed = [
                statement
                for notice in mine
                if (statement := _next_revision(notice, self._bank, earlier, present)) is not None
            ]
            if not renewed:
                return
            envelopes = await signing(
                lambda: [dsse.sign(statement, self._signer) for statement in renewed], self._signer
            )
            await self._record(cycle, envelopes)
        await self._submit(cycle, envelopes, complete=False)


MENDED = ("different", "missing")
"""The kinds of breaks that a new revision mends."""


def _pair(statement: PositionStatement) -> Pair:
    return (*statement.pair, statement.currency)


def _read(envelope: Envelope) -> PositionStatement:
    return canonical.decode(envelope.payload_bytes(), PositionStatement)


def _first_word(signed: Sequence[CycleDocuments]) -> list[Envelope]:
    """Return what was signed without being asked: all but the later revisions, which answer breaks."""
    return [
        envelope
        for documents in signed
        for envelope in documents.envelopes
        if "position" not in envelope.document_type or _read(envelope).revision == 1
    ]


def _latest(signed: Sequence[CycleDocuments]) -> dict[Pair, PositionStatement]:
    """Return the newest revision of each statement that this bank signed."""
    latest: dict[Pair, PositionStatement] = {}
    for documents in signed:
        for envelope in documents.envelopes:
            if "position" in envelope.document_type:
                statement = _read(envelope)
                latest[_pair(statement)] = statement
    return latest


def _next_revision(
    notice: BreakNotice,
    bank: str,
    latest: Mapping[Pair, PositionStatement],
    present: Mapping[Pair, PositionStatement],
) -> PositionStatement | None:
    """Return the statement to sign for a break, or None where this bank has nothing new to say.

    A bank speaks again when the other one has signed a higher revision, or when its own books have changed.
    """
    key = (*notice.pair, notice.currency)
    last, now = latest.get(key), present.get(key)
    if last is None or now is None:
        return None
    if notice.kind == "missing":
        revision = notice.revision if notice.missing_from == bank else 0
        return msgspec.structs.replace(now, revision=revision) if revision > last.revision else None
    return msgspec.structs.replace(now, revision=last.revision + 1) if now.flows != last.flows else None
