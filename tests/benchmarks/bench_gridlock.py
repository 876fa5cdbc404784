"""Liquidity saving: what settles within a second, beside HiGHS with 30 or 60 seconds, on the same queues.

A row's number is the value that settles, as a share of the bound that our certificate proves; HiGHS's value is a
share of the same bound. HiGHS runs in a process of its own, and its answer counts only as far as it keeps the limits
in whole numbers. Queues are drawn by `tests.benchmarks.networks` (core and periphery, lognormal values). The
transfers of the AMLSim data are resolved too where `CONCORDAT_DATA` has them; CONCORDAT_BENCH_SEEDS asks for more seeds
than the first, and CONCORDAT_BENCH_HIGHS_S gives HiGHS another time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from netting.gridlock import WORK, Resolution, resolve
from netting.queue import Limits, Payment
from tests.benchmarks.networks import AMLSIM, Network, amlsim, core_periphery
from tests.benchmarks.rows import Row, skipped

CASES = (
    # banks, payments, sigma, liquidity, seconds for HiGHS
    (200, 20_000, 1.0, 0.02, 60),
    (200, 20_000, 1.5, 0.02, 60),
    (200, 20_000, 2.0, 0.02, 60),
    (200, 20_000, 2.0, 0.10, 60),
    (200, 20_000, 3.0, 0.02, 60),
    (50, 2_000, 1.0, 0.02, 30),
    (50, 2_000, 2.0, 0.02, 30),
    (50, 2_000, 2.0, 0.10, 30),
)
AMLSIM_CASES = ((50, None, None, 0.02, 60), (500, None, None, 0.02, 60))
"""The transfers of the AMLSim data, dealt out to so many banks."""
SEEDS = int(os.environ.get("CONCORDAT_BENCH_SEEDS", "1"))
HIGHS_S = os.environ.get("CONCORDAT_BENCH_HIGHS_S")

CYCLE = (63, 6_000, 2.0, 0.02)
"""The size of a published cycle of a large-value system: banks, queued payments."""
CYCLES = 50


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; shares of the certified bound, in %."""
    resolve(*_queue(_network((20, 200, 1.0, 0.02), 1)), work=1)  # loads what is compiled
    rows = [_race(case, seed) for case in CASES for seed in range(1, SEEDS + 1)]
    return [*rows, *_amlsim(), _cycle()]


def _amlsim() -> list[Row]:
    if not AMLSIM.is_file():
        return [skipped("AMLSim", f"there is no {AMLSIM}: set CONCORDAT_DATA")]
    return [_race(case, 0) for case in AMLSIM_CASES]


def _network(case: tuple[Any, ...], seed: int) -> Network:
    """Return the network of a case: without a number of payments that of the AMLSim data."""
    banks, payments, sigma, liquidity = case[:4]
    if payments is None:
        return amlsim(banks, liquidity=liquidity)
    return core_periphery(banks, payments, seed=seed, sigma=sigma, liquidity=liquidity)


def _queue(network: Network) -> tuple[list[Payment], Limits]:
    ends = zip(network.debtors.tolist(), network.creditors.tolist(), network.amounts.tolist(), strict=True)
    payments = [Payment(f"T{at}", f"B{a}", f"B{b}", amount) for at, (a, b, amount) in enumerate(ends)]
    return payments, Limits(balances={(f"B{at}", ""): int(has) for at, has in enumerate(network.liquidity)})


def _timed(network: Network, work: int = WORK) -> tuple[Resolution, float]:
    payments, limits = _queue(network)
    started = time.perf_counter()
    found = resolve(payments, limits, work=work)
    return found, time.perf_counter() - started


def _race(case: tuple[Any, ...], seed: int) -> Row:
    banks, payments, sigma, liquidity, seconds = case
    network = _network(case, seed)
    found, took = _timed(network)
    given = int(HIGHS_S or seconds)
    asked = json.dumps([case, seed, given])
    peer = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_gridlock", asked], capture_output=True, text=True, check=True
    )
    value, bound = json.loads(peer.stdout.splitlines()[-1])
    return {
        "what": f"{banks} banks, {payments:,} payments, sigma {sigma:g}, liquidity {liquidity:.0%}, seed {seed}"
        if payments
        else f"AMLSim over {banks} banks, {len(network.amounts):,} payments, liquidity {liquidity:.0%}",
        "ours": f"{found.value / found.upper_bound:.3%}",
        "peer": None,
        "peer_name": f"HiGHS {given} s: {value / found.upper_bound:.3%} (its bound {bound / found.upper_bound:.3%})",
        "unit": "%",
        "note": f"{took:.2f} s in all, work {found.work / 1e6:.0f} M; "
        + ("at least HiGHS's value" if found.value >= value else "less than HiGHS"),
    }


def _cycle() -> Row:
    times, shares = [], []
    for seed in range(1, CYCLES + 1):
        found, took = _timed(_network(CYCLE, seed), work=WORK // 10)
        times.append(took)
        shares.append(found.value / found.upper_bound)
    times.sort()
    return {
        "what": f"{CYCLE[0]} banks, {CYCLE[1]:,} queued payments, {CYCLES} queues, a tenth of the work",
        "ours": f"p50 {times[CYCLES // 2]:.2f} s, p99 {times[-1]:.2f} s",
        "peer": None,
        "peer_name": "",
        "unit": "s",
        "note": f"of the certified bound: worst {min(shares):.2%}, median {sorted(shares)[CYCLES // 2]:.2%}",
    }


def _highs(case: list[Any], seed: int, seconds: int) -> None:
    import highspy

    network = _network(tuple(case), seed)
    count = len(network.amounts)
    problem = highspy.HighsLp()
    problem.num_col_, problem.num_row_ = count, network.banks
    problem.col_cost_ = -network.amounts.astype(float)
    problem.col_lower_, problem.col_upper_ = np.zeros(count), np.ones(count)
    problem.row_lower_ = -network.liquidity.astype(float)
    problem.row_upper_ = np.full(network.banks, highspy.kHighsInf)
    index, values = np.empty(2 * count, np.int32), np.empty(2 * count)
    index[0::2], index[1::2] = network.debtors, network.creditors
    values[0::2], values[1::2] = -network.amounts, network.amounts
    matrix = problem.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kColwise
    matrix.start_, matrix.index_, matrix.value_ = np.arange(0, 2 * count + 1, 2, dtype=np.int32), index, values
    problem.integrality_ = [highspy.HighsVarType.kInteger] * count
    solver = highspy.Highs()
    for option, value in (("output_flag", False), ("time_limit", float(seconds)), ("mip_rel_gap", 1e-9)):
        solver.setOptionValue(option, value)
    solver.passModel(problem)
    solver.run()
    chosen = np.round(np.array(solver.getSolution().col_value)).astype(np.int64)
    room = network.liquidity.copy()
    np.subtract.at(room, network.debtors, chosen * network.amounts)
    np.add.at(room, network.creditors, chosen * network.amounts)
    value = int((chosen * network.amounts).sum()) if (room >= 0).all() else 0
    print(json.dumps([value, -solver.getInfo().mip_dual_bound]))


if __name__ == "__main__":
    _highs(*json.loads(sys.argv[1]))
