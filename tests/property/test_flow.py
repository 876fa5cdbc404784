"""What must hold of every flow: it is one, its potentials prove it the best, and every way to run it gives the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netting.flow import Flow, FlowError, check, solve
from netting.kernels.compile import load, vector

ARGUMENTS = ("tails", "heads", "capacities", "weights", "liquidity")


@dataclass(frozen=True)
class Problem:
    """The arguments of `solve`."""

    tails: list[int]
    heads: list[int]
    capacities: list[int]
    weights: list[int]
    liquidity: list[int]

    def solve(self, *, compiled: bool | None = None) -> Flow:
        solution = solve(self.tails, self.heads, self.capacities, self.weights, self.liquidity, compiled=compiled)
        check(self.tails, self.heads, self.capacities, self.weights, self.liquidity, solution)
        return solution


@st.composite
def problems(
    draw: st.DrawFn, *, arcs_max: int = 30, capacity_max: int = 30, weights: st.SearchStrategy[int] | None = None
) -> Problem:
    nodes = draw(st.integers(2, 8))
    worth = weights or draw(st.sampled_from([st.just(1), st.integers(0, 1), st.integers(0, 60)]))
    ends = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)).filter(lambda pair: pair[0] != pair[1])
    arcs = draw(st.lists(st.tuples(ends, st.integers(0, capacity_max), worth), max_size=arcs_max))
    liquidity = draw(st.lists(st.one_of(st.just(0), st.integers(0, capacity_max)), min_size=nodes, max_size=nodes))
    return Problem(
        [tail for (tail, _), _, _ in arcs],
        [head for (_, head), _, _ in arcs],
        [capacity for _, capacity, _ in arcs],
        [weight for _, _, weight in arcs],
        liquidity,
    )


@settings(max_examples=300)
@given(problems())
def test_the_value_is_the_bound_that_the_potentials_prove(problem: Problem) -> None:
    problem.solve(compiled=False)  # `check` adds up value and bound by itself


@given(problems(arcs_max=5, capacity_max=3))
def test_no_flow_of_all_is_better(problem: Problem) -> None:
    best = 0
    for flow in itertools.product(*(range(capacity + 1) for capacity in problem.capacities)):
        slack = list(problem.liquidity)
        for tail, head, amount in zip(problem.tails, problem.heads, flow, strict=True):
            slack[tail] -= amount
            slack[head] += amount
        if min(slack) >= 0:
            best = max(best, sum(w * amount for w, amount in zip(problem.weights, flow, strict=True)))
    assert problem.solve().value == best


@settings(deadline=None)  # the first example compiles
@given(problems())
def test_compiled_and_interpreted_take_the_same_steps(problem: Problem) -> None:
    assert problem.solve(compiled=True) == problem.solve(compiled=False)


@settings(deadline=None)
@given(problems(capacity_max=2**50))
def test_compiled_is_exact_where_a_float_would_round(problem: Problem) -> None:
    assert problem.solve(compiled=True) == problem.solve(compiled=False)


@settings(deadline=None)
@given(problems())
def test_arrays_are_answered_in_arrays_and_left_as_they_are(problem: Problem) -> None:
    given_arrays = [vector(getattr(problem, name), compiled=True) for name in ARGUMENTS]
    for values in given_arrays:
        values.flags.writeable = False
    solution = solve(*given_arrays, compiled=True)
    check(*given_arrays, solution)
    expected = problem.solve(compiled=False)
    assert (tuple(solution.flow), tuple(solution.potential)) == (expected.flow, expected.potential)
    assert (solution.value, solution.work) == (expected.value, expected.work)


@given(problems(capacity_max=10**38), st.integers(1, 10**30))
def test_integers_of_any_size_scale(problem: Problem, scale: int) -> None:
    scaled = replace(
        problem,
        capacities=[capacity * scale for capacity in problem.capacities],
        liquidity=[have * scale for have in problem.liquidity],
    )
    assert scaled.solve().value == problem.solve().value * scale


@given(problems(), st.randoms(use_true_random=False))
def test_in_canonical_order_every_order_gives_the_same(problem: Problem, random: Any) -> None:
    def canonical(arcs: list[tuple[int, ...]]) -> Problem:
        return Problem(*([arc[field] for arc in sorted(arcs)] for field in range(4)), problem.liquidity)

    arcs = list(zip(problem.tails, problem.heads, problem.capacities, problem.weights, strict=True))
    shuffled = list(arcs)
    random.shuffle(shuffled)
    assert repr(canonical(shuffled).solve()) == repr(canonical(arcs).solve())
    assert canonical(arcs).solve().value == problem.solve().value


changes = st.lists(
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["none", "all", "any", "some"])), max_size=4),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(problems(), changes, st.booleans())
def test_resuming_ends_where_starting_again_does(
    problem: Problem, rounds: list[list[tuple[int, str]]], compiled: bool
) -> None:
    kernel = load("netting.kernels.flow", compiled=compiled)
    arcs, nodes = len(problem.tails), len(problem.liquidity)

    def make(values: list[int]) -> Any:
        return vector(values, compiled=compiled)

    graph = kernel.index(nodes, make(problem.tails), make(problem.heads), make(problem.weights))
    scratch = kernel.room(nodes)

    def begin(lower: list[int], upper: list[int]) -> Any:
        zeros = [0] * arcs
        return kernel.State(*map(make, (lower, upper, zeros, problem.liquidity, [0] * nodes, [0])))

    state = begin([0] * arcs, problem.capacities)
    assert kernel.solve(graph, state, scratch)[0] == kernel.OPTIMAL
    for changes in rounds if arcs else []:
        for number, bounds in changes:
            k = number % arcs
            most = problem.capacities[k]
            state.lower[k] = most if bounds == "all" else most // 2 if bounds == "some" else 0
            state.upper[k] = 0 if bounds == "none" else most
        ends = make([number % arcs for number, _ in changes])
        status, work = kernel.resume(graph, state, scratch, ends, len(ends))
        again = begin(list(state.lower), list(state.upper))
        assert status == kernel.solve(graph, again, scratch)[0]
        assert work >= 0
        assert not any(scratch.level)
        if status == kernel.OPTIMAL:
            assert state.total[0] == again.total[0] == kernel.bound(state) == kernel.bound(again)
            assert state.total[0] == sum(w * amount for w, amount in zip(problem.weights, state.flow, strict=True))
            slack = list(problem.liquidity)
            for k in range(arcs):
                assert state.lower[k] <= state.flow[k] <= state.upper[k]
                slack[problem.tails[k]] -= state.flow[k]
                slack[problem.heads[k]] += state.flow[k]
            assert min(slack) >= 0
            assert list(state.slack) == slack
            assert min(state.potential) >= 0


@settings(max_examples=300, deadline=None)
@given(
    problems(), st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), min_size=1, max_size=3), st.integers(0, 900)
)
def test_a_repair_is_given_up_only_where_it_cannot_exceed_the_floor(
    problem: Problem, changes: list[tuple[int, bool]], floor: int
) -> None:
    kernel = load("netting.kernels.flow", compiled=False)
    arcs, nodes = len(problem.tails), len(problem.liquidity)
    graph, scratch = kernel.index(nodes, problem.tails, problem.heads, problem.weights), kernel.room(nodes)
    states = [
        kernel.State([0] * arcs, [*problem.capacities], [0] * arcs, [*problem.liquidity], [0] * nodes, [0])
        for _ in range(2)
    ]
    ends = [number % arcs for number, _ in changes] if arcs else []
    for state in states:
        kernel.solve(graph, state, scratch)
        for k, (_, settles) in zip(ends, changes, strict=False):
            state.lower[k] = state.upper[k] = problem.capacities[k] if settles else 0
    status, _ = kernel.resume(graph, states[0], scratch, ends, len(ends))
    above, _ = kernel.resume_above(graph, states[1], scratch, ends, len(ends), floor)
    assert not any(scratch.level)
    if above != kernel.BEATEN:
        assert (above, states[1]) == (status, states[0])
    else:
        assert status == kernel.INFEASIBLE or states[0].total[0] <= floor


def test_the_triangle_clears_its_smallest_debt() -> None:
    solution = solve([0, 1, 2], [1, 2, 0], [5, 7, 9], None, [0, 0, 0])
    assert solution.flow == (5, 5, 5)
    assert solution.value == solution.bound == 15


PROBLEM = Problem([0, 1, 2], [1, 2, 0], [5, 7, 9], [1, 1, 1], [0, 0, 0])
REFUSED = [
    (replace(PROBLEM, tails=[0, 1, 3]), "tail 2 isn't a node: 3"),
    (replace(PROBLEM, heads=[-1, 2, 0]), "head 0 is negative: -1"),
    (replace(PROBLEM, capacities=[5, -7, 9]), "capacity 1 is negative: -7"),
    (replace(PROBLEM, weights=[1, 1, -1]), "weight 2 is negative: -1"),
    (replace(PROBLEM, liquidity=[0, 0, -2]), "liquidity 2 is negative: -2"),
    (replace(PROBLEM, heads=[1, 2]), "2 of head for 3 arcs"),
]


@pytest.mark.parametrize(("problem", "message"), REFUSED)
def test_what_is_not_a_problem_is_refused_with_its_place(problem: Problem, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        problem.solve()


FORGED = [
    ({"flow": (6, 6, 6)}, "arc 0: flow 6 isn't between 0 and 5"),
    ({"flow": (5, 6, 6)}, "node 1: sends 1 more than it has and receives"),
    ({"value": 16}, "the value is 15, not 16"),
    ({"bound": 14}, "the potentials prove the bound 15, not 14"),
    ({"potential": (0, -1, 0)}, "node 1: negative potential"),
    ({"potential": (0, 0, 0), "bound": 21}, "value 15 isn't proven the best by the bound 21"),
    ({"flow": (4, 4, 4), "value": 12}, "value 12 isn't proven the best by the bound 15"),
    ({"flow": (5, 5)}, "another number of arcs"),
]


@pytest.mark.parametrize(("change", "message"), FORGED)
def test_what_is_not_an_optimal_flow_is_found_out(change: dict[str, Any], message: str) -> None:
    solution = replace(PROBLEM.solve(), **change)
    with pytest.raises(FlowError, match=message):
        check(PROBLEM.tails, PROBLEM.heads, PROBLEM.capacities, PROBLEM.weights, PROBLEM.liquidity, solution)
