"""A selection of items and the room that it leaves in each row: put an item in, take it out, ask whether it fits.

`rows` and `search` hold vectors that the caller makes (`netting.liquidity.vectors`). `search.selected[k]` is 1 for an
item that settles and `search.room[r]` is what a row has left; both always agree.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

from netting.kernels.compile import toolchain

kernel, _ = toolchain(__name__)

Vector = MutableSequence[int]


class Rows(NamedTuple):
    """Items and rows. Item k changes `item_row[e]` by `item_change[e]` for e from `item_start[k]`.

    Row r is used by `use_item[e]` for e from `use_start[r]`, the greatest use first, and refilled by `fill_item`
    likewise. `group_of[r]` is the aggregate that the row is a position of, or -1; group g has the positions e from
    `group_start[g]`, each a row, what its room is above the balance, and its worth when long and when short.
    """

    value: Vector
    item_start: Vector
    item_row: Vector
    item_change: Vector
    use_start: Vector
    use_item: Vector
    use_amount: Vector
    fill_start: Vector
    fill_item: Vector
    fill_amount: Vector
    group_of: Vector
    group_start: Vector
    group_row: Vector
    group_above: Vector
    group_long: Vector
    group_short: Vector
    group_floor: Vector


class Search(NamedTuple):
    """A selection, and room for `netting.kernels.search` to work in. `best` is the best selection that it found."""

    selected: Vector
    room: Vector
    best: Vector
    stamp: Vector
    waiting: Vector
    listed: Vector
    queue: Vector
    queued: Vector
    changes: Vector
    log: Vector
    best_log: Vector
    pending: Vector
    frame: Vector
    chain: Vector


@kernel
def flip(rows: Rows, search: Search, k: int) -> int:
    """Put item k in, or take it out. Returns what the value gains."""
    sign = 1 - 2 * search.selected[k]
    search.selected[k] += sign
    for e in range(rows.item_start[k], rows.item_start[k + 1]):
        search.room[rows.item_row[e]] += sign * rows.item_change[e]
    return sign * rows.value[k]


@kernel
def floors_hold(rows: Rows, search: Search, k: int) -> bool:
    """Tell whether the aggregates that item k touches are at or above their floors."""
    if len(rows.group_floor) == 0:
        return True
    for e in range(rows.item_start[k], rows.item_start[k + 1]):
        g = rows.group_of[rows.item_row[e]]
        if g < 0:
            continue
        worth = 0
        for q in range(rows.group_start[g], rows.group_start[g + 1]):
            position = search.room[rows.group_row[q]] - rows.group_above[q]
            worth += position * (rows.group_long[q] if position > 0 else rows.group_short[q])
        if worth < rows.group_floor[g]:
            return False
    return True


@kernel
def fits(rows: Rows, search: Search, k: int) -> bool:
    """Tell whether item k, which isn't selected, can be put in as it is."""
    for e in range(rows.item_start[k], rows.item_start[k + 1]):
        if search.room[rows.item_row[e]] < 0 or search.room[rows.item_row[e]] + rows.item_change[e] < 0:
            return False
    if len(rows.group_floor) == 0:
        return True
    flip(rows, search, k)
    holds: bool = floors_hold(rows, search, k)
    flip(rows, search, k)
    return holds


@kernel
def below(amounts: Vector, low: int, high: int, amount: int) -> int:
    """Return the first place from `low` on whose amount is at most `amount`, in a part that falls."""
    while low < high:
        middle = (low + high) // 2
        if amounts[middle] > amount:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def fill_rooms(rows: Rows, search: Search, room: Vector) -> bool:
    """Make the rooms agree with what is selected, given those before. Tells whether no row is below zero."""
    holds = True
    for r in range(len(room)):
        search.room[r] = room[r]
    for k in range(len(rows.value)):
        if search.selected[k] == 1:
            for e in range(rows.item_start[k], rows.item_start[k + 1]):
                search.room[rows.item_row[e]] += rows.item_change[e]
    for r in range(len(room)):
        holds = holds and search.room[r] >= 0
    return holds


@kernel
def in_order(rows: Rows, search: Search) -> int:
    """Put in what fits, item by item in the queue's order, as long as anything does. Returns the work."""
    work, again = 0, True
    while again:
        again = False
        for k in range(len(rows.value)):
            if search.selected[k] == 0 and fits(rows, search, k):
                flip(rows, search, k)
                again = True
        work += len(rows.value)
    return work
