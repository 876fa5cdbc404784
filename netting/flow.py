"""A flow of the greatest value between nodes that each have some liquidity, with the proof that there is no better one.

Maximise the sum of `weight[k] * flow[k]` over integers `0 <= flow[k] <= capacity[k]`, where no node sends more than it
has and receives: what goes out less what comes in is at most `liquidity[i]`. With obligations as arcs, the weight 1
and no liquidity, it is the greatest amount of mutual debt that can be discharged without money; with payments as
arcs and balances as liquidity, it is what could be settled at most if payments could be split.

The proof is a potential for each node: what one more unit of liquidity would be worth there. For any potentials of 0
or more, no flow is worth more than

    sum over nodes of potential[i] * liquidity[i]
    + sum over arcs of capacity[k] * max(0, weight[k] - potential[tail[k]] + potential[head[k]])

(the dual of the linear programme), and an optimal flow is worth just that. `check` adds it up in one pass over the
arcs and needs nothing of how the flow was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from netting.compile import SUM_MAX, load, vector

INTERPRETED_MAX = 2_000
"""Up to so many arcs, interpreting the kernel is quicker than loading the compiled one."""


class FlowError(ValueError):
    """A problem that isn't one, or a flow that isn't what it is said to be; the text says where."""


@dataclass(frozen=True, slots=True)
class Flow:
    """An optimal flow: an amount per arc, a potential per node, and the value, which equals the bound."""

    flow: tuple[int, ...]
    potential: tuple[int, ...]
    value: int
    bound: int
    work: int


def solve(
    tails: Sequence[int],
    heads: Sequence[int],
    capacities: Sequence[int],
    weights: Sequence[int] | None,
    liquidity: Sequence[int],
    *,
    compiled: bool | None = None,
) -> Flow:
    """Return a flow of the greatest value. Nodes are numbered from 0; there are as many as liquidities.

    Integers of any size; without `weights` a unit is worth 1 on every arc. `compiled` is chosen by size unless given;
    either way the answer is the same. It depends on the order of arcs and nodes (its value doesn't): give them
    in canonical order. Raises FlowError for a node out of range, or a negative capacity, weight or liquidity.
    """
    if weights is None:
        weights = (1,) * len(tails)
    most = _measure(tails, heads, capacities, weights, liquidity)
    if compiled is None:
        compiled = len(tails) > INTERPRETED_MAX and most < SUM_MAX
    elif compiled and most >= SUM_MAX:
        raise FlowError("sums are too large for the compiled kernel")
    kernel = load("netting.flow_kernel", compiled=compiled)
    nodes = len(liquidity)
    ends = [vector(values, compiled=compiled) for values in (tails, heads, weights)]
    graph = kernel.index(nodes, *ends)
    lower, flow, potential, total = (kernel.ints(count) for count in (len(tails), len(tails), nodes, 1))
    upper, slack = vector(capacities, compiled=compiled), vector(liquidity, compiled=compiled)
    state = kernel.State(lower, upper, flow, slack, potential, total)
    _, work = kernel.solve(graph, state, kernel.room(nodes))
    value = int(total[0])
    return Flow(tuple(_ints(flow)), tuple(_ints(potential)), value, value, int(work))


def check(
    tails: Sequence[int],
    heads: Sequence[int],
    capacities: Sequence[int],
    weights: Sequence[int] | None,
    liquidity: Sequence[int],
    found: Flow,
) -> None:
    """Verify that `found` is a flow, worth what it says, and proven the best by its potentials. Raises FlowError."""
    if weights is None:
        weights = (1,) * len(tails)
    _measure(tails, heads, capacities, weights, liquidity)
    if len(found.flow) != len(tails) or len(found.potential) != len(liquidity):
        raise FlowError("the flow has another number of arcs or nodes than the problem")
    for i, potential in enumerate(found.potential):
        if potential < 0:
            raise FlowError(f"node {i}: negative potential")
    slack = [int(amount) for amount in liquidity]
    bound = sum(potential * have for potential, have in zip(found.potential, slack, strict=True))
    value = 0
    arcs = zip(*map(_ints, (tails, heads, capacities, weights)), found.flow, strict=True)
    for k, (tail, head, capacity, weight, amount) in enumerate(arcs):
        if not 0 <= amount <= capacity:
            raise FlowError(f"arc {k}: flow {amount} isn't between 0 and {capacity}")
        slack[tail] -= amount
        slack[head] += amount
        value += amount * weight
        bound += capacity * max(0, weight - found.potential[tail] + found.potential[head])
    for i, left in enumerate(slack):
        if left < 0:
            raise FlowError(f"node {i}: sends {-left} more than it has and receives")
    if found.value != value:
        raise FlowError(f"the value is {value}, not {found.value}")
    if found.bound != bound:
        raise FlowError(f"the potentials prove the bound {bound}, not {found.bound}")
    if value != bound:
        raise FlowError(f"a flow of value {value} isn't proven the best by the bound {bound}")


def _measure(
    tails: Sequence[int],
    heads: Sequence[int],
    capacities: Sequence[int],
    weights: Sequence[int],
    liquidity: Sequence[int],
) -> int:
    """Refuse what isn't a problem; return more than any number that the kernel meets."""
    arcs, nodes = len(tails), len(liquidity)
    for name, values in (("head", heads), ("capacity", capacities), ("weight", weights)):
        if len(values) != arcs:
            raise FlowError(f"{len(values)} of {name} for {arcs} arcs")
    for name, ends in (("tail", tails), ("head", heads)):
        _refuse(name, ends, nodes)
    for name, values in (("capacity", capacities), ("weight", weights), ("liquidity", liquidity)):
        _refuse(name, values, None)
    return max(1, _extremes(weights)[1]) * (nodes + 2 + _sum(capacities) + _sum(liquidity))


def _refuse(name: str, values: Sequence[int], below: int | None) -> None:
    least, greatest = _extremes(values)
    if least >= 0 and (below is None or greatest < below or len(values) == 0):
        return
    for place, value in enumerate(_ints(values)):
        if value < 0:
            raise FlowError(f"{name} {place} is negative: {value}")
        if below is not None and value >= below:
            raise FlowError(f"{name} {place} isn't a node: {value}")


def _extremes(values: Any) -> tuple[int, int]:
    """Return the least and the greatest, quickly for an array; zeros where there is nothing."""
    if len(values) == 0:
        return 0, 0
    if hasattr(values, "tolist"):
        return int(values.min()), int(values.max())
    return min(values), max(values)


def _sum(values: Any) -> int:
    """Return the sum of integers of 0 or more, which an array by itself would wrap around."""
    if hasattr(values, "tolist") and _extremes(values)[1] * len(values) < SUM_MAX:
        return int(values.sum())
    return sum(_ints(values))


def _ints(values: Any) -> Iterator[int]:
    """Give Python's integers, from an array as well."""
    return iter(values.tolist() if hasattr(values, "tolist") else values)
