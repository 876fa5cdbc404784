"""Asking the coordinator to prove a result, keeping what it shows, and comparing that with the counterparties.

Both banks of a pair compare: whoever is told second finds the other told, so both learn of it if the coordinator told
them different things. A counterparty that is away or doesn't know of this holds nothing up, and what a bank hadn't
compared when it was killed it compares when it runs again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

import asyncpg
import structlog

from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.cycle.commitment import ProvenLeaf
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.cycles import ResultProof
from gateway.federation.messages.results import PAIR_LEAVES_MAX, SharedResult
from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.supervision import Supervised
from participants.cycle import reads, shown_result
from participants.cycle.commands import RecordShownResult
from participants.cycle.coordinator import FINAL_ANSWERS, Coordinator, report
from participants.cycle.shown_result import Comparison, ShownResult
from participants.cycle.statements import InstructionReason
from participants.ledger.events import EventData, ResultShown, proofs_subject, result_subject
from participants.ledger.writer import Ledger

ASKED_AT_ONCE = 8
ANSWER_SECONDS = 5.0
AGAIN_SECONDS_MIN = 0.5
AGAIN_SECONDS_MAX = 60.0
COMPARED_SECONDS_MAX = 3600.0
"""After that a counterparty that hasn't answered isn't asked any more; it may still ask."""
TAKEN_UP_CYCLES = 4
"""Of so many a restart compares the results again. The journal doesn't say which counterparties have answered."""
REMEMBERED_CYCLES = 8
"""What was shown of so many stays in memory, some megabytes each: reading and proving it anew for each counterparty
that is asked, or asks, would take a tenth of a second each time."""

PROOF_BYTES_MAX = 32 * 1024 * 1024
"""A line and its way up the tree are up to 2 kB, and there is one for each other bank and currency."""

log = structlog.get_logger(__name__)


class SharedResultReason(RefusalReason):
    """Why a bank doesn't compare what it was shown of a result, in order of precedence."""

    RESULT_UNKNOWN = "result_unknown", 404
    """It wasn't shown one yet."""
    COMMITMENT_REFUSED = "commitment_refused", 422
    """The coordinator didn't sign that, or a line doesn't stand in it."""


class Results:
    """The results that a bank is shown, as a part of its follower. Belongs to one event loop."""

    def __init__(
        self,
        *,
        bank: str,
        coordinator: Coordinator,
        ledger: Ledger,
        pool: asyncpg.Pool,
        trust: TrustStore,
        peers: FederationClient,
    ) -> None:
        self._bank = bank
        self._coordinator = coordinator
        self._ledger = ledger
        self._pool = pool
        self._trust = trust
        self._peers = peers
        # What is shown is numbered by cycle, so it is kept by one at a time.
        self._keeping = asyncio.Lock()
        # By cycle, the one that was needed last at the end.
        self._remembered: dict[str, ShownResult] = {}
        self._believed: ShownResult | None = None
        self._due: dict[tuple[str, str], float] = {}
        self._news = asyncio.Event()
        self.task = Supervised("result-comparison", self._compare)

    # --- the coordinator ----------------------------------------------------------------------------------

    async def shown(self, cycle: str, result: str | None) -> tuple[ShownResult | None, InstructionReason | None]:
        """Return what the coordinator shows of a cycle's result, or why no instruction of the cycle is believed.

        What it has shown of the result with this digest before is kept. Neither for a coordinator of an earlier
        release, which shows nothing. Raises RemoteError for what may pass.
        """
        believed = self._believed
        if believed is not None and (believed.commitment.cycle, believed.commitment.result) == (cycle, result):
            return believed, None
        for kept in await self._kept(cycle):
            if kept.counterparty is None and kept.reason is None:
                shown = await self._read(kept.commitment, kept.leaves)
                if shown.commitment.result == result:
                    return shown, None
        try:
            proof = await self._coordinator.get(f"/cycles/{cycle}/proof", ResultProof, answer_bytes_max=PROOF_BYTES_MAX)
            return await self._read(proof.commitment, proof.leaves), None
        except RemoteProblem as problem:
            if problem.status not in FINAL_ANSWERS:
                raise
            why = str(problem)
        except EvidenceError as error:
            why = str(error)
        if await reads.exists(self._pool, proofs_subject()):
            log.error("the coordinator doesn't prove the result", cycle=cycle, error=why[:200])
            return None, InstructionReason.RESULT_UNPROVEN
        log.warning("the coordinator shows nothing of the result", cycle=cycle, error=why[:200])
        return None, None

    async def keep(self, shown: ShownResult, reason: InstructionReason | None) -> None:
        """Keep what the coordinator showed, once, and let it be compared with the counterparties."""
        if reason is None and shown is self._believed:
            return
        cycle = shown.commitment.cycle
        self._remember(shown)
        await self._keep(
            ResultShown(cycle=cycle, commitment=shown.envelope, leaves=shown.leaves, reason=reason),
            require=reason is None,
        )
        self._believed = shown if reason is None else None
        self._compare_with(cycle, shown.counterparties(self._bank))

    async def contradicted(self, cycle: str, result: str) -> bool:
        """Tell whether a counterparty was shown what contradicts what this bank was shown of a result."""
        kept = await self._kept(cycle)
        if all(entry.counterparty is None for entry in kept):
            return False
        ours = [entry for entry in kept if entry.counterparty is None]
        return any([(await self._read(entry.commitment, ())).commitment.result == result for entry in ours])

    # --- counterparties -----------------------------------------------------------------------------------

    async def answer(self, counterparty: str, theirs: SharedResult) -> ResultProof:
        """Compare what a counterparty was shown, and return what this bank was shown of the pair. Raises Refusal."""
        ours = await self._ours(theirs.cycle)
        if ours is None:
            raise Refusal(SharedResultReason.RESULT_UNKNOWN, f"nothing was shown here of cycle {theirs.cycle}")
        try:
            other = await self._read(theirs.commitment, theirs.leaves)
        except EvidenceError as error:
            raise Refusal(SharedResultReason.COMMITMENT_REFUSED, str(error)) from error
        await self._judge(counterparty, ours, other)
        return self._shared(ours, counterparty)

    def _compare_with(self, cycle: str, counterparties: Collection[str]) -> None:
        until = time.monotonic() + COMPARED_SECONDS_MAX
        for counterparty in counterparties:
            self._due.setdefault((cycle, counterparty), until)
        self._news.set()

    async def _take_up(self) -> None:
        """Let the newest results be compared that this bank was shown before it was started."""
        for cycle in await reads.newest_attested(self._pool, TAKEN_UP_CYCLES):
            compared = {entry.counterparty for entry in await self._kept(cycle)}
            try:
                shown = await self._ours(cycle)
            except EvidenceError as error:  # signed by a key that counts no more
                log.warning("result not compared", cycle=cycle, error=str(error)[:200])
                continue
            if shown is not None:
                self._compare_with(cycle, shown.counterparties(self._bank) - compared)

    async def _compare(self) -> None:
        """Compare with one counterparty after another whatever is due, and again until it has answered."""
        await self._take_up()
        delay = AGAIN_SECONDS_MIN
        while True:
            if not self._due:
                delay = AGAIN_SECONDS_MIN
                self._news.clear()
                await self._news.wait()
            limit = asyncio.Semaphore(ASKED_AT_ONCE)

            async def ask(cycle: str, counterparty: str, limit: asyncio.Semaphore = limit) -> None:
                async with limit:
                    await self._ask(cycle, counterparty)

            await asyncio.gather(*(ask(*key) for key in list(self._due)))
            now = time.monotonic()
            self._due = {key: until for key, until in self._due.items() if until > now}
            if self._due:
                await asyncio.sleep(delay)
                delay = min(2 * delay, AGAIN_SECONDS_MAX)

    async def _ask(self, cycle: str, counterparty: str) -> None:
        if (cycle, counterparty) not in self._due:
            return  # It has asked meanwhile.
        try:
            member, ours = self._trust.member(counterparty), await self._ours(cycle)
            if member is None or ours is None:
                return
            shared = self._shared(ours, counterparty)
            async with asyncio.timeout(ANSWER_SECONDS):
                theirs = await self._peers.post(
                    f"{member.url}/federation/results",
                    ResultProof,
                    audience=counterparty,
                    json=SharedResult(cycle=cycle, commitment=shared.commitment, leaves=shared.leaves),
                    attempts_max=1,
                )
            await self._judge(counterparty, ours, await self._read(theirs.commitment, theirs.leaves))
        except RemoteProblem as problem:
            if problem.code == SharedResultReason.RESULT_UNKNOWN:
                return  # It will ask when it has been shown it.
            if problem.status in FINAL_ANSWERS:
                self._due.pop((cycle, counterparty), None)
            report(problem, "result not compared", cycle=cycle, counterparty=counterparty)
        except Exception as error:  # whatever one counterparty answers keeps nobody from comparing with the next
            report(error, "result not compared", cycle=cycle, counterparty=counterparty)

    async def _judge(self, counterparty: str, ours: ShownResult, theirs: ShownResult) -> None:
        cycle = ours.commitment.cycle
        match shown_result.compare(ours, theirs, (self._bank, counterparty)):
            case Comparison.UNRELATED:
                return
            case Comparison.LACKING:
                log.error("a counterparty was shown other lines of our pair", cycle=cycle, counterparty=counterparty)
            case Comparison.CONTRADICTORY:
                log.error("the coordinator shows two results", cycle=cycle, counterparty=counterparty)
                evidence = ResultShown(
                    cycle=cycle,
                    commitment=theirs.envelope,
                    leaves=theirs.of_pair((self._bank, counterparty)),
                    counterparty=counterparty,
                    reason=InstructionReason.SHOWN_OTHERWISE,
                )
                await self._keep(evidence)
        self._due.pop((cycle, counterparty), None)

    # --- what is kept -------------------------------------------------------------------------------------

    async def _keep(self, shown: ResultShown, *, require: bool = False) -> None:
        async with self._keeping:
            if shown in await self._kept(shown.cycle):
                return
            version = await reads.next_version(self._pool, result_subject(shown.cycle))
            require = require and not await reads.exists(self._pool, proofs_subject())
            data = await asyncio.to_thread(EventData.of, "cycle.result_shown", shown)
            await self._ledger.submit(RecordShownResult(data, version, require=require))

    async def _kept(self, cycle: str) -> list[ResultShown]:
        return await reads.shown_results(self._pool, cycle)

    async def _ours(self, cycle: str) -> ShownResult | None:
        """Return what this bank was shown of a cycle last."""
        shown = self._remembered.get(cycle)
        if shown is None:
            ours = [entry for entry in await self._kept(cycle) if entry.counterparty is None]
            if not ours:
                return None
            shown = await self._read(ours[-1].commitment, ours[-1].leaves)
        return self._remember(shown)

    def _remember(self, shown: ShownResult) -> ShownResult:
        cycle = shown.commitment.cycle
        self._remembered.pop(cycle, None)
        self._remembered[cycle] = shown
        while len(self._remembered) > REMEMBERED_CYCLES:
            del self._remembered[next(iter(self._remembered))]
        return shown

    def _shared(self, ours: ShownResult, counterparty: str) -> ResultProof:
        lines = ours.of_pair((self._bank, counterparty))[:PAIR_LEAVES_MAX]
        return ResultProof(cycle=ours.commitment.cycle, commitment=ours.envelope, leaves=lines)

    async def _read(self, commitment: Envelope, leaves: tuple[ProvenLeaf, ...]) -> ShownResult:
        keys = self._trust.signing_keys(self._coordinator.bic, retired=True)
        if len(leaves) <= PAIR_LEAVES_MAX:
            return shown_result.read(commitment, leaves, keys)
        # In a thread, as there may be thousands.
        return await asyncio.to_thread(shown_result.read, commitment, leaves, keys)
