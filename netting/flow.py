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
from typing import TYPE_CHECKING, Any

from netting.kernels.compile import COUNT_MAX, SUM_MAX, load, vector

if TYPE_CHECKING:
    import numpy as np

    Ints = Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]

INTERPRETED_MAX = 2_000
"""Up to so many arcs, interpreting the kernel is quicker than loading the compiled one."""


class FlowError(ValueError):
    """A problem that isn't one, or a flow that isn't what it is said to be; the text says where."""


@dataclass(frozen=True, slots=True)
class Flow:
    """An optimal flow: an amount per arc, a potential per node, and the value, which equals the bound.

    Both are tuples; int64 arrays where the compiled kernel was given the capacities as an array, so that a large
    network needn't become a million Python integers that nobody reads one by one.
    """

    flow: Ints
    potential: Ints
    value: int
    bound: int
    work: int


def solve(
    tails: Ints,
    heads: Ints,
    capacities: Ints,
    weights: Ints | None,
    liquidity: Ints,
    *,
    compiled: bool | None = None,
) -> Flow:
    """Return a flow of the greatest value. Nodes are numbered from 0; there are as many as liquidities.

    Integers of any size, in sequences or int64 arrays, which stay as they are; without `weights` a unit is worth 1 on
    every arc. `compiled` is chosen by size unless given; either way the answer is the same. It depends on the order of
    arcs and nodes (its value doesn't): give them in canonical order. Raises FlowError for a node out of range, or a
    negative capacity, weight or liquidity.
    """
    most = _measure(tails, heads, capacities, weights, liquidity)
    arcs, nodes = len(tails), len(liquidity)
    compilable = most < SUM_MAX and max(arcs, nodes) < COUNT_MAX
    if compiled and not compilable:
        raise FlowError("sums or numbers are too large for the compiled kernel")
    if compiled is None:
        compiled = compilable and arcs > INTERPRETED_MAX
    kernel = load("netting.kernels.flow", compiled=compiled)
    if weights is None:
        weights = _ones(arcs, compiled=compiled)
    graph = kernel.index(nodes, *(_readable(values, compiled=compiled) for values in (tails, heads, weights)))
    lower, flow, potential, total = (kernel.ints(count) for count in (arcs, arcs, nodes, 1))
    upper, slack = _readable(capacities, compiled=compiled), vector(liquidity, compiled=compiled)
    state = kernel.State(lower, upper, flow, slack, potential, total)
    _, work = kernel.solve(graph, state, kernel.room(nodes))
    value = int(total[0])
    if compiled and _is_array(capacities):
        return Flow(flow, potential, value, value, int(work))
    return Flow(tuple(_ints(flow)), tuple(_ints(potential)), value, value, int(work))


def check(
    tails: Ints,
    heads: Ints,
    capacities: Ints,
    weights: Ints | None,
    liquidity: Ints,
    solution: Flow,
) -> None:
    """Verify that `found` is a flow, worth what it says, and proven the best by its potentials. Raises FlowError."""
    _measure(tails, heads, capacities, weights, liquidity)
    if weights is None:
        weights = (1,) * len(tails)
    if len(solution.flow) != len(tails) or len(solution.potential) != len(liquidity):
        raise FlowError("the flow has another number of arcs or nodes than the problem")
    amounts, potentials = list(_ints(solution.flow)), list(_ints(solution.potential))
    for i, potential in enumerate(potentials):
        if potential < 0:
            raise FlowError(f"node {i}: negative potential")
    slack = list(_ints(liquidity))
    bound = sum(potential * have for potential, have in zip(potentials, slack, strict=True))
    value = 0
    arcs = zip(*map(_ints, (tails, heads, capacities, weights)), amounts, strict=True)
    for k, (tail, head, capacity, weight, amount) in enumerate(arcs):
        if not 0 <= amount <= capacity:
            raise FlowError(f"arc {k}: flow {amount} isn't between 0 and {capacity}")
        slack[tail] -= amount
        slack[head] += amount
        value += amount * weight
        bound += capacity * max(0, weight - potentials[tail] + potentials[head])
    for i, balance in enumerate(slack):
        if balance < 0:
            raise FlowError(f"node {i}: sends {-balance} more than it has and receives")
    if solution.value != value:
        raise FlowError(f"the value is {value}, not {solution.value}")
    if solution.bound != bound:
        raise FlowError(f"the potentials prove the bound {bound}, not {solution.bound}")
    if value != bound:
        raise FlowError(f"a flow of value {value} isn't proven the best by the bound {bound}")


def _measure(
    tails: Ints,
    heads: Ints,
    capacities: Ints,
    weights: Ints | None,
    liquidity: Ints,
) -> int:
    """Refuse what isn't a problem; return more than any number that the kernel meets."""
    arcs, nodes = len(tails), len(liquidity)
    for name, values in (("head", heads), ("capacity", capacities), ("weight", weights)):
        if values is not None and len(values) != arcs:
            raise FlowError(f"{len(values)} of {name} for {arcs} arcs")
    for name, ends in (("tail", tails), ("head", heads)):
        _refuse(name, ends, nodes)
    for name, values in (("capacity", capacities), ("weight", weights), ("liquidity", liquidity)):
        if values is not None:
            _refuse(name, values, None)
    return max(1, 1 if weights is None else _extremes(weights)[1]) * (nodes + 2 + _sum(capacities) + _sum(liquidity))


def _refuse(name: str, values: Ints, below: int | None) -> None:
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
    if _is_array(values):
        return int(values.min()), int(values.max())
    return min(values), max(values)


def _sum(values: Any) -> int:
    """Return the sum of integers of 0 or more, which an array by itself would wrap around."""
    if _is_array(values) and _extremes(values)[1] * len(values) < SUM_MAX:
        return int(values.sum())
    return sum(_ints(values))


def _ones(count: int, *, compiled: bool) -> Any:
    if not compiled:
        return [1] * count
    import numpy as np

    return np.ones(count, np.int64)


def _readable(values: Any, *, compiled: bool) -> Any:
    """Return the values as the kernel wants them, which only reads them: an array as it is, if it can be.

    One that can't be written to is copied all the same, since the kernel would be compiled once more for it.
    """
    if not compiled or not _is_array(values):
        return vector(values, compiled=compiled)
    import numpy as np

    return np.require(values, np.int64, ["C", "W"])


def _is_array(values: Any) -> bool:
    return hasattr(values, "tolist")


def _ints(values: Any) -> Iterator[int]:
    """Give Python's integers, from an array as well."""
    return iter(values.tolist() if _is_array(values) else values)
