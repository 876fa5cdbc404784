"""Improve a selection by small steps: put an item in, mend what it breaks, fill what it leaves.

How `netting.liquidity.branch` uses this module: after `round_off` and after `improve` no row is below zero, and no
aggregate below its floor. What breaks is mended by `netting.kernels.chains`. Everything is counted in looks at an entry
of a vector, and the only choice by lot, which item to try next, comes from a linear congruential generator with a given
seed; so the same input takes the same steps everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from netting.kernels.selection import Rows, Search

kernel, _ = toolchain(__name__)
_selection = beside(__name__, "netting.kernels.selection")
_below, _fits, _flip, _floors_hold = _selection.below, _selection.fits, _selection.flip, _selection.floors_hold
_chains = beside(__name__, "netting.kernels.chains")
_mend = _chains.mend
_LOSS, _LENGTH, _WORK, _LIMIT, _PENDING = _chains.LOSS, _chains.LENGTH, _chains.WORK, _chains.LIMIT, _chains.PENDING

CHAIN_WORK = 400
"""The work after which the best chain so far will do."""
FILL_LOOKS = 300
"""How many items are looked at to fill one row."""
SWEEPS = 200


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
    """Put in whatever _fits into the rows of the ring, the greatest first. Returns (gain, items put in, work)."""
    gain, head, work = 0, 0, 0
    while size > 0:
        r = search.queue[head]
        head = (head + 1) % len(search.queued)
        size -= 1
        search.queued[r] = 0
        if search.room[r] <= 0:
            continue
        e = _below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], search.room[r])
        last = min(rows.use_start[r + 1], e + FILL_LOOKS)
        while e < last and search.room[r] > 0:
            k = rows.use_item[e]
            work += 1
            if (
                search.selected[k] == 0
                and search.stamp[k] == 0
                and filled < len(search.changes)
                and _fits(rows, search, k)
            ):
                gain += _flip(rows, search, k)
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
    middle = _below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], -search.room[r] - 1)
    e = middle - 1
    while e >= rows.use_start[r] and search.selected[rows.use_item[e]] == 0:
        e -= 1
    if e < rows.use_start[r]:
        e = middle
        while search.selected[rows.use_item[e]] == 0:
            e += 1
    _flip(rows, search, rows.use_item[e])


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
                    _flip(rows, search, search.best_log[c])
                if chain[_LENGTH] >= 0:
                    break
        if broken == 0:
            break
    _keep_worth(rows, search)
    work: int = chain[_WORK]
    return work


@kernel
def _keep_worth(rows: Rows, search: Search) -> None:
    """Take out the last items that use a position of an aggregate _below its floor, and what that breaks."""
    if len(rows.group_floor) == 0:
        return
    again = True
    while again:
        again = False
        for k in range(len(rows.value) - 1, -1, -1):
            if search.selected[k] == 0:
                continue
            bad = not _floors_hold(rows, search, k)
            for e in range(rows.item_start[k], rows.item_start[k + 1]):
                bad = bad or (search.room[rows.item_row[e]] < 0 and rows.item_change[e] < 0)
            if bad:
                _flip(rows, search, k)
                again = True


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
    gain = _flip(rows, search, k)
    for e in range(rows.item_start[k], rows.item_start[k + 1]):
        if search.room[rows.item_row[e]] < 0 and count < _PENDING:
            search.pending[_PENDING + count] = rows.item_row[e]
            count += 1
    # Item k is the first of the chain.
    search.log[0] = k
    search.stamp[k] = 1
    chain[_LOSS], chain[_LENGTH], chain[_LIMIT] = gain, -1, chain[_WORK] + CHAIN_WORK
    _mend(rows, search, 1, count)
    search.stamp[k] = 0
    if chain[_LENGTH] < 0:
        _flip(rows, search, k)
        return 0, 0
    length = chain[_LENGTH]
    changes[0] = k
    for c in range(1, length):
        gain += _flip(rows, search, search.best_log[c])
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
            _flip(rows, search, changes[c])
        return 0, 0
    return gain + more, filled
