"""A bank that comes back on an old backup of its database is noticed, numbers nothing more, and costs nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from bank_ledgers import connect
from hostile_peers import head
from litestar.types import ASGIApp, Scope
from rewritten_answers import RewrittenAnswers
from running_banks import WAIT_S, RunningBank, Town, order, running_bank, running_town
from running_coordinator import ALPHA, BRAVO, COORDINATOR, Bank
from support import free_port

from compliance.crypto import dsse
from gateway.federation.http.client import MemberIdentity, RemoteError
from gateway.federation.messages.attestation import HandedIn
from gateway.federation.messages.cycles import Cycle, OpenCycle
from gateway.federation.messages.payments import ACKNOWLEDGEMENT_TYPE, Acknowledgement, PaymentOutcome
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database, dsn
from participants.continuity import reads
from participants.continuity.findings import Finding, Loss
from participants.ledger.account_events import AccountOpening
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.session import LedgerRestored
from participants.ledger.writer import Ledger

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = count(1)


class Misquoter(RewrittenAnswers):
    """Shows what a bank handed in as it is, and says another cycle, or none, beside it."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.misquotes = False
        self.cycle: str | None = None
        self.attestations = 0
        """How many it has shown since it misquotes."""
        misquoters.append(self)

    @contextmanager
    def misquoting(self, cycle: str | None) -> Iterator[None]:
        self.misquotes, self.cycle, self.attestations = True, cycle, 0
        yield
        self.misquotes = False

    def rewrite(self, scope: Scope, start: Any, body: bytes) -> bytes:
        if not self.misquotes or scope["path"] != "/submissions/latest" or start["status"] != 200:
            return body
        document = json.loads(body)
        self.attestations += len(document["attestations"])
        return json.dumps({**document, "cycle": self.cycle}).encode()


misquoters: list[Misquoter] = []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with running_town(postgres_url, tmp_path_factory.mktemp("town"), wrap=Misquoter) as running:
        yield running


@dataclass
class Member:
    """A bank of the town that may be stopped and started, on this database or on that."""

    town: Town
    settings: NodeSettings
    name: str
    """Of its database."""
    database: str
    server_url: str
    copies: list[str]

    @property
    def bic(self) -> str:
        return self.settings.bic

    @asynccontextmanager
    async def running(self, database: str | None = None) -> AsyncIterator[RunningBank]:
        async with running_bank(self.settings, database or self.database, self.town.alpha.http) as bank:
            await until(lambda: self.bic in self.town.alpha.node.agents)
            yield bank

    async def backup(self) -> str:
        """Return a copy of the database, of which nobody is reading now."""
        self.copies.append(f"{self.name}_copy_{len(self.copies)}")
        return await create_database(self.server_url, self.copies[-1], template=self.name)


@pytest_asyncio.fixture(loop_scope="module")
async def member(town: Town, postgres_url: str, tmp_path: Path) -> AsyncIterator[Member]:
    """A bank of its own for each test, beside ALPHA and BRAVO, with an account."""
    number = next(_numbers)
    bic = f"BKP{chr(65 + number % 26)}DEF{number % 10}"
    name = f"backed_up_{town.coordinator.settings.port}_{number}"
    database = await create_database(postgres_url, name)
    await migrate(database, "participants.ledger")
    port = free_port()
    settings = NodeSettings(
        bic=bic,
        url=f"http://127.0.0.1:{port}",
        port=port,
        data_dir=tmp_path / bic,
        anchor=town.alpha.settings.anchor,
        coordinator_url=town.coordinator.url,
    )
    bank = Bank(MemberIdentity.made(bic, settings.keys_dir), settings.url)
    await town.coordinator.registry.admit(
        bank.application(), kind="participant", caps_minor={}, by="test", reason="set up"
    )
    joined = Member(town, settings, name, database, postgres_url, [])
    async with joined.running() as running:
        await running.open("m-1")
    yield joined
    await town.coordinator.registry.step(bic, "suspend", by="test", reason="over")
    for made in (name, *joined.copies):
        await drop_database(postgres_url, made)


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            answer = true()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.05)


async def pay(payer: RunningBank, to: str, *, creditor: str, debtor: str) -> str:
    one = order(1, creditor_agent=to, creditor_account=creditor, debtor_account=debtor)
    assert (await payer.send("POST", "/payments", one)).status_code == 201
    return str(one["id"])


async def pay_in(town: Town, bank: RunningBank) -> str:
    payment = await pay(town.alpha, bank.bic, creditor="m-1", debtor="a-1")
    await town.alpha.until(payment, "posted")
    return payment


async def pay_out(town: Town, bank: RunningBank) -> str:
    payment = await pay(bank, ALPHA, creditor="a-1", debtor="m-1")
    await bank.until(payment, "posted")
    return payment


async def cut_off(town: Town, bank: RunningBank) -> None:
    """Open a cycle, cut it off, and wait until the bank has handed in its cut."""
    async with await town.coordinator.operator(f"alice-{next(_numbers)}") as alice:
        url = f"{town.coordinator.url}/cycles"
        cycle = await alice.post(url, Cycle, audience=COORDINATOR, json=OpenCycle())
        await alice.post(f"{url}/{cycle.id}/cut-off", Cycle, audience=COORDINATOR, json={})

        async def delivered() -> bool:
            attestations = await bank.get(f"/cycles/{cycle.id}/attestations")
            return len(attestations) > 0

        await until(delivered)


async def journal(database: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn(database))
    try:
        return [tuple(row) for row in await connection.fetch("SELECT sequence, subject, type FROM event ORDER BY 1")]
    finally:
        await connection.close()


async def is_stopped(town: Town, bank: RunningBank, loss: str, source: str) -> None:
    """Check that a bank has noticed, by whom, and that it takes, sends and numbers nothing."""
    await until(lambda: bank.node.continuity.finding)
    ready = await bank.send("GET", "/health/ready", token=None)
    assert (ready.status_code, ready.json()["code"]) == (503, "ledger_restored")
    assert f"{loss}: " in ready.json()["detail"]
    assert f"shown by {source}" in ready.json()["detail"]
    assert "restore the newest backup" in ready.json()["detail"]
    assert f'concordat_ledger_restored{{bank="{bank.bic}"}} 1.0' in (await bank.send("GET", "/metrics")).text
    for path, body in (("/payments", order(1, debtor_account="m-1")), ("/payments/batch", {"payments": [order(1)]})):
        for plain in (False, True):
            refused = await bank.send("POST", path, body, plain=plain)
            assert (refused.status_code, refused.json()["code"]) == (503, "ledger_restored")
    before = await journal(bank.node.database_url)
    waiting = await pay(town.alpha, bank.bic, creditor="m-1", debtor="a-1")
    await town.alpha.until(await pay(town.alpha, BRAVO, creditor="b-1", debtor="a-1"), "posted")
    await asyncio.sleep(0.5)
    assert (await town.alpha.get(f"/payments/{waiting}"))["status"] == "reserved"
    assert await journal(bank.node.database_url) == before


@pytest.mark.parametrize(("pays", "loss"), [(pay_in, "number_unknown"), (pay_out, "payment_unknown")])
async def test_what_another_bank_holds_shows_it(
    town: Town, member: Member, pays: Callable[[Town, RunningBank], Awaitable[str]], loss: str
) -> None:
    async with member.running() as bank:
        await pays(town, bank)
    backup = await member.backup()
    async with member.running() as bank:
        lost = [await pays(town, bank) for _ in range(2)]
    async with member.running(backup) as bank:
        await is_stopped(town, bank, loss, ALPHA)
    # A later start knows it at once, whoever is away.
    async with member.running(backup) as bank:
        assert bank.node.continuity.finding is not None
    # The way out: the newest database, which has all of it.
    async with member.running() as bank:
        await pays(town, bank)
        assert (await bank.send("GET", "/health/ready", token=None)).status_code == 200
        numbers = [(await bank.get(f"/payments/{payment}"))["sequence"] for payment in lost]
        assert numbers == [2, 3]


async def test_a_cut_shows_it_at_the_start(town: Town, member: Member) -> None:
    """By the node's own watermark; and where that is lost too, by what the coordinator holds.

    Which cycle that is of, says what the bank has signed: what the coordinator says beside it stops nobody.
    """
    async with member.running() as bank:
        await pay_in(town, bank)
    backups = [await member.backup() for _ in range(2)]
    async with member.running() as bank:
        await cut_off(town, bank)
        url = f"{town.coordinator.url}/submissions/latest"

        async def attested() -> bool:
            return len((await bank.node.client.get(url, HandedIn, audience=COORDINATOR)).attestations) > 0

        await until(attested)
    (misquoter,) = misquoters
    for cycle in ("2020-01-01-01", None):
        with misquoter.misquoting(cycle):
            async with member.running() as bank:
                assert misquoter.attestations > 0
                assert bank.node.continuity.finding is None
                assert (await bank.send("GET", "/health/ready", token=None)).status_code == 200
    async with member.running(backups[0]) as bank:
        assert bank.node.continuity.finding is not None
        await is_stopped(town, bank, "events_lost", "this node")
    (member.settings.data_dir / "ledger-seen.json").unlink()
    async with member.running(backups[1]) as bank:
        assert bank.node.continuity.finding is not None
        await is_stopped(town, bank, "cut_unknown", COORDINATOR)


async def test_what_one_node_of_a_bank_finds_out_stops_the_others(town: Town, member: Member) -> None:
    """As another node on the same database writes it down; a node that is running then finds it there."""
    finding = Finding(loss=Loss.NUMBER, source=ALPHA, detail="seen by another node")
    async with member.running() as bank:
        await pay_in(town, bank)
        async with bank.node.pool.acquire() as connection:
            await reads.keep_finding(connection, finding, datetime.now(UTC))
        await is_stopped(town, bank, "number_unknown", ALPHA)


async def test_lag_is_no_loss(town: Town, member: Member) -> None:
    """Killed and started again on its own database, with payments both ways under way, a bank goes on."""
    for _ in range(3):
        async with member.running() as bank:
            for _ in range(20):
                await pay(town.alpha, bank.bic, creditor="m-1", debtor="a-1")
                await pay(bank, ALPHA, creditor="a-1", debtor="m-1")
    async with member.running() as bank:
        await pay_in(town, bank)
        await pay_out(town, bank)
        assert bank.node.continuity.finding is None
        assert (await bank.send("GET", "/health/ready", token=None)).status_code == 200


PAYMENT = "0198b1a0-0000-7000-8000-000000000057"


@asynccontextmanager
async def liar(
    town: Town, member: Member, answer: Callable[[str, MemberIdentity], Awaitable[bytes]]
) -> AsyncIterator[MemberIdentity]:
    """Admit a member that answers whatever is asked of it with these bytes, until the block ends."""
    number = next(_numbers)
    identity = MemberIdentity.made(f"LIA{chr(65 + number % 26)}DEF{number % 10}", member.settings.data_dir / "liar")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        with suppress(ConnectionError):
            writer.write(await answer(request, identity))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await town.coordinator.registry.admit(
            Bank(identity, url).application(), kind="participant", caps_minor={}, by="test", reason="set up"
        )
        yield identity
        await town.coordinator.registry.step(identity.bic, "suspend", by="test", reason="over")


def as_answer(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return head(f"Content-Length: {len(body)}", "Connection: close") + body


def lanes_of(sender: str, receiver: str, *payments: str) -> dict[str, Any]:
    newest = [[{"sequence": 57, "payment": payment}] for payment in payments]
    return {"lanes": [{"sender": sender, "receiver": receiver, "currency": "EUR", "newest": n} for n in newest]}


async def test_a_word_that_nobody_signed_stops_nobody(town: Town, member: Member) -> None:
    """A member says that it holds number 57 of ours, and shows an acknowledgement that it signed itself."""
    shown: list[str] = []

    async def lie(request: str, identity: MemberIdentity) -> bytes:
        if "evidence" not in request:
            return as_answer(lanes_of(identity.bic, member.bic, PAYMENT))
        shown.append(request)
        outcome = PaymentOutcome(id=PAYMENT, status="accepted", sequence=57)
        forged = dsse.sign(
            Acknowledgement(sender=identity.bic, receiver=member.bic, batch="0" * 64, outcomes=(outcome,)),
            identity.sign,
            payload_type=ACKNOWLEDGEMENT_TYPE,
        )
        return as_answer(msgspec.to_builtins(forged))

    async with member.running() as bank, liar(town, member, lie) as identity:
        await until(lambda: identity.bic in bank.node.agents)
        await until(lambda: shown)
        await bank.node.continuity.agree_with(identity.bic)
        await pay_in(town, bank)
        assert (await bank.send("GET", "/health/ready", token=None)).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(
            head("Retry-After: " + "9" * 5000, "Content-Length: 2", "Connection: close", status="503 x") + b"{}",
            id="a number that is too long",
        ),
        pytest.param(
            b"HTTP/1.1 503 x\r\nContent-Type: application/problem+json\r\nConnection: close\r\n\r\n"
            + b'{"zz":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            id="a document that is too deep",
        ),
    ],
)  # fmt: skip
async def test_an_answer_that_nobody_foresaw_is_that_members_trouble(town: Town, member: Member, answer: bytes) -> None:
    """Neither a start nor the readiness nor what is between others depends on it."""
    asked: list[str] = []

    async def lie(request: str, _: MemberIdentity) -> bytes:
        asked.append(request)
        return answer

    async with liar(town, member, lie) as identity:
        await until(lambda: identity.bic in town.alpha.node.agents)
        async with member.running() as bank:
            await until(lambda: asked)
            with pytest.raises(RemoteError):
                await bank.node.continuity.agree_with(identity.bic)
            assert bank.node.continuity.task.condition() == "running"
            await pay_in(town, bank)
            assert (await bank.send("GET", "/health/ready", token=None)).status_code == 200


async def test_a_slow_liar_delays_nobody_else(town: Town, member: Member) -> None:
    """What another node of the bank has found out stops this one, however much a member makes up meanwhile."""
    invented = [f"0198b1a0-0000-7000-8000-{number:012x}" for number in range(1700)]
    asked: list[str] = []

    async def lie(request: str, identity: MemberIdentity) -> bytes:
        if "evidence" not in request:
            return as_answer(lanes_of(identity.bic, member.bic, *invented))
        asked.append(request)
        await asyncio.sleep(4)
        return as_answer({"payload": "e30=", "payloadType": "x", "signatures": []})

    finding = Finding(loss=Loss.NUMBER, source=ALPHA, detail="seen by another node")
    async with member.running() as bank, liar(town, member, lie):
        await until(lambda: asked)
        async with bank.node.pool.acquire() as connection:
            await reads.keep_finding(connection, finding, datetime.now(UTC))
        await is_stopped(town, bank, "number_unknown", ALPHA)
        assert len(asked) == 1


async def test_who_is_suspended_meanwhile_is_told_once_it_is_active_again(town: Town, member: Member) -> None:
    """Other banks don't hear it in its suspension: that isn't to be taken for an answer that nothing is missing."""
    backup, alpha, registry = await member.backup(), town.alpha, town.coordinator.registry
    async with member.running() as bank:
        await bank.until(await pay(bank, ALPHA, creditor="a-1", debtor="m-1"), "posted")
    await registry.step(member.bic, "suspend", by="test", reason="away")
    await until(lambda: (known := alpha.node.trust.member(member.bic)) and known.status == "suspended")
    (member.settings.data_dir / "ledger-seen.json").unlink()
    async with member.running(backup) as bank:
        with pytest.raises(RemoteError, match="sender_not_active"):
            await bank.node.continuity.agree_with(ALPHA)
        await registry.step(member.bic, "activate", by="test", reason="back")
        await until(lambda: (known := alpha.node.trust.member(member.bic)) and known.status == "active")
        with pytest.raises(LedgerRestored):
            await bank.node.continuity.agree_with(ALPHA)


async def test_a_writer_notices_that_the_database_went_back_under_it(postgres_url: str) -> None:
    """As after a fail-over to a standby that hadn't everything: a new connection, an earlier end."""
    names = [f"went_back_{free_port()}_{number}" for number in range(2)]
    current = await create_database(postgres_url, names[0])
    await migrate(current, "participants.ledger")
    earlier = await create_database(postgres_url, names[1], template=names[0])
    urls = [current]
    ledger = Ledger(lambda: connect(urls[-1]), bank=ALPHA, agent="AGNTXXC0")
    try:
        await ledger.start()
        await ledger.submit(
            OpenAccounts([AskedOpening(AccountOpening(code="a-1", currency="EUR", name="Ada"), ("mona",))])
        )
        urls.append(earlier)
        admin = await asyncpg.connect(dsn(postgres_url))
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", names[0])
        await admin.close()
        for _ in range(2):
            with pytest.raises(LedgerRestored):
                await ledger.submit(
                    OpenAccounts([AskedOpening(AccountOpening(code="a-2", currency="EUR", name="Ada"), ("mona",))])
                )
        assert ledger.restored is not None
        assert ledger.task.failure is None
        assert await journal(earlier) == []
    finally:
        await ledger.stop()
        for name in names:
            await drop_database(postgres_url, name)
