"""Improve a selection by what the flow says: change one large item, or two, and let all smaller ones make up for it.

How `netting.liquidity.branch` uses this module: the items of `order[:count]`, the largest first, are held in or out,
and the rest may settle in part, as in the relaxation. What all can reach then is known by a flow, and so is what it
would be worth to change an item: with the potentials as they are, never more than `_gain`. Where that is something, the
change is made and the flow repaired; it stays if the value rises, and the repair ends as soon as it can't.

An item that gains nothing alone is changed together with another of about the same amount, which makes up for it on
one of its rows.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from netting.kernels.branch import Fixings, Work
    from netting.kernels.flow import Graph, Scratch, State
    from netting.kernels.selection import Rows

kernel, ints = toolchain(__name__)
_flow = beside(__name__, "netting.kernels.flow")
_copy, _resume, _resume_above = _flow.copy, _flow.resume, _flow.resume_above
_below = beside(__name__, "netting.kernels.selection").below

Vector = MutableSequence[int]

LOOKS = 12
"""How far from the same amount the other item may stand."""
WIDTH = 2
"""How many others of a kind are tried for a row."""


@kernel
def hold(
    graph: Graph,
    state: State,
    scratch: Scratch,
    fixings: Fixings,
    work: Work,
    order: Vector,
    count: int,
    selected: Vector,
) -> tuple[int, int]:
    """Hold the items of `order[:count]` in or out, as `selected` says. Returns (status, work)."""
    count_changed = 0
    for q in range(count):
        k = order[q]
        for e in range(fixings.item_start[k], fixings.item_start[k + 1]):
            a = fixings.item_arc[e]
            state.lower[a] = fixings.capacity[a] * selected[k]
            state.upper[a] = state.lower[a]
            work.changed_arcs[count_changed] = a
            count_changed += 1
    outcome: tuple[int, int] = _resume(graph, state, scratch, work.changed_arcs, count_changed)
    return outcome


@kernel
def allow(fixings: Fixings, state: State, most: Vector) -> None:
    """Say for each node what it could send beside what it must, as the state's bounds are."""
    for i in range(len(most)):
        most[i] = fixings.liquidity[i]
    for a in range(len(state.flow)):
        most[fixings.head[a]] += state.upper[a]
        most[fixings.tail[a]] -= state.lower[a]


@kernel
def _inside(fixings: Fixings, state: State, k: int) -> bool:
    inside: bool = state.lower[fixings.item_arc[fixings.item_start[k]]] > 0
    return inside


@kernel
def _gain(graph: Graph, state: State, fixings: Fixings, k: int) -> int:
    """Return what a change of item k adds to the value at most."""
    total = 0
    for e in range(fixings.item_start[k], fixings.item_start[k + 1]):
        a = fixings.item_arc[e]
        worth = graph.weight[a] - state.potential[fixings.tail[a]] + state.potential[fixings.head[a]]
        total += fixings.capacity[a] * worth
    return -total if _inside(fixings, state, k) else total


@kernel
def _change(fixings: Fixings, state: State, work: Work, k: int, count: int) -> int:
    """Change the bounds of item k to the other side. Returns how many arcs are in `work.changed_arcs`."""
    side = 0 if _inside(fixings, state, k) else 1
    for e in range(fixings.item_start[k], fixings.item_start[k + 1]):
        a = fixings.item_arc[e]
        state.lower[a] = fixings.capacity[a] * side
        state.upper[a] = state.lower[a]
        work.changed_arcs[count] = a
        count += 1
    return count


@kernel
def _try(
    graph: Graph,
    state: State,
    other: State,
    scratch: Scratch,
    fixings: Fixings,
    work: Work,
    k: int,
    y: int,
    top: int,
) -> tuple[bool, int]:
    """Change item k, and item y unless it is -1, in the copy `other`. Tells whether the value rises, and the work."""
    _copy(state, other)
    count = _change(fixings, other, work, k, 0)
    if y >= 0:
        count = _change(fixings, other, work, y, count)
    status, spent = _resume_above(graph, other, scratch, work.changed_arcs, count, state.total[0])
    better: bool = status == 0 and other.total[0] > state.total[0] and low(other, top)
    return better, spent + len(state.flow)


@kernel
def low(state: State, top: int) -> bool:
    """Tell whether no potential is above `top`: what is multiplied by one then stays in the range of an int64."""
    is_low = True
    for i in range(len(state.potential)):
        is_low = is_low and state.potential[i] <= top
    return is_low


@kernel
def climb(
    graph: Graph,
    state: State,
    other: State,
    scratch: Scratch,
    fixings: Fixings,
    rows: Rows,
    work: Work,
    order: Vector,
    rank: Vector,
    count: int,
    limit: int,
    top: int,
) -> tuple[int, int]:
    """Change held items as long as the value rises, until the work reaches the limit.

    `rank[k]` is the place of item k in `order`. No potential is to be above `top`, before and after. Returns (work, 1
    if `other` holds the result instead of `state`).
    """
    steps, swapped, since, q = 0, 0, 0, 0
    while since < count and steps < limit:
        k = order[q]
        q = (q + 1) % count
        since += 1
        steps += 1
        gain = _gain(graph, state, fixings, k)
        if gain <= 0:
            continue
        better, spent = _try(graph, state, other, scratch, fixings, work, k, -1, top)
        steps += spent
        e = rows.item_start[k]
        while not better and e < rows.item_start[k + 1]:
            for kind in range(2):
                if not better:
                    better, spent = _try_two(
                        graph, state, other, scratch, fixings, rows, work, rank, count, top, k, gain, e, kind
                    )
                    steps += spent
            e += 1
        if better:
            state, other = other, state
            swapped = 1 - swapped
            since = 0
    return steps, swapped


@kernel
def _try_two(
    graph: Graph,
    state: State,
    other: State,
    scratch: Scratch,
    fixings: Fixings,
    rows: Rows,
    work: Work,
    rank: Vector,
    count: int,
    top: int,
    k: int,
    gain: int,
    e: int,
    kind: int,
) -> tuple[bool, int]:
    """Change item k, and one that makes up for it on its row e: one that uses it (kind 0), or that refills it (1).

    Those of about the same amount are tried, the nearest first. Tells whether the value rises, and the work.
    """
    r, amount = rows.item_row[e], abs(rows.item_change[e])
    takes = (rows.item_change[e] < 0) != _inside(fixings, state, k)
    start, items, amounts = rows.use_start, rows.use_item, rows.use_amount
    if kind == 1:
        start, items, amounts = rows.fill_start, rows.fill_item, rows.fill_amount
    first, last = start[r], start[r + 1]
    down = _below(amounts, first, last, amount)
    up, tried, steps = down - 1, 0, 0
    for _ in range(LOOKS):
        if tried == WIDTH or (up < first and down >= last):
            break
        steps += 1
        if down >= last or (up >= first and amounts[up] - amount < amount - amounts[down]):
            y = items[up]
            up -= 1
        else:
            y = items[down]
            down += 1
        # Where k takes from the row, a use is taken out or a refill put in; where it gives, the contrary.
        if y == k or rank[y] >= count or _inside(fixings, state, y) != (takes == (kind == 0)):
            continue
        if gain + _gain(graph, state, fixings, y) > 0:
            tried += 1
            better, spent = _try(graph, state, other, scratch, fixings, work, k, y, top)
            steps += spent
            if better:
                return True, steps
    return False, steps
