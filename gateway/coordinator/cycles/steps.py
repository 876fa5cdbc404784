"""The steps that a cycle takes by itself from its cut-off to its end. Each is one transaction.

`Steps.step` looks at the stored state only, so whoever comes after a crash takes the step that was due, and two
replicas take each step once: the second finds the row locked, and then moved on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import Signer
from compliance.cycle.approval import four_eyes_causes, needed_decision
from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.checks import worst
from compliance.cycle.contests import contested_pairs
from compliance.cycle.cuts import pairs_taken_in
from compliance.cycle.liquidity import is_bound
from compliance.cycle.matching import match
from compliance.cycle.result import instructions, net_cycle, settling_minor
from compliance.cycle.states import ENDED, State, Trigger
from compliance.statements import CarriedOver, NettingResult, SettlementFinality
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles import figures, running_checks, settlement
from gateway.coordinator.cycles.closing import closed, is_waited_for, patience_ends_at
from gateway.coordinator.cycles.kernels import Kernels
from gateway.coordinator.cycles.settlement import (
    Answer,
    NoAnswerError,
    Rejected,
    Settled,
    SettlementClient,
    Shortfall,
)
from gateway.coordinator.cycles.tables import cycles, pairs, proposals, results, settlements, submissions
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.settlements import Attempt
from gateway.coordinator.registry import limits
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.storage.database import transaction
from netting.liquidity.branch import INTERPRETED_MAX

ASK_AGAIN_S = 2
"""After which a settlement agent that gave no answer is asked again."""

NO_MOVEMENT = "NO-MOVEMENT"
"""The reference of a settlement in which every net is zero: there is nothing to ask the agent for."""

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
    ) -> None:
        self._engine = engine
        self._bic = bic
        self._signer = signer
        self._agent = agent
        self._now = now
        self._kernels = kernels

    async def advance(self, cycle_id: str) -> State:
        """Take every step that is due, one transaction each, and return the state reached. Idempotent."""
        while await self.step(cycle_id):
            pass
        async with transaction(self._engine) as conn:
            return (await cycles.find(conn, cycle_id)).state

    async def step(self, cycle_id: str) -> bool:
        """Take the next step if it is due; tell whether the cycle moved."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            if cycle.state is not State.INSTRUCTED:
                moved = await self._move(conn, cycle)
                if moved is not None:
                    log.info("cycle_moved", cycle=cycle_id, state=moved.state)
                return moved is not None
            attempt = await settlements.last_attempt(conn, cycle_id)
        if attempt is None or (cycle.due_at is not None and self._now() < cycle.due_at):
            return False
        # Asked outside of any transaction. Replicas may both ask: the agent knows the message by its id.
        return await self._settle(attempt)

    async def _move(self, conn: AsyncConnection, cycle: Cycle) -> Cycle | None:
        if cycle.state is State.OPEN or cycle.state in ENDED:
            return None
        if cycle.due_at is not None and self._now() < cycle.due_at:
            return None
        rulebook = await cycles.rulebook_of(conn, cycle)
        match cycle.state:
            case State.CUT_OFF:
                return await self._close_cuts(conn, cycle, rulebook)
            case State.ATTESTING:
                return await self._close_attestation(conn, cycle, rulebook)
            case State.MATCHED:
                return await self._net(conn, cycle, rulebook)
            case State.NETTED:
                return await self._approve(conn, cycle, rulebook)
            case State.APPROVED:
                return await self._instruct(conn, cycle)
            case State.DEFERRED:
                return await self._repeat(conn, cycle, rulebook)
            case State.SETTLED:
                return await self._finalise(conn, cycle)
        return None

    def _passed(self, deadline_at: datetime | None) -> bool:
        return deadline_at is not None and self._now() > deadline_at

    # --- cuts and statements

    async def _close_cuts(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> Cycle | None:
        """Go on once every cut is in, or the deadline passed."""
        participations = await cycles.participations(conn, cycle.id)
        absent = [part.participant for part in participations if part.cut_at is None]
        awaited = [part for part in participations if part.cut_at is None and part.active]
        if awaited and not self._passed(cycle.deadline_at):
            return None
        deadline_at = self._now() + timedelta(seconds=rulebook.attestation_deadline_s)
        data = {"absent": absent}
        return await cycles.move(conn, cycle, Trigger.CUTS_CLOSED, data=data, deadline_at=deadline_at)

    async def _close_attestation(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> Cycle | None:
        """Go on once everybody attested and nothing is left to mend, or the deadline passed.

        Where only contested cuts are left, nobody waits for them longer than a part of that time.
        """
        participations = await cycles.participations(conn, cycle.id)
        awaited = [
            part for part in participations if part.active and part.cut_at is not None and part.attested_at is None
        ]
        closing = self._passed(cycle.deadline_at)
        if awaited and not closing:
            return None
        attested = await submissions.attested(conn, cycle.id)
        cuts, settled = await submissions.cut_lanes(conn, cycle.id), await submissions.settled_lanes(conn)
        contested = contested_pairs(await submissions.contests(conn, cycle.id), cuts=cuts, attested=attested)
        agreed, carried = closed(match(attested), pairs_taken_in(cuts, settled), participations, contested)
        patient = not self._passed(patience_ends_at(cycle.deadline_at, rulebook.attestation_deadline_s))
        if not closing and is_waited_for(carried.values(), patient=patient):
            return None
        await pairs.insert_pairs(conn, cycle.id, agreed, carried)
        data = {"agreed": len(agreed), "carried_over": len(carried)}
        return await cycles.move(conn, cycle, Trigger.ATTESTATION_CLOSED, data=data)

    # --- netting and approval

    async def _net(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> Cycle | None:
        """Net the agreed statements within the limits, check the outcome and sign it.

        After a default the cycle comes here again: those who default are left out, and what limits left out before
        is looked at anew. Where limits bind many pairs, it waits until the engine's kernels are compiled.
        """
        if not self._kernels.ready and await self._searches(conn, cycle):
            self._kernels.start()
            return None
        before = await results.find(conn, cycle.id)
        edition = 1 if before is None else before.document.edition + 1
        if before is not None:
            await pairs.readmit(conn, cycle.id, BY_NETTING)
        statements = await pairs.agreed_statements(conn, cycle.id)
        keeping = await limits.in_force(conn)
        carried = (await pairs.carried_pairs(conn, cycle.id)).items()
        # In a thread of its own: where limits bind, the search takes its time, and others are served meanwhile.
        netting = await asyncio.to_thread(
            net_cycle,
            cycle=cycle.id,
            value_date=cycle.value_date.isoformat(),
            rulebook_sha256=cycle.rulebook,
            statements=statements,
            limits=keeping,
            liquidity=rulebook.liquidity,
            carried_over=[
                CarriedOver(pair=(low, high), currency=currency, reason=reason)
                for (currency, low, high), reason in carried
            ],
            edition=edition,
            supersedes=None if before is None else before.sha256,
            defaulted=await proposals.defaulted(conn, cycle.id),
        )
        result = netting.result
        sha256 = canonical.digest(canonical.encode(result))
        included = {pair.sha256 for pair in result.statements}
        checked = await running_checks.run(
            conn, cycle, rulebook, result, [s for digest, s in statements if digest in included], keeping
        )
        for reason in sorted(BY_NETTING):
            left_out = [(c.currency, *c.pair) for c in result.carried_over if c.reason == reason]
            if left_out:
                await pairs.carry_over(conn, cycle.id, left_out, reason)
        envelope = dsse.sign(result, self._signer)
        await results.insert(
            conn,
            cycle.id,
            edition=edition,
            sha256=sha256,
            envelope=envelope,
            limits=keeping,
            certificates=netting.certificates,
            checks=checked,
            totals=figures.currency_totals(result),
        )
        failed = [check.name for check in checked if check.verdict == "fail"]
        trigger = Trigger.CHECK_FAILED if failed else Trigger.NETTED
        data = {
            "result": sha256,
            "failed": failed,
            "warned": [c.name for c in checked if c.verdict == "warn"],
            "liquidity": figures.liquidity_figures(result),
        }
        return await cycles.move(conn, cycle, trigger, data=data, result=sha256)

    async def _searches(self, conn: AsyncConnection, cycle: Cycle) -> bool:
        """Tell whether what settles has to be searched for, among so many pairs that it takes compiled kernels."""
        statements = [statement for _, statement in await pairs.agreed_statements(conn, cycle.id)]
        of_currency = Counter(statement.currency for statement in statements)
        many = [s for s in statements if of_currency[s.currency] > INTERPRETED_MAX]
        return bool(many) and is_bound(many, await limits.in_force(conn))

    async def _approve(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> Cycle | None:
        """Approve by rule; where the rulebook asks for four eyes, wait for them."""
        result = await results.find(conn, cycle.id)
        if result is None:
            return None
        settling = settling_minor(result.document)
        causes = four_eyes_causes(rulebook.approval, settling, checks_passed=worst(result.checks) == "pass")
        if needed_decision(cycle.state, causes) is not None:
            return None
        data = {"result": result.sha256, "by": "rulebook"}
        return await cycles.move(conn, cycle, Trigger.APPROVED, data=data)

    # --- settlement

    async def _instruct(self, conn: AsyncConnection, cycle: Cycle) -> Cycle | None:
        """Sign the instructions and write down the request to the settlement agent."""
        result = await results.find(conn, cycle.id)
        if result is None:
            return None
        try:
            agent = await self._agent.agent()
        except NoAnswerError as error:
            await self._wait_for_agent(conn, cycle, error)
            return None
        statements = await pairs.agreed_statements(conn, cycle.id)
        orders = instructions(result.document, statements, result.sha256, agent)
        await settlements.insert_instructions(
            conn,
            cycle.id,
            result.document.edition,
            [(order, canonical.digest(canonical.encode(order)), dsse.sign(order, self._signer)) for order in orders],
        )
        attempt = await self._next_attempt(conn, cycle, result.document, agent)
        data = {"result": result.sha256, "instructions": len(orders), "attempt": attempt}
        return await cycles.move(conn, cycle, Trigger.INSTRUCTIONS_SIGNED, data=data)

    async def _wait_for_agent(self, conn: AsyncConnection, cycle: Cycle, error: NoAnswerError) -> None:
        log.warning("settlement_agent_unknown", cycle=cycle.id, error=str(error))
        await cycles.postpone(conn, cycle.id, self._now() + timedelta(seconds=ASK_AGAIN_S))

    async def _next_attempt(self, conn: AsyncConnection, cycle: Cycle, result: NettingResult, agent: str) -> int:
        last = await settlements.last_attempt(conn, cycle.id)
        number, now = 1 if last is None else last.attempt + 1, self._now()
        message_id = f"{cycle.id}-{number}"
        moving = settlement.movements(result)
        request = settlement.message(
            message_id=message_id,
            created_at=now,
            coordinator=self._bic,
            agent=agent,
            cycle=cycle.id,
            value_date=cycle.value_date,
            moving=moving,
        ).decode() if moving else None  # fmt: skip
        attempt = Attempt(
            cycle=cycle.id,
            attempt=number,
            agent=agent,
            message_id=message_id,
            request=request,
            edition=result.edition,
        )
        await settlements.insert_attempt(conn, attempt, now)
        return number

    async def _settle(self, attempt: Attempt) -> bool:
        """Ask the agent and keep its answer; without an answer, ask the same again later."""
        answer: Answer | None
        try:
            if attempt.request is None:
                answer = Settled(NO_MOVEMENT, self._now())
            else:
                answer = await self._agent.settle(attempt.message_id, attempt.request.encode())
        except NoAnswerError as error:
            log.warning("settlement_unanswered", cycle=attempt.cycle, attempt=attempt.attempt, error=str(error))
            answer = None
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, attempt.cycle, lock=True)
            last = await settlements.last_attempt(conn, attempt.cycle)
            if cycle.state is not State.INSTRUCTED or last is None or last.attempt != attempt.attempt:
                return True  # Another replica was first with the same answer.
            if answer is None:
                await cycles.postpone(conn, cycle.id, self._now() + timedelta(seconds=ASK_AGAIN_S))
                return False
            await settlements.record_answer(conn, attempt, answer, self._now())
            await self._move_by(conn, cycle, attempt, answer)
        return True

    async def _move_by(self, conn: AsyncConnection, cycle: Cycle, attempt: Attempt, answer: Answer) -> None:
        # What the agent says about single accounts stays between it and the operators.
        data: dict[str, str | int] = {"attempt": attempt.attempt}
        match answer:
            case Settled(reference, at):
                data = {**data, "reference": reference, "settled_at": timestamp(at)}
                await cycles.move(conn, cycle, Trigger.AGENT_SETTLED, data=data)
            case Shortfall():
                rulebook = await cycles.rulebook_of(conn, cycle)
                # When attempts are used up there is nothing to wait for.
                requests = await settlements.attempts(conn, cycle.id, attempt.edition)
                waiting = requests < rulebook.settlement.attempts_max
                due_at = self._now() + timedelta(seconds=rulebook.settlement.retry_interval_s) if waiting else None
                await cycles.move(conn, cycle, Trigger.AGENT_SHORT_OF_FUNDS, data=data, due_at=due_at)
            case Rejected():
                await cycles.move(conn, cycle, Trigger.AGENT_REJECTED, data=data)

    async def _repeat(self, conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook) -> Cycle | None:
        """Ask the agent anew under a new message id, or give up when the attempts are used up."""
        last, result = await settlements.last_attempt(conn, cycle.id), await results.find(conn, cycle.id)
        if last is None or result is None:
            return None
        requests = await settlements.attempts(conn, cycle.id, last.edition)
        if requests >= rulebook.settlement.attempts_max:
            return await cycles.move(conn, cycle, Trigger.RETRIES_USED_UP, data={"attempts": requests})
        try:
            agent = await self._agent.agent()
        except NoAnswerError as error:
            await self._wait_for_agent(conn, cycle, error)
            return None
        attempt = await self._next_attempt(conn, cycle, result.document, agent)
        return await cycles.move(conn, cycle, Trigger.REQUEST_REPEATED, data={"attempt": attempt})

    async def _finalise(self, conn: AsyncConnection, cycle: Cycle) -> Cycle | None:
        """Sign finality, once, and count the lanes as settled."""
        attempt, result = await settlements.last_attempt(conn, cycle.id), await results.find(conn, cycle.id)
        if attempt is None or result is None or attempt.reference is None or attempt.settled_at is None:
            return None
        finality = SettlementFinality(
            cycle=cycle.id,
            result=result.sha256,
            settlement_agent=attempt.agent,
            agent_reference=attempt.reference,
            settled_at=timestamp(attempt.settled_at),
        )
        await settlements.insert_finality(conn, cycle.id, dsse.sign(finality, self._signer))
        statements = [statement for _, statement in await pairs.agreed_statements(conn, cycle.id)]
        await submissions.settle_lanes(conn, cycle.id, statements)
        data = {"result": result.sha256, "reference": attempt.reference}
        return await cycles.move(conn, cycle, Trigger.FINALITY_SIGNED, data=data)
