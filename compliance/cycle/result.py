"""The outcome of a cycle as a pure function: agreed statements, limits and rulebook in, result and instructions out.

The coordinator calls it to make a result, each bank to check its own instruction, the offline verifier to check the
whole. None of them has to trust another, because the same input gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from compliance.cycle.carry import CarryReason
from compliance.cycle.certificate import Certificate
from compliance.cycle.limits import Limits, repeated
from compliance.cycle.liquidity import Lane, LiquidityRule, choose
from compliance.statements import (
    CarriedOver,
    CurrencyResult,
    IncludedStatement,
    InstructionLine,
    NetPosition,
    NettingResult,
    PositionStatement,
    SettlementInstruction,
)
from netting.model import Obligation
from netting.multilateral import CurrencyNetting, Position, net


class InconsistentInputError(ValueError):
    """Input that no cycle can have: a statement that contradicts itself, or a pair that appears twice."""


def inconsistency(statement: PositionStatement) -> str | None:
    """Return what contradicts itself in a statement, or None. The schema can't say these rules."""
    first, second = statement.pair
    if first >= second:
        return "the pair isn't two members in alphabetical order"
    for flow, sender, receiver in zip(statement.flows, (first, second), (second, first), strict=True):
        if (flow.sender, flow.receiver) != (sender, receiver):
            return f"the flow {flow.sender}→{flow.receiver} stands where {sender}→{receiver} belongs"
        payments = flow.last_sequence - flow.first_sequence + 1
        if flow.first_sequence < 1 or payments < 0:
            return f"the flow {sender}→{receiver} runs from {flow.first_sequence} to {flow.last_sequence}"
        if flow.count > payments:
            return f"the flow {sender}→{receiver} counts {flow.count} of {payments} payments"
        if int(flow.amount_minor) < flow.count or (flow.count == 0 and flow.amount_minor != "0"):
            return f"the flow {sender}→{receiver} amounts to {flow.amount_minor} in {flow.count} payments"
    return None


@dataclass(frozen=True, slots=True)
class CycleNetting:
    """A cycle's result, and for each currency the certificate that the result names by its digest."""

    result: NettingResult
    certificates: tuple[Certificate, ...]


def net_cycle(
    *,
    cycle: str,
    value_date: str,
    rulebook_sha256: str,
    statements: Sequence[tuple[str, PositionStatement]],
    limits: Limits,
    liquidity: LiquidityRule,
    carried_over: Sequence[CarriedOver],
    edition: int = 1,
    supersedes: str | None = None,
    defaulted: Collection[str] = (),
) -> CycleNetting:
    """Net the agreed statements of a cycle within the limits, and without the pairs of the `defaulted`.

    `statements` are (SHA-256 of the canonical bytes, statement), one for each matched pair and currency;
    `carried_over` are the pairs that didn't match; `liquidity` is the rulebook's rule for what settles where a limit
    binds. The order of none of them matters. A pair that a limit leaves out is carried over as `bilateral_limit`,
    where its own difference is beyond that, or as `net_debit_cap`; one of a defaulted participant as
    `participant_default`. `edition` and `supersedes` say which result this one follows. Raises
    InconsistentInputError, and netting's QueueRefusedError where a sum needs more than 38 digits.
    """
    if (edition == 1) != (supersedes is None) or (edition == 1 and defaulted):
        raise InconsistentInputError(f"edition {edition} supersedes {supersedes}")
    agreed = _by_lane(cycle, statements, carried_over)
    unwound = {lane for lane in agreed if not frozenset(defaulted).isdisjoint(lane[1])}
    by_lane = {lane: entry for lane, entry in agreed.items() if lane not in unwound}
    if (twice := repeated(limits)) is not None:
        raise InconsistentInputError(f"two limits for {twice}")
    choice = choose(by_lane, limits, liquidity)
    included = {lane: digest for lane, (digest, _) in by_lane.items() if lane in choice.settling}
    settling = [obligation for lane in included for obligation in _obligations(by_lane[lane][1])]
    excluded = by_lane.keys() - included.keys()
    beyond = _beyond_bilateral(by_lane, limits) & excluded
    left_out = (
        CarriedOver(pair=lane[1], currency=lane[0], reason=reason)
        for reason, lanes in (
            (CarryReason.PARTICIPANT_DEFAULT, unwound),
            (CarryReason.BILATERAL_LIMIT, beyond),
            (CarryReason.NET_DEBIT_CAP, excluded - beyond),
        )
        for lane in lanes
    )
    result = NettingResult(
        cycle=cycle,
        value_date=value_date,
        rulebook=rulebook_sha256,
        edition=edition,
        supersedes=supersedes,
        defaulted=tuple(sorted(set(defaulted))),
        statements=tuple(
            IncludedStatement(pair=pair, currency=currency, sha256=digest)
            for (currency, pair), digest in sorted(included.items())
        ),
        results=_currency_results(net(settling), included),
        liquidity=choice.results,
        carried_over=tuple(sorted((*carried_over, *left_out), key=lambda c: (c.currency, c.pair))),
    )
    return CycleNetting(result, choice.certificates)


def settling_minor(result: NettingResult) -> dict[str, int]:
    """Return what a result moves in each currency."""
    return {of.currency: int(of.settlement_minor) for of in result.results}


def instruction_id(cycle: str, participant: str, currency: str, edition: int = 1) -> str:
    """Return the id of an instruction: one for each participant, currency and edition of a cycle's result."""
    name = f"{cycle}/{participant}/{currency}"
    return name if edition == 1 else f"{name}/{edition}"


def instructions(
    result: NettingResult,
    statements: Iterable[tuple[str, PositionStatement]],
    result_sha256: str,
    settlement_agent: str,
) -> list[SettlementInstruction]:
    """Return one instruction for each participant and currency with an included pair, by currency and participant.

    `statements` holds at least those that the result includes. The lines of an instruction add up to its net;
    zero is a net too, and its instruction still tells the bank which pairs are settled.
    """
    by_digest = dict(statements)
    lines: defaultdict[tuple[str, str], list[InstructionLine]] = defaultdict(list)
    for included in result.statements:
        statement = by_digest.get(included.sha256)
        if statement is None:
            raise InconsistentInputError(f"the result includes statement {included.sha256}, which isn't given")
        forth, back = (flow.amount_minor for flow in statement.flows)
        first, second = statement.pair
        for participant, counterparty, receives, pays in ((first, second, back, forth), (second, first, forth, back)):
            lines[included.currency, participant].append(
                InstructionLine(
                    counterparty=counterparty, statement=included.sha256, receives_minor=receives, pays_minor=pays
                )
            )
    return [
        SettlementInstruction(
            id=instruction_id(result.cycle, position.participant, of_currency.currency, result.edition),
            cycle=result.cycle,
            participant=position.participant,
            currency=of_currency.currency,
            net_minor=position.net_minor,
            lines=tuple(sorted(lines[of_currency.currency, position.participant], key=lambda line: line.counterparty)),
            result=result_sha256,
            settlement_agent=settlement_agent,
        )
        for of_currency in result.results
        for position in of_currency.positions
    ]


def _by_lane(
    cycle: str, statements: Sequence[tuple[str, PositionStatement]], carried_over: Sequence[CarriedOver]
) -> dict[Lane, tuple[str, PositionStatement]]:
    """Index by (currency, pair); raise InconsistentInputError for what contradicts itself or appears twice."""
    by_lane: dict[Lane, tuple[str, PositionStatement]] = {}
    for digest, statement in statements:
        what = f"statement {'/'.join(statement.pair)} {statement.currency}"
        if statement.cycle != cycle:
            raise InconsistentInputError(f"{what} is of cycle {statement.cycle}, not {cycle}")
        if (contradiction := inconsistency(statement)) is not None:
            raise InconsistentInputError(f"{what}: {contradiction}")
        if (statement.currency, statement.pair) in by_lane:
            raise InconsistentInputError(f"{what} appears twice")
        by_lane[statement.currency, statement.pair] = (digest, statement)
    carried_lanes = set[Lane]()
    for carried in carried_over:
        lane = (carried.currency, carried.pair)
        if lane in by_lane or lane in carried_lanes:
            raise InconsistentInputError(
                f"pair {'/'.join(carried.pair)} {carried.currency} is carried over and matched"
            )
        carried_lanes.add(lane)
    return by_lane


def _beyond_bilateral(by_lane: Mapping[Lane, tuple[str, PositionStatement]], limits: Limits) -> set[Lane]:
    """Return the pairs in which one owes the other more than that one lets it."""
    between = limits.between()
    beyond = set[Lane]()
    for (currency, pair), (_, statement) in by_lane.items() if between else ():
        forth, back = (int(flow.amount_minor) for flow in statement.flows)
        for owing, owed, difference in ((*pair, forth - back), (*pair[::-1], back - forth)):
            limit = between.get((owing, owed, currency))
            if limit is not None and difference > limit:
                beyond.add((currency, pair))
    return beyond


def _obligations(statement: PositionStatement) -> list[Obligation]:
    return [
        Obligation(statement.currency, flow.sender, flow.receiver, int(flow.amount_minor))
        for flow in statement.flows
        if flow.amount_minor != "0"
    ]


def _currency_results(netted: Sequence[CurrencyNetting], included: Iterable[Lane]) -> tuple[CurrencyResult, ...]:
    """Write out the netting, adding with zeros those whose included pairs owe nothing (all under dispute)."""
    participants: defaultdict[str, set[str]] = defaultdict(set)
    for currency, pair in included:
        participants[currency].update(pair)
    by_currency = {netting.currency: netting for netting in netted}
    results: list[CurrencyResult] = []
    for currency, members in sorted(participants.items()):
        netting = by_currency.get(currency) or CurrencyNetting(currency, 0, 0, 0, 0, ())
        positions = {position.participant: position for position in netting.positions}
        results.append(
            CurrencyResult(
                currency=currency,
                obligations=netting.obligations,
                gross_minor=str(netting.gross),
                bilateral_minor=str(netting.bilateral),
                saving_minor=str(netting.saving),
                settlement_minor=str(netting.multilateral),
                positions=tuple(_net_position(positions.get(m) or Position(m, 0, 0)) for m in sorted(members)),
            )
        )
    return tuple(results)


def _net_position(position: Position) -> NetPosition:
    return NetPosition(
        participant=position.participant,
        receives_minor=str(position.receives),
        pays_minor=str(position.pays),
        net_minor=str(position.net),
    )
