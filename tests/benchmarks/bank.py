"""A bank's node to be measured: its own process, its own database, no coordinator but a trust list that it keeps.

Run as a program (`python -m tests.benchmarks.bank DIRECTORY POSTGRESQL_URL`) it prints a JSON line that says how to
call it, and ends with its standard input; so one checkout can measure another.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.http.client import MemberIdentity
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.membership.trust import TrustStore
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database
from participants.roles import Role
from participants.webhooks.signing import WebhookSecrets
from tests.benchmarks import load
from tests.support import confirmation, free_port, uuid7

BANK, OTHERS = "BENCDEFF", ("AAAADEFF", "CCCCDEFF", "DDDDDEFF", "EEEEDEFF")
ACCOUNTS = 10_000
PEOPLE = (("bench", Role.ORDERS), ("dora", Role.ACCOUNTS), ("egon", Role.ACCOUNTS), ("core", Role.EVENTS))


class BenchBank(Struct, frozen=True):
    """How to call a bank's node, and its process."""

    port: int
    token: str
    pid: int
    openers: tuple[str, ...] = ()
    """The tokens of those who open accounts; of a bank before there were roles, `token` does that too."""
    hearer: str = ""
    """The token of the bank's core, which hears of its events."""


@contextmanager
def running_bank(directory: Path, server_url: str) -> Iterator[BenchBank]:
    """Run a bank's node on a database of its own on a server, until the end of the block."""
    database_url = asyncio.run(create_database(server_url, f"bank_{directory.name}"))
    asyncio.run(migrate(database_url, "participants.ledger"))
    _found_scheme(directory)
    MemberIdentity.made(BANK, directory / "keys")
    WebhookSecrets(directory / "keys").make_key()
    with serving_bank(directory, database_url) as bank:
        yield bank


@contextmanager
def serving_bank(directory: Path, database_url: str) -> Iterator[BenchBank]:
    """Run the node of a bank that is set up already, until the end of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
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
        "CONCORDAT_WEBHOOK_HOSTS": "127.0.0.1",
        "CONCORDAT_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    with (directory / "bank.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "participant", "serve"], env=environment, stdout=log, stderr=log
        )
        try:
            _wait_ready(url, process, directory / "bank.log")
            key = SigningKey.load(directory / "keys" / "token.pem")
            orders, *openers, hearer = (_token(key, url, *person) for person in PEOPLE)
            yield BenchBank(port, orders, process.pid, tuple(openers), hearer)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _token(key: SigningKey, issuer: str, subject: str, role: Role) -> str:
    return issue_access_token(key=key, issuer=issuer, subject=subject, audience=BANK, client_id=subject, role=role)


def _found_scheme(directory: Path) -> None:
    """Write the anchor and the trust list of a scheme whose coordinator nobody will ever reach."""
    coordinator = SigningKey.generate()
    members = [_member("CNCDXXC0", "coordinator", coordinator), _member("RTGSXXA0", "agent")]
    members += [_member(bic, "participant") for bic in (BANK, *OTHERS)]
    directory.mkdir(parents=True)
    trust_list = TrustList(version=1, issuer="http://127.0.0.1:9", members=tuple(members))
    anchor = Anchor.of("CNCDXXC0", coordinator.verifying_key)
    anchor.write(directory / "anchor.json")
    envelope = dsse.sign(trust_list, coordinator)
    store = TrustStore(anchor, path=directory / "trust-list.json")
    store.update(envelope)
    store.confirm(confirmation(envelope, coordinator))


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


async def open_accounts(bank: BenchBank) -> None:
    """Open the customers' accounts that payments are taken from."""
    opening = [
        {"code": f"C{number}", "currency": "EUR", "name": "Customer", "opening_balance_minor": "100000000000000"}
        for number in range(ACCOUNTS)
    ]
    for at in range(0, ACCOUNTS, 5_000):
        body = msgspec.json.encode({"accounts": opening[at : at + 5_000]})
        for token in bank.openers or (bank.token,):
            result = await load.run("127.0.0.1", bank.port, [load.request("/accounts", token, body)], connections=1)
            result.require_success("opening accounts")


def single_payments(bank: BenchBank, count: int, *, hot: bool = False) -> list[bytes]:
    """Return requests of one payment each, of any account or (`hot`) of one and the same."""
    return [load.request("/payments", bank.token, _order(hot=hot)) for _ in range(count)]


def batches(bank: BenchBank, count: int, size: int) -> list[bytes]:
    """Return requests of `size` payments each."""
    return [
        load.request("/payments/batch", bank.token, b'{"payments":[' + b",".join(_order() for _ in range(size)) + b"]}")
        for _ in range(count)
    ]


def _order(*, hot: bool = False) -> bytes:
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


def main(directory: str, server_url: str) -> None:
    """Run a bank until standard input ends."""
    with running_bank(Path(directory), server_url) as bank:
        print(msgspec.json.encode(bank).decode(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
