"""The steps that a cycle takes by itself from its cut-off to its end. Each is stored in one transaction.

`Steps.step` looks at the stored state only, so whoever comes after a crash takes the step that was due, and two
replicas take each step once: the second finds the row locked, and then moved on. A step that fails is counted with its
reason in the database, where replicas see it; from the second failure on the cycle is stuck.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.keys import Signer
from compliance.cycle.approval import four_eyes_causes, needed_decision
from compliance.cycle.checks import worst
from compliance.cycle.result import settling_minor
from compliance.cycle.states import State, Trigger
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.books import Books
from gateway.coordinator.cycles.closing import closed, is_waited_for, patience_ends_at, still_open
from gateway.coordinator.cycles.failures import Failure, retry_after_s, step_failure
from gateway.coordinator.cycles.flow_history import FlowHistory
from gateway.coordinator.cycles.kernels import Kernels
from gateway.coordinator.cycles.netting_step import NettingStep
from gateway.coordinator.cycles.result_positions import ResultPositions
from gateway.coordinator.cycles.settlement import NoAnswerError, SettlementClient
from gateway.coordinator.cycles.settlement_steps import SettlementSteps
from gateway.coordinator.cycles.tables import cycles, failures, pairs, results
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.storage.database import computed, transaction
from gateway.federation.telemetry import REGISTRY

ASK_AGAIN_S = 2
"""After which a settlement agent that gave no answer is asked again."""

DECIDED_LOCKED = frozenset({State.CUT_OFF, State.ATTESTING, State.NETTED})
"""The states whose step is taken with the cycle locked, in the transaction that looks at it."""

FAILURES = Counter(
    "concordat_cycle_step_failures",
    "Steps of cycles that failed, by the state in which and why.",
    ("state", "reason"),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


class Steps:
    """Moves cycles on. `bic` and `signer` are the coordinator's."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        bic: str,
        signer: Signer,
        agent: SettlementClient,
        now: Callable[[], datetime],
        kernels: Kernels,
        books: Books,
        order_bytes_max: int,
    ) -> None:
        self._engine = engine
        self._books = books
        self._now = now
        positions, history = ResultPositions(), FlowHistory()
        self._netting = NettingStep(engine, signer=signer, kernels=kernels, positions=positions, history=history)
        self._settlement = SettlementSteps(
            engine,
            bic=bic,
            signer=signer,
            agent=agent,
            now=now,
            positions=positions,
            history=history,
            order_bytes_max=order_bytes_max,
        )

    async def advance(self, cycle_id: str) -> State:
        """Take every step that is due and return the state reached. Idempotent. Raises what a step raises."""
        while await self.step(cycle_id):
            pass
        async with transaction(self._engine) as conn:
            return (await cycles.find(conn, cycle_id)).state

    async def step(self, cycle_id: str) -> bool:
        """Take the next step if it is due; tell whether the cycle moved. Raises what the step raises.

        A settlement agent that gives no answer, and whatever isn't the trouble of a database or network, is counted as
        the step's failure. An agent is simply asked again later.
        """
        cycle: Cycle | None = None
        try:
            async with transaction(self._engine) as conn:
                cycle = await cycles.find(conn, cycle_id)
            if cycle.due_at is not None and self._now() < cycle.due_at:
                return False
            moved = await (self._decide(cycle) if cycle.state in DECIDED_LOCKED else self._take(cycle))
        except Exception as error:
            if cycle is None:
                raise
            if isinstance(error, NoAnswerError):
                await self._fail(cycle, error.failure, ASK_AGAIN_S)
                return False
            if (failure := step_failure(error)) is not None:
                # What can't be counted now is counted next time.
                with suppress(Exception):
                    await self._fail(cycle, failure, retry_after_s(cycle.failures + 1))
            raise
        if moved:
            log.info("cycle_moved", cycle=cycle_id, after=cycle.state)
        return moved

    async def _fail(self, cycle: Cycle, failure: Failure, retry_s: int) -> None:
        """Count a failure, unless somebody else has taken the step meanwhile."""
        now = self._now()
        async with transaction(self._engine) as conn:
            unmoved = await cycles.lock_unmoved(conn, cycle)
            if unmoved is None:
                return
            failed = await failures.count(conn, unmoved, failure, at=now, due_at=now + timedelta(seconds=retry_s))
        FAILURES.labels(cycle.state, failure.reason).inc()
        log.warning(
            "cycle_stuck" if failed.stuck else "cycle_step_failed",
            cycle=cycle.id,
            state=cycle.state,
            reason=failure.reason,
            failures=failed.failures,
        )

    async def _take(self, cycle: Cycle) -> bool:
        """Take a step that computes or asks, and locks the cycle only to store what came of it."""
        match cycle.state:
            case State.MATCHED:
                return await self._netting.take(cycle)
            case State.APPROVED:
                return await self._settlement.instruct(cycle)
            case State.INSTRUCTED:
                await self._settlement.ask(cycle)
            case State.DEFERRED:
                await self._settlement.repeat(cycle)
            case State.SETTLED:
                await self._settlement.finalise(cycle)
            case _:  # those of DECIDED_LOCKED don't come here, and in all others a cycle waits for people or has ended
                return False
        return True

    async def _decide(self, cycle: Cycle) -> bool:
        """Take a step that decides over what may still come in, so it holds that off: it computes little."""
        async with self._books.transaction(self._engine) as conn:
            unmoved = await cycles.lock_unmoved(conn, cycle)
            if unmoved is None:
                return True
            rulebook = await cycles.rulebook_of(conn, cycle)
            match cycle.state:
                case State.CUT_OFF:
                    return await self._close_cuts(conn, unmoved, rulebook)
                case State.ATTESTING:
                    return await self._close_attestation(conn, unmoved, rulebook)
            return await self._approve(conn, unmoved, rulebook)

    def _passed(self, deadline_at: datetime | None) -> bool:
        return deadline_at is not None and self._now() > deadline_at

    async def _close_cuts(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> bool:
        """Go on once every cut is in, or the deadline passed."""
        participations = await cycles.participations(conn, cycle.id)
        absent = [part.participant for part in participations if part.cut_at is None]
        awaited = [part for part in participations if part.cut_at is None and part.active]
        if awaited and not self._passed(cycle.deadline_at):
            return False
        deadline_at = self._now() + timedelta(seconds=rulebook.attestation_deadline_s)
        await cycles.move(conn, cycle, Trigger.CUTS_CLOSED, data={"absent": absent}, deadline_at=deadline_at)
        return True

    async def _close_attestation(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> bool:
        """Go on once everybody attested and nothing is left to mend, or the deadline passed.

        Where only contested cuts are left, nobody waits for them longer than a part of that time.
        """
        participations = await cycles.participations(conn, cycle.id)
        closing = self._passed(cycle.deadline_at)
        if not closing and any(part.awaited for part in participations):
            return False
        book = await self._books.of(conn, cycle)
        patient = not self._passed(patience_ends_at(cycle.deadline_at, rulebook.attestation_deadline_s))
        if not closing:
            reasons = (reason for _, reason in still_open(book, participations))
            if await computed(conn, lambda: is_waited_for(reasons, patient=patient)):
                return False
        agreed, carried = await pairs.insert_pairs(conn, cycle.id, closed(book, participations))
        data = {"agreed": agreed, "carried_over": carried, "closed_at": timestamp(self._now())}
        await cycles.move(conn, cycle, Trigger.ATTESTATION_CLOSED, data=data)
        return True

    async def _approve(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> bool:
        """Approve by rule; where the rulebook asks for four eyes, wait for them."""
        result = await results.find(conn, cycle.id)
        if result is None:
            raise LookupError(f"cycle {cycle.id} is {cycle.state} and has no result")
        settling = settling_minor(result.currencies)
        causes = four_eyes_causes(rulebook.approval, settling, checks_passed=worst(result.checks) == "pass")
        if needed_decision(cycle.state, causes) is not None:
            return False
        await cycles.move(conn, cycle, Trigger.APPROVED, data={"result": result.sha256, "by": "rulebook"})
        return True
