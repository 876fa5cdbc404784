"""Payments a second into a ledger of many postings beside an empty one, and how long its node takes to start.

CONCORDAT_BENCH_POSTINGS says how many postings (4 million if absent; 50 million take a quarter of an hour and 25 GB):
two years of payments, each reserved and refused, written by SQL so that `fsck` proves them. Both nodes run on one
server and take short rounds in turn, so a slow minute of the machine counts for both.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import uvloop

from gateway.federation.storage.postgres import EmbeddedServer, dsn
from participants.audit.fsck import fsck
from participants.ledger.partitions import partitions
from tests.benchmarks import load
from tests.benchmarks.bank import (
    ACCOUNTS,
    BANK,
    OTHERS,
    BenchBank,
    batches,
    open_accounts,
    running_bank,
    serving_bank,
    single_payments,
)
from tests.benchmarks.rows import Row

POSTINGS = 4_000_000
POSTINGS_A_PAYMENT = 4
CHUNK = 25 * ACCOUNTS
"""Payments that one statement writes: as many of each account."""
SPAN = timedelta(days=730)
ROUNDS = 8
# name -> (clients, payments in a request, payments a round)
LOADS = {"single payments, 256 clients": (256, 1, 8_000), "batches of 1,000, 4 clients": (4, 1_000, 24_000)}

# Payment k is of account k modulo ACCOUNTS, and of one counterparty with it; it is reserved by one event and refused by
# the next, so that every balance is back where it was.
EVENTS = f"""
INSERT INTO event (sequence, subject, version, type, schema_version, recorded_at, data)
SELECT $1 + 2 * k + v, id, v, CASE v WHEN 1 THEN 'payment.reserved' ELSE 'payment.refused' END, 3 - v,
    to_timestamp(at / 1000.0),
    CASE v WHEN 1 THEN format('{{"actor":"bench","amount_minor":"%s","creditor_account":"X%s","creditor_agent":"%s",'
        '"creditor_name":"Supplier Number %s","currency":"EUR","debtor_account":"C%s",'
        '"debtor_name":"Customer Number %s","id":"%s"}}', k % 99991 + 1, c,
        (ARRAY{list(OTHERS)})[c % {len(OTHERS)} + 1], c, c, c, id)
    ELSE format('{{"acknowledgement":"%s","reason":"account_unknown"}}', md5(id::text) || md5(k::text)) END::json
FROM (
    SELECT k, k % {ACCOUNTS} AS c, at, (lpad(to_hex(at), 12, '0') || '7' || substr(hash, 1, 3) || '8'
        || substr(hash, 4, 15))::uuid AS id
    FROM generate_series(0, $2::bigint - 1) k, LATERAL (
        SELECT ($3 + k * $4)::bigint AS at, md5(($1 + k)::text) AS hash
    ) h
) p CROSS JOIN generate_series(1, 2) v ORDER BY k, v
"""
KEYS = "INSERT INTO event_key SELECT subject, version, sequence FROM event WHERE sequence > $1 ORDER BY sequence"
POSTINGS_OF = f"""
WITH accounts AS MATERIALIZED (
    SELECT a.id, b.version, b.balance, substr(a.code, 2)::bigint AS residue, {ACCOUNTS} AS every, 1 AS sign
    FROM account a JOIN account_balance b ON b.account_id = a.id WHERE a.kind = 'customer'
    UNION ALL
    SELECT a.id, b.version, b.balance, o.number - 1, {len(OTHERS)}, -1
    FROM account a JOIN account_balance b ON b.account_id = a.id
    JOIN unnest(ARRAY{list(OTHERS)}) WITH ORDINALITY AS o (code, number) ON o.code = a.code WHERE a.kind = 'reserved'
), entries AS (
    SELECT k, a.*, a.sign * (k % 99991 + 1) AS sum FROM generate_series(0, $2::bigint - 1) k
    JOIN (SELECT * FROM accounts WHERE sign = 1) a ON a.residue = k % {ACCOUNTS}
    UNION ALL
    SELECT k, a.*, a.sign * (k % 99991 + 1) FROM generate_series(0, $2::bigint - 1) k
    JOIN (SELECT * FROM accounts WHERE sign = -1) a ON a.residue = k % {len(OTHERS)}
)
INSERT INTO posting (event_sequence, account_id, version, amount, previous_balance, balance)
SELECT $1 + 2 * k + 1, id, version + 2 * (k / every) + 1, sum, balance, balance + sum FROM entries
UNION ALL
SELECT $1 + 2 * k + 2, id, version + 2 * (k / every) + 2, -sum, balance + sum, balance FROM entries
ORDER BY 1
"""
BALANCES = """
UPDATE account_balance b
SET version = version + 2 * $1::bigint / CASE a.kind WHEN 'customer' THEN $2::bigint ELSE $3 END
FROM account a WHERE a.id = b.account_id AND a.kind IN ('customer', 'reserved')
"""


async def fill(url: str, postings: int) -> None:
    """Write about so many postings, with their events, into a ledger that has the benchmark's accounts."""
    connection = await asyncpg.connect(dsn(url))
    try:
        # The balance check is made by fsck afterwards; the tables' own constraints stand.
        await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        chunks = max(1, round(postings / POSTINGS_A_PAYMENT / CHUNK))
        begin = datetime.now(UTC) - SPAN - timedelta(days=1)
        step = SPAN / (chunks * CHUNK)
        for number in range(chunks):
            at = int((begin + step * CHUNK * number).timestamp() * 1000)
            async with connection.transaction():
                head = await connection.fetchval("SELECT sequence FROM ledger_head FOR UPDATE")
                await connection.execute(EVENTS, head, CHUNK, at, step.total_seconds() * 1000)
                await connection.execute(KEYS, head)
                await connection.execute(POSTINGS_OF, head, CHUNK)
                await connection.execute(BALANCES, CHUNK, ACCOUNTS, len(OTHERS))
                await connection.execute("UPDATE ledger_head SET sequence = sequence + 2 * $1::bigint", CHUNK)
                await connection.execute("SELECT extend_journal()")
        await connection.execute("UPDATE event_term_cursor SET through = (SELECT sequence FROM ledger_head)")
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def run(*, postings: int | None = None) -> list[Row]:
    """Return a row for each kind of load, and one for starting and one for proving the ledger."""
    wanted = postings or int(os.environ.get("CONCORDAT_BENCH_POSTINGS", POSTINGS))
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        server = EmbeddedServer(directory / "postgres")
        server.start()
        stack.callback(server.stop)
        urls = {which: server.url(f"bank_{which}") for which in ("large", "empty")}
        for which in urls:
            with running_bank(directory / which, server.url("postgres")) as bank:
                uvloop.run(_prepare(bank))
        started = time.perf_counter()
        asyncio.run(fill(urls["large"], wanted))
        filled = time.perf_counter() - started
        seconds = {which: _seconds_to_start(directory / which, url) for which, url in urls.items()}
        large, empty = (stack.enter_context(serving_bank(directory / which, url)) for which, url in urls.items())
        rows = uvloop.run(_measure(large, empty))
        note = asyncio.run(_note(urls["large"]))
        rows.append(_row("from start to ready", seconds["large"], seconds["empty"], "s", note))
        began = time.perf_counter()
        report = asyncio.run(fsck(urls["large"], BANK))
        if not report.ok:
            raise RuntimeError(f"the ledger isn't sound: {[c for c in report.checks if not c.ok]}")
        note = f"{report['event_numbers'].examined:,} events; writing them took {filled:,.0f} s"
        rows.append({**_row("fsck", time.perf_counter() - began, 0, "s", note), "peer": None, "peer_name": ""})
        return rows


async def _prepare(bank: BenchBank) -> None:
    """Open the accounts, and those of each counterparty by a payment to it."""
    await open_accounts(bank)
    result = await load.run("127.0.0.1", bank.port, single_payments(bank, 50), connections=1)
    result.require_success("first payments")


def _seconds_to_start(directory: Path, url: str) -> float:
    began = time.perf_counter()
    with serving_bank(directory, url):
        return time.perf_counter() - began


async def _measure(large: BenchBank, empty: BenchBank) -> list[Row]:
    requests: dict[int, Callable[[BenchBank, int], list[bytes]]] = {1: single_payments}
    rows = []
    for what, (clients, size, payments) in LOADS.items():
        rates: dict[int, list[float]] = {large.pid: [], empty.pid: []}
        for number in range(ROUNDS):
            for bank in (large, empty) if number % 2 else (empty, large):
                given = requests.get(size, lambda bank, count: batches(bank, count // 1_000, 1_000))(bank, payments)
                result = await load.run("127.0.0.1", bank.port, given, connections=clients)
                result.require_success(what)
                rates[bank.pid].append(payments / result.seconds)
        ratios = [mine / other for mine, other in zip(rates[large.pid], rates[empty.pid], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        ours = statistics.median(rates[large.pid])
        rows.append(_row(what, ours, ours / median, "payments/s", f"ratio {low:.2f} to {high:.2f} (quartiles)"))
    return rows


def _row(what: str, ours: float, peer: float, unit: str, note: str) -> Row:
    return {"what": what, "ours": ours, "peer": peer, "peer_name": "an empty ledger", "unit": unit, "note": note}


async def _note(url: str) -> str:
    connection = await asyncpg.connect(dsn(url))
    try:
        found = [p for p in await partitions(connection) if p.events]
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    return f"{sum(p.events for p in found):,} events in {len(found)} partitions, {size / 2**30:.1f} GiB"


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']:45s} {row['ours']:10,.1f}  {row['peer'] or 0:8,.1f}  {row['note']}", flush=True)
