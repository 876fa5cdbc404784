"""Many nodes lack liquidity: a maximum flow to all of them at once, over the arcs that cost nothing now.

A part of `netting.flow_kernel`, where the vectors are explained. Dinic's algorithm (1970) runs on a copy of only the
arcs without reduced cost, since those are a fraction of all and are looked at many times. From node y, `near[c]` can
give it `left[c]` more; the same arc as that node sees it is `twin[c]`.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from netting.compile import toolchain

if TYPE_CHECKING:
    from netting.flow_kernel import Graph, Scratch, State

kernel, ints = toolchain(__name__)

Vector = MutableSequence[int]


@kernel
def drain(graph: Graph, state: State, scratch: Scratch, count: int) -> tuple[int, bool, int]:
    """Give the sources all that arcs of no reduced cost can bring; raise the potentials of what still lacks.

    Returns how many sources still lack, whether something can help them now, and the work. Takes the sources from
    `scratch`, the first `count`; leaves those that still lack there, and all levels zero.
    """
    start, middle, other, arc, cost = graph.start, graph.middle, graph.other, graph.arc, graph.cost
    lower, upper, flow, slack, potential = state.lower, state.upper, state.flow, state.slack, state.potential
    order, level, current, sources = scratch.order, scratch.level, scratch.current, scratch.sources
    nodes = len(potential)
    first = ints(nodes + 1)
    for i in range(nodes):
        for e in range(start[i], middle[i]):
            x = other[e]
            if cost[e] + potential[x] == potential[i]:
                first[i + 1] += 1
                first[x + 1] += 1
    for i in range(nodes):
        first[i + 1] += first[i]
        current[i] = first[i]
    near, twin, left = ints(first[nodes]), ints(first[nodes]), ints(first[nodes])
    for i in range(nodes):
        for e in range(start[i], middle[i]):
            x = other[e]
            if cost[e] + potential[x] == potential[i]:
                a, b, k = current[i], current[x], arc[e]
                current[i] += 1
                current[x] += 1
                near[a], twin[a], left[a] = x, b, flow[k] - lower[k]
                near[b], twin[b], left[b] = i, a, upper[k] - flow[k]
    work = start[nodes]
    while count > 0:
        seen, deepest, at = count, nodes + 1, 0
        for s in range(count):
            y = sources[s]
            order[s], level[y], current[y] = y, 1, first[y]
        while at < seen:
            y = order[at]
            at += 1
            after = level[y] + 1
            if after > deepest:
                break
            work += first[y + 1] - first[y]
            for c in range(first[y], first[y + 1]):
                x = near[c]
                if level[x] == 0 and left[c] > 0:
                    order[seen], level[x], current[x] = x, after, first[x]
                    seen += 1
                    if slack[x] > 0:
                        deepest = after
        if deepest <= nodes:
            for q in range(seen - 1, -1, -1):
                x = order[q]
                if level[x] < deepest:
                    break
                if slack[x] > 0:
                    work += _pull(state, scratch, first, near, twin, left, x)
        if deepest > nodes:
            break
        for q in range(seen):
            level[order[q]] = 0
        rest = 0
        for s in range(count):
            if slack[sources[s]] < 0:
                sources[rest] = sources[s]
                rest += 1
        count = rest
    for i in range(nodes):
        current[i] = first[i]
    for i in range(nodes):
        for e in range(start[i], middle[i]):
            x = other[e]
            if cost[e] + potential[x] == potential[i]:
                a, k = current[i], arc[e]
                current[i] += 1
                current[x] += 1
                state.total[0] += (lower[k] + left[a] - flow[k]) * cost[e]
                flow[k] = lower[k] + left[a]
    if count == 0:
        return 0, True, work + start[nodes]
    raised, looked = _lift(graph, state, scratch, seen)
    return count, raised > 0, work + looked + start[nodes]


@kernel
def _lift(graph: Graph, state: State, scratch: Scratch, seen: int) -> tuple[int, int]:
    """Raise the potentials of the nodes `order[:seen]`, which nothing helps, until something can.

    Returns by how much (0: nothing can), and the work.
    """
    start, middle, other, arc, cost = graph.start, graph.middle, graph.other, graph.arc, graph.cost
    lower, upper, flow, potential = state.lower, state.upper, state.flow, state.potential
    order, level = scratch.order, scratch.level
    least, work = 0, 0
    for q in range(seen):
        y = order[q]
        for e in range(start[y], start[y + 1]):
            work += 1
            step = cost[e] - potential[y] + potential[other[e]]
            if step > 0 and level[other[e]] == 0 and (least == 0 or step < least):
                k = arc[e]
                if (flow[k] > lower[k]) if e < middle[y] else (flow[k] < upper[k]):
                    least = step
            if least == 1:
                break
        if least == 1:
            break
    for q in range(seen):
        potential[order[q]] += least
        level[order[q]] = 0
    return least, work


@kernel
def _pull(state: State, scratch: Scratch, first: Vector, near: Vector, twin: Vector, left: Vector, target: int) -> int:
    """Send what `target` has over to sources, over paths of falling level. Returns the work."""
    slack, level, current, path, via = state.slack, scratch.level, scratch.current, scratch.path, scratch.via
    depth, work = 0, 0
    path[0] = target
    while slack[target] > 0:
        y = path[depth]
        below = level[y] - 1
        if below == 0 and slack[y] < 0:
            amount = min(slack[target], -slack[y])
            for d in range(1, depth + 1):
                amount = min(amount, left[twin[via[d]]])
            slack[target] -= amount
            slack[y] += amount
            keep = depth if slack[y] < 0 else depth - 1
            for d in range(depth, 0, -1):
                c = via[d]
                left[c] += amount
                left[twin[c]] -= amount
                if left[twin[c]] == 0:
                    keep = d - 1
            depth = keep
            continue
        c, end = current[y], first[y + 1]
        if below == 0:
            c = end
        work -= c
        while c < end and not (level[near[c]] == below and left[twin[c]] > 0):
            c += 1
        work += c
        current[y] = c
        if c < end:
            depth += 1
            path[depth], via[depth] = near[c], c
        elif depth > 0:
            depth -= 1
            current[path[depth]] += 1
        else:
            break
    return work
