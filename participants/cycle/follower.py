"""Following the coordinator through its cycles: cut, attest, verify, acknowledge, post.

The coordinator's event feed says when something is to be done; what has been done stands in the bank's own
journal. The cursor moves only past what was dealt with, and every step may be taken again, so a bank that was
away takes up where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import msgspec
import structlog

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import Signer
from compliance.statements import (
    Document,
    PositionStatement,
    Receipt,
    SettlementFinality,
    SettlementInstruction,
)
from gateway.federation.http.client import FederationClient, RemoteError, RemoteProblem
from gateway.federation.membership.trust import TrustError, TrustStore
from gateway.federation.messages.attestation import BreakNotice, Breaks, SenderCuts, StatementSubmission
from gateway.federation.messages.cycles import Cycle
from gateway.federation.messages.events import Event, Events
from gateway.federation.signers.signing import signing
from participants.cycle import reads
from participants.cycle.commands import FixCut, PostSettlement, RecordInstruction, RecordSignedCut, RecordStatements
from participants.cycle.statements import InstructionReason, check_instruction, statements
from participants.ledger.events import CycleDocuments, attested_subject, instructed_subject, settled_subject
from participants.ledger.lanes import LaneKey
from participants.ledger.writer import Ledger
from participants.payments.outbound import Outbound
from participants.payments.screening import Screener

WAIT_S = 20
RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 5.0
LANE_POLL_SECONDS = 0.1

log = structlog.get_logger(__name__)

# Answers of the coordinator that asking again doesn't change: the cycle went on without us, or has what we sent.
FINAL_ANSWERS = range(400, 500)


def report(error: Exception, event: str, **more: Any) -> None:
    """Log what went wrong: a line for what a network brings with it, the frames for what nobody foresaw."""
    expected = isinstance(error, (RemoteError, TrustError, EvidenceError, asyncpg.PostgresError, OSError))
    if expected:
        log.warning(event, error=str(error)[:200], **more)
    else:
        log.error(event, exc_info=error, **more)


class Follower:
    """A bank's side of the cycles, as a background task."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: str,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        client: FederationClient,
        signer: Signer,
        outbound: Outbound,
        screener: Screener,
        trust_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._bank = bank
        self._coordinator = coordinator
        self._url = client.issuer
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._client = client
        self._signer = signer
        self._outbound = outbound
        self._screener = screener
        self._trust_changed = trust_changed
        self._task: asyncio.Task[None] | None = None
        self._attesting: dict[str, asyncio.Task[None]] = {}
        # The event that each cycle being attested began with. The kept cursor stays before it until the cycle is
        # matched, so that a bank that is restarted meanwhile reads it again and attests, or answers a break.
        self._began: dict[str, int] = {}
        self.disagreements: dict[str, InstructionReason] = {}

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="cycle-follower")

    async def stop(self) -> None:
        tasks = [t for t in (self._task, *self._attesting.values()) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        delay = RETRY_SECONDS_MIN
        cursor = await reads.read_cursor(self._pool)
        while True:
            try:
                page = await self._client.get(
                    f"{self._url}/events",
                    Events,
                    audience=self._coordinator,
                    params={"after": cursor, "wait_s": WAIT_S},
                    timeout_s=WAIT_S + 10,
                )
                for event in page.events:
                    await self._handle(event)
                if page.next > cursor:
                    await reads.move_cursor(self._pool, min([page.next, *(e - 1 for e in self._began.values())]))
                    cursor = page.next
                delay = RETRY_SECONDS_MIN
            except Exception as error:  # whatever went wrong, the bank must go on following
                report(error, "coordinator's feed interrupted", retry_s=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _handle(self, event: Event) -> None:
        if event.type in ("trust_list.published", "participant.changed"):
            if await self._trust.refresh(self._client):
                self._trust_changed()
            return
        cycle = event.cycle
        if cycle is None:
            return
        if event.type == "cycle.cut_off":
            await self._cut(cycle)
        elif event.type == "cycle.attesting":
            if cycle not in self._attesting:
                self._began[cycle] = event.id
                self._attesting[cycle] = asyncio.create_task(self._attest_patiently(cycle), name=f"attest-{cycle}")
        elif event.type == "cycle.break":
            await self._mend(cycle)
        elif event.type in ("cycle.matched", "cycle.abandoned") and cycle in self._attesting:
            self._attesting.pop(cycle).cancel()
            del self._began[cycle]
        elif event.type == "cycle.instructed":
            await self._receive_instructions(cycle)
        elif event.type == "cycle.final":
            await self._settle(cycle)

    async def _cycle(self, cycle: str) -> Cycle:
        return await self._client.get(f"{self._url}/cycles/{cycle}", Cycle, audience=self._coordinator)

    # --- cut and attest --------------------------------------------------------------------------------

    async def _cut(self, cycle: str) -> None:
        """Fix the cut in the ledger, sign it, and hand it in; the same one, however often and whatever happens."""
        cut, envelope = await reads.cut(self._pool, cycle)
        if cut is None:
            currencies = (await self._cycle(cycle)).currencies
            receiving = [key for key in await reads.lanes(self._pool) if key.receiver == self._bank]
            cut = await self._ledger.submit(FixCut(cycle, currencies, receiving))
        if envelope is None:
            (envelope,) = await self._sign(cut)
            await self._ledger.submit(RecordSignedCut(cycle, envelope))
        await self._submit("PUT", f"/cycles/{cycle}/cuts", envelope)

    async def _sign(self, *documents: Document) -> list[Envelope]:
        return await signing(lambda: [dsse.sign(document, self._signer) for document in documents], self._signer)

    async def _attest_patiently(self, cycle: str) -> None:
        delay = RETRY_SECONDS_MIN
        while True:
            try:
                await self._attest(cycle)
                return
            except reads.LaneUnknownError as error:
                log.info("waiting for answers before attesting", cycle=cycle, waiting_for=str(error))
                await asyncio.sleep(LANE_POLL_SECONDS)
            except Exception as error:  # the attestation is due until the cycle goes on without it
                report(error, "attestation delayed", cycle=cycle)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)

    async def _attest(self, cycle: str) -> None:
        """Sign what the books say at the cuts, keep it, hand it in."""
        submissions = await reads.submissions(self._pool, cycle)
        if not submissions:
            positions = await self._statements(cycle, revision=1)
            if positions is None:
                return
            screening = await self._screener.statement(cycle, positions)
            await self._ledger.submit(RecordStatements(cycle, 1, await self._sign(*positions, screening)))
            submissions = await reads.submissions(self._pool, cycle)
        await self._submit_statements(cycle, submissions[0].envelopes, complete=True)

    async def _submit_statements(self, cycle: str, envelopes: Sequence[Envelope], *, complete: bool) -> None:
        positions = tuple(e for e in envelopes if "position" in e.payloadType)
        screening = next((e for e in envelopes if "screening" in e.payloadType), None)
        submission = StatementSubmission(statements=positions, screening=screening, complete=complete)
        await self._submit("POST", f"/cycles/{cycle}/statements", submission)

    async def _statements(self, cycle: str, *, revision: int) -> list[PositionStatement] | None:
        """Return the statements at this cycle's cuts, or None if this bank has no cut in it."""
        cut, _ = await reads.cut(self._pool, cycle)
        if cut is None:
            return None
        cuts = {LaneKey(lane.sender, self._bank, lane.currency): lane.last_sequence for lane in cut.lanes}
        sending = await self._client.get(f"{self._url}/cycles/{cycle}/cuts", SenderCuts, audience=self._coordinator)
        # Whoever isn't in the cycle, or has no cut in it, is nobody to state a position with.
        cuts = {key: last for key, last in cuts.items() if key.sender in sending.delivered}
        for lane in sending.lanes:
            cuts[LaneKey(self._bank, lane.receiver, lane.currency)] = lane.last_sequence
        try:
            points = await reads.points(self._pool, cuts)
        except reads.LaneUnknownError:
            for lane in sending.lanes:
                self._outbound.wake(lane.receiver, held_too=True)
            raise
        return statements(bank=self._bank, cycle=cycle, points=points, revision=revision)

    async def mend(self) -> None:
        """Look again at the breaks of the cycles being attested; called when a dispute was withdrawn or raised."""
        for cycle in list(self._attesting):
            try:
                await self._mend(cycle)
            except Exception as error:  # the dispute stands whatever becomes of the break
                report(error, "break not mended", cycle=cycle)

    async def _mend(self, cycle: str) -> None:
        """Answer the open breaks of this bank's pairs with a new revision where there is something new to say."""
        breaks = await self._client.get(f"{self._url}/cycles/{cycle}/breaks", Breaks, audience=self._coordinator)
        mine = [b for b in breaks.breaks if self._bank in b.pair and not b.resolved]
        if not mine:
            return
        submissions = await reads.submissions(self._pool, cycle)
        if not submissions:
            return
        latest = _latest(submissions)
        try:
            positions = await self._statements(cycle, revision=1)
        except reads.LaneUnknownError:
            return
        present = {(*s.pair, s.currency): s for s in positions or []}
        renewed = [
            statement
            for notice in mine
            if (statement := _next_revision(notice, self._bank, latest, present)) is not None
        ]
        if not renewed:
            return
        envelopes = await self._sign(*renewed)
        version = await reads.next_version(self._pool, attested_subject(cycle))
        await self._ledger.submit(RecordStatements(cycle, version, envelopes))
        await self._submit_statements(cycle, envelopes, complete=False)

    # --- instructions and finality -------------------------------------------------------------------------

    async def _receive_instructions(self, cycle: str) -> None:
        """Verify this bank's instructions against its own statements, keep them, and sign for them."""
        for instruction, envelope in await self._instructions(cycle):
            if not await reads.exists(self._pool, instructed_subject(instruction.id)):
                await self._ledger.submit(RecordInstruction(instruction, envelope))
            digest = canonical.digest(envelope.payload_bytes())
            receipt = Receipt(instruction=instruction.id, participant=self._bank, sha256=digest)
            (signed_receipt,) = await self._sign(receipt)
            await self._submit("POST", "/instructions/acknowledgements", signed_receipt)

    async def _instructions(self, cycle: str) -> list[tuple[SettlementInstruction, Envelope]]:
        """Return the instructions that follow from what this bank signed; the others are alarms."""
        envelopes = await self._client.get(
            f"{self._url}/cycles/{cycle}/instructions", tuple[Envelope, ...], audience=self._coordinator
        )
        own = await reads.signed_statements(self._pool, cycle)
        keys = self._trust.signing_keys(self._coordinator, retired=True)
        believed = []
        for envelope in envelopes:
            instruction = dsse.verify(envelope, SettlementInstruction, keys)
            reason = check_instruction(instruction, bank=self._bank, cycle=cycle, own=own)
            if reason is not None:
                self.disagreements[instruction.id] = reason
                log.error("instruction doesn't follow from our statements", instruction=instruction.id, reason=reason)
                continue
            believed.append((instruction, envelope))
        return believed

    async def _settle(self, cycle: str) -> None:
        """Post the settlement leg of a final cycle, once."""
        envelope = await self._client.get(f"{self._url}/cycles/{cycle}/finality", Envelope, audience=self._coordinator)
        keys = self._trust.signing_keys(self._coordinator, retired=True)
        finality = dsse.verify(envelope, SettlementFinality, keys)
        own = await reads.signed_statements(self._pool, cycle)
        for instruction, instruction_envelope in await self._instructions(cycle):
            if instruction.result != finality.result or finality.cycle != cycle:
                self.disagreements[instruction.id] = InstructionReason.RESULT_DIFFERS
                log.error("finality is of another result", instruction=instruction.id)
                continue
            if not await reads.exists(self._pool, instructed_subject(instruction.id)):
                await self._ledger.submit(RecordInstruction(instruction, instruction_envelope))
            if await reads.exists(self._pool, settled_subject(instruction.id)):
                continue
            totals = {}
            for line in instruction.lines:
                for flow in own[line.statement].flows:
                    if flow.last_sequence >= flow.first_sequence:
                        key = LaneKey(flow.sender, flow.receiver, instruction.currency)
                        totals[(key, flow.last_sequence)] = await reads.total_at(self._pool, key, flow.last_sequence)
            await self._ledger.submit(PostSettlement(instruction, finality, own, totals))

    async def _submit(self, method: str, path: str, document: object) -> None:
        """Hand something in. A refusal that asking again won't change is logged and left at that."""
        try:
            await self._client.request(
                method, self._url + path, audience=self._coordinator, json=document, idempotent=True, timeout_s=30
            )
        except RemoteProblem as problem:
            if problem.status not in FINAL_ANSWERS or problem.status in (401, 408, 429):
                raise
            log.warning("refused by the coordinator", path=path, code=problem.code, detail=problem.detail)


def _latest(submissions: Sequence[CycleDocuments]) -> dict[tuple[str, str, str], PositionStatement]:
    """Return the newest revision of each statement that this bank signed."""
    latest: dict[tuple[str, str, str], PositionStatement] = {}
    for documents in submissions:
        for envelope in documents.envelopes:
            if "position" in envelope.payloadType:
                statement = canonical.decode(envelope.payload_bytes(), PositionStatement)
                latest[(*statement.pair, statement.currency)] = statement
    return latest


def _next_revision(
    notice: BreakNotice,
    bank: str,
    latest: dict[tuple[str, str, str], PositionStatement],
    present: dict[tuple[str, str, str], PositionStatement],
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
