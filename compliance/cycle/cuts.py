"""How cuts bound a cycle: which payments of a lane it takes in, and whether a statement says just these.

Each receiver fixes the last number that it accepted on every lane. A cycle takes in what comes after the last settled
number, up to there; both banks state it, the coordinator holds their statements against it, and so does the verifier.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from compliance.cycle.matching import PairKey
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
    for flow in statement.flows:
        lane = (flow.sender, flow.receiver, statement.currency)
        settled = flow.first_sequence - 1 if bounds.settled is None else bounds.settled.get(lane, 0)
        cut = bounds.cuts.get(lane, 0) if flow.receiver in bounds.delivered else flow.last_sequence
        expected = taken_in(settled=settled, cut=cut)
        if flow.first_sequence != expected.first:
            return f"{' '.join(lane)}: begins with {flow.first_sequence}, settled through {settled}"
        if flow.last_sequence != expected.last:
            return f"{' '.join(lane)}: ends with {flow.last_sequence}, cut at {cut}"
    return None


def behind(cut: CycleCut, settled: Mapping[Lane, int]) -> str | None:
    """Return where a cut goes back behind what is settled on its receiver's lanes, or None."""
    numbers = _numbers(cut)
    for lane, sequence in sorted(settled.items()):
        if lane[1] == cut.receiver and numbers.get(lane, 0) < sequence:
            return f"{lane[0]} {lane[2]}: cut at {numbers.get(lane, 0)}, settled through {sequence}"
    return None


def pairs_taken_in(cuts: Mapping[Lane, int], settled: Mapping[Lane, int]) -> set[PairKey]:
    """Return the pairs that have payments in a cycle."""
    return {
        (currency, min(sender, receiver), max(sender, receiver))
        for (sender, receiver, currency), number in cuts.items()
        if not taken_in(settled=settled.get((sender, receiver, currency), 0), cut=number).empty
    }


def _numbers(cut: CycleCut) -> dict[Lane, int]:
    return {(lane.sender, cut.receiver, lane.currency): lane.last_sequence for lane in cut.lanes}
