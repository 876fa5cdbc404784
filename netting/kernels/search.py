"""Improve a selection by small steps: put an item in, mend what it breaks, fill what it leaves.

How `netting.branch` uses this module: `rows` and `search` hold vectors that the caller makes (`netting.network`).
`search.selected[k]` is 1 for an item that settles and `search.room[r]` is what a row has left; both always agree. After
`round_off` and after `improve` no row is below zero, and no aggregate below its floor.

To mend a row that is below zero, an item that uses it is taken out, or one that refills it is put in; that may break
another row, which is mended in turn: an ejection chain (Glover, 1996), searched to a small depth and width. Everything
is counted in looks at an entry of a vector, and the only choice by lot, which item to try next, comes from a
linear congruential generator with a given seed; so the same input takes the same steps everywhere.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

from netting.kernels.compile import toolchain

kernel, ints = toolchain(__name__)

Vector = MutableSequence[int]

DEPTH = 7
"""The most items in a chain."""
WIDTH = 3
"""How many items of a kind are tried for a row at the start of a chain; fewer further on."""
PENDING = 8
"""The most rows that may be below zero at once in a chain."""
LOOKS = 12
"""How far from the best fitting amount an item may stand."""
CHAIN_WORK = 400
"""The work after which the best chain so far will do."""
FILL_LOOKS = 300
"""How many items are looked at to fill one row."""
SWEEPS = 200

_LOSS, _LENGTH, _WORK, _LIMIT = 0, 1, 2, 3
_FRAME = 8
_COUNT, _CHAIN_LOSS, _PHASE, _TRIED, _AT, _LAST, _MIDDLE, _ROW = 0, 1, 2, 3, 4, 5, 6, 7


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
    """A selection, and room to work in. `best` is the best selection that `improve` found."""

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
def _chain_holds(rows: Rows, search: Search, depth: int) -> bool:
    if len(rows.group_floor) == 0:
        return True
    holds = True
    for c in range(depth):
        holds = holds and floors_hold(rows, search, search.log[c])
    return holds


@kernel
def _open(rows: Rows, search: Search, depth: int, count: int, loss: int) -> bool:
    """Begin to look for the item at `depth` of a chain; tell whether there is a row to mend and leave to look.

    Without a row left the chain is whole, and kept if it loses the least.
    """
    room, chain, pending, frame = search.room, search.chain, search.pending, search.frame
    base = depth * PENDING
    while count > 0 and room[pending[base + count - 1]] >= 0:
        count -= 1
    if count == 0:
        if loss < chain[_LOSS] and _chain_holds(rows, search, depth):
            chain[_LOSS], chain[_LENGTH] = loss, depth
            for c in range(depth):
                search.best_log[c] = search.log[c]
        return False
    if depth >= DEPTH or chain[_WORK] >= chain[_LIMIT]:
        return False
    r = pending[base + count - 1]
    need = -room[r]
    f = depth * _FRAME
    frame[f + _COUNT], frame[f + _CHAIN_LOSS], frame[f + _PHASE], frame[f + _TRIED] = count, loss, 0, 0
    fill = below(rows.fill_amount, rows.fill_start[r], rows.fill_start[r + 1], need - 1) - 1
    frame[f + _AT], frame[f + _LAST] = fill, max(rows.fill_start[r], fill - LOOKS + 1)
    frame[f + _MIDDLE] = below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], need - 1)
    frame[f + _ROW] = r
    return True


@kernel
def _next(rows: Rows, search: Search, depth: int) -> int:
    """Return the next item to try at `depth` of a chain, or -1.

    First the smallest items that refill the row enough, to be put in; then the smallest that use enough, to be taken
    out; then the greatest that doesn't use enough, and more after it.
    """
    frame, chain = search.frame, search.chain
    f = depth * _FRAME
    r, middle = frame[f + _ROW], frame[f + _MIDDLE]
    width = WIDTH if depth < 2 else (2 if depth < 4 else 1)
    while frame[f + _PHASE] < 3:
        at, phase = frame[f + _AT], frame[f + _PHASE]
        if phase < 2 and at >= frame[f + _LAST] and frame[f + _TRIED] < width:
            k = rows.fill_item[at] if phase == 0 else rows.use_item[at]
            frame[f + _AT] = at - 1
        elif phase == 2 and at < frame[f + _LAST] and frame[f + _TRIED] < 1:
            k = rows.use_item[at]
            frame[f + _AT] = at + 1
        else:
            frame[f + _PHASE], frame[f + _TRIED] = phase + 1, 0
            if phase == 0:
                frame[f + _AT], frame[f + _LAST] = middle - 1, max(rows.use_start[r], middle - LOOKS)
            else:
                frame[f + _AT], frame[f + _LAST] = middle, min(rows.use_start[r + 1], middle + LOOKS)
            continue
        chain[_WORK] += 1
        if search.stamp[k] == 0 and search.selected[k] == (0 if phase == 0 else 1):
            frame[f + _TRIED] += 1
            return k
    return -1


@kernel
def _mend(rows: Rows, search: Search, start: int, count: int) -> None:
    """Look for the chain of least loss that mends the pending rows; `search.chain` keeps the best.

    Items before `start` are in the chain already. In the end everything is as it was.
    """
    room, pending, frame, stamp = search.room, search.pending, search.frame, search.stamp
    depth = start
    if not _open(rows, search, depth, count, 0):
        return
    while depth >= start:
        f = depth * _FRAME
        k = _next(rows, search, depth)
        if k < 0:
            depth -= 1
            if depth >= start:
                k = search.log[depth]
                flip(rows, search, k)
                stamp[k] = 0
            continue
        stamp[k] = 1
        search.log[depth] = k
        loss = frame[f + _CHAIN_LOSS] - flip(rows, search, k)
        count = frame[f + _COUNT]
        base, after = depth * PENDING, (depth + 1) * PENDING
        for c in range(count):
            pending[after + c] = pending[base + c]
        is_mendable = True
        for e in range(rows.item_start[k], rows.item_start[k + 1]):
            r = rows.item_row[e]
            if room[r] < 0:
                is_pending = False
                for c in range(count):
                    is_pending = is_pending or pending[after + c] == r
                if not is_pending and count < PENDING:
                    pending[after + count] = r
                    count += 1
                elif not is_pending:
                    is_mendable = False
        if is_mendable and _open(rows, search, depth + 1, count, loss):
            depth += 1
        else:
            flip(rows, search, k)
            stamp[k] = 0


@kernel
def _enqueue(search: Search, size: int, head: int, r: int) -> int:
    """Put row r into the ring of rows to fill, unless it is there. Returns the size."""
    if search.queued[r] == 0:
        search.queued[r] = 1
        search.queue[(head + size) % len(search.queued)] = r
        return size + 1
    return size


@kernel
def _fill(rows: Rows, search: Search, size: int, filled: int) -> tuple[int, int, int]:
    """Put in whatever fits into the rows of the ring, the greatest first. Returns (gain, items put in, work)."""
    gain, head, work = 0, 0, 0
    while size > 0:
        r = search.queue[head]
        head = (head + 1) % len(search.queued)
        size -= 1
        search.queued[r] = 0
        if search.room[r] <= 0:
            continue
        e = below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], search.room[r])
        last = min(rows.use_start[r + 1], e + FILL_LOOKS)
        while e < last and search.room[r] > 0:
            k = rows.use_item[e]
            work += 1
            if (
                search.selected[k] == 0
                and search.stamp[k] == 0
                and filled < len(search.changes)
                and fits(rows, search, k)
            ):
                gain += flip(rows, search, k)
                search.changes[filled] = k
                filled += 1
                for q in range(rows.item_start[k], rows.item_start[k + 1]):
                    if rows.item_change[q] > 0:
                        size = _enqueue(search, size, head, rows.item_row[q])
            e += 1
    return gain, filled, work


@kernel
def _drop(rows: Rows, search: Search, r: int) -> None:
    """Take out an item of row r: the smallest that uses enough, or else the greatest."""
    middle = below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], -search.room[r] - 1)
    e = middle - 1
    while e >= rows.use_start[r] and search.selected[rows.use_item[e]] == 0:
        e -= 1
    if e < rows.use_start[r]:
        e = middle
        while search.selected[rows.use_item[e]] == 0:
            e += 1
    flip(rows, search, rows.use_item[e])


@kernel
def round_off(rows: Rows, search: Search) -> int:
    """Mend a selection that breaks rows. A row's chains give way to plain taking out after some sweeps.

    Returns the work. The aggregates are kept by taking out as well.
    """
    chain = search.chain
    chain[_WORK] = 0
    much = 1
    for k in range(len(rows.value)):
        much += rows.value[k]
    for sweep in range(SWEEPS):
        broken = 0
        for r in range(len(search.room)):
            while search.room[r] < 0:
                broken += 1
                chain[_LOSS], chain[_LENGTH], chain[_LIMIT] = much, -1, chain[_WORK] + 8 * CHAIN_WORK
                if sweep < SWEEPS - 1:
                    search.pending[0] = r
                    _mend(rows, search, 0, 1)
                if chain[_LENGTH] < 0:
                    _drop(rows, search, r)
                for c in range(chain[_LENGTH]):
                    flip(rows, search, search.best_log[c])
                if chain[_LENGTH] >= 0:
                    break
        if broken == 0:
            break
    _keep_worth(rows, search)
    return chain[_WORK]


@kernel
def _keep_worth(rows: Rows, search: Search) -> None:
    """Take out the last items that use a position of an aggregate below its floor, and what that breaks."""
    if len(rows.group_floor) == 0:
        return
    again = True
    while again:
        again = False
        for k in range(len(rows.value) - 1, -1, -1):
            if search.selected[k] == 0:
                continue
            bad = not floors_hold(rows, search, k)
            for e in range(rows.item_start[k], rows.item_start[k + 1]):
                bad = bad or (search.room[rows.item_row[e]] < 0 and rows.item_change[e] < 0)
            if bad:
                flip(rows, search, k)
                again = True


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


@kernel
def improve(rows: Rows, search: Search, limit: int, seed: int) -> tuple[int, int]:
    """Improve a selection that breaks nothing, until the work reaches the limit. Returns (value, work).

    The best selection is in `search.best`; it can't be made better by putting in any one item.
    """
    selected, chain, waiting, listed = search.selected, search.chain, search.waiting, search.listed
    items = len(rows.value)
    size = 0
    for r in range(len(search.room)):
        size = _enqueue(search, size, 0, r)
    _, _, work = _fill(rows, search, size, 0)
    total, count = 0, 0
    for k in range(items):
        total += selected[k] * rows.value[k]
        search.best[k] = selected[k]
        listed[k] = 1 - selected[k]
        if selected[k] == 0:
            waiting[count] = k
            count += 1
    best = total
    chain[_WORK] = work
    while chain[_WORK] < limit and count > 0:
        chain[_WORK] += 1
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        at = (seed >> 8) % count
        k = waiting[at]
        if selected[k] == 1:
            count -= 1
            waiting[at] = waiting[count]
            listed[k] = 0
            continue
        gain, changed_count = _exchange(rows, search, k)
        if changed_count == 0:
            continue
        total += gain
        for c in range(changed_count):
            e = search.changes[c]
            if selected[e] == 0 and listed[e] == 0:
                waiting[count], listed[e] = e, 1
                count += 1
        if total > best:
            best = total
            for e in range(items):
                search.best[e] = selected[e]
            chain[_WORK] += items // 8
    return best, chain[_WORK]


@kernel
def _exchange(rows: Rows, search: Search, k: int) -> tuple[int, int]:
    """Put item k in with the chain of least loss, fill what that leaves; undo it if the value falls.

    Returns (gain, number of items in `search.changes`), (0, 0) when undone.
    """
    chain, changes = search.chain, search.changes
    count = 0
    gain = flip(rows, search, k)
    for e in range(rows.item_start[k], rows.item_start[k + 1]):
        if search.room[rows.item_row[e]] < 0 and count < PENDING:
            search.pending[PENDING + count] = rows.item_row[e]
            count += 1
    # Item k is the first of the chain.
    search.log[0] = k
    search.stamp[k] = 1
    chain[_LOSS], chain[_LENGTH], chain[_LIMIT] = gain, -1, chain[_WORK] + CHAIN_WORK
    _mend(rows, search, 1, count)
    search.stamp[k] = 0
    if chain[_LENGTH] < 0:
        flip(rows, search, k)
        return 0, 0
    length = chain[_LENGTH]
    changes[0] = k
    for c in range(1, length):
        gain += flip(rows, search, search.best_log[c])
        changes[c] = search.best_log[c]
    size = 0
    for c in range(length):
        for e in range(rows.item_start[changes[c]], rows.item_start[changes[c] + 1]):
            if search.room[rows.item_row[e]] > 0:
                size = _enqueue(search, size, 0, rows.item_row[e])
    more, filled, work = _fill(rows, search, size, length)
    chain[_WORK] += work
    if gain + more < 0:
        for c in range(filled - 1, -1, -1):
            flip(rows, search, changes[c])
        return 0, 0
    return gain + more, filled
