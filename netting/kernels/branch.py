"""Branch and bound: fix what settles, item by item, and bound what the rest can reach by a flow.

How `netting.liquidity.branch` uses this module: the relaxation is a network in which every item may settle in part
(see `netting.liquidity.network`). `fixings` says which arcs belong to which item; the state's bounds hold what is
fixed: an arc that must carry everything has `lower = capacity`, one that carries nothing `upper = 0`. `most[i]` is all
that node i could send beside what it must: an item that needs more than that can't settle, and is fixed out at once.

Nodes of the tree are numbered as they are made, two at a time: an item settles, or it doesn't.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, NamedTuple

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from netting.kernels.flow import Graph, Scratch, State

kernel, ints = toolchain(__name__)
_flow = beside(__name__, "netting.kernels.flow")
copy_state, resume = _flow.copy, _flow.resume

Vector = MutableSequence[int]

CANDIDATES = 16
"""How many undecided items are found at a time."""
LOOKAHEAD = 4
"""How many of them are tried both ways before one is branched on, where that can matter."""
PLUNGE_MAX = 1000
"""How many times one plunge branches at most."""

FEASIBLE, IMPOSSIBLE = 0, 1
INTEGRAL, PRUNED, OPEN = 0, 1, 2


class Fixings(NamedTuple):
    """Item k has the arcs `item_arc[e]`; node i sends over `out_arc[e]`, the greatest capacity first, of whole items.

    `item_of[a]` is -1 for an arc that is no item's, or of one that may be split. Nothing is concluded from what nodes
    with a free arc to them could have: their `liquidity` here is more than enough.
    """

    item_start: Vector
    item_arc: Vector
    item_of: Vector
    out_start: Vector
    out_arc: Vector
    capacity: Vector
    liquidity: Vector
    tail: Vector
    head: Vector


class Tree(NamedTuple):
    """Node t of the tree: its item settles (side 1) or not (0), below `parent`; no selection there exceeds `bound`.

    The bound is -1 where nothing is feasible. `proof[t]` is the node whose multipliers prove the bound, -1 where
    there is nothing to prove because an item that must settle can't; the multipliers of t begin at
    t · (nodes of the network). `size` has one entry.
    """

    item: Vector
    side: Vector
    parent: Vector
    bound: Vector
    proof: Vector
    multiplier: Vector
    size: Vector


class Work(NamedTuple):
    """Room to work in: bounds to go to, arcs that change, nodes to look at, the candidates for a branching."""

    lower: Vector
    upper: Vector
    changed_arcs: Vector
    stack: Vector
    candidate: Vector
    score: Vector


@kernel
def copy(source: State, most: Vector, target: State, target_most: Vector) -> None:
    """Copy a state and what goes with it."""
    copy_state(source, target)
    for i in range(len(most)):
        target_most[i] = most[i]


@kernel
def fix(fixings: Fixings, lower: Vector, upper: Vector, most: Vector, work: Work, k: int, side: int, count: int) -> int:
    """Fix item k and what follows from it. Returns how many arcs are in `work.changed_arcs`, or -1 if it can't be."""
    depth = 0
    for e in range(fixings.item_start[k], fixings.item_start[k + 1]):
        a = fixings.item_arc[e]
        if side == 1:
            if upper[a] < fixings.capacity[a]:
                return -1
            most[fixings.tail[a]] -= fixings.capacity[a] - lower[a]
            lower[a] = fixings.capacity[a]
            work.stack[depth] = fixings.tail[a]
        else:
            if lower[a] > 0:
                return -1
            most[fixings.head[a]] -= upper[a]
            upper[a] = 0
            work.stack[depth] = fixings.head[a]
        depth += 1
        work.changed_arcs[count] = a
        count += 1
    while depth > 0:
        depth -= 1
        i = work.stack[depth]
        if most[i] < 0:
            return -1
        e = fixings.out_start[i]
        while e < fixings.out_start[i + 1] and fixings.capacity[fixings.out_arc[e]] > most[i]:
            free = fixings.out_arc[e]
            e += 1
            if lower[free] > 0 or upper[free] == 0:
                continue
            item = fixings.item_of[free]
            for q in range(fixings.item_start[item], fixings.item_start[item + 1]):
                a = fixings.item_arc[q]
                if lower[a] > 0:
                    return -1
                most[fixings.head[a]] -= upper[a]
                upper[a] = 0
                work.changed_arcs[count] = a
                count += 1
                work.stack[depth] = fixings.head[a]
                depth += 1
    return count


@kernel
def _settle(
    graph: Graph, state: State, scratch: Scratch, fixings: Fixings, most: Vector, work: Work, k: int, side: int
) -> tuple[int, int]:
    """Fix item k in a state and make it optimal again. Returns (status, work)."""
    count = fix(fixings, state.lower, state.upper, most, work, k, side, 0)
    if count < 0:
        return IMPOSSIBLE, 1
    status, steps = resume(graph, state, scratch, work.changed_arcs, count)
    return (FEASIBLE if status == 0 else 2), steps + count


@kernel
def descend(
    graph: Graph,
    state: State,
    scratch: Scratch,
    fixings: Fixings,
    most: Vector,
    work: Work,
    path: Vector,
    sides: Vector,
    depth: int,
) -> tuple[int, int]:
    """Go to the node of the tree that is reached by fixing `path[:depth]`. Returns (status, work).

    Depth 0 is the root: there too, what can never settle is fixed out.
    """
    arcs, nodes = len(fixings.capacity), len(fixings.liquidity)
    for i in range(nodes):
        most[i] = fixings.liquidity[i]
    for a in range(arcs):
        work.lower[a], work.upper[a] = 0, fixings.capacity[a]
        most[fixings.head[a]] += fixings.capacity[a]
    # Whatever can't settle at all, before anything is fixed.
    for i in range(nodes):
        e = fixings.out_start[i]
        while e < fixings.out_start[i + 1] and fixings.capacity[fixings.out_arc[e]] > most[i]:
            a = fixings.out_arc[e]
            e += 1
            if work.upper[a] > 0 and fix(fixings, work.lower, work.upper, most, work, fixings.item_of[a], 0, 0) < 0:
                return IMPOSSIBLE, arcs
    for d in range(depth):
        if fix(fixings, work.lower, work.upper, most, work, path[d], sides[d], 0) < 0:
            return IMPOSSIBLE, arcs
    count = 0
    for a in range(arcs):
        if state.lower[a] != work.lower[a] or state.upper[a] != work.upper[a]:
            state.lower[a], state.upper[a] = work.lower[a], work.upper[a]
            work.changed_arcs[count] = a
            count += 1
    status, steps = resume(graph, state, scratch, work.changed_arcs, count)
    return (FEASIBLE if status == 0 else 2), steps + arcs


@kernel
def candidates(fixings: Fixings, state: State, work: Work, least: int) -> int:
    """Find the items of which the greatest parts are undecided, more than `least`. Returns how many."""
    count = 0
    for a in range(len(state.flow)):
        amount = state.flow[a]
        if 0 < amount < fixings.capacity[a] and fixings.item_of[a] >= 0:
            score = min(amount, fixings.capacity[a] - amount)
            if score <= least or (count == CANDIDATES and score <= work.score[count - 1]):
                continue
            is_listed = False
            for c in range(count):
                is_listed = is_listed or work.candidate[c] == fixings.item_of[a]
            if is_listed:
                continue
            count = min(count + 1, CANDIDATES)
            c = count - 1
            while c > 0 and work.score[c - 1] < score:
                work.score[c], work.candidate[c] = work.score[c - 1], work.candidate[c - 1]
                c -= 1
            work.score[c], work.candidate[c] = score, fixings.item_of[a]
    return count


@kernel
def torn_item(fixings: Fixings, state: State) -> int:
    """Return the first item of which some arcs are full and others empty, or -1."""
    for k in range(len(fixings.item_start) - 1):
        first = fixings.item_start[k]
        if fixings.item_start[k + 1] - first < 2:
            continue
        full = state.flow[fixings.item_arc[first]] == fixings.capacity[fixings.item_arc[first]]
        for e in range(first + 1, fixings.item_start[k + 1]):
            a = fixings.item_arc[e]
            if fixings.item_of[a] >= 0 and (state.flow[a] == fixings.capacity[a]) != full:
                return k
    return -1


@kernel
def record(tree: Tree, state: State, t: int, status: int, graph: Graph, work: Work) -> None:
    """Write down what was found at node t of the tree: the bound, and the multipliers that prove it."""
    nodes = len(state.slack)
    tree.proof[t] = t
    if status == FEASIBLE:
        tree.bound[t] = min(tree.bound[t], state.total[0])
        for i in range(nodes):
            tree.multiplier[t * nodes + i] = state.potential[i]
        return
    tree.bound[t] = -1
    if status == IMPOSSIBLE:
        tree.proof[t] = -1
        return
    # No liquidity can reach the nodes that lack it: the set of those that could send them some proves it.
    depth = 0
    for i in range(nodes):
        tree.multiplier[t * nodes + i] = 0
        if state.slack[i] < 0 and depth == 0:
            tree.multiplier[t * nodes + i] = 1
            work.stack[0] = i
            depth = 1
    while depth > 0:
        depth -= 1
        i = work.stack[depth]
        for e in range(graph.start[i], graph.start[i + 1]):
            a, x = graph.arc[e], graph.neighbour[e]
            more = state.flow[a] > state.lower[a] if e < graph.middle[i] else state.flow[a] < state.upper[a]
            if more and tree.multiplier[t * nodes + x] == 0:
                tree.multiplier[t * nodes + x] = 1
                work.stack[depth] = x
                depth += 1


@kernel
def grow(tree: Tree, k: int, parent: int, bound: int) -> int:
    """Make the two nodes below `parent`, for item k. Returns the first, in which it settles."""
    t = tree.size[0]
    for side in range(2):
        tree.item[t + side], tree.side[t + side] = k, 1 - side
        tree.parent[t + side], tree.bound[t + side], tree.proof[t + side] = parent, bound, tree.proof[parent]
    tree.size[0] = t + 2
    return t


@kernel
def plunge(
    graph: Graph,
    state: State,
    other: State,
    scratch: Scratch,
    fixings: Fixings,
    most: Vector,
    other_most: Vector,
    work: Work,
    tree: Tree,
    current: int,
    incumbent: int,
    least: int,
    weighty: int,
) -> tuple[int, int, int, int]:
    """Go down the tree from `current`, whose optimum `state` holds, always to the better side.

    Undecided parts of more than `weighty` are looked at both ways before; those of at most `least` are left, once
    something was branched on. Returns (outcome, node, work, 1 if `other` holds its optimum instead of `state`).
    """
    steps, swapped = 0, 0
    for turn in range(PLUNGE_MAX):
        steps += len(state.flow)
        count = candidates(fixings, state, work, least)
        if count == 0 and turn == 0:
            count = candidates(fixings, state, work, 0)
        if count == 0:
            break
        k, score = work.candidate[0], work.score[0]
        bound = state.total[0]
        if score > weighty:
            if count > 1:
                best = -1
                for c in range(min(count, LOOKAHEAD)):
                    loss, more = bound, 0
                    for way in range(2):
                        copy(state, most, other, other_most)
                        status, spent = _settle(
                            graph, other, scratch, fixings, other_most, work, work.candidate[c], way
                        )
                        steps += spent + len(state.flow)
                        lost = bound - other.total[0] if status == FEASIBLE else bound
                        loss, more = min(loss, lost), max(more, lost)
                    # What both ways lose counts most, because that is what the bound loses.
                    if 8 * loss + more > best:
                        best, k = 8 * loss + more, work.candidate[c]
            copy(state, most, other, other_most)
            t = grow(tree, k, current, bound)
            status, spent = _settle(graph, state, scratch, fixings, most, work, k, 1)
            record(tree, state, t, status, graph, work)
            again, more = _settle(graph, other, scratch, fixings, other_most, work, k, 0)
            record(tree, other, t + 1, again, graph, work)
            steps += spent + more + len(state.flow)
            current = t
            if tree.bound[t + 1] > tree.bound[t]:
                current = t + 1
                state, other = other, state
                most, other_most = other_most, most
                swapped = 1 - swapped
        else:
            a = fixings.item_arc[fixings.item_start[k]]
            side = 1 if 2 * state.flow[a] >= fixings.capacity[a] else 0
            t = grow(tree, k, current, bound)
            copy(state, most, other, other_most)
            current = t + 1 - side
            status, spent = _settle(graph, state, scratch, fixings, most, work, k, side)
            record(tree, state, current, status, graph, work)
            steps += spent + len(state.flow)
            if status != FEASIBLE:
                state, other = other, state
                most, other_most = other_most, most
                swapped = 1 - swapped
                current = t + side
                status, spent = _settle(graph, state, scratch, fixings, most, work, k, 1 - side)
                record(tree, state, current, status, graph, work)
                steps += spent
        if tree.bound[current] <= incumbent:
            return PRUNED, current, steps, swapped
    outcome = OPEN
    if candidates(fixings, state, work, 0) == 0:
        outcome = INTEGRAL
    return outcome, current, steps, swapped
