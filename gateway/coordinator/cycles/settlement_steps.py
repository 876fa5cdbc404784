"""The steps from approved to final: instruct, ask the agent, ask again after a shortfall, and sign finality.

Each reads, signs or asks without any lock, and stores what came of it in one transaction, unless the cycle has moved on
meanwhile. A cycle is settled by the agent that its banks were instructed with, and by no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.cycle.checks import worst
from compliance.cycle.result import InconsistentInputError, instruct
from compliance.cycle.states import Trigger
from compliance.iso20022 import NO_MOVEMENT, SETTLEMENT_REQUEST_TYPE, request_id
from compliance.statements import PAYLOAD_TYPES, SettlementFinality, SettlementInstruction
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles import settlement
from gateway.coordinator.cycles.failures import FailureReason
from gateway.coordinator.cycles.flow_history import FlowHistory
from gateway.coordinator.cycles.result_positions import Included, ResultPositions
from gateway.coordinator.cycles.settlement import (
    NoAnswerError,
    Rejected,
    Reply,
    Settled,
    SettlementClient,
    Shortfall,
)
from gateway.coordinator.cycles.submission import to_json
from gateway.coordinator.cycles.tables import cycles, proposals, results, settlements, submissions
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.results import Result
from gateway.coordinator.cycles.tables.settlements import Attempt, SignedInstruction
from gateway.coordinator.registry import operators
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.messages.settlement import SettlementOrder
from gateway.federation.signers.signing import sign_document, signing
from gateway.federation.storage.database import transaction

CLOCKS_APART = timedelta(minutes=1)
"""How far the agent's clock may be behind: it refuses for good what is of a day that it hasn't."""


class SettlementSteps:
    """Settles approved cycles. `bic` and `signer` are the coordinator's, `positions` keeps what a result includes, and
    `history` what pairs settled. An order to the agent has `order_bytes_max` at most.

    Every step raises NoAnswerError.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        bic: str,
        signer: Signer,
        agent: SettlementClient,
        now: Callable[[], datetime],
        positions: ResultPositions,
        history: FlowHistory,
        order_bytes_max: int,
    ) -> None:
        self._engine = engine
        self._order_bytes_max = order_bytes_max
        self._history = history
        self._positions = positions
        self._bic = bic
        self._signer = signer
        self._agent = agent
        self._now = now

    async def instruct(self, cycle: Cycle) -> bool:
        """Sign the instructions and write down the request to the settlement agent; False before the value date."""
        async with transaction(self._engine) as conn:
            rulebook = await cycles.rulebook_of(conn, cycle)
        if self._now() < begins_at(cycle, rulebook):
            return False
        agent = await self._agent.agent()
        async with transaction(self._engine, isolation="REPEATABLE READ") as conn:
            result = await _result(conn, cycle)
            # What can't be settled is instructed to nobody.
            self._require_sendable(await results.size(conn, result.sha256))
            last = await settlements.last_attempt(conn, cycle.id)
            included = await self._positions.of(conn, cycle.id, result.sha256)
        edition = result.edition
        if last is not None and last.edition == edition:
            _require_active(last.agent, agent)
        orders = await asyncio.to_thread(_sign_orders, cycle.id, result, included, agent, self._signer)
        attempt = await self._next_attempt(cycle, last, result, agent)
        async with transaction(self._engine) as conn:
            if await cycles.lock_unmoved(conn, cycle) is None:
                return True
            await settlements.insert_instructions(conn, cycle.id, edition, orders)
            await settlements.insert_attempt(conn, attempt, self._now())
            data = {"result": result.sha256, "instructions": len(orders), "attempt": attempt.attempt}
            await cycles.move(conn, cycle, Trigger.INSTRUCTIONS_SIGNED, data=data)
        return True

    async def ask(self, cycle: Cycle) -> None:
        """Ask the agent and keep its answer. Replicas may both ask: the agent knows the message by its id."""
        async with transaction(self._engine) as conn:
            attempt = await _attempt(conn, cycle)
            rulebook = await cycles.rulebook_of(conn, cycle)
            result = await _result(conn, cycle)
            signed = await results.signed(conn, result.sha256)
            rules = await cycles.rulebook_text(conn, cycle)
            decided = await proposals.signed(conn, cycle.id, result.sha256)
            register = await operators.current(conn)
        if attempt.request is None and attempt.unsigned is not None:
            attempt = replace(attempt, request=await self._sign_request(attempt.unsigned.encode()))
        if attempt.request is None:
            reply = Reply(Settled(NO_MOVEMENT, self._now()), None)
        else:
            order = SettlementOrder(
                request=attempt.request,
                result=signed,
                rulebook=rules,
                checks=worst(result.checks),
                operators=register,
                decisions=decided,
            )
            reply = await self._agent.settle(attempt.agent, attempt.message_id, order)
        async with transaction(self._engine) as conn:
            if await cycles.lock_unmoved(conn, cycle) is None:
                return
            await settlements.record_answer(conn, attempt, reply, self._now())
            # What the agent says about single accounts stays between it and the operators.
            data: dict[str, str | int] = {"attempt": attempt.attempt}
            match reply.answer:
                case Settled(reference, at):
                    data = {**data, "reference": reference, "settled_at": timestamp(at)}
                    await cycles.move(conn, cycle, Trigger.AGENT_SETTLED, data=data)
                case Shortfall():
                    # When attempts are used up there is nothing to wait for.
                    requests = await settlements.attempts(conn, cycle.id, attempt.edition)
                    waiting = requests < rulebook.settlement.attempts_max
                    due_at = self._now() + timedelta(seconds=rulebook.settlement.retry_interval_s) if waiting else None
                    await cycles.move(conn, cycle, Trigger.AGENT_SHORT_OF_FUNDS, data=data, due_at=due_at)
                case Rejected():
                    await cycles.move(conn, cycle, Trigger.AGENT_REJECTED, data=data)

    async def repeat(self, cycle: Cycle) -> None:
        """Write down a request under a new message id, or give up when the attempts are used up."""
        async with transaction(self._engine) as conn:
            last, result = await _attempt(conn, cycle), await _result(conn, cycle)
            requests = await settlements.attempts(conn, cycle.id, last.edition)
            rulebook = await cycles.rulebook_of(conn, cycle)
        used_up = requests >= rulebook.settlement.attempts_max
        if not used_up:
            _require_active(last.agent, await self._agent.agent())
        attempt = None if used_up else await self._next_attempt(cycle, last, result, last.agent)
        async with transaction(self._engine) as conn:
            if await cycles.lock_unmoved(conn, cycle) is None:
                return
            if attempt is None:
                await cycles.move(conn, cycle, Trigger.RETRIES_USED_UP, data={"attempts": requests})
                return
            await settlements.insert_attempt(conn, attempt, self._now())
            await cycles.move(conn, cycle, Trigger.REQUEST_REPEATED, data={"attempt": attempt.attempt})

    async def finalise(self, cycle: Cycle) -> None:
        """Sign finality, once, and count the lanes as settled."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as conn:
            attempt, result = await _attempt(conn, cycle), await _result(conn, cycle)
            included = await self._positions.of(conn, cycle.id, result.sha256)
        if attempt.reference is None or attempt.settled_at is None:
            raise LookupError(f"attempt {attempt.attempt} settled without a reference")
        finality = SettlementFinality(
            cycle=cycle.id,
            result=result.sha256,
            settlement_agent=attempt.agent,
            agent_reference=attempt.reference,
            settled_at=timestamp(attempt.settled_at),
        )
        envelope = await sign_document(finality, self._signer)
        async with transaction(self._engine) as conn:
            if await cycles.lock_unmoved(conn, cycle) is None:
                return
            await settlements.insert_finality(conn, cycle.id, envelope)
            await submissions.settle_lanes(conn, cycle.id, included)
            data = {"result": result.sha256, "reference": attempt.reference}
            await cycles.move(conn, cycle, Trigger.FINALITY_SIGNED, data=data)
        self._positions.forget(result.sha256)
        totals = ((p.key, int(p.forth_minor) + int(p.back_minor)) for _, p in included)
        await asyncio.to_thread(self._history.add, cycle.id, totals)

    def _require_sendable(self, result_bytes: int) -> None:
        """Check that the agent takes an order with so long a result, in base64. Raises NoAnswerError."""
        in_order = -(-result_bytes // 3) * 4
        if in_order > self._order_bytes_max:
            detail = (
                f"the result has {in_order:,} bytes in an order, of which the agent takes {self._order_bytes_max:,}"
            )
            raise NoAnswerError(FailureReason.MESSAGE_REFUSED, detail)

    async def _sign_request(self, message: bytes) -> Envelope:
        return await signing(lambda: dsse.seal(message, SETTLEMENT_REQUEST_TYPE, self._signer), self._signer)

    async def _next_attempt(self, cycle: Cycle, last: Attempt | None, result: Result, agent: str) -> Attempt:
        """Return the request that follows the last one. Raises MessageRefused for what no message can say."""
        number = 1 if last is None else last.attempt + 1
        message_id = request_id(cycle.id, number)
        moving = settlement.movements(result.currencies)
        request = None
        if moving:
            message = await asyncio.to_thread(
                settlement.message,
                message_id=message_id,
                created_at=self._now(),
                coordinator=self._bic,
                agent=agent,
                cycle=cycle.id,
                value_date=cycle.value_date,
                moving=moving,
            )
            request = await self._sign_request(message)
        return Attempt(
            cycle=cycle.id,
            attempt=number,
            agent=agent,
            message_id=message_id,
            request=request,
            edition=result.edition,
        )


def begins_at(cycle: Cycle, rulebook: Rulebook) -> datetime:
    """Return from when a cycle may settle: on its value date, as the agent's clock says as well."""
    return rulebook.days.begins_at(cycle.value_date) + CLOCKS_APART


def _require_active(instructed: str, active: str) -> None:
    """Wait for the agent that the banks were instructed with. Raises NoAnswerError."""
    if instructed != active:
        detail = f"the banks were instructed with {instructed}, and {active} is active now"
        raise NoAnswerError(FailureReason.AGENT_INACTIVE, detail)


def _sign_orders(cycle: str, result: Result, included: Included, agent: str, signer: Signer) -> list[SignedInstruction]:
    """Return the instructions of a result, signed. Raises InconsistentInputError rather than sign what can't be."""
    orders = instruct(
        cycle=cycle,
        edition=result.edition,
        results=result.currencies,
        included=included,
        result_sha256=result.sha256,
        settlement_agent=agent,
    )
    signed: list[SignedInstruction] = []
    lines = 0
    for order in orders:
        if sum(int(line.receives_minor) - int(line.pays_minor) for line in order.lines) != int(order.net_minor):
            raise InconsistentInputError(f"the lines of instruction {order.id} don't add up to {order.net_minor}")
        lines += len(order.lines)
        signed.append(_signed(order, signer))
    if lines != 2 * len(included):
        raise InconsistentInputError(f"{lines} lines of instructions for {len(included)} pairs")
    return signed


def _signed(order: SettlementInstruction, signer: Signer) -> SignedInstruction:
    payload = canonical.encode(order)
    return SignedInstruction(
        id=order.id,
        participant=order.participant,
        currency=order.currency,
        net_minor=order.net_minor,
        sha256=canonical.digest(payload),
        envelope=to_json(dsse.seal(payload, PAYLOAD_TYPES[SettlementInstruction], signer)),
    )


async def _result(conn: AsyncConnection, cycle: Cycle) -> Result:
    if (result := await results.find(conn, cycle.id)) is None:
        raise LookupError(f"cycle {cycle.id} is {cycle.state} and has no result")
    return result


async def _attempt(conn: AsyncConnection, cycle: Cycle) -> Attempt:
    if (attempt := await settlements.last_attempt(conn, cycle.id)) is None:
        raise LookupError(f"cycle {cycle.id} is {cycle.state} and nobody was asked to settle it")
    return attempt
