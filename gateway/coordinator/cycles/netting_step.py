"""The step from matched to netted or held: read, compute on a thread without any lock, and store what came out.

The computation may take minutes where limits bind. Nobody waits for it: no transaction is open meanwhile, and what it
comes to is a function of what was read. Replicas that net at the same time come to the same bytes; the first stores.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import Check
from compliance.cycle.limits import Limits
from compliance.cycle.liquidity import is_bound
from compliance.cycle.positions import Position
from compliance.cycle.result import net_cycle
from compliance.cycle.states import Trigger
from compliance.statements import PAYLOAD_TYPES, CarriedOver, NettingResult
from gateway.coordinator.cycles import figures, running_checks
from gateway.coordinator.cycles.flow_history import FlowHistory
from gateway.coordinator.cycles.kernels import Kernels
from gateway.coordinator.cycles.result_positions import Included, ResultPositions
from gateway.coordinator.cycles.running_checks import CheckInputs
from gateway.coordinator.cycles.tables import cycles, pairs, proposals, results
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.results import Result
from gateway.coordinator.log import events
from gateway.coordinator.registry import limits
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.storage.database import transaction
from netting.liquidity.branch import INTERPRETED_MAX


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """All that a cycle's result is a function of, as one moment has it."""

    cycle: Cycle
    rulebook: Rulebook
    superseded: Result | None
    statements: Sequence[tuple[str, Position]]
    carried: tuple[CarriedOver, ...]
    limits: Limits
    limits_as_of: int
    """The last event of the log when the limits were read."""
    defaulted: frozenset[str]
    checks: CheckInputs

    def need_kernels(self) -> bool:
        """Whether what settles has to be searched for, among so many pairs that it takes compiled kernels."""
        of_currency = Counter(position.currency for _, position in self.statements)
        many = [p for _, p in self.statements if of_currency[p.currency] > INTERPRETED_MAX]
        return bool(many) and is_bound(many, self.limits)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """A result, its signature, its proofs and what the checks say of it."""

    result: NettingResult
    sha256: str
    payload: bytes
    envelope: Envelope
    included: Included
    certificates: Sequence[Certificate]
    checks: Sequence[Check]


class NettingStep:
    """Nets matched cycles. `signer` is the coordinator's, `positions` keeps what a result includes."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        signer: Signer,
        kernels: Kernels,
        positions: ResultPositions,
        history: FlowHistory,
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._kernels = kernels
        self._positions = positions
        self._history = history

    async def take(self, cycle: Cycle) -> bool:
        """Net a cycle, check the outcome and sign it; False while it waits for the engine's kernels to be compiled."""
        async with transaction(self._engine, isolation="REPEATABLE READ") as conn:
            inputs = await _read(conn, cycle, self._history)
        if not self._kernels.ready and await asyncio.to_thread(inputs.need_kernels):
            self._kernels.start()
            return False
        outcome = await asyncio.to_thread(_compute, inputs, self._signer)
        async with transaction(self._engine) as conn:
            if await cycles.lock_unmoved(conn, cycle) is not None:
                await _store(conn, inputs, outcome)
        self._positions.keep(outcome.sha256, outcome.included)
        return True


async def _read(conn: AsyncConnection, cycle: Cycle, history: FlowHistory) -> _Inputs:
    """Read what a result follows from.

    After a default the cycle comes here again: those who default are left out, and what limits left out before is
    looked at anew.
    """
    carried = await pairs.carried_pairs(conn, cycle.id)
    rulebook = await cycles.rulebook_of(conn, cycle)
    return _Inputs(
        cycle=cycle,
        rulebook=rulebook,
        superseded=await results.find(conn, cycle.id),
        statements=await pairs.agreed_statements(conn, cycle.id, also=BY_NETTING),
        carried=tuple(
            CarriedOver(pair=(low, high), currency=currency, reason=reason)
            for (currency, low, high), reason in carried.items()
            if reason not in BY_NETTING
        ),
        limits=await limits.in_force(conn),
        limits_as_of=await events.last(conn),
        defaulted=await proposals.defaulted(conn, cycle.id),
        checks=await running_checks.read(conn, cycle, rulebook, history),
    )


def _compute(inputs: _Inputs, signer: Signer) -> _Outcome:
    before = inputs.superseded
    netting = net_cycle(
        cycle=inputs.cycle.id,
        value_date=inputs.cycle.value_date.isoformat(),
        rulebook_sha256=inputs.cycle.rulebook,
        statements=inputs.statements,
        limits=inputs.limits,
        liquidity=inputs.rulebook.liquidity,
        carried_over=inputs.carried,
        edition=1 if before is None else before.edition + 1,
        supersedes=None if before is None else before.sha256,
        defaulted=inputs.defaulted,
    )
    result = netting.result
    digests = {pair.sha256 for pair in result.statements}
    included = [entry for entry in inputs.statements if entry[0] in digests]
    payload = canonical.encode(result)
    return _Outcome(
        result=result,
        sha256=canonical.digest(payload),
        payload=payload,
        envelope=dsse.seal(payload, PAYLOAD_TYPES[NettingResult], signer),
        included=included,
        certificates=netting.certificates,
        checks=running_checks.run(inputs.checks, inputs.rulebook, result, [p for _, p in included], inputs.limits),
    )


async def _store(conn: AsyncConnection, inputs: _Inputs, outcome: _Outcome) -> None:
    cycle, result = inputs.cycle, outcome.result
    await pairs.readmit(conn, cycle.id, BY_NETTING)
    for reason in sorted(BY_NETTING):
        left_out = [(c.currency, *c.pair) for c in result.carried_over if c.reason == reason]
        if left_out:
            await pairs.carry_over(conn, cycle.id, left_out, reason)
    await results.insert(
        conn,
        cycle.id,
        edition=result.edition,
        sha256=outcome.sha256,
        currencies=result.results,
        envelope=outcome.envelope,
        payload=outcome.payload,
        limits=inputs.limits,
        certificates=outcome.certificates,
        checks=outcome.checks,
        totals=figures.currency_totals(result),
    )
    failed = [check.name for check in outcome.checks if check.verdict == "fail"]
    data = {
        "result": outcome.sha256,
        "failed": failed,
        "warned": [check.name for check in outcome.checks if check.verdict == "warn"],
        "liquidity": figures.liquidity_figures(result),
        "limits_as_of": inputs.limits_as_of,
    }
    trigger = Trigger.CHECK_FAILED if failed else Trigger.NETTED
    await cycles.move(conn, cycle, trigger, data=data, result=outcome.sha256)
