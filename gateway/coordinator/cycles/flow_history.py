"""What each pair settled in the last cycles, kept in memory: a check compares the next cycle's totals with it.

A cycle that is final doesn't change, so each is read once, and one that this process brought to its end not at all.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock

from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.matching import PairKey
from gateway.coordinator.cycles.tables import pairs

_NONE = -1
"""Instead of a total, of a pair that didn't settle in a cycle."""


class PastTotals(Mapping[PairKey, Sequence[int]]):
    """The totals of each pair in some cycles. What the history takes in later doesn't show in it."""

    def __init__(self, rows: Mapping[PairKey, int], cycles: Sequence[Sequence[int]]) -> None:
        self._rows = rows
        self._cycles = cycles

    def __getitem__(self, pair: PairKey) -> list[int]:
        row = self._rows[pair]
        return [total for of in self._cycles if row < len(of) and (total := of[row]) != _NONE]

    def __iter__(self) -> Iterator[PairKey]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class FlowHistory:
    """Keeps the totals of the cycles that were asked for last."""

    def __init__(self) -> None:
        self._rows: dict[PairKey, int] = {}
        self._cycles: dict[str, Sequence[int]] = {}
        self._numbering = Lock()

    async def last(self, conn: AsyncConnection, cycles: int) -> PastTotals:
        """Return the totals in the last so many settled cycles."""
        settled = await pairs.settled_cycles(conn, last=cycles)
        for cycle in settled:
            if cycle not in self._cycles:
                await asyncio.to_thread(self.add, cycle, await pairs.totals(conn, cycle))
        self._cycles = {cycle: self._cycles[cycle] for cycle in settled}
        return self.past()

    def past(self) -> PastTotals:
        """Return the totals in the cycles that are kept."""
        return PastTotals(self._rows, tuple(self._cycles.values()))

    def add(self, cycle: str, totals: Iterable[tuple[PairKey, int]]) -> None:
        """Take in what the pairs of a cycle settled. Any thread may."""
        rows = self._rows
        with self._numbering:
            by_row = {rows.setdefault(pair, len(rows)): total for pair, total in totals}
            column = [_NONE] * len(rows)
        for row, total in by_row.items():
            column[row] = total
        try:
            self._cycles[cycle] = array("q", column)
        except OverflowError:  # money of a currency that needs more than 63 bits
            self._cycles[cycle] = column
