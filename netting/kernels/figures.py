"""The loops of plain netting over arrays, compiled only: small sets and sums beyond 2^62 are netted in `figures`.

Every index is cast to unsigned before it is used: an array then needs no test for a negative index, which
costs more than the netting itself. That makes the loops unfit to be interpreted, where numpy's scalars would wrap.

Indexes and amounts must have been checked (`netting.batch` does): nothing here looks at bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from netting.kernels.compile import toolchain

kernel, _ = toolchain(__name__)

u32 = np.uint32
u64 = np.uint64

_DE_BRUIJN = 0x03F79D71B4CB0A89
_MAGIC = np.uint64(_DE_BRUIJN)
_BIT = np.zeros(64, np.uint8)
"""The number of a bit, by the top six bits of the bit times a de Bruijn sequence (Leiserson, Prokop, Randall 1998)."""
for _at in range(64):
    _BIT[((_DE_BRUIJN << _at) % 2**64) >> 58] = _at


@kernel
def scatter(currency: Any, debtor: Any, creditor: Any, amount: Any, banks: int, receives: Any, pays: Any) -> Any:
    """Add every amount to what its debtor pays and its creditor receives, at [currency * banks + bank].

    Returns the union of the amounts' bits, which bounds the largest.
    """
    width = u64(banks)
    bits = np.int64(0)
    for k in range(len(amount)):
        value = amount[k]
        row = u64(currency[k]) * width
        pays[row + u64(debtor[k])] += value
        receives[row + u64(creditor[k])] += value
        bits |= value
    return bits


@kernel
def count(currency: Any, debtor: Any, creditor: Any, banks: int, shift: int, counts: Any) -> None:
    """Count the obligations of every bucket: 2^shift rows of (currency, lower bank)."""
    width = u64(banks)
    for k in range(len(currency)):
        low = debtor[k] if debtor[k] < creditor[k] else creditor[k]
        counts[(u64(currency[k]) * width + u64(low)) >> u64(shift)] += 1


@kernel
def spread(
    currency: Any,
    debtor: Any,
    creditor: Any,
    amount: Any,
    banks: int,
    shift: int,
    digits: int,
    ends: Any,
    keys: Any,
    values: Any,
) -> Any:
    """Put every obligation into its bucket, at `ends[bucket]`, which grows.

    A key says where in the bucket an obligation belongs: its row, in the lowest `digits` bits the higher bank times
    two, and in the last bit whether that one is the debtor. Returns the union of the amounts' bits.
    """
    width, within = u64(banks), (u64(1) << u64(shift)) - u64(1)
    bits = np.int64(0)
    for k in range(len(amount)):
        first, second = u64(debtor[k]), u64(creditor[k])
        back = u64(first > second)
        low, high = (second, first) if first > second else (first, second)
        row = u64(currency[k]) * width + low
        bucket = row >> u64(shift)
        at = u64(ends[bucket])
        ends[bucket] += 1
        keys[at] = ((row & within) << u64(digits)) | (high << u64(1)) | back
        values[at] = amount[k]
        bits |= amount[k]
    return bits


@kernel
def group(
    keys: Any, values: Any, first: int, last: int, digits: int, ends: Any, cells: Any, sorted_values: Any
) -> None:
    """Sort the obligations of one bucket by their row, stably; `ends[row]` becomes where the row ends."""
    for row in range(len(ends)):
        ends[row] = 0
    for k in range(u64(first), u64(last)):
        ends[(u64(keys[k]) >> u64(digits)) + u64(1)] += 1
    for row in range(1, len(ends)):
        ends[u64(row)] += ends[u64(row) - u64(1)]
    cell = (u64(1) << u64(digits)) - u64(1)
    for k in range(u64(first), u64(last)):
        key = u64(keys[k])
        row_of = key >> u64(digits)
        at = u64(ends[row_of])
        ends[row_of] += 1
        cells[at] = key & cell
        sorted_values[at] = values[k]


@kernel
def fold(
    keys: Any,
    values: Any,
    bounds: Any,
    first: int,
    last: int,
    shift: int,
    digits: int,
    banks: int,
    scratch: Any,
    start: Any,
    back: Any,
) -> Any:
    """Add up the pairs of the buckets `first` to `last`, writing from where the first of them begins.

    The higher banks are written over the keys and what the lower ones owe them over the values: a bucket has
    been copied by then and no bucket has more pairs than obligations, and memory that is already there is quicker
    than new memory. What the higher banks owe goes to `back`, and where each row begins to `start`.

    Row by row: the amounts are added at [higher bank, direction], small enough for the cache, and two levels of
    bitmaps keep which banks were met, so that reading them off needs no sorting and skips what is empty.
    `scratch` is a pair of arrays as long as the largest bucket. Returns where the writing ended.
    """
    cells, amounts = scratch
    u1, low6 = u64(1), u64(63)
    ends = np.zeros((1 << shift) + 1, np.int64)
    sums = np.zeros(2 * banks, np.int64)
    met = np.zeros((banks >> 6) + 1, np.uint64)
    met_words = np.zeros((banks >> 12) + 1, np.uint64)
    out = u64(bounds[first])
    for bucket in range(first, last):
        group(keys, values, bounds[bucket], bounds[bucket + 1], digits, ends, cells, amounts)
        k = u64(0)
        for row in range(min(1 << shift, len(start) - 1 - (bucket << shift))):
            start[(bucket << shift) + row] = out
            end = u64(ends[row])
            if k == end:
                continue
            while k < end:
                cell = u64(cells[k])
                sums[cell] += amounts[k]
                bank = cell >> u1
                met[bank >> u64(6)] |= u1 << (bank & low6)
                met_words[bank >> u64(12)] |= u1 << ((bank >> u64(6)) & low6)
                k += u1
            for block in range(len(met_words)):
                words = met_words[block]
                met_words[block] = u64(0)
                while words != u64(0):
                    word = words & (~words + u1)
                    words ^= word
                    at = (u64(block) << u64(6)) | u64(_BIT[(word * _MAGIC) >> u64(58)])
                    bits = met[at]
                    met[at] = u64(0)
                    while bits != u64(0):
                        bit = bits & (~bits + u1)
                        bits ^= bit
                        bank = (at << u64(6)) | u64(_BIT[(bit * _MAGIC) >> u64(58)])
                        keys[out] = bank
                        values[out] = sums[bank + bank]
                        back[out] = sums[bank + bank + u1]
                        sums[bank + bank] = 0
                        sums[bank + bank + u1] = 0
                        out += u1
    return np.int64(out)
