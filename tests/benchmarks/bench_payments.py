"""Payments a second, durable in a bank's ledger through its HTTP API, beside pgbench on the same server.

fsync and synchronous_commit are on, tokens are checked, every payment is an event with two postings, a balance
check and an entry in the sending queue. One server process, one bank process, this client: on two cores.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvloop

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import EmbeddedServer, create_database
from tests.benchmarks import load
from tests.benchmarks.rows import Row
from tests.support import free_port, uuid7

BANK, OTHERS = "BENCDEFF", ("AAAADEFF", "CCCCDEFF", "DDDDDEFF", "EEEEDEFF")
ACCOUNTS = 10_000


def run(*, singles: int = 40_000, batched: int = 120_000) -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; higher is better."""
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as name:
        directory = Path(name)
        server = EmbeddedServer(directory / "postgres")
        server.start()
        try:
            url = asyncio.run(create_database(server.url("postgres"), "bank"))
            asyncio.run(migrate(url, "participants.ledger"))
            pgbench = _pgbench(server)
            with _bank(directory / "bank", url) as (port, key, bank_url):
                return uvloop.run(_measure(port, key, bank_url, pgbench, singles, batched))
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


@contextmanager
def _bank(directory: Path, database_url: str) -> Iterator[tuple[int, SigningKey, str]]:
    """Run a bank's node as its own process; there is no coordinator, so it lives on a kept trust list."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    coordinator = SigningKey.generate()
    members = [_member("CNCDXXC0", "coordinator", coordinator), _member("RTGSXXA0", "agent")]
    members += [_member(bic, "participant") for bic in (BANK, *OTHERS)]
    directory.mkdir(parents=True)
    trust_list = TrustList(version=1, issuer="http://127.0.0.1:9", members=tuple(members))
    (directory / "trust-list.json").write_bytes(msgspec.json.encode(dsse.sign(trust_list, coordinator)))
    Anchor.of("CNCDXXC0", coordinator.verifying_key).write(directory / "anchor.json")
    environment = {
        **os.environ,
        "CONCORDAT_BIC": BANK,
        "CONCORDAT_URL": url,
        "CONCORDAT_PORT": str(port),
        "CONCORDAT_DATA_DIR": str(directory),
        "CONCORDAT_DATABASE_URL": database_url,
        "CONCORDAT_ANCHOR": str(directory / "anchor.json"),
        "CONCORDAT_COORDINATOR_URL": "http://127.0.0.1:9",
        "CONCORDAT_LOG_LEVEL": "error",
    }
    with (directory / "bank.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "participant", "serve"], env=environment, stdout=log, stderr=log
        )
        try:
            _wait_ready(url, process, directory / "bank.log")
            yield port, SigningKey.load(directory / "keys" / "token.pem"), url
        finally:
            process.terminate()
            process.wait(timeout=20)


def _member(bic: str, kind: Any, sign: SigningKey | None = None) -> Member:
    held = {"sign": sign or SigningKey.generate(), "auth": SigningKey.generate(), "token": SigningKey.generate()}
    uses: Any = held.items()
    keys = tuple(TrustKey(kid=key.kid, alg="Ed25519", x=key.x, use=use, status="active") for use, key in uses)
    return Member(bic=bic, name=bic, kind=kind, status="active", url="http://127.0.0.1:9", keys=keys)


def _wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise RuntimeError(f"the bank didn't start:\n{log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the bank isn't ready:\n{log.read_text()[-2000:]}")


async def _measure(port: int, key: SigningKey, url: str, pgbench: float, singles: int, batched: int) -> list[Row]:
    token = issue_access_token(key=key, issuer=url, subject="bench", audience=BANK, client_id="bench", role="staff")
    opening = [
        {"code": f"C{number}", "currency": "EUR", "name": "Customer", "opening_balance_minor": "100000000000000"}
        for number in range(ACCOUNTS)
    ]
    for at in range(0, ACCOUNTS, 5_000):
        body = msgspec.json.encode({"accounts": opening[at : at + 5_000]})
        await load.run("127.0.0.1", port, [load.request("/accounts", token, body)], connections=1)
    rows = []
    for name, connections, hot in (
        ("64 clients", 64, False),
        ("256 clients", 256, False),
        ("256 clients, one account", 256, True),
    ):
        requests = [load.request("/payments", token, _order(hot)) for _ in range(singles)]
        result = await load.run("127.0.0.1", port, requests, connections=connections)
        rows.append(_row(f"single payments, {name}", singles, result, pgbench))
    for size, connections in ((100, 16), (1_000, 4), (8_192, 2)):
        count = max(batched // size, connections * 2)
        requests = [
            load.request("/payments/batch", token, b'{"payments":[' + b",".join(_order() for _ in range(size)) + b"]}")
            for _ in range(count)
        ]
        result = await load.run("127.0.0.1", port, requests, connections=connections)
        rows.append(_row(f"batches of {size:,}, {connections} clients", count * size, result, pgbench))
    return rows


def _order(hot: bool = False) -> bytes:
    account = 0 if hot else random.randrange(ACCOUNTS)
    return msgspec.json.encode(
        {
            "id": uuid7(),
            "creditor_agent": random.choice(OTHERS),
            "amount_minor": str(random.randint(1, 100_000)),
            "currency": "EUR",
            "debtor_account": f"C{account}",
            "debtor_name": f"Customer Number {account}",
            "creditor_account": f"X{account}",
            "creditor_name": f"Supplier Number {account}",
        }
    )


def _row(what: str, payments: int, result: load.Load, pgbench: float) -> Row:
    wrong = {status: count for status, count in result.statuses.items() if status >= 300}
    if wrong:
        raise RuntimeError(f"{what}: answers {wrong}")
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
