"""How cuts bound a cycle: which payments of a lane it takes in, and whether a statement says just these.

Each receiver fixes the last number that it accepted on every lane. A cycle takes in what comes after the last settled
number, up to there; both banks state it, the coordinator holds their statements against it, and so does the verifier.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position, of_statement
from compliance.statements import CycleCut, PositionStatement

Lane = tuple[str, str, str]
"""Sender, receiver, currency."""


class Span(NamedTuple):
    """The numbers of a lane's payments that a cycle takes in; an empty one ends before it begins."""

    first: int
    last: int

    @property
    def empty(self) -> bool:
        return self.last < self.first


def taken_in(*, settled: int, cut: int) -> Span:
    """Return what a cycle takes in of a lane that is settled through one number and cut at another."""
    return Span(settled + 1, cut)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The numbers that bound statements: the cuts, and through which payment each lane is settled.

    `settled` is None for who doesn't know; the beginnings of flows are believed then.
    """

    delivered: Collection[str]
    """Receivers whose cut arrived; on a lane that isn't in `cuts` they accepted nothing."""
    cuts: Mapping[Lane, int] = field(default_factory=dict)
    settled: Mapping[Lane, int] | None = field(default_factory=dict)


def bounds_of(cuts: Iterable[CycleCut]) -> Bounds:
    """Return the bounds that cuts set by themselves, without knowing what is settled."""
    documents = list(cuts)
    return Bounds(
        delivered=frozenset(cut.receiver for cut in documents),
        cuts={lane: number for cut in documents for lane, number in _numbers(cut).items()},
        settled=None,
    )


def misfit(statement: PositionStatement, bounds: Bounds) -> str | None:
    """Return where a statement says other payments than its cycle takes in, or None.

    A flow to a bank without a cut ends nowhere in particular; its pair will be carried over.
    """
    return misfit_of(of_statement(statement), bounds)


def misfit_of(p: Position, bounds: Bounds) -> str | None:
    """Return the same of a position."""
    return _lane_misfit((p.low, p.high, p.currency), p.forth_first, p.forth_last, bounds) or _lane_misfit(
        (p.high, p.low, p.currency), p.back_first, p.back_last, bounds
    )


def _lane_misfit(lane: Lane, first: int, last: int, bounds: Bounds) -> str | None:
    settled = first - 1 if bounds.settled is None else bounds.settled.get(lane, 0)
    cut = bounds.cuts.get(lane, 0) if lane[1] in bounds.delivered else last
    # As `taken_in` has it.
    if first != settled + 1:
        return f"{' '.join(lane)}: begins with {first}, settled through {settled}"
    if last != cut:
        return f"{' '.join(lane)}: ends with {last}, cut at {cut}"
    return None


def behind(cut: CycleCut, settled: Mapping[Lane, int]) -> str | None:
    """Return where a cut goes back behind what is settled on its receiver's lanes, or None."""
    numbers = _numbers(cut)
    receiver, number = cut.receiver, numbers.get
    lanes = [lane for lane, sequence in settled.items() if lane[1] == receiver and number(lane, 0) < sequence]
    if not lanes:
        return None
    lane = min(lanes)
    return f"{lane[0]} {lane[2]}: cut at {number(lane, 0)}, settled through {settled[lane]}"


def pairs_taken_in(cuts: Mapping[Lane, int], settled: Mapping[Lane, int]) -> set[PairKey]:
    """Return the pairs that have payments in a cycle."""
    return {
        (lane[2], lane[0], lane[1]) if lane[0] < lane[1] else (lane[2], lane[1], lane[0])
        for lane, number in cuts.items()
        if number > settled.get(lane, 0)
    }


def _numbers(cut: CycleCut) -> dict[Lane, int]:
    return {(lane.sender, cut.receiver, lane.currency): lane.last_sequence for lane in cut.lanes}
