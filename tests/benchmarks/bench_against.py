"""Payments a second beside another checkout's: two banks on one PostgreSQL server, loaded in turn, round by round.

The other checkout (CONCORDAT_BENCH_AGAINST) is one where `make test` has installed everything. Rounds are short and
alternate, so a slow minute of the machine counts for both; the ratio is the median over the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import uvloop

from gateway.federation.storage.postgres import EmbeddedServer
from tests.benchmarks import load
from tests.benchmarks.bank import BenchBank, batches, open_accounts, single_payments
from tests.benchmarks.rows import Row, skipped

HERE = Path(__file__).parents[2]
ROUNDS = 12
# name -> (clients, payments in a request, whether they are of one account)
LOADS = {
    "single payments, 64 clients": (64, 1, False),
    "single payments, 256 clients": (256, 1, False),
    "single payments, 256 clients, one account": (256, 1, True),
    "batches of 100, 16 clients": (16, 100, False),
    "batches of 1,000, 4 clients": (4, 1_000, False),
}
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def run(*, payments: int = 4_000) -> list[Row]:
    """Return a row for each kind of load, of so many single payments (or three times so many in batches) a round."""
    other = os.environ.get("CONCORDAT_BENCH_AGAINST")
    if not other:
        return [skipped("payments", "CONCORDAT_BENCH_AGAINST names no other checkout")]
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name, ExitStack() as stack:
        server = EmbeddedServer(Path(name) / "postgres")
        server.start()
        stack.callback(server.stop)
        url = server.url("postgres")
        ours = stack.enter_context(_bank_of(HERE, sys.executable, Path(name) / "ours", url))
        python = str(Path(other) / ".venv" / "bin" / "python")
        theirs = stack.enter_context(_bank_of(Path(other), python, Path(name) / "theirs", url))
        return uvloop.run(_measure(ours, theirs, payments))


@contextmanager
def _bank_of(checkout: Path, python: str, directory: Path, server_url: str) -> Iterator[BenchBank]:
    """Run a checkout's bank. Raises RuntimeError if it has no bank to be measured, or that doesn't start."""
    process = subprocess.Popen(
        [python, "-m", "tests.benchmarks.bank", str(directory), server_url],
        cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bank of {checkout} didn't start")
        yield msgspec.json.decode(line, type=BenchBank)
    finally:
        process.stdin.close()
        process.wait(timeout=30)


async def _measure(ours: BenchBank, theirs: BenchBank, payments: int) -> list[Row]:
    for bank in (ours, theirs):
        await open_accounts(bank)
    rows = []
    for what, (clients, size, hot) in LOADS.items():
        rounds: dict[int, list[tuple[float, float]]] = {ours.pid: [], theirs.pid: []}
        for number in range(ROUNDS):
            for bank in (ours, theirs) if number % 2 else (theirs, ours):
                rounds[bank.pid].append(await _round(bank, what, clients, size, hot, payments))
        ratios = [mine[0] / other[0] for mine, other in zip(rounds[ours.pid], rounds[theirs.pid], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        cpu = [statistics.mean(cpu for _, cpu in rounds[bank.pid]) for bank in (ours, theirs)]
        rate = statistics.median(rate for rate, _ in rounds[ours.pid])
        rows.append(
            {
                "what": what,
                "ours": rate,
                "peer": rate / median,
                "peer_name": "the other checkout, by the median ratio",
                "unit": "payments/s",
                "note": f"ratio {low:.2f} to {high:.2f} (quartiles); CPU of the bank {cpu[0]:.1f} and {cpu[1]:.1f} us",
            }
        )
    return rows


async def _round(bank: BenchBank, what: str, clients: int, size: int, hot: bool, payments: int) -> tuple[float, float]:
    """Return payments a second, and the bank's CPU microseconds a payment."""
    if size == 1:
        requests = single_payments(bank, payments, hot=hot)
    else:
        requests = batches(bank, max(3 * payments // size, 2 * clients), size)
    before = _cpu_seconds(bank.pid)
    result = await load.run("127.0.0.1", bank.port, requests, connections=clients)
    cpu_seconds = _cpu_seconds(bank.pid) - before
    result.require_success(what)
    count = len(requests) * size
    return count / result.seconds, cpu_seconds / count * 1e6


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
