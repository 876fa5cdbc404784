"""The pass by parts: few rows to few that sum to the same, with no reference to say so.

Among enough amounts some subset always fits. So a window of rows is searched only up to a number of them, what fits
must be the only subset of its size, and it must be unlikely that any fits by chance: the subsets there are, over the
different sums that amounts of this size and roundness have.
"""

from __future__ import annotations

from itertools import pairwise
from math import comb, gcd

import numpy as np

from participants.matching.candidates import allowed, in_order, shared_keys
from participants.matching.pairing import UNKNOWN_DAY, Group, Matching
from participants.matching.references import Integers
from participants.matching.rules import ByParts
from participants.matching.subset_sum import AMOUNT_MAX, least_zero_sum

WORK_MAX = 1 << 25
"""How many subset sums one pass computes, so that its time has a bound that doesn't depend on the machine."""


def by_parts(matching: Matching, rule: ByParts) -> None:
    """Put the rows of windows together that sum to the same, smallest windows first, until the work is used up."""
    work = 0
    for a, b in allowed(matching, rule.references):
        groups: list[Group] = []
        for window_a, window_b in sorted(_windows(matching, a, b, rule.days), key=_size):
            size = len(window_a) + len(window_b)
            if size < 3:
                continue
            cost = 1 << (size + 1) // 2
            if size > rule.candidates_max or work + cost > WORK_MAX:
                matching.leave_alone(rule.label, window_a, window_b)
                continue
            groups += _fitting(matching, rule, window_a, window_b)
            work += cost
        matching.put_groups_together(groups)


def _size(window: tuple[Integers, Integers]) -> tuple[int, int]:
    return len(window[0]) + len(window[1]), min(len(window[0]), len(window[1]))


def _windows(matching: Matching, a: Integers, b: Integers, days: int) -> list[tuple[Integers, Integers]]:
    """Return rows that share currency and account, and whose days follow each other within `days`."""
    a, b = in_order(matching.a, a), in_order(matching.b, b)
    keys = np.concatenate(shared_keys(matching, a, b))
    day = np.concatenate([matching.a.day[a], matching.b.day[b]]).astype(np.int64)
    order = np.lexsort((day, keys))
    starts = np.flatnonzero(
        np.concatenate([[True], (np.diff(keys[order]) != 0) | (np.diff(day[order]) > days), [True]])
    )
    rows = np.concatenate([a, b])
    windows = []
    for first, last in pairwise(starts.tolist()):
        places = order[first:last]
        in_a = places < len(a)
        if in_a.any() and not in_a.all() and day[places[0]] != UNKNOWN_DAY:
            windows.append((rows[places[in_a]], rows[places[~in_a]]))
    return windows


def _fitting(matching: Matching, rule: ByParts, a: Integers, b: Integers) -> list[Group]:
    """Return the groups that a window has."""
    places = [(True, int(row)) for row in a] + [(False, int(row)) for row in b]
    amounts = [int(matching.a.amount[row]) for row in a] + [-int(matching.b.amount[row]) for row in b]
    groups = []
    while len(places) >= 3:
        nonzero = [place for place, amount in enumerate(amounts) if amount]
        some = [amounts[place] for place in nonzero]
        if any(abs(amount) > AMOUNT_MAX for amount in some):
            break
        chance = _chance(some, rule.rows_max)
        if chance > rule.chance_max:
            break
        subset = least_zero_sum(some, rows_max=rule.rows_max)
        if subset is None:
            break
        chosen = {nonzero[place] for place in subset}
        in_a = tuple(sorted(places[place][1] for place in chosen if places[place][0]))
        in_b = tuple(sorted(places[place][1] for place in chosen if not places[place][0]))
        if not in_a or not in_b:
            # Entries of one side that cancel out are nobody's payment on the other.
            break
        groups.append(Group(rule.label, in_a, in_b, score=round(100 * (1 - chance), 2)))
        amounts = [amount for place, amount in enumerate(amounts) if place not in chosen]
        places = [row for place, row in enumerate(places) if place not in chosen]
    return groups


def _chance(amounts: list[int], rows_max: int) -> float:
    """Return a bound on how likely some subset sums to zero although the amounts have nothing to do with each other."""
    subsets = sum(comb(len(amounts), size) for size in range(2, rows_max + 1))
    different = sum(map(abs, amounts)) // (gcd(*amounts) or 1)
    return min(1.0, subsets / max(1, different))
