"""Payments a second, durable in a bank's ledger through its HTTP API, beside pgbench on the same server.

fsync and synchronous_commit are on, tokens are checked, every payment is an event with two postings, a balance
check and an entry in the sending queue. One server process, one bank process, this client: on two cores.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess

import asyncpg
import psutil
import uvloop

from gateway.federation.storage.postgres import EmbeddedServer, create_database, dsn
from tests.benchmarks import load
from tests.benchmarks.bank import (
    BenchBank,
    batches,
    family_cpu_seconds,
    open_accounts,
    running_bank,
    single_payments,
)
from tests.benchmarks.house import cpu_seconds
from tests.benchmarks.rows import Row
from tests.benchmarks.server import own_server


def run(*, singles: int = 40_000, batched: int = 120_000) -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; higher is better."""
    with own_server() as (server, directory):
        pgbench = _pgbench(server)
        with running_bank(directory / "bank", server.url("postgres")) as bank:
            return uvloop.run(_measure(bank, pgbench, singles, batched))


def _pgbench(server: EmbeddedServer) -> tuple[float, float]:
    """Return what pgbench's simple update does on this server with 16 clients: transactions a second, and the CPU
    microseconds of one, its client's included.
    """
    url = asyncio.run(create_database(server.url("postgres"), "pgbench"))
    program, address = str(server.program("pgbench")), dsn(url)
    subprocess.run([program, "-i", "-q", "-s", "20", address], check=True, capture_output=True)
    processes = asyncio.run(_server_of(url))
    before = _children_cpu_seconds() + family_cpu_seconds(processes)
    answer = subprocess.run(
        [program, "-N", "-n", "-c", "16", "-j", "2", "-T", "8", "-M", "prepared", address],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    used = _children_cpu_seconds() + family_cpu_seconds(processes) - before
    lines = answer.stdout.splitlines()
    rate = next(float(line.split()[2]) for line in lines if line.startswith("tps"))
    count = next(int(line.split()[-1].partition("/")[0]) for line in lines if "actually processed" in line)
    return rate, used / count * 1e6


def _children_cpu_seconds() -> float:
    """Return what the processes used that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _server_of(database_url: str) -> psutil.Process:
    """Return the process of the server that a database is on."""
    connection = await asyncpg.connect(dsn(database_url))
    server = psutil.Process(connection.get_server_pid()).parent()
    await connection.close()
    assert server is not None
    return server


async def _measure(bank: BenchBank, pgbench: tuple[float, float], singles: int, batched: int) -> list[Row]:
    await open_accounts(bank)
    loads = [
        ("single payments, 64 clients", 64, single_payments(bank, singles), 1),
        ("single payments, 256 clients", 256, single_payments(bank, singles), 1),
        ("single payments, 256 clients, one account", 256, single_payments(bank, singles, hot=True), 1),
    ]
    for size, clients in ((100, 16), (1_000, 4), (8_192, 2)):
        count = max(batched // size, clients * 4)
        loads.append((f"batches of {size:,}, {clients} clients", clients, batches(bank, count, size), size))
    server = await _server_of(bank.database_url)
    process = psutil.Process(bank.pid)
    rows = []
    for what, clients, requests, size in loads:
        before = cpu_seconds(process), family_cpu_seconds(server)
        result = await load.run("127.0.0.1", bank.port, requests, connections=clients)
        result.require_success(what)
        count = len(requests) * size
        after = cpu_seconds(process), family_cpu_seconds(server)
        ours, database = [(now - then) / count * 1e6 for now, then in zip(after, before, strict=True)]
        note = (
            f"p50 {result.percentile(0.5):.1f} ms, p99 {result.percentile(0.99):.1f} ms; CPU of the bank {ours:.1f}, "
            f"of PostgreSQL {database:.1f} us a payment; {process.memory_info().rss / 2**20:.0f} MiB"
        )
        rows.append(
            {
                "what": what,
                "ours": count / result.seconds,
                "peer": pgbench[0],
                "peer_name": f"pgbench -N, 16 clients, {pgbench[1]:.0f} us of CPU",
                "unit": "payments/s",
                "note": note,
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:45s} {row['ours']:10,.0f}  {row['peer']:8,.0f}  {row['note']}")
