"""Make a selection of the relaxation's optimum: fix what is undecided to its nearer side, the rest makes up for it.

How `netting.liquidity.branch` uses this module: outside of the tree of `netting.kernels.branch`, whose vectors these
are. Nothing is proven by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from netting.kernels.branch import Fixings, Work
    from netting.kernels.flow import Graph, Scratch, State

    Vector = MutableSequence[int]

kernel, _ = toolchain(__name__)
_branch = beside(__name__, "netting.kernels.branch")
_candidates, _copy, _fix = _branch.candidates, _branch.copy, _branch.fix
_resume = beside(__name__, "netting.kernels.flow").resume

ROUNDS_MAX = 2000
"""How many times something is fixed at most."""


@kernel
def round_flow(
    graph: Graph,
    state: State,
    other: State,
    scratch: Scratch,
    fixings: Fixings,
    most: Vector,
    other_most: Vector,
    work: Work,
    least: int,
) -> tuple[int, int]:
    """Fix what is undecided to the nearer side, the greatest parts first, and let the rest of the flow make up for it.

    Stops when no more than `least` of an item is undecided, or where
    neither side is feasible. Returns (work, 1 if `other` holds the last flow instead of `state`).
    """
    steps, swapped = 0, 0
    for _ in range(ROUNDS_MAX):
        steps += len(state.flow)
        count = _candidates(fixings, state, work, least)
        if count == 0:
            break
        # All parts that are about as great as the greatest; if they can't be fixed together, the greatest alone.
        group = 1
        while group < count and 2 * work.score[group] > work.score[0]:
            group += 1
        is_feasible = False
        while not is_feasible and group >= -1:
            _copy(state, most, other, other_most)
            arcs_changed = 0
            for c in range(max(1, group)):
                k = work.candidate[c]
                a = fixings.item_arc[fixings.item_start[k]]
                side = 1 if 2 * state.flow[a] >= fixings.capacity[a] else 0
                if group == -1:
                    side = 1 - side
                if arcs_changed >= 0 and (c == 0 or other.upper[a] > other.lower[a]):
                    arcs_changed = _fix(fixings, other.lower, other.upper, other_most, work, k, side, arcs_changed)
            if arcs_changed >= 0:
                status, spent = _resume(graph, other, scratch, work.changed_arcs, arcs_changed)
                steps += spent
                is_feasible = status == 0
            steps += len(state.flow)
            group = 1 if group > 1 else group - 2
        if not is_feasible:
            break
        state, other = other, state
        most, other_most = other_most, most
        swapped = 1 - swapped
    return steps, swapped


@kernel
def mark_settling(fixings: Fixings, state: State, selected: Vector) -> None:
    """Say for every item whether more than half of it settles in the relaxation, on all of its arcs."""
    for k in range(len(selected)):
        first, last = fixings.item_start[k], fixings.item_start[k + 1]
        if first == last:
            continue
        selected[k] = 1
        for e in range(first, last):
            a = fixings.item_arc[e]
            if 2 * state.flow[a] <= fixings.capacity[a]:
                selected[k] = 0
