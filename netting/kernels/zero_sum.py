"""The kernel of `netting.plan`: the most groups that each sum to zero, from the subsets that sum to zero."""

from __future__ import annotations

from typing import Any

from netting.kernels.compile import toolchain

kernel, ints = toolchain(__name__)


@kernel
def longest_chain(count: int, zero: Any) -> Any:
    """Return the subsets of a longest chain ∅ ⊂ Z1 ⊂ … ⊂ all, from the whole down; each step of it is a group.

    `zero` are the subsets of `count` items that sum to zero, as bit masks. The difference of two nested ones
    sums to zero as well, so a longest chain has the most groups. best[S] is the length of the longest chain within
    S: best[S] = max over i in S of best[S − i], plus one if S itself sums to zero. O(2^count · count).
    """
    size = 1
    for _ in range(count):
        size *= 2
    best = ints(size)
    for at in range(len(zero)):
        best[zero[at]] = 1
    for subset in range(1, size):
        most = 0
        bit = 1
        while bit <= subset:
            if subset & bit and best[subset ^ bit] > most:
                most = best[subset ^ bit]
            bit *= 2
        best[subset] += most
    length = best[size - 1]
    chain = ints(length)
    subset = size - 1
    for at in range(length):
        # Go down, smallest bit first, until a subset that ends a link of the chain.
        is_link = False
        while not is_link:
            below = -1
            bit = 1
            while bit <= subset and below < 0:
                if subset & bit and best[subset ^ bit] == best[subset]:
                    below = subset ^ bit
                bit *= 2
            if below < 0:
                is_link = True
            else:
                subset = below
        chain[at] = subset
        if at + 1 < length:
            bit = 1
            while not (subset & bit and best[subset ^ bit] == best[subset] - 1):
                bit *= 2
            subset ^= bit
    return chain
