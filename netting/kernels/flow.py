"""A flow of the greatest value between nodes that each have some liquidity, by successive shortest paths.

The problem, its dual and their meaning are in `netting.flow`. In short: arc k carries `flow[k]` from its tail to its
head, `lower[k] <= flow[k] <= upper[k]`, each unit is worth `weight[k]`, and the slack of a node, what it has and
receives minus what it sends, mustn't be negative. `potential[i]`, never negative, is the worth of a unit at node i.

How another kernel uses this module (`flow = beside(__name__, "netting.kernels.flow")`):

- `graph = index(nodes, tail, head, weight)` once. It keeps the weights, which mustn't change.
- `scratch = room(nodes)` once; any number of solves may share it, one at a time.
- `state = State(lower, upper, flow, slack, potential, total)`: vectors that the caller makes, three with an entry
  per arc, two with one per node, the last with a single one. Before `solve`, `lower` and `upper` hold the bounds and
  `slack` the liquidity (0 or more); afterwards `flow` and `potential` are optimal, `slack` is what each node has left,
  `total[0]` the value.
- `solve(graph, state, scratch)` starts from nothing. `resume(graph, state, scratch, arcs, count)` starts from
  the state as it was left, after the caller changed the bounds of the arcs `arcs[:count]` (the same one twice is
  fine) or added to `slack[i]` what was added to the liquidity of node i. Fixing arc k: `lower[k] = upper[k] = …`.
- `resume_above` is for a state that is only wanted if its value is greater than a floor: it gives up as soon as it
  can't be, with the status BEATEN.
- All return `(status, work)`: OPTIMAL, or INFEASIBLE when the lower bounds can't be met, and the number of arc ends
  looked at. An infeasible state may be resumed as well, once bounds are wider.
- `bound(state)` is an upper bound of the value in every state, optimal or not; equal to `total[0]` in an optimal one.

Compiled, sums must stay below 2^62: of the liquidities and upper bounds together, and that times the greatest weight;
`bound` multiplies potentials by slacks, and a potential can in theory reach the greatest weight times the nodes.

All arcs of positive weight start full, and so some slacks negative. Liquidity then goes along paths of least loss from
nodes that have some to nodes that lack it, cancelling flow where that loses least (Ford and Fulkerson's
primal-dual method, 1962; blocking flows on shortest paths after Dinic, 1970). In every step arcs worth sending over
are full and arcs not worth it are empty, as the potentials see it; so the end is optimal. On payment
networks all distances are tiny, and a handful of phases does it. `resume` repairs what the change broke by the same
searches, begun where it broke.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

from netting.kernels.compile import beside, numbers, toolchain

kernel, ints = toolchain(__name__)
_numbers = numbers(__name__)
_drain = beside(__name__, "netting.kernels.flow_drain").drain
_paths = beside(__name__, "netting.kernels.flow_search")
_search, _send = _paths.search, _paths.send

OPTIMAL = 0
INFEASIBLE = 1
BEATEN = 2

_LACKING = 1
_SPARE = -1

_FEW = 4
"""In a repair it pays to copy the arcs of no reduced cost with more sources than this; from nothing it always does."""

_ANY = -1
"""Whatever the bound loses, go on."""

_PATIENCE = 1
"""The same after so many searches in a row that raised no potential."""

Vector = MutableSequence[int]


class Graph(NamedTuple):
    """Nodes and arcs; node i has the arc ends from `start[i]` to `start[i + 1]`, sending over those below `middle[i]`.

    Arc end e belongs to the arc `arc[e]` and leads to the node `neighbour[e]`; `cost[e]` is the arc's weight, negative
    where the node receives.
    """

    tail: Vector
    head: Vector
    weight: Vector
    start: Vector
    middle: Vector
    neighbour: Vector
    arc: Vector
    cost: Vector


class State(NamedTuple):
    """A problem's bounds and its solution; `slack` is what each node has left, `total` has one entry, the value."""

    lower: Vector
    upper: Vector
    flow: Vector
    slack: Vector
    potential: Vector
    total: Vector


class Scratch(NamedTuple):
    """Room to work in. Between calls all levels are zero; nothing else is kept."""

    order: Vector
    level: Vector
    distance: Vector
    current: Vector
    heap: Vector
    place: Vector
    sources: Vector
    path: Vector
    via: Vector


@kernel
def index(nodes: int, tail: Vector, head: Vector, weight: Vector) -> Graph:
    """Return the graph: for each node its arc ends, first of arcs it sends over, then of arcs it receives over."""
    start, middle, fill = ints(nodes + 1), ints(nodes), ints(nodes)
    arcs = len(tail)
    tails, heads = _numbers(arcs), _numbers(arcs)
    for k in range(arcs):
        tails[k], heads[k] = tail[k], head[k]
        middle[tail[k]] += 1
        fill[head[k]] += 1
    for i in range(nodes):
        start[i + 1] = start[i] + middle[i] + fill[i]
        middle[i] += start[i]
        fill[i] = start[i]
    neighbour, arc, cost = _numbers(2 * arcs), _numbers(2 * arcs), ints(2 * arcs)
    for k in range(arcs):
        e = fill[tail[k]]
        fill[tail[k]] += 1
        neighbour[e], arc[e], cost[e] = head[k], k, weight[k]
    for k in range(arcs):
        e = fill[head[k]]
        fill[head[k]] += 1
        neighbour[e], arc[e], cost[e] = tail[k], k, -weight[k]
    return Graph(tails, heads, weight, start, middle, neighbour, arc, cost)


@kernel
def room(nodes: int) -> Scratch:
    """Return room to work on a graph of so many nodes."""
    order, level, distance, current = _numbers(nodes), ints(nodes), ints(nodes), ints(nodes)
    heap, place, sources = ints(nodes + 1), ints(nodes), _numbers(nodes)
    path, via = _numbers(nodes + 1), _numbers(nodes + 1)
    return Scratch(order, level, distance, current, heap, place, sources, path, via)


@kernel
def copy(source: State, target: State) -> None:
    """Copy a state into another of the same size."""
    for a in range(len(source.flow)):
        target.lower[a], target.upper[a], target.flow[a] = source.lower[a], source.upper[a], source.flow[a]
    for i in range(len(source.slack)):
        target.slack[i], target.potential[i] = source.slack[i], source.potential[i]
    target.total[0] = source.total[0]


@kernel
def solve(graph: Graph, state: State, scratch: Scratch) -> tuple[int, int]:
    """Find an optimal flow and potentials for the bounds and liquidity in `state`. Returns (status, work)."""
    start, middle, neighbour, arc, cost = graph.start, graph.middle, graph.neighbour, graph.arc, graph.cost
    lower, upper, flow = state.lower, state.upper, state.flow
    slack, potential, total = state.slack, state.potential, state.total
    total[0] = 0
    for i in range(len(potential)):
        potential[i] = 0
        for e in range(start[i], middle[i]):
            k = arc[e]
            amount = upper[k] if cost[e] > 0 else lower[k]
            flow[k] = amount
            slack[i] -= amount
            slack[neighbour[e]] += amount
            total[0] += amount * cost[e]
    outcome: tuple[int, int] = _repair(graph, state, scratch, 0, _ANY)
    return outcome


@kernel
def resume(graph: Graph, state: State, scratch: Scratch, arcs: Vector, count: int) -> tuple[int, int]:
    """Make `state` optimal again after the bounds of the arcs `arcs[:count]` changed. Returns (status, work)."""
    _follow(graph, state, arcs, count)
    outcome: tuple[int, int] = _repair(graph, state, scratch, _FEW, _ANY)
    return outcome


@kernel
def resume_above(graph: Graph, state: State, scratch: Scratch, arcs: Vector, count: int, floor: int) -> tuple[int, int]:
    """Do as `resume`, but stop with the status BEATEN as soon as the value can't exceed `floor`."""
    _follow(graph, state, arcs, count)
    most = bound(state)
    if most <= floor:
        return BEATEN, count
    outcome: tuple[int, int] = _repair(graph, state, scratch, _FEW, most - floor)
    return outcome


@kernel
def _follow(graph: Graph, state: State, arcs: Vector, count: int) -> None:
    """Bring the flow of the changed arcs to where their bounds and the potentials want it."""
    tail, head, weight = graph.tail, graph.head, graph.weight
    lower, upper, flow = state.lower, state.upper, state.flow
    slack, potential, total = state.slack, state.potential, state.total
    for c in range(count):
        k = arcs[c]
        gain = weight[k] - potential[tail[k]] + potential[head[k]]
        amount = flow[k]
        if gain > 0 or amount > upper[k]:
            amount = upper[k]
        if gain < 0 or amount < lower[k]:
            amount = lower[k]
        more = amount - flow[k]
        flow[k] = amount
        slack[tail[k]] -= more
        slack[head[k]] += more
        total[0] += more * weight[k]


@kernel
def bound(state: State) -> int:
    """Return the value of the dual solution: no feasible flow is worth more. In an optimal state it is the value."""
    slack, potential, total = state.slack, state.potential, state.total
    most = total[0]
    for i in range(len(potential)):
        most += potential[i] * slack[i]
    return most


@kernel
def _repair(graph: Graph, state: State, scratch: Scratch, few: int, loss: int) -> tuple[int, int]:
    """Give every node that lacks liquidity what it lacks; then lower the potentials of nodes that have some over."""
    missing, work = _settle(graph, state, scratch, _LACKING, few, loss)
    if missing < 0:
        return BEATEN, work
    if missing > 0:
        return INFEASIBLE, work
    _, more = _settle(graph, state, scratch, _SPARE, few, _ANY)
    return OPTIMAL, work + more


@kernel
def _settle(graph: Graph, state: State, scratch: Scratch, sign: int, few: int, loss: int) -> tuple[int, int]:
    """Move liquidity until no node is out of balance: to nodes lacking it (sign 1), or from nodes with worthless spare.

    Spare liquidity at a node of positive potential goes to where it is worth most, or, all potentials around it
    lowered, stays where it is worth nothing. More sources than `few` are drained together. Returns how many nodes
    couldn't be settled, and the work; -1 nodes where the bound would lose as much as `loss`.
    """
    slack, potential = state.slack, state.potential
    order, level, distance, sources = scratch.order, scratch.level, scratch.distance, scratch.sources
    count = 0
    for i in range(len(potential)):
        if (slack[i] < 0) if sign > 0 else (slack[i] > 0 and potential[i] > 0):
            sources[count] = i
            count += 1
    work, again = 0, 0
    raised = sign
    while count > few and raised > 0:
        count, raised, looked = _drain(graph, state, scratch, count)
        work += looked
        loss = _less(state, scratch, count, raised, loss)
    while count > 0:
        if loss == 0:
            return -1, work
        reach, reached, looked = _search(graph, state, scratch, count, sign)
        work += looked
        remaining = 0
        if reach < 0:
            remaining = count
        else:
            loss = _less(state, scratch, count, reach, loss)
            for q in range(reached):
                potential[order[q]] += sign * (reach - distance[order[q]])
            for s in range(count):
                i = sources[s]
                work += _send(graph, state, scratch, i, sign)
                if (slack[i] < 0) if sign > 0 else (slack[i] > 0 and potential[i] > 0):
                    sources[remaining] = i
                    remaining += 1
        for q in range(reached):
            level[order[q]] = 0
        if reach < 0:
            return count, work
        count = remaining
        again = again + 1 if reach == 0 else 0
        if sign > 0 and count > 0 and again > _PATIENCE:
            count, raised, looked = _drain(graph, state, scratch, count)
            loss = _less(state, scratch, count, raised, loss)
            work += looked
            again = 0
    return 0, work


@kernel
def _less(state: State, scratch: Scratch, count: int, raised: int, loss: int) -> int:
    """Return what the bound may still lose after the sources' potentials were raised: what they lack, times that."""
    if loss == _ANY or raised == 0 or count == 0:
        return loss
    lack = 0
    for s in range(count):
        lack -= state.slack[scratch.sources[s]]
    return loss - raised * lack if raised <= (loss - 1) // lack else 0
