"""Liquidity one path at a time: the shortest ways from nodes out of balance to what helps, and sending along them.

A part of `netting.kernels.flow`, where the vectors are explained. `sign` is 1 for nodes that lack liquidity, which
others can send them, and -1 for nodes with spare liquidity of positive potential, which they send to where it helps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netting.kernels.compile import beside, toolchain

if TYPE_CHECKING:
    from netting.kernels.flow import Graph, Scratch, State

kernel, _ = toolchain(__name__)
_heap = beside(__name__, "netting.kernels.heap")
_rise, _sink = _heap.rise, _heap.sink


@kernel
def search(graph: Graph, state: State, scratch: Scratch, count: int, sign: int) -> tuple[int, int, int]:
    """Find the distances from the sources up to the nearest node that can help. Returns (reach, reached, work).

    Dijkstra's algorithm over the arcs that can still change, with reduced costs; nodes at the distance `far` wait in
    `order`, further ones in a heap, where their `level` is negative. `order[:reached]` are the nodes no further than
    `reach` (-1: nothing helps), each with its `distance`, and its `level`: one more than the arcs on the way to it.
    """
    start, middle, neighbour, arc, cost = graph.start, graph.middle, graph.neighbour, graph.arc, graph.cost
    lower, upper, flow, slack, potential = state.lower, state.upper, state.flow, state.slack, state.potential
    order, level, distance, current, heap, place, sources = (
        scratch.order,
        scratch.level,
        scratch.distance,
        scratch.current,
        scratch.heap,
        scratch.place,
        scratch.sources,
    )
    reach, deepest, far = -1, len(potential) + 1, 0
    at, reached, heaped, work = 0, 0, 0, 0
    for s in range(count):
        y = sources[s]
        order[s], level[y], distance[y], current[y] = y, 1, 0, start[y]
        if sign < 0 and (reach < 0 or potential[y] < reach):
            reach = potential[y]
    reached = count
    while True:
        while at < reached:
            y = order[at]
            at += 1
            if level[y] >= deepest:
                continue
            first, half, end = start[y], middle[y], start[y + 1]
            work += end - first
            for e in range(first, end):
                x = neighbour[e]
                if level[x] > 0:
                    continue
                step = sign * (cost[e] - potential[y] + potential[x])
                if step < 0 or (level[x] < 0 and far + step >= distance[x]):
                    continue
                k = arc[e]
                if (flow[k] == lower[k]) if (e < half) == (sign > 0) else (flow[k] == upper[k]):
                    continue
                distance[x] = far + step
                if level[x] < 0:
                    _rise(heap, place, distance, place[x])
                elif step > 0:
                    place[x] = heaped
                    heap[heaped] = x
                    heaped += 1
                    _rise(heap, place, distance, place[x])
                level[x] = -1 - level[y]
                if step == 0:
                    order[reached], level[x], current[x] = x, -level[x], start[x]
                    reached += 1
                    if sign < 0:
                        reach = min(reach, far + potential[x])
                    if (slack[x] > 0) if sign > 0 else (potential[x] == 0):
                        reach, deepest = far, min(deepest, level[x])
        if heaped == 0 or (reach >= 0 and distance[heap[0]] >= reach):
            break
        far = distance[heap[0]]
        while heaped > 0 and distance[heap[0]] <= far:
            x = heap[0]
            heaped -= 1
            _sink(heap, place, distance, heaped)
            if level[x] < 0:
                order[reached], level[x], current[x] = x, -level[x], start[x]
                reached += 1
                if sign < 0:
                    reach = min(reach, far + potential[x])
                if (slack[x] > 0) if sign > 0 else (potential[x] == 0):
                    reach, deepest = far, min(deepest, level[x])
    for h in range(heaped):
        level[heap[h]] = max(level[heap[h]], 0)
    # What is as far as the nearest help and no help itself leads nowhere.
    for q in range(reached):
        x = order[q]
        if level[x] >= deepest and not ((slack[x] > 0) if sign > 0 else (potential[x] == 0)):
            level[x] = 0
    return reach, reached, work


@kernel
def send(graph: Graph, state: State, scratch: Scratch, source: int, sign: int) -> int:
    """Settle `source` as far as paths of ever higher level over arcs of no reduced cost allow. Returns the work.

    A depth-first search that never looks at the same arc end twice between two calls of `search`.
    """
    start, middle, neighbour, arc, cost = graph.start, graph.middle, graph.neighbour, graph.arc, graph.cost
    lower, upper, flow, slack, potential = state.lower, state.upper, state.flow, state.slack, state.potential
    level, current, path, via = scratch.level, scratch.current, scratch.path, scratch.via
    depth, work = 0, 0
    path[0] = source
    while (slack[source] < 0) if sign > 0 else (slack[source] > 0 and potential[source] > 0):
        y = path[depth]
        if depth > 0 and ((slack[y] > 0) if sign > 0 else (potential[y] == 0)):
            depth = _shift(graph, state, scratch, depth, sign)
            continue
        e, half, end = current[y], middle[y], start[y + 1]
        work -= e
        while e < end:
            x = neighbour[e]
            if level[x] > level[y] and cost[e] - potential[y] + potential[x] == 0:
                k = arc[e]
                if (flow[k] > lower[k]) if (e < half) == (sign > 0) else (flow[k] < upper[k]):
                    break
            e += 1
        work += e
        current[y] = e
        if e < end:
            depth += 1
            path[depth], via[depth] = x, e
        elif depth > 0:
            depth -= 1
            current[path[depth]] += 1
        else:
            break
    return work


@kernel
def _shift(graph: Graph, state: State, scratch: Scratch, depth: int, sign: int) -> int:
    """Move as much as can be moved along the path. Returns the depth of its first arc that is used up, less one."""
    weight, middle, arc = graph.weight, graph.middle, graph.arc
    lower, upper, flow, slack, total = state.lower, state.upper, state.flow, state.slack, state.total
    path, via = scratch.path, scratch.via
    source, last = path[0], path[depth]
    amount = min(-slack[source], slack[last]) if sign > 0 else slack[source]
    for d in range(1, depth + 1):
        e, k = via[d], arc[via[d]]
        out = e < middle[path[d - 1]]
        amount = min(amount, flow[k] - lower[k] if out == (sign > 0) else upper[k] - flow[k])
    keep = depth if sign < 0 or slack[last] > amount else depth - 1
    for d in range(depth, 0, -1):
        e, k = via[d], arc[via[d]]
        out = e < middle[path[d - 1]]
        more = -amount if out == (sign > 0) else amount
        flow[k] += more
        total[0] += more * weight[k]
        if (flow[k] == lower[k]) if out == (sign > 0) else (flow[k] == upper[k]):
            keep = d - 1
    slack[source] += sign * amount
    slack[last] -= sign * amount
    return keep
