"""Subsets of a few signed amounts that sum to nothing, by meeting in the middle (Horowitz and Sahni, 1974)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

AMOUNTS_MAX = 30
AMOUNT_MAX = 2**63 // (AMOUNTS_MAX + 2)
"""Greater amounts could overflow a sum."""


def least_zero_sum(amounts: Sequence[int], *, rows_max: int) -> tuple[int, ...] | None:
    """Return the places of the smallest subset of amounts that sums to zero, if it is the only one of its size.

    At most AMOUNTS_MAX amounts, none zero and none beyond AMOUNT_MAX. No subset of one sign sums to zero.
    """
    if not 2 <= len(amounts) <= AMOUNTS_MAX or any(abs(amount) > AMOUNT_MAX for amount in amounts):
        return None
    middle = len(amounts) // 2
    halves = (_sums(amounts[:middle]), _sums(amounts[middle:]))
    sizes = (_sizes(middle), _sizes(len(amounts) - middle))
    order = np.argsort(halves[1], kind="stable")
    ordered = halves[1][order]
    low = np.searchsorted(ordered, -halves[0], side="left")
    high = np.searchsorted(ordered, -halves[0], side="right")
    best: tuple[int, ...] | None = None
    least, number = rows_max + 1, 0
    for left in np.flatnonzero(high > low):
        rights = order[low[left] : high[left]]
        total = sizes[0][left] + sizes[1][rights]
        if not left:
            # Not the empty set.
            rights, total = rights[total > 0], total[total > 0]
        if not len(total) or (size := int(total.min())) > least:
            continue
        if size < least:
            least, number, best = size, 0, None
        smallest = rights[total == size]
        number += len(smallest)
        best = _places(int(left), int(smallest[0]), middle)
    return best if number == 1 and least <= rows_max else None


def _sums(amounts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return the sum of each subset: bit k of its place is whether amount k is in."""
    sums = np.zeros(1, dtype=np.int64)
    for amount in amounts:
        sums = np.concatenate([sums, sums + amount])
    return sums


@cache
def _sizes(count: int) -> npt.NDArray[np.int64]:
    return _sums([1] * count)


def _places(left: int, right: int, middle: int) -> tuple[int, ...]:
    chosen = left | right << middle
    return tuple(place for place in range(chosen.bit_length()) if chosen >> place & 1)
