"""Many nodes lack liquidity: a maximum flow to all of them at once, over the arcs that cost nothing now.

A part of `netting.kernels.flow`, where the vectors are explained. Dinic's algorithm (1970) runs on a copy of only the
arcs without reduced cost, since those are a fraction of all and are looked at many times. What is looked at most is
packed: for an arc from node y to node x, `near[c] = 4 * x + 2 * (x can give y more) + (y can give x more)`. How much
x can give is `residual[c]`; the same arc as x sees it is `twin[c]`.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, NamedTuple

from netting.kernels.compile import numbers, toolchain

if TYPE_CHECKING:
    from netting.kernels.flow import Graph, Scratch, State

kernel, ints = toolchain(__name__)
_numbers = numbers(__name__)

Vector = MutableSequence[int]

_GIVES, _TAKES = 2, 1


class TightArcs(NamedTuple):
    """The arcs without reduced cost, `arc`; node y has the ends of them from `first[y]` to `first[y + 1]`."""

    arc: Vector
    first: Vector
    near: Vector
    twin: Vector
    residual: Vector


@kernel
def drain(graph: Graph, state: State, scratch: Scratch, count: int) -> tuple[int, int, int]:
    """Give the sources all that arcs of no reduced cost can bring; raise the potentials of what still lacks.

    Returns how many sources still lack, by how much their potentials rose (0: nothing can help), and the work.
    Takes the sources from `scratch`, the first `count`; leaves those that still lack there. The levels stay zero.
    """
    slack, order, current, sources = state.slack, scratch.order, scratch.current, scratch.sources
    nodes = len(slack)
    level = _numbers(nodes)
    tight = _copy(graph, state, current)
    first, near = tight.first, tight.near
    work = graph.start[nodes]
    while count > 0:
        reached, deepest, at = count, nodes + 1, 0
        for s in range(count):
            y = sources[s]
            order[s], level[y], current[y] = y, 1, first[y]
        while at < reached:
            y = order[at]
            at += 1
            after = level[y] + 1
            if after > deepest:
                break
            work += first[y + 1] - first[y]
            for c in range(first[y], first[y + 1]):
                sight = near[c]
                if sight & _GIVES:
                    x = sight >> 2
                    if level[x] == 0:
                        order[reached], level[x], current[x] = x, after, first[x]
                        reached += 1
                        if slack[x] > 0:
                            deepest = after
        if deepest > nodes:
            break
        for q in range(reached - 1, -1, -1):
            x = order[q]
            if level[x] < deepest:
                break
            if slack[x] > 0:
                work += _pull(state, scratch, tight, level, x)
        for q in range(reached):
            level[order[q]] = 0
        remaining = 0
        for s in range(count):
            if slack[sources[s]] < 0:
                sources[remaining] = sources[s]
                remaining += 1
        count = remaining
    _write_back(graph, state, tight, current)
    if count == 0:
        return 0, 0, work + graph.start[nodes]
    raised, looked = _lift(graph, state, order, level, reached)
    return count, raised, work + looked + graph.start[nodes]


@kernel
def _copy(graph: Graph, state: State, current: Vector) -> TightArcs:
    """Copy the arcs that have no reduced cost."""
    tail, head, weight = graph.tail, graph.head, graph.weight
    lower, upper, flow, potential = state.lower, state.upper, state.flow, state.potential
    nodes = len(potential)
    first, tight, count = ints(nodes + 1), _numbers(len(flow)), 0
    for k in range(len(flow)):
        i, x = tail[k], head[k]
        if weight[k] + potential[x] == potential[i]:
            first[i + 1] += 1
            first[x + 1] += 1
            tight[count] = k
            count += 1
    for i in range(nodes):
        first[i + 1] += first[i]
        current[i] = first[i]
    near, twin, residual = _numbers(2 * count), _numbers(2 * count), ints(2 * count)
    for t in range(count):
        k = tight[t]
        i, x = tail[k], head[k]
        a, b = current[i], current[x]
        current[i] += 1
        current[x] += 1
        less, more = flow[k] - lower[k], upper[k] - flow[k]
        near[a], twin[a], residual[a] = 4 * x + (_GIVES if less > 0 else 0) + (_TAKES if more > 0 else 0), b, less
        near[b], twin[b], residual[b] = 4 * i + (_GIVES if more > 0 else 0) + (_TAKES if less > 0 else 0), a, more
    return TightArcs(tight[:count], first, near, twin, residual)


@kernel
def _write_back(graph: Graph, state: State, tight: TightArcs, current: Vector) -> None:
    """Bring the flow of the copied arcs up to date."""
    lower, flow, total, first = state.lower, state.flow, state.total, tight.first
    for i in range(len(current)):
        current[i] = first[i]
    for t in range(len(tight.arc)):
        k = tight.arc[t]
        i = graph.tail[k]
        amount = lower[k] + tight.residual[current[i]]
        current[i] += 1
        current[graph.head[k]] += 1
        total[0] += (amount - flow[k]) * graph.weight[k]
        flow[k] = amount


@kernel
def _lift(graph: Graph, state: State, order: Vector, level: Vector, reached: int) -> tuple[int, int]:
    """Raise the potentials of the nodes `order[:reached]`, which nothing helps, until something can.

    Returns by how much (0: nothing can), and the work.
    """
    start, middle, neighbour, arc, cost = graph.start, graph.middle, graph.neighbour, graph.arc, graph.cost
    lower, upper, flow, potential = state.lower, state.upper, state.flow, state.potential
    least, work = 0, 0
    for q in range(reached):
        y = order[q]
        for e in range(start[y], start[y + 1]):
            work += 1
            step = cost[e] - potential[y] + potential[neighbour[e]]
            if step > 0 and level[neighbour[e]] == 0 and (least == 0 or step < least):
                k = arc[e]
                if (flow[k] > lower[k]) if e < middle[y] else (flow[k] < upper[k]):
                    least = step
            if least == 1:
                break
        if least == 1:
            break
    for q in range(reached):
        potential[order[q]] += least
    return least, work


@kernel
def _pull(state: State, scratch: Scratch, tight: TightArcs, level: Vector, target: int) -> int:
    """Send what `target` has over to sources, over paths of falling level. Returns the work."""
    slack, current, path, via = state.slack, scratch.current, scratch.path, scratch.via
    first, near, twin, residual = tight.first, tight.near, tight.twin, tight.residual
    depth, work = 0, 0
    path[0] = target
    while slack[target] > 0:
        y = path[depth]
        below = level[y] - 1
        if below == 0 and slack[y] < 0:
            amount = min(slack[target], -slack[y])
            for d in range(1, depth + 1):
                amount = min(amount, residual[twin[via[d]]])
            slack[target] -= amount
            slack[y] += amount
            keep = depth if slack[y] < 0 else depth - 1
            for d in range(depth, 0, -1):
                c = via[d]
                t = twin[c]
                residual[c] += amount
                residual[t] -= amount
                near[c] |= _GIVES
                near[t] |= _TAKES
                if residual[t] == 0:
                    near[t] ^= _GIVES
                    near[c] ^= _TAKES
                    keep = d - 1
            depth = keep
            continue
        c, end = current[y], first[y + 1]
        if below == 0:
            c = end
        work -= c
        while c < end and not (near[c] & _TAKES and level[near[c] >> 2] == below):
            c += 1
        work += c
        current[y] = c
        if c < end:
            depth += 1
            path[depth], via[depth] = near[c] >> 2, c
        elif depth > 0:
            depth -= 1
            current[path[depth]] += 1
        else:
            break
    return work
