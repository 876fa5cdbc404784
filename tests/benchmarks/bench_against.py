"""Cut-off and payments a second beside another checkout's, in turn: two clearing houses, then two banks.

The other checkout (CONCORDAT_BENCH_AGAINST) is one where `make test` has installed everything. All run on one
PostgreSQL server. Rounds are short and alternate, so a slow minute of the machine counts for both; the ratio is the
median over the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import msgspec
import psutil
import uvloop

from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks import load
from tests.benchmarks.bank import BenchBank, batches, open_accounts, single_payments
from tests.benchmarks.house import Timing
from tests.benchmarks.meters import cpu_seconds
from tests.benchmarks.rows import Row, skipped
from tests.benchmarks.server import own_server

HERE = Path(__file__).parents[2]
ROUNDS = 12
WARMING_ROUNDS = 2
HOUSES = (6, 50)
# name -> (clients, payments in a request, whether they are of one account)
LOADS = {
    "single payments, 64 clients": (64, 1, False),
    "single payments, 256 clients": (256, 1, False),
    "single payments, 256 clients, one account": (256, 1, True),
    "batches of 100, 16 clients": (16, 100, False),
    "batches of 1,000, 4 clients": (4, 1_000, False),
}

Pipes = tuple[IO[bytes], IO[bytes]]
"""A program's standard input, and its output."""


def run(*, payments: int = 4_000) -> list[Row]:
    """Return a row for each number of banks that clear, and for each kind of load.

    Of so many single payments a round, or three times so many in batches.
    """
    other = os.environ.get("CONCORDAT_BENCH_AGAINST")
    if not other:
        return [skipped("cut-off and payments", "CONCORDAT_BENCH_AGAINST names no other checkout")]
    checkouts = (HERE, Path(other))
    rows: list[Row] = []
    with own_server() as (server, root):
        for count in HOUSES:
            with _both("house", checkouts, root, server, str(count)) as houses:
                rows.append(_cut_off(count, houses))
        with _both("bank", checkouts, root, server) as pipes:
            ours, theirs = (msgspec.json.decode(_line(out), type=BenchBank) for _, out in pipes)
            rows += uvloop.run(_measure(ours, theirs, payments))
    return rows


@contextmanager
def _both(
    program: str, checkouts: Sequence[Path], directory: Path, server: EmbeddedServer, *arguments: str
) -> Iterator[list[Pipes]]:
    """Run a program of `tests.benchmarks` of each checkout until the block ends."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                _program(
                    [program, *arguments, str(directory / f"{program}_{''.join(arguments)}_{number}")],
                    checkout,
                    server.url("postgres"),
                )
            )
            for number, checkout in enumerate(checkouts)
        ]


@contextmanager
def _program(arguments: list[str], checkout: Path, server_url: str) -> Iterator[Pipes]:
    python = sys.executable if checkout == HERE else str(checkout / ".venv" / "bin" / "python")
    process = subprocess.Popen(
        [python, "-m", f"tests.benchmarks.{arguments[0]}", *arguments[1:], server_url],
        cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def _line(output: IO[bytes]) -> bytes:
    """Return a program's next line. Raises RuntimeError if there is none."""
    if not (line := output.readline()):
        raise RuntimeError("the program of a checkout ended before it was measured")
    return line


# --- cut-off --------------------------------------------------------------------------------------------


def _cut_off(count: int, houses: Sequence[Pipes]) -> Row:
    timings: tuple[list[Timing], list[Timing]] = ([], [])
    for _, output in houses:
        _line(output)  # ready
    for number in range(WARMING_ROUNDS + ROUNDS):
        for which in (0, 1) if number % 2 else (1, 0):
            given, output = houses[which]
            given.write(b"\n")
            given.flush()
            timings[which].append(msgspec.json.decode(_line(output), type=Timing))
    ours, theirs = (timing[WARMING_ROUNDS:] for timing in timings)
    cpu = [statistics.median(t.coordinator_cpu for t in of) for of in (ours, theirs)]
    return _row(
        f"cut-off to signed instructions, {count} banks",
        [t.instructed for t in ours],
        [t.instructed for t in theirs],
        "ms",
        f"CPU of the coordinator {cpu[0]:.0f} and {cpu[1]:.0f} ms",
    )


def _row(what: str, ours: Sequence[float], theirs: Sequence[float], unit: str, note: str) -> Row:
    low, median, high = statistics.quantiles([mine / other for mine, other in zip(ours, theirs, strict=True)], n=4)
    return {
        "what": what,
        "ours": statistics.median(ours),
        "peer": statistics.median(ours) / median,
        "peer_name": "the other checkout, by the median ratio",
        "unit": unit,
        "note": f"ratio {low:.2f} to {high:.2f} (quartiles); {note}",
    }


# --- payments -------------------------------------------------------------------------------------------


async def _measure(ours: BenchBank, theirs: BenchBank, payments: int) -> list[Row]:
    for bank in (ours, theirs):
        await open_accounts(bank)
    rows = []
    for what, (clients, size, hot) in LOADS.items():
        rounds: dict[int, list[tuple[float, float]]] = {ours.pid: [], theirs.pid: []}
        for number in range(ROUNDS):
            for bank in (ours, theirs) if number % 2 else (theirs, ours):
                rounds[bank.pid].append(await _round(bank, what, clients, size, hot, payments))
        cpu = [statistics.mean(cpu for _, cpu in rounds[bank.pid]) for bank in (ours, theirs)]
        rates = [[rate for rate, _ in rounds[bank.pid]] for bank in (ours, theirs)]
        rows.append(_row(what, *rates, "payments/s", f"CPU of the bank {cpu[0]:.1f} and {cpu[1]:.1f} us"))
    return rows


async def _round(bank: BenchBank, what: str, clients: int, size: int, hot: bool, payments: int) -> tuple[float, float]:
    """Return payments a second, and the bank's CPU microseconds a payment."""
    if size == 1:
        requests = single_payments(bank, payments, hot=hot)
    else:
        requests = batches(bank, max(3 * payments // size, 2 * clients), size)
    process = psutil.Process(bank.pid)
    before = cpu_seconds(process)
    result = await load.run("127.0.0.1", bank.port, requests, connections=clients)
    used = cpu_seconds(process) - before
    result.require_success(what)
    count = len(requests) * size
    return count / result.seconds, used / count * 1e6
