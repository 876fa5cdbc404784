"""Chains that mend a selection: take an item out or put one in, mend what that breaks, and so on.

To mend a row that is below zero, an item that uses it is taken out, or one that refills it is put in; that may break
another row, which is mended in turn: an ejection chain (Glover, 1996), searched to a small depth and width.

`search.chain` holds the loss and the length of the best chain, whose items are in `search.best_log`, the work, and the
work at which to stop; the caller sets them before `mend`. `search.pending` has PENDING places for each depth: the rows
that are below zero there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from netting.kernels.selection import Rows, Search

kernel, _ = toolchain(__name__)
_selection = beside(__name__, "netting.kernels.selection")
_below, _flip, _floors_hold = _selection.below, _selection.flip, _selection.floors_hold

DEPTH = 7
"""The most items in a chain."""
WIDTH = 3
"""How many items of a kind are tried for a row at the start of a chain; fewer further on."""
PENDING = 8
"""The most rows that may be below zero at once in a chain."""
LOOKS = 12
"""How far from the best fitting amount an item may stand."""

LOSS, LENGTH, WORK, LIMIT = 0, 1, 2, 3
"""The places of `search.chain`."""
FRAME = 8
"""The places of `search.frame` for each depth."""
_COUNT, _CHAIN_LOSS, _PHASE, _TRIED, _AT, _LAST, _MIDDLE, _ROW = 0, 1, 2, 3, 4, 5, 6, 7


@kernel
def _chain_holds(rows: Rows, search: Search, depth: int) -> bool:
    if len(rows.group_floor) == 0:
        return True
    holds = True
    for c in range(depth):
        holds = holds and _floors_hold(rows, search, search.log[c])
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
        if loss < chain[LOSS] and _chain_holds(rows, search, depth):
            chain[LOSS], chain[LENGTH] = loss, depth
            for c in range(depth):
                search.best_log[c] = search.log[c]
        return False
    if depth >= DEPTH or chain[WORK] >= chain[LIMIT]:
        return False
    r = pending[base + count - 1]
    need = -room[r]
    f = depth * FRAME
    frame[f + _COUNT], frame[f + _CHAIN_LOSS], frame[f + _PHASE], frame[f + _TRIED] = count, loss, 0, 0
    fill = _below(rows.fill_amount, rows.fill_start[r], rows.fill_start[r + 1], need - 1) - 1
    frame[f + _AT], frame[f + _LAST] = fill, max(rows.fill_start[r], fill - LOOKS + 1)
    frame[f + _MIDDLE] = _below(rows.use_amount, rows.use_start[r], rows.use_start[r + 1], need - 1)
    frame[f + _ROW] = r
    return True


@kernel
def _next(rows: Rows, search: Search, depth: int) -> int:
    """Return the next item to try at `depth` of a chain, or -1.

    First the smallest items that refill the row enough, to be put in; then the smallest that use enough, to be taken
    out; then the greatest that doesn't use enough, and more after it.
    """
    frame, chain = search.frame, search.chain
    f = depth * FRAME
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
        chain[WORK] += 1
        if search.stamp[k] == 0 and search.selected[k] == (0 if phase == 0 else 1):
            frame[f + _TRIED] += 1
            return k
    return -1


@kernel
def mend(rows: Rows, search: Search, start: int, count: int) -> None:
    """Look for the chain of least loss that mends the pending rows; `search.chain` keeps the best.

    Items before `start` are in the chain already. In the end everything is as it was.
    """
    room, pending, frame, stamp = search.room, search.pending, search.frame, search.stamp
    depth = start
    if not _open(rows, search, depth, count, 0):
        return
    while depth >= start:
        f = depth * FRAME
        k = _next(rows, search, depth)
        if k < 0:
            depth -= 1
            if depth >= start:
                k = search.log[depth]
                _flip(rows, search, k)
                stamp[k] = 0
            continue
        stamp[k] = 1
        search.log[depth] = k
        loss = frame[f + _CHAIN_LOSS] - _flip(rows, search, k)
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
            _flip(rows, search, k)
            stamp[k] = 0
