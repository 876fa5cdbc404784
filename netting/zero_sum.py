"""Groups of nets that sum to zero: each can settle among its own, with one transfer fewer than it has members.

The most groups make the fewest transfers (Verhoeff, Settling multiple debts efficiently, 2004), and finding them is
NP-hard. Three steps, each with a bound of its own:

1. Equal and opposite nets are pairs. There is always a best partition that has as many pairs as possible: where the
   two of a pair are in different groups, the rest of these groups make one group; where in one, its rest does.
2. What is left is exact up to EXACT_MAX nets: the subsets that sum to zero are listed by meeting in the middle, and a
   longest chain of them is found over all subsets.
3. Beyond that, groups of three are taken as they are found. A group has three members or more now, four where no
   three sum to zero, and a debtor and a creditor each: that bounds their number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from netting.kernels.compile import load, vector

EXACT_MAX = 20
TRIPLES_MAX = 1_000
"""Most nets among which groups of three are looked for: the work grows with the square."""
_COMPILED_FROM = 12
"""From this many nets on, compiling pays."""


class BoundProof(StrEnum):
    """Why there can't be more groups, and so not fewer transfers, the strongest proof first."""

    NOTHING_TO_SETTLE = "nothing to settle"
    ALL_PAIRS = "every net has an equal and opposite one"
    ALL_SUBSETS = "all subsets were looked at"
    GROUPS_OF_FOUR = "after pairs, a group has a debtor, a creditor and 4 members or more"
    """No three nets that are left sum to zero."""
    GROUPS_OF_THREE = "after pairs, a group has a debtor, a creditor and 3 members or more"
    EVERY_NET_MOVES = "every debtor pays and every creditor is paid"
    """Of transfers only, where these are more than nets less groups."""


@dataclass(frozen=True, slots=True)
class Groups:
    """A partition into groups that each sum to zero, and the most groups that any partition can have.

    A member is the place of a net in the sequence given. `proof` says how the bound was proven.
    """

    members: tuple[tuple[int, ...], ...]
    most: int
    proof: BoundProof


def groups(nets: Sequence[int]) -> Groups:
    """Return a partition of nets, none of them zero and together zero, into groups that sum to zero.

    A function of the sequence: the caller puts it in canonical order.
    """
    if not nets:
        return Groups((), 0, BoundProof.NOTHING_TO_SETTLE)
    pairs, unpaired = _pairs(nets)
    if not unpaired:
        return Groups(tuple(pairs), len(pairs), BoundProof.ALL_PAIRS)
    if len(unpaired) <= EXACT_MAX:
        exact = _exact(nets, unpaired)
        return Groups((*pairs, *exact), len(pairs) + len(exact), BoundProof.ALL_SUBSETS)
    triples, last, complete = _triples(nets, unpaired)
    debtors = sum(nets[at] < 0 for at in unpaired)
    smallest = 4 if complete and not triples else 3
    most = min(debtors, len(unpaired) - debtors, len(unpaired) // smallest)
    proof = BoundProof.GROUPS_OF_FOUR if smallest == 4 else BoundProof.GROUPS_OF_THREE
    parts = _exact(nets, last) if last and len(last) <= EXACT_MAX else [tuple(last)] if last else []
    return Groups((*pairs, *triples, *parts), len(pairs) + most, proof)


def _pairs(nets: Sequence[int]) -> tuple[list[tuple[int, ...]], list[int]]:
    waiting: defaultdict[int, list[int]] = defaultdict(list)
    pairs: list[tuple[int, ...]] = []
    for at, net in enumerate(nets):
        if waiting[-net]:
            pairs.append((waiting[-net].pop(0), at))
        else:
            waiting[net].append(at)
    return pairs, sorted(at for places in waiting.values() for at in places)


def _exact(nets: Sequence[int], unpaired: list[int]) -> list[tuple[int, ...]]:
    zero = _zero_subsets([nets[at] for at in unpaired])
    if len(zero) == 1:
        return [tuple(unpaired)]
    compiled = len(unpaired) >= _COMPILED_FROM
    kernel = load("netting.kernels.zero_sum", compiled=compiled)
    chain = [int(subset) for subset in kernel.longest_chain(len(unpaired), vector(zero, compiled=compiled))]
    links = zip(chain, [*chain[1:], 0], strict=True)
    return sorted(
        tuple(unpaired[bit] for bit in range(len(unpaired)) if (whole ^ part) >> bit & 1) for whole, part in links
    )


def _zero_subsets(nets: list[int]) -> list[int]:
    """Return the masks of the non-empty subsets that sum to zero, by meeting in the middle.

    At most C(n, n/2) subsets of n non-zero numbers have one sum (Erdős, 1945), so the list stays small.
    """
    half = len(nets) // 2
    low, high = _sums(nets[:half]), _sums(nets[half:])
    masks: defaultdict[int, list[int]] = defaultdict(list)
    for mask, total in enumerate(low):
        masks[total].append(mask)
    return [mask | upper << half for upper, total in enumerate(high) for mask in masks.get(-total, ()) if mask | upper]


def _sums(nets: list[int]) -> list[int]:
    sums = [0]
    for net in nets:
        sums += [total + net for total in sums]
    return sums


def _triples(nets: Sequence[int], unpaired: list[int]) -> tuple[list[tuple[int, ...]], list[int], bool]:
    """Return groups of three, what is left, and whether all triples were looked at."""
    if len(unpaired) > TRIPLES_MAX:
        return [], unpaired, False
    free = set(unpaired)
    places: defaultdict[int, list[int]] = defaultdict(list)
    for at in unpaired:
        places[nets[at]].append(at)
    triples: list[tuple[int, ...]] = []
    for first, second in combinations(unpaired, 2):
        if first not in free or second not in free:
            continue
        third = next((at for at in places.get(-nets[first] - nets[second], ()) if at > second and at in free), None)
        if third is not None:
            triples.append((first, second, third))
            free -= {first, second, third}
    return triples, [at for at in unpaired if at in free], True
