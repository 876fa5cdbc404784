"""Payments a second, durable in a bank's ledger through its HTTP API, beside pgbench on the same server.

fsync and synchronous_commit are on, tokens are checked, every payment is an event with two postings, a balance
check and an entry in the sending queue. One server process, one bank process, this client: on two cores.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from pathlib import Path

import uvloop

from gateway.federation.storage.postgres import EmbeddedServer, create_database
from tests.benchmarks import load
from tests.benchmarks.bank import BenchBank, batches, open_accounts, running_bank, single_payments
from tests.benchmarks.rows import Row


def run(*, singles: int = 40_000, batched: int = 120_000) -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; higher is better."""
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name:
        directory = Path(name)
        server = EmbeddedServer(directory / "postgres")
        server.start()
        try:
            pgbench = _pgbench(server)
            with running_bank(directory / "bank", server.url("postgres")) as bank:
                return uvloop.run(_measure(bank, pgbench, singles, batched))
        finally:
            server.stop()


def _pgbench(server: EmbeddedServer) -> float:
    """Return the transactions a second of pgbench's simple update on this server, 16 clients."""
    url = asyncio.run(create_database(server.url("postgres"), "pgbench"))
    program = str(server.program("pgbench"))
    dsn = url.replace("+asyncpg", "")
    subprocess.run([program, "-i", "-q", "-s", "20", dsn], check=True, capture_output=True)
    answer = subprocess.run(
        [program, "-N", "-n", "-c", "16", "-j", "2", "-T", "8", "-M", "prepared", dsn],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return next(float(line.split()[2]) for line in answer.stdout.splitlines() if line.startswith("tps"))


async def _measure(bank: BenchBank, pgbench: float, singles: int, batched: int) -> list[Row]:
    await open_accounts(bank)
    rows = []
    for name, connections, hot in (
        ("64 clients", 64, False),
        ("256 clients", 256, False),
        ("256 clients, one account", 256, True),
    ):
        requests = single_payments(bank, singles, hot=hot)
        result = await load.run("127.0.0.1", bank.port, requests, connections=connections)
        rows.append(_row(f"single payments, {name}", singles, result, pgbench))
    for size, connections in ((100, 16), (1_000, 4), (8_192, 2)):
        count = max(batched // size, connections * 2)
        requests = batches(bank, count, size)
        result = await load.run("127.0.0.1", bank.port, requests, connections=connections)
        rows.append(_row(f"batches of {size:,}, {connections} clients", count * size, result, pgbench))
    return rows


def _row(what: str, payments: int, result: load.Load, pgbench: float) -> Row:
    result.require_success(what)
    return {
        "what": what,
        "ours": payments / result.seconds,
        "peer": pgbench,
        "peer_name": "pgbench -N, 16 clients",
        "unit": "payments/s",
        "note": f"p50 {result.percentile(0.5):.1f} ms, p99 {result.percentile(0.99):.1f} ms",
    }


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:45s} {row['ours']:10,.0f}  {row['peer']:8,.0f}  {row['note']}")
