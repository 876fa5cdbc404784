"""Plain netting of many obligations: the kernels of `kernels.figures`, on several threads.

Each thread adds up a part of the obligations by itself and the parts are added in the end, or each has rows of its
own. Integers add up to the same in any order, so how many threads there are changes no number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from netting.kernels import figures as kernel
from netting.kernels.compile import SUM_MAX

THREADS_MAX = 8
OBLIGATIONS_PER_THREAD = 250_000
"""Fewer aren't worth a thread."""

BUCKETS = 256
"""As many as a core can write to by turns before its caches and its table of pages give out."""

Array = Any
Columns = tuple[Array, Array, Array, Array]
"""Indexes of currency, debtor and creditor, and the amount in minor units."""


class SumTooLargeError(ArithmeticError):
    """A sum may reach 2^62: the arrays can't hold the answer."""


def multilateral(columns: Columns, currencies: int, banks: int) -> tuple[Array, Array]:
    """Return what everyone receives and pays, at [currency * banks + bank]. Raises SumTooLargeError."""
    cells = currencies * banks

    def part(rows: slice) -> tuple[Array, Array, int]:
        receives, pays = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
        bits = kernel.scatter(*(column[rows] for column in columns), banks, receives, pays)
        return receives, pays, int(bits)

    parts = _each(part, _parts(len(columns[3]), cells))
    _guard(columns[3], [bits for *_, bits in parts])
    receives, pays, _ = parts[0]
    for more_receives, more_pays, _ in parts[1:]:
        receives += more_receives
        pays += more_pays
    return receives, pays


def bilateral(columns: Columns, currencies: int, banks: int) -> tuple[Array, Array, Array, Array]:
    """Return pairs in canonical order as compressed rows (start, high, forth, back). Raises SumTooLargeError.

    A row is (currency, lower bank). Two passes of a radix sort, the second within the cache, bring the obligations
    of a row together; `fold` adds them up.
    """
    rows = currencies * banks
    shift = max(0, (rows - 1).bit_length() - BUCKETS.bit_length() + 1)
    digits = (2 * banks).bit_length()
    amount = columns[3]
    parts = _parts(len(amount), rows)

    def count(part: slice) -> Array:
        counts = np.zeros(((rows - 1) >> shift) + 1, np.int64)
        kernel.count(*(column[part] for column in columns[:3]), banks, shift, counts)
        return counts

    counts = np.array(_each(count, parts))
    bounds = np.zeros(counts.shape[1] + 1, np.int64)
    np.cumsum(counts.sum(axis=0), out=bounds[1:])
    # Where in each bucket each thread begins to write.
    ends = bounds[:-1] + np.cumsum(counts, axis=0) - counts
    keys = np.empty(len(amount), np.uint32 if shift + digits <= 32 else np.uint64)
    values = np.empty(len(amount), np.int64)

    def spread(part: slice, own_ends: Array) -> int:
        own = (column[part] for column in columns)
        return int(kernel.spread(*own, banks, shift, digits, own_ends, keys, values))

    _guard(amount, _each(spread, parts, ends))
    return _fold(keys, values, bounds, rows, shift, digits, banks, len(parts))


def _fold(
    keys: Array, values: Array, bounds: Array, rows: int, shift: int, digits: int, banks: int, threads: int
) -> tuple[Array, Array, Array, Array]:
    total, buckets = len(values), len(bounds) - 1
    start, back = np.zeros(rows + 1, np.int64), np.empty(total, np.int64)
    largest = int(np.diff(bounds).max())
    cuts = [int(np.searchsorted(bounds, total * part // threads)) for part in range(threads)] + [buckets]

    def fold(first: int, last: int) -> int:
        scratch = (np.empty(largest, keys.dtype), np.empty(largest, np.int64))
        return int(kernel.fold(keys, values, bounds, first, last, shift, digits, banks, scratch, start, back))

    end = 0
    for written_to, first, last in zip(_each(fold, cuts[:-1], cuts[1:]), cuts[:-1], cuts[1:], strict=True):
        begun = int(bounds[first])
        if begun != end:  # close the gap: there were fewer pairs than obligations before
            for column in (keys, values, back):
                column[end : end + written_to - begun] = column[begun:written_to]
            start[first << shift : last << shift] -= begun - end
        end += written_to - begun
    start[rows] = end
    return start, keys[:end], values[:end], back[:end]


def _parts(count: int, cells: int) -> list[slice]:
    """Cut the obligations into a part for each thread that is worth its own accumulators."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(cores, THREADS_MAX, count // max(OBLIGATIONS_PER_THREAD, 4 * cells)))
    return [slice(count * part // threads, count * (part + 1) // threads) for part in range(threads)]


def _each(work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `work` for each element, on threads where there are several."""
    if len(arguments[0]) == 1:
        return [work(*part) for part in zip(*arguments, strict=True)]
    with ThreadPoolExecutor(len(arguments[0])) as pool:
        return list(pool.map(work, *arguments))


def _guard(amount: Array, bits: list[int]) -> None:
    """Raise SumTooLargeError unless the sum of the amounts, and so every sum that was made, is below 2^62."""
    union = 0
    for part in bits:
        union |= part
    if union * len(amount) < SUM_MAX:
        return
    # The quick bound doesn't tell: add up the halves, none of which can overflow.
    total = (int((amount >> 31).sum()) << 31) + int((amount & (2**31 - 1)).sum())
    if total >= SUM_MAX:
        raise SumTooLargeError(f"the amounts add up to {total}")
