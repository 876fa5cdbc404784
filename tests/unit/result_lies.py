"""Lies about a result: each makes another result of an honest one."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from compliance.statements import CarriedOver, CarryReason, NettingResult

Lie = Callable[[NettingResult], NettingResult]


def without(pair: tuple[str, str], *, say: CarryReason | None) -> Lie:
    """Leave a pair out of what settles, and out of its banks' positions; carry it over, or say nothing of it."""

    def lie(result: NettingResult) -> NettingResult:
        statements = tuple(one for one in result.statements if one.pair != pair)
        carried = () if say is None else (CarriedOver(pair=pair, currency="EUR", reason=say),)
        return replace(result, statements=statements, carried_over=(*result.carried_over, *carried))

    return lie


def with_net(bank: str, **changes: str) -> Lie:
    """Change what a bank receives, pays or nets."""

    def lie(result: NettingResult) -> NettingResult:
        (euro,) = result.results
        positions = tuple(replace(one, **changes) if one.participant == bank else one for one in euro.positions)
        return replace(result, results=(replace(euro, positions=positions),))

    return lie


def with_statement(pair: tuple[str, str], sha256: str) -> Lie:
    """Put another statement in the place of the one that both banks signed."""

    def lie(result: NettingResult) -> NettingResult:
        return replace(
            result,
            statements=tuple(replace(one, sha256=sha256) if one.pair == pair else one for one in result.statements),
        )

    return lie


def all_of(*lies: Lie) -> Lie:
    def lie(result: NettingResult) -> NettingResult:
        for one in lies:
            result = one(result)
        return result

    return lie
