"""The pass by amount and date: one row to one, each the other's nearest, without a reference that both have.

Rows that share all that counts (currency, account, amount, day) are one class with so many members: a hundred thousand
equal rows are as quick as two. A class looks for the nearest of the other side by binary search, once for each day that
may lie between, so time grows with rows and days and never with pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from participants.matching.candidates import allowed, in_order, shared_keys
from participants.matching.pairing import Booleans, Matching, Rows, by_currency
from participants.matching.references import Integers
from participants.matching.rules import ByAmount, minor_units

ROUNDS_MAX = 16
_FAR = np.iinfo(np.int64).max


def by_amount(matching: Matching, rule: ByAmount) -> None:
    """Put rows together that are each other's nearest, in rounds, until none are."""
    within = by_currency(minor_units(rule.within))
    for a, b in allowed(matching, rule.references):
        _put_nearest_together(matching, rule, a, b, within)


@dataclass(slots=True)
class _Classes:
    """Classes of equal rows, sorted by key, day and amount. The rows of one are `rows[first:first + count]`."""

    key: Integers
    day: Integers
    amount: Integers
    rows: Integers
    first: Integers
    count: Integers


def _classes(key: Integers, day: Integers, amount: Integers, rows: Integers) -> _Classes:
    order = np.lexsort((amount, day, key))
    key, day, amount = key[order], day[order], amount[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (key[1:] != key[:-1]) | (day[1:] != day[:-1]) | (amount[1:] != amount[:-1])
    first = np.flatnonzero(starts)
    count = np.diff(np.append(first, len(order)))
    return _Classes(key[first], day[first], amount[first], rows[order], first, count)


def _put_in_order(classes: _Classes, rows: Rows) -> None:
    """Put the rows of each class in the order of what they say besides, so that the file's doesn't matter."""
    is_several = np.repeat(classes.count > 1, classes.count)
    members = classes.rows[is_several]
    if len(members):
        ranks = np.zeros(len(rows.amount), dtype=np.int64)
        ranks[in_order(rows, members)] = np.arange(len(members))
        numbers = np.repeat(np.arange(len(classes.count)), classes.count)[is_several]
        classes.rows[is_several] = members[np.lexsort((ranks[members], numbers))]


def _put_nearest_together(matching: Matching, rule: ByAmount, a: Integers, b: Integers, within: Integers) -> None:
    key_a, key_b = shared_keys(matching, a, b)
    these = _classes(key_a, matching.a.day[a].astype(np.int64), matching.a.amount[a], a)
    those = _classes(key_b, matching.b.day[b].astype(np.int64), matching.b.amount[b], b)
    _put_in_order(these, matching.a)
    _put_in_order(those, matching.b)
    amounts = _distinct(np.concatenate([these.amount, those.amount]))
    pairs_a, pairs_b = [], []
    for _ in range(ROUNDS_MAX):
        left, right = np.flatnonzero(these.count), np.flatnonzero(those.count)
        if not len(left) or not len(right):
            break
        near_right = _nearest(amounts, these, left, those, right, within, rule.days)
        near_left = _nearest(amounts, those, right, these, left, within, rule.days)
        places = np.flatnonzero(near_right >= 0)
        mutual = places[near_left[near_right[places]] == places]
        if not len(mutual):
            break
        chosen_a, chosen_b = left[mutual], right[near_right[mutual]]
        taken = np.minimum(these.count[chosen_a], those.count[chosen_b])
        pairs_a.append(_members(these, chosen_a, taken))
        pairs_b.append(_members(those, chosen_b, taken))
    if pairs_a:
        rows_a, rows_b = np.concatenate(pairs_a), np.concatenate(pairs_b)
        matching.put_together(rule.label, rows_a, rows_b, np.zeros(len(rows_a), dtype=np.int8))


def _members(classes: _Classes, chosen: Integers, taken: Integers) -> Integers:
    """Take the first so many rows out of classes."""
    starts = np.repeat(classes.first[chosen], taken)
    steps = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    classes.first[chosen] += taken
    classes.count[chosen] -= taken
    rows: Integers = classes.rows[starts + steps]
    return rows


def _nearest(
    amounts: Integers,
    these: _Classes,
    left: Integers,
    those: _Classes,
    right: Integers,
    within: Integers,
    days: int,
) -> Integers:
    """Return for each class of `left` the place in `right` of the nearest, -1 where none is near enough.

    `amounts` are all that there are, sorted.

    Nearer is what differs less in amount, then in days, then has the earlier day and the lesser amount of the two in
    it: an order of pairs, so that both sides mean the same by it.
    """
    # Keys and days, and amounts, as small numbers: together they are one integer to search by.
    rank_left, rank_right = np.searchsorted(amounts, these.amount[left]), np.searchsorted(amounts, those.amount[right])
    keys = _distinct(those.key[right])
    key_right = np.searchsorted(keys, those.key[right])
    key_left = np.minimum(np.searchsorted(keys, these.key[left]), len(keys) - 1)
    is_shared = keys[key_left] == these.key[left]
    day_low = int(those.day[right].min())
    width = int(those.day[right].max()) - day_low + 1
    places = key_right * width + (those.day[right] - day_low)
    groups = _distinct(places)
    searched = np.searchsorted(groups, places) * len(amounts) + rank_right
    limit = within[these.key[left] & 0xFFFF]

    best = np.full(len(left), -1, dtype=np.int64)
    best_rank = [np.full(len(left), _FAR, dtype=np.int64) for _ in range(4)]
    for step in range(-days, days + 1):
        day = these.day[left] + step
        is_near = is_shared & (day >= day_low) & (day < day_low + width)
        place = key_left * width + np.where(is_near, day - day_low, 0)
        group = np.minimum(np.searchsorted(groups, place), len(groups) - 1)
        is_near &= groups[group] == place
        at = np.searchsorted(searched, group * len(amounts) + rank_left)
        for candidate in (at - 1, at):
            inside = is_near & (candidate >= 0) & (candidate < len(right))
            found_at = np.where(inside, candidate, 0)
            amount = those.amount[right][found_at]
            difference = np.abs(amount - these.amount[left])
            inside &= (searched[found_at] // len(amounts) == group) & (difference <= limit)
            rank = (
                difference,
                np.full(len(left), abs(step)),
                np.minimum(day, these.day[left]),
                np.minimum(amount, these.amount[left]),
            )
            better = inside & _is_less(rank, best_rank)
            best[better] = found_at[better]
            for known, new in zip(best_rank, rank, strict=True):
                known[better] = new[better]
    return best


def _is_less(rank: tuple[Integers, ...], other: list[Integers]) -> Booleans:
    """Tell where a rank comes before another, its parts compared one after the other."""
    less = np.zeros(len(rank[0]), dtype=bool)
    equal = np.ones(len(rank[0]), dtype=bool)
    for value, compared in zip(rank, other, strict=True):
        less |= equal & (value < compared)
        equal &= value == compared
    return less


def _distinct(values: Integers) -> Integers:
    """Return the different values, sorted: faster than numpy's own, which hashes them first."""
    ordered = np.sort(values)
    distinct: Integers = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return distinct
