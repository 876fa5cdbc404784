"""Payments a second from one bank to others: ordered at A, posted at A and credited at the bank they go to.

Each bank is a process with a database of its own; nothing is left out: orders over
HTTP, signed batches bank to bank, screening, evidence, signed answers, both ledgers. The clock runs from the first
order until nothing waits at A any more and every payment has its number at its bank.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import psutil
import uvloop

from gateway.federation.storage.postgres import EmbeddedServer, dsn
from tests.benchmarks import load
from tests.benchmarks.bank import ACCOUNTS, BenchBank, family_cpu_seconds, open_accounts, order, running_banks
from tests.benchmarks.house import cpu_seconds
from tests.benchmarks.rows import Row

SENDER = "AAAADEFF"
RECEIVERS = tuple(f"B{letter}BBDEFF" for letter in "ABCDEFGHIJ")
IN_A_REQUEST, CLIENTS = 1_000, 4
AIM = 5_000.0
"""On two cores, for the banks and their databases."""
LOOK_SECONDS, SECONDS_MAX = 0.02, 300.0
WAITING = "SELECT count(*) FROM payment_open"
CREDITED = (
    "SELECT coalesce(sum(sequence), 0) FROM (SELECT max(sequence) AS sequence FROM lane_entry GROUP BY lane_id) l"
)


def run(*, payments: int = 40_000) -> list[Row]:
    """Return a row for one counterparty and one for ten."""
    rows = []
    for receivers in (RECEIVERS[:1], RECEIVERS):
        with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name, ExitStack() as stack:
            directories = {bic: Path(name) / bic for bic in (SENDER, *receivers)}
            servers = [EmbeddedServer(Path(name) / f"postgres{number}") for number in range(-(-len(directories) // 4))]
            for server in servers:
                server.start()
                stack.callback(server.stop)
            urls = [server.url("postgres") for server in servers]
            banks = stack.enter_context(running_banks(directories, urls))
            rows.append(uvloop.run(_measure(banks, receivers, payments)))
    return rows


async def _measure(banks: Sequence[BenchBank], receivers: Sequence[str], payments: int) -> Row:
    await asyncio.gather(*(open_accounts(bank) for bank in banks))
    connections = [await asyncpg.connect(dsn(bank.database_url)) for bank in banks]
    processes = [psutil.Process(bank.pid) for bank in banks]
    servers = {psutil.Process(connection.get_server_pid()).parent() for connection in connections} - {None}
    await _send(banks[0], receivers, 4 * IN_A_REQUEST, connections, already=0)
    before = [*map(cpu_seconds, processes), sum(map(family_cpu_seconds, servers))]
    started = time.perf_counter()
    await _send(banks[0], receivers, payments, connections, already=4 * IN_A_REQUEST)
    seconds = time.perf_counter() - started
    after = [*map(cpu_seconds, processes), sum(map(family_cpu_seconds, servers))]
    used = [now - then for now, then in zip(after, before, strict=True)]
    us = [round(part / payments * 1e6, 1) for part in (used[0], sum(used[1:-1]), used[-1])]
    memory = max(process.memory_info().rss for process in processes) / 2**20
    for connection in connections:
        await connection.close()
    return {
        "what": f"from A posted and credited, {len(receivers)} counterpart{'y' if len(receivers) == 1 else 'ies'}",
        "ours": payments / seconds,
        "peer": AIM,
        "peer_name": "the aim",
        "unit": "payments/s",
        "note": f"CPU of A {us[0]}, of the others {us[1]}, of PostgreSQL {us[2]} us a payment; "
        f"{memory:.0f} MiB the largest bank",
    }


async def _send(
    bank: BenchBank,
    receivers: Sequence[str],
    payments: int,
    connections: Sequence[asyncpg.Connection],
    *,
    already: int,
) -> None:
    """Order payments, and wait until all that were ever ordered are posted and credited."""
    requests = [load.request("/payments/batch", bank.token, _batch(receivers)) for _ in range(payments // IN_A_REQUEST)]
    result = await load.run("127.0.0.1", bank.port, requests, connections=CLIENTS)
    result.require_success("orders")
    for _ in range(round(SECONDS_MAX / LOOK_SECONDS)):
        if not await connections[0].fetchval(WAITING):
            break
        await asyncio.sleep(LOOK_SECONDS)
    credited = sum([await connection.fetchval(CREDITED) for connection in connections[1:]])
    if credited != already + payments:
        raise RuntimeError(f"{already + payments} payments were ordered, and {credited} are credited")


def _batch(receivers: Sequence[str]) -> bytes:
    orders = [
        order(random.choice(receivers), debtor=random.randrange(ACCOUNTS), creditor=f"C{random.randrange(ACCOUNTS)}")
        for _ in range(IN_A_REQUEST)
    ]
    return b'{"payments":[' + b",".join(orders) + b"]}"


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:50s} {row['ours']:8,.0f}  {row['note']}")
