"""Obligation clearing: the greatest circulation of debt, beside OR-Tools' min-cost flow on the same network.

Both begin with the arrays of debtor, creditor and amount of each pair (of the integers that each takes without
converting them), build their problem, solve it and end with an array of the optimal flow. Both optima are compared,
and ours is verified by its potentials. OR-Tools runs in a process of its own, which draws the same network, and gets
the problem in the way that it is quickest at: a circulation in which each unit costs -1. The two take turns; a row
is the median, the note says how the turns' ratios vary.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import numpy as np

from netting import flow
from tests.benchmarks.networks import Network, core_periphery
from tests.benchmarks.rows import Row

SIZES = ((1_000, 50_000, 9), (10_000, 1_000_000, 5), (100_000, 1_000_000, 2))
"""Banks, pairs with an obligation, turns."""

SEED = 1
SIGMA = 2.0


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better in milliseconds."""
    _ours(_network(10, 40))  # compiles
    return [row for banks, pairs, turns in SIZES for row in _race(banks, pairs, turns)]


def _network(banks: int, pairs: int) -> Network:
    return core_periphery(banks, pairs, seed=SEED, sigma=SIGMA, distinct=True)


def _race(banks: int, pairs: int, turns: int) -> list[Row]:
    network = _network(banks, pairs)
    ours, theirs, found = [], [], None
    command = [sys.executable, "-m", "tests.benchmarks.bench_clearing", str(banks), str(pairs)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        for _ in range(turns):
            peer.stdin.write("solve\n")
            peer.stdin.flush()
            took, optimum = json.loads(peer.stdout.readline())
            theirs.append(took)
            took, found = _ours(network)
            ours.append(took)
            assert found.value == optimum
        peer.stdin.close()
    assert found is not None
    started = time.perf_counter()
    flow.check(network.debtors, network.creditors, network.amounts, None, network.liquidity, found)
    checked = (time.perf_counter() - started) * 1e3
    ratios = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    what = f"clear {pairs:,} debts of {banks:,} banks"
    note = f"{statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f} in {turns} turns)"
    share = f"{found.value / network.gross:.1%} of the gross cleared"
    return [
        _row(
            what,
            statistics.median(ours),
            statistics.median(theirs),
            f"{note}; same optimum, {share}; both from arrays, built and solved",
        ),
        _row("  verify it by its potentials", checked, None, "in plain Python"),
    ]


def _ours(network: Network) -> tuple[float, flow.Flow]:
    started = time.perf_counter()
    found = flow.solve(network.debtors, network.creditors, network.amounts, None, network.liquidity, compiled=True)
    return (time.perf_counter() - started) * 1e3, found


def _peer(banks: int, pairs: int) -> None:
    """Solve by OR-Tools for each line read, and print the milliseconds and the optimum."""
    from ortools.graph.python import min_cost_flow

    network = _network(banks, pairs)
    tails, heads = network.debtors.astype(np.int32), network.creditors.astype(np.int32)
    for _ in sys.stdin:
        started = time.perf_counter()
        problem = min_cost_flow.SimpleMinCostFlow()
        arcs = problem.add_arcs_with_capacity_and_unit_cost(tails, heads, network.amounts, np.full(pairs, -1))
        problem.set_nodes_supplies(np.arange(banks, dtype=np.int32), np.zeros(banks, np.int64))
        assert problem.solve() == problem.OPTIMAL
        problem.flows(arcs)
        took = (time.perf_counter() - started) * 1e3
        print(json.dumps([took, -problem.optimal_cost()]), flush=True)


def _row(what: str, ours: float, peer: float | None, note: str) -> Row:
    name = "OR-Tools SimpleMinCostFlow" if peer else ""
    return {"what": what, "ours": ours, "peer": peer, "peer_name": name, "unit": "ms", "note": note}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _peer(int(sys.argv[1]), int(sys.argv[2]))
    else:
        for row in run():
            print(row)
