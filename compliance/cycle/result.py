"""The outcome of a cycle as a pure function: agreed statements, limits and rulebook in, result and instructions out.

The coordinator calls it to make a result, each bank to check its own instruction, the offline verifier to check the
whole. None of them has to trust another, because the same input gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from compliance.cycle import positions
from compliance.cycle.certificate import Certificate
from compliance.cycle.limits import Limits, repeated
from compliance.cycle.liquidity import Lane, LiquidityRule, choose
from compliance.cycle.matching import PairKey, in_order
from compliance.cycle.positions import Position
from compliance.statements import (
    CarriedOver,
    CarryReason,
    CurrencyResult,
    IncludedStatement,
    InstructionLine,
    NetPosition,
    NettingResult,
    PositionStatement,
    SettlementInstruction,
)
from netting import multilateral


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
    return positions.inconsistency(positions.of_statement(statement))


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
    statements: Sequence[tuple[str, Position]],
    limits: Limits,
    liquidity: LiquidityRule,
    carried_over: Sequence[CarriedOver],
    edition: int = 1,
    supersedes: str | None = None,
    defaulted: Collection[str] = (),
) -> CycleNetting:
    """Net the agreed statements of a cycle within the limits, and without the pairs of the `defaulted`.

    `statements` are (SHA-256 of the canonical bytes, position), one for each matched pair and currency of the cycle;
    `carried_over` are the pairs that didn't match; `liquidity` is the rulebook's rule for what settles where a limit
    binds. The order of none of them matters. A pair that a limit leaves out is carried over as `bilateral_limit`,
    where its own difference is beyond that, or as `net_debit_cap`; one of a defaulted participant as
    `participant_default`. `edition` and `supersedes` say which result this one follows. Raises
    InconsistentInputError, and netting's QueueRefusedError where a sum needs more than 38 digits.
    """
    if (edition == 1) != (supersedes is None) or (edition == 1 and defaulted):
        raise InconsistentInputError(f"edition {edition} supersedes {supersedes}")
    agreed = _by_lane(statements, carried_over)
    unwound = {lane for lane in agreed if not frozenset(defaulted).isdisjoint(lane[1])}
    by_lane = {lane: entry for lane, entry in agreed.items() if lane not in unwound}
    if (twice := repeated(limits)) is not None:
        raise InconsistentInputError(f"two limits for {twice}")
    choice = choose(by_lane, limits, liquidity)
    settling = list(in_order((lane for lane in by_lane if lane in choice.settling), _key))
    excluded = {lane for lane in by_lane if lane not in choice.settling}
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
            IncludedStatement(pair=lane[1], currency=lane[0], sha256=by_lane[lane][0]) for lane in settling
        ),
        results=tuple(_currency_result(*of) for of in groupby((by_lane[lane][1] for lane in settling), _currency)),
        liquidity=choice.results,
        carried_over=tuple(sorted((*carried_over, *left_out), key=lambda c: (c.currency, c.pair))),
    )
    return CycleNetting(result, choice.certificates)


def settling_minor(results: Iterable[CurrencyResult]) -> dict[str, int]:
    """Return what the results of a cycle move in each currency."""
    return {of.currency: int(of.settlement_minor) for of in results}


def instruction_id(cycle: str, participant: str, currency: str, edition: int = 1) -> str:
    """Return the id of an instruction: one for each participant, currency and edition of a cycle's result."""
    name = f"{cycle}/{participant}/{currency}"
    return name if edition == 1 else f"{name}/{edition}"


def instructions(
    result: NettingResult,
    statements: Iterable[tuple[str, Position]],
    result_sha256: str,
    settlement_agent: str,
) -> list[SettlementInstruction]:
    """Return one instruction for each participant and currency with an included pair, by currency and participant.

    `statements` holds at least those that the result includes. Raises InconsistentInputError.
    """
    by_digest = dict(statements)
    included: list[tuple[str, Position]] = []
    for of_pair in result.statements:
        if (position := by_digest.get(of_pair.sha256)) is None:
            raise InconsistentInputError(f"the result includes statement {of_pair.sha256}, which isn't given")
        included.append((of_pair.sha256, position))
    return list(
        instruct(
            cycle=result.cycle,
            edition=result.edition,
            results=result.results,
            included=included,
            result_sha256=result_sha256,
            settlement_agent=settlement_agent,
        )
    )


def instruct(
    *,
    cycle: str,
    edition: int,
    results: Iterable[CurrencyResult],
    included: Iterable[tuple[str, Position]],
    result_sha256: str,
    settlement_agent: str,
) -> Iterator[SettlementInstruction]:
    """Yield the instructions of a result, of which what each currency came to and what it includes are at hand.

    The lines of an instruction add up to its net; zero is a net too, and its instruction still tells the bank which
    pairs are settled. They are as true as what is given.
    """
    own: defaultdict[tuple[str, str], list[InstructionLine]] = defaultdict(list)
    for digest, p in included:
        for participant, counterparty, receives, pays in (
            (p.low, p.high, p.back_minor, p.forth_minor),
            (p.high, p.low, p.forth_minor, p.back_minor),
        ):
            own[p.currency, participant].append(
                InstructionLine(counterparty=counterparty, statement=digest, receives_minor=receives, pays_minor=pays)
            )
    for of_currency in results:
        for net in of_currency.positions:
            lines = own.pop((of_currency.currency, net.participant), [])
            yield SettlementInstruction(
                id=instruction_id(cycle, net.participant, of_currency.currency, edition),
                cycle=cycle,
                participant=net.participant,
                currency=of_currency.currency,
                net_minor=net.net_minor,
                lines=tuple(sorted(lines, key=_counterparty)),
                result=result_sha256,
                settlement_agent=settlement_agent,
            )


def _counterparty(line: InstructionLine) -> str:
    return line.counterparty


def _by_lane(
    statements: Sequence[tuple[str, Position]], carried_over: Sequence[CarriedOver]
) -> dict[Lane, tuple[str, Position]]:
    """Index by (currency, pair); raise InconsistentInputError for what contradicts itself or appears twice."""
    by_lane: dict[Lane, tuple[str, Position]] = {}
    for entry in statements:
        p = entry[1]
        if (contradiction := positions.inconsistency(p)) is not None:
            raise InconsistentInputError(f"statement {p.low}/{p.high} {p.currency}: {contradiction}")
        by_lane[p.currency, (p.low, p.high)] = entry
    if len(by_lane) != len(statements):
        raise InconsistentInputError(f"{len(statements)} statements of {len(by_lane)} pairs: one appears twice")
    carried_lanes = set[Lane]()
    for carried in carried_over:
        lane = (carried.currency, carried.pair)
        if lane in by_lane or lane in carried_lanes:
            raise InconsistentInputError(
                f"pair {'/'.join(carried.pair)} {carried.currency} is carried over and matched"
            )
        carried_lanes.add(lane)
    return by_lane


def _beyond_bilateral(by_lane: Mapping[Lane, tuple[str, Position]], limits: Limits) -> set[Lane]:
    """Return the pairs in which one owes the other more than that one lets it."""
    between = limits.between()
    beyond = set[Lane]()
    for (currency, pair), (_, position) in by_lane.items() if between else ():
        forth, back = int(position.forth_minor), int(position.back_minor)
        for owing, owed, difference in ((*pair, forth - back), (*pair[::-1], back - forth)):
            limit = between.get((owing, owed, currency))
            if limit is not None and difference > limit:
                beyond.add((currency, pair))
    return beyond


def _key(lane: Lane) -> PairKey:
    return (lane[0], *lane[1])


def _currency(position: Position) -> str:
    return position.currency


def _currency_result(currency: str, settling: Iterable[Position]) -> CurrencyResult:
    """Net the included pairs of a currency; who owes and is owed nothing (all under dispute) is in it with zeros."""
    owed = [(p.low, p.high, int(p.forth_minor), int(p.back_minor)) for p in settling]
    netting = multilateral.net_pairs(currency, owed)
    return CurrencyResult(
        currency=currency,
        obligations=netting.obligations,
        gross_minor=str(netting.gross),
        bilateral_minor=str(netting.bilateral),
        saving_minor=str(netting.saving),
        settlement_minor=str(netting.multilateral),
        positions=tuple(_net_position(position) for position in netting.positions),
    )


def _net_position(position: multilateral.Position) -> NetPosition:
    return NetPosition(
        participant=position.participant,
        receives_minor=str(position.receives),
        pays_minor=str(position.pays),
        net_minor=str(position.net),
    )
