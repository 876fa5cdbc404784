"""Finding the ids that only one of two banks has, from symbols of the other's set. No network, no clock.

Whoever answers may write into the symbols what it likes. It costs a bounded number of symbols and steps, and what
comes of it is either that the other's count and root are those of the set that the symbols lead to, or a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from participants.reconciliation.faults import ComparisonFault, Fault
from participants.reconciliation.sets import SYMBOLS_MAX, IdSet, Summary, Words, read_symbols, root_of

FIRST_SYMBOLS = 16
SYMBOLS_A_DIFFERENCE = 1.25
"""Of many; few take more, which `FIRST_SYMBOLS` are for."""
PART = 8
"""What isn't enough grows by a part of that size."""


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """What one bank alone has: of this one the places of its records, of the other one ids."""

    here: NDArray[np.int64]
    there: Words

    def __len__(self) -> int:
        return len(self.here) + len(self.there)


class Comparison:
    """What this bank asks another of its set, and has heard. It can be gone on with at any time from `next`."""

    def __init__(self, ours: IdSet, theirs: Summary) -> None:
        self._ours = ours
        self._theirs = theirs
        self._symbols = np.empty((0, 3), np.uint64)
        self._end = min(SYMBOLS_MAX, 3 * (len(ours) + theirs.count) + FIRST_SYMBOLS)
        self.result: Difference | None = None
        if (theirs.count, theirs.root) == (len(ours), ours.summary.root):
            self.result = Difference(np.empty(0, np.int64), np.empty((0, 2), np.uint64))

    @property
    def heard(self) -> int:
        """How many symbols came so far."""
        return len(self._symbols)

    def next(self) -> tuple[int, int] | None:
        """Return from which symbol on how many are needed; None once the difference is known."""
        if self.result is not None:
            return None
        about = FIRST_SYMBOLS + int(SYMBOLS_A_DIFFERENCE * self._ours.summary.distance(self._theirs))
        count = about if not self.heard else max(FIRST_SYMBOLS, self.heard // PART)
        return self.heard, min(count, self._end - self.heard)

    def take(self, data: bytes) -> None:
        """Take the symbols that were needed. Raises ComparisonFault."""
        first, count = self.next() or (self.heard, 0)
        try:
            more = read_symbols(data)
        except ValueError as error:
            raise ComparisonFault(Fault.SYMBOLS_MALFORMED, str(error)) from error
        if len(more) != count:
            raise ComparisonFault(Fault.SYMBOLS_MALFORMED, f"{len(more)} symbols, {count} were asked for")
        self._symbols = np.concatenate((self._symbols, more ^ self._ours.symbols(first, count)))
        self.result = self._taken_apart()
        if self.result is None and self.heard >= self._end:
            raise ComparisonFault(Fault.TOO_MANY_DIFFERENCES, f"not shown by {self.heard} symbols")

    def _taken_apart(self) -> Difference | None:
        from participants.reconciliation import kernels

        rest, sums = self._symbols[:, :2].copy(), self._symbols[:, 2].copy()
        room = np.empty((len(sums), 2), np.uint64)
        ids = room[: kernels.take_apart(self._ours.key, rest, sums, room)]
        if rest.any() or sums.any():
            return None
        if len(np.unique(ids, axis=0)) != len(ids):
            raise ComparisonFault(Fault.SYMBOLS_CONTRADICT, "an id comes out of them twice")
        here, there = self._ours.split(ids)
        count = len(self._ours) - len(here) + len(there)
        if count != self._theirs.count or root_of(self._ours.changed(without=here, more=there)) != self._theirs.root:
            detail = f"they lead to another set of {count} than the one of {self._theirs.count} that was named"
            raise ComparisonFault(Fault.ROOT_DIFFERS, detail)
        return Difference(self._ours.places[here], there)
