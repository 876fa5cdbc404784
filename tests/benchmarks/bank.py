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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
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
NOBODY = "http://127.0.0.1:9"
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
    database_url: str = ""


@contextmanager
def running_bank(directory: Path, server_url: str) -> Iterator[BenchBank]:
    """Run a bank's node on a database of its own on a server, until the end of the block."""
    with running_banks({BANK: directory}, [server_url], others=OTHERS) as (bank,):
        yield bank


@contextmanager
def running_banks(
    directories: Mapping[str, Path], server_urls: Sequence[str], *, others: Sequence[str] = ()
) -> Iterator[list[BenchBank]]:
    """Run the nodes of banks by their BICs, in one scheme with `others` that don't exist, until the end of the block.

    Each bank has a database of its own; the servers take turns.
    """
    urls = {bic: f"http://127.0.0.1:{free_port()}" for bic in directories}
    for directory in directories.values():
        MemberIdentity.made("", directory / "keys")
        WebhookSecrets(directory / "keys").make_key()
    _found_scheme(directories, urls, others)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(_node(bic, urls[bic], directory, server_urls[number % len(server_urls)]))
            for number, (bic, directory) in enumerate(directories.items())
        ]
        for bank, directory in zip(nodes, directories.values(), strict=True):
            _wait_ready(bank, directory / "bank.log")
        yield nodes


@contextmanager
def serving_bank(directory: Path, database_url: str) -> Iterator[BenchBank]:
    """Run the node of a bank that is set up already, until the end of the block."""
    with _process(BANK, f"http://127.0.0.1:{free_port()}", directory, database_url) as bank:
        _wait_ready(bank, directory / "bank.log")
        yield bank


@contextmanager
def _node(bic: str, url: str, directory: Path, server_url: str) -> Iterator[BenchBank]:
    database_url = asyncio.run(create_database(server_url, f"bank_{directory.name}".lower()))
    asyncio.run(migrate(database_url, "participants.ledger"))
    with _process(bic, url, directory, database_url) as bank:
        yield bank


@contextmanager
def _process(bic: str, url: str, directory: Path, database_url: str) -> Iterator[BenchBank]:
    port = int(url.rpartition(":")[2])
    environment = {
        **os.environ,
        "CONCORDAT_BIC": bic,
        "CONCORDAT_URL": url,
        "CONCORDAT_PORT": str(port),
        "CONCORDAT_DATA_DIR": str(directory),
        "CONCORDAT_DATABASE_URL": database_url,
        "CONCORDAT_ANCHOR": str(directory / "anchor.json"),
        "CONCORDAT_COORDINATOR_URL": NOBODY,
        "CONCORDAT_LOG_LEVEL": "error",
        "CONCORDAT_WEBHOOK_HOSTS": "127.0.0.1",
        "CONCORDAT_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    key = SigningKey.load(directory / "keys" / "token.pem")
    orders, *openers, hearer = (
        issue_access_token(
            key=key, issuer=url, subject=subject, audience=bic, client_id=subject, role=role
        )
        for subject, role in PEOPLE
    )  # fmt: skip
    with (directory / "bank.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "participant", "serve"], env=environment, stdout=log, stderr=log
        )
        try:
            yield BenchBank(port, orders, process.pid, tuple(openers), hearer, database_url)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _found_scheme(directories: Mapping[str, Path], urls: Mapping[str, str], others: Sequence[str]) -> None:
    """Write the anchor and the trust list of a scheme whose coordinator nobody will ever reach."""
    coordinator = SigningKey.generate()
    members = [_member("CNCDXXC0", "coordinator", {"sign": coordinator}), _member("RTGSXXA0", "agent")]
    for bic, directory in directories.items():
        held = {use: SigningKey.load(directory / "keys" / f"{use}.pem") for use in ("sign", "auth", "token")}
        members.append(_member(bic, "participant", held, url=urls[bic]))
    members += [_member(bic, "participant") for bic in others]
    trust_list = TrustList(version=1, issuer=NOBODY, members=tuple(members))
    anchor = Anchor.of("CNCDXXC0", coordinator.verifying_key)
    envelope = dsse.sign(trust_list, coordinator)
    for directory in directories.values():
        anchor.write(directory / "anchor.json")
        store = TrustStore(anchor, path=directory / "trust-list.json")
        store.update(envelope)
        store.confirm(confirmation(envelope, coordinator))


def _member(bic: str, kind: Any, held: Mapping[str, SigningKey] | None = None, *, url: str = "") -> Member:
    keys = {use: SigningKey.generate() for use in ("sign", "auth", "token")} | dict(held or {})
    uses: Any = keys.items()
    listed = tuple(TrustKey(kid=key.kid, alg="Ed25519", x=key.x, use=use, status="active") for use, key in uses)
    return Member(bic=bic, name=bic, kind=kind, status="active", url=url or NOBODY, keys=listed)


def _wait_ready(bank: BenchBank, log: Path) -> None:
    for _ in range(600):
        if not psutil.pid_exists(bank.pid) or psutil.Process(bank.pid).status() == psutil.STATUS_ZOMBIE:
            raise RuntimeError(f"the bank didn't start:\n{log.read_text()[-2000:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{bank.port}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the bank isn't ready:\n{log.read_text()[-2000:]}")


def family_cpu_seconds(server: psutil.Process) -> float:
    """Return what a database server, with all its processes, has used of the processors."""
    times = server.cpu_times()
    seconds = times.user + times.system + times.children_user + times.children_system
    for process in server.children():
        with suppress(psutil.NoSuchProcess):
            seconds += sum(process.cpu_times()[:2])
    return float(seconds)


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
    return order(random.choice(OTHERS), debtor=account, creditor=f"X{account}")


def order(bank: str, *, debtor: int, creditor: str) -> bytes:
    """Return an order of a customer's account, by its number, to an account of a bank."""
    return msgspec.json.encode(
        {
            "id": uuid7(),
            "creditor_agent": bank,
            "amount_minor": str(random.randint(1, 100_000)),
            "currency": "EUR",
            "debtor_account": f"C{debtor}",
            "debtor_name": f"Customer Number {debtor}",
            "creditor_account": creditor,
            "creditor_name": f"Supplier Number {creditor[1:]}",
        }
    )


def main(directory: str, server_url: str) -> None:
    """Run a bank until standard input ends."""
    with running_bank(Path(directory), server_url) as bank:
        print(msgspec.json.encode(bank).decode(), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
