"""Two nodes of one bank on one database, both paying; one is killed at a chosen instant, the other goes on.

The one that is killed is a process of its own, with a database login of its own, so that it is known who stands
where: before a row that may not be written yet (`gates.py`), or in a commit that is done and isn't answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from gates import build_gates, closed
from running_banks import ALPHA, BRAVO, CARLO, WAIT_S, RunningBank, Town, order, terms
from support import free_port

from compliance.crypto.dsse import Envelope
from gateway.demo.processes import Node
from gateway.federation.storage.postgres import dsn
from participants.audit.fsck import fsck

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERS = 30
# Within which the survivor has sent what the dead one had accepted: it looks every three seconds.
SENT_SECONDS_MAX = 20.0
HALTED = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event = $2"


@dataclass
class Replica:
    """A second node of a running bank, as a process, and its login at the database."""

    bank: RunningBank
    node: Node
    login: str
    database: asyncpg.Connection

    async def halted(self, wait_event: str) -> None:
        """Return when a session of this replica waits for a lock of the test, or for its commit to be answered."""
        async with asyncio.timeout(WAIT_S):
            while not await self.database.fetchval(HALTED, self.login, wait_event):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """End it as a power cut does; its database finds its sessions gone."""
        await asyncio.to_thread(self.node.kill)
        await self.database.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1", self.login
        )

    async def close(self) -> None:
        """Leave nothing of it."""
        await self.kill()
        await self.database.execute(f"DROP ROLE {self.login}")
        await self.database.close()

    async def ready(self) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await _is_ready(self.bank.plain_url):
                self.node.require_running()
                await asyncio.sleep(0.05)


async def begun(bank: RunningBank) -> Replica:
    """Begin to run a second node of a bank; `bank.send(…, plain=True)` of its `bank` asks this one."""
    url, port, login = f"http://127.0.0.1:{(port := free_port())}", port, f"replica_{uuid4().hex[:8]}"
    database = await asyncpg.connect(dsn(bank.node.database_url))
    await database.execute(
        f"CREATE ROLE {login} SUPERUSER LOGIN PASSWORD '{login}'; ALTER ROLE {login} SET synchronous_commit = on"
    )
    settings, (_, _, rest) = bank.settings, dsn(bank.node.database_url).partition("@")
    environment = {
        "CONCORDAT_BIC": bank.bic,
        "CONCORDAT_URL": settings.url,
        "CONCORDAT_PORT": str(port),
        "CONCORDAT_DATA_DIR": str(settings.data_dir),
        "CONCORDAT_DATABASE_URL": f"postgresql://{login}:{login}@{rest}",
        "CONCORDAT_ANCHOR": str(settings.anchor),
        "CONCORDAT_COORDINATOR_URL": str(settings.coordinator_url),
    }
    node = Node(login, ("participant", "serve"), environment, url, settings.data_dir / f"{login}.log")
    node.start()
    return Replica(replace(bank, plain_url=url), node, login, database)


async def _is_ready(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"{url}/health/ready")).is_success
        except httpx.TransportError:
            return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(town: Town) -> AsyncIterator[dict[str, list[Replica]]]:
    """Replicas of ALPHA and BRAVO, for each test one to kill; until then they take part."""
    for bank in (town.alpha, town.bravo):
        await build_gates(dsn(bank.node.database_url), "participant")
    connection = await asyncpg.connect(dsn(town.alpha.node.database_url))
    # Sessions that wait for their commits would all be halted with the one that is meant.
    durable = await connection.fetchval("SHOW synchronous_commit")
    await connection.close()
    if durable != "off":
        pytest.skip("the test server's sessions wait for their commits")
    running = {
        bank.bic: [await begun(bank) for _ in range(count)] for bank, count in ((town.alpha, 3), (town.bravo, 1))
    }
    every = [replica for some in running.values() for replica in some]
    await asyncio.gather(*(replica.ready() for replica in every))
    yield running
    for replica in every:
        await replica.close()


@asynccontextmanager
async def commits_unanswered(database: asyncpg.Connection) -> AsyncIterator[None]:
    """Let every commit that waits for durability be done, and not answered: it waits for a standby that isn't there."""
    await database.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await database.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await database.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await database.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def halting(town: Town, place: str, database: asyncpg.Connection) -> AsyncIterator[None]:
    """Halt whoever comes to a place until the block ends."""
    if place == "commit":
        async with commits_unanswered(database):
            yield
        return
    bic, _, gate = place.partition(": ")
    async with closed(dsn(town.banks[bic].node.database_url), gate):
        yield


async def pay(orders: Sequence[dict[str, Any]], first: RunningBank, survivor: RunningBank) -> None:
    """Order payments one after the other as a channel does: again, at the other node, until there is an answer."""
    for one in orders:
        plain = True
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    answer = await (first if plain else survivor).send("POST", "/payments", one, plain=plain)
                    if answer.status_code in (200, 201):
                        break
                except httpx.TransportError:
                    plain = False


async def lane(bank: RunningBank, sender: str) -> int:
    """Return the last number of the lane from a bank to BRAVO, as `bank` knows it."""
    known = await bank.get("/lanes")
    return max(
        (lane["last_sequence"] for lane in known if (lane["sender"], lane["receiver"]) == (sender, BRAVO)), default=0
    )


@pytest.mark.parametrize(
    ("place", "wait_event"),
    [
        pytest.param("commit", "SyncRep", id="after the commit, before anybody learns of it"),
        pytest.param("BRAVFRP0: event.payment.accepted", None, id="after sending, before the answer"),
        pytest.param("ALPHDEF0: event.payment.posted", "advisory", id="with the answer in hand"),
    ],
)
async def test_a_sender_is_killed(
    town: Town, replicas: dict[str, list[Replica]], place: str, wait_event: str | None
) -> None:
    """What it took in is sent by another, which is at work too, and nothing is double."""
    alpha, before = town.alpha, await lane(town.bravo, ALPHA)
    mine, others = [order(1) for _ in range(ORDERS)], [order(1) for _ in range(ORDERS)]
    victim = replicas[ALPHA].pop()
    async with halting(town, place, victim.database):
        paying = asyncio.create_task(pay(mine, victim.bank, alpha))
        if wait_event is not None:
            await victim.halted(wait_event)
        else:
            await sent_twice(town)
        also = asyncio.create_task(pay(others, replace(alpha, plain_url=alpha.settings.url), alpha))
        await asyncio.sleep(0.2)
        await victim.kill()
    killed = time.monotonic()
    await asyncio.gather(paying, also)
    for one in (*mine, *others):
        await alpha.until(one["id"], "posted")
    assert time.monotonic() - killed < SENT_SECONDS_MAX
    assert [await lane(bank, ALPHA) for bank in (alpha, town.bravo)] == [before + 2 * ORDERS] * 2


async def sent_twice(town: Town) -> None:
    """Return when two replicas of ALPHA have sent BRAVO what is queued for it, and neither has an answer."""
    asked, inbound = 0, town.bravo.node.inbound
    receive = inbound.receive

    async def count_and_receive(caller: str, body: bytes) -> Envelope:
        nonlocal asked
        asked += 1
        return await receive(caller, body)

    inbound.receive = count_and_receive  # type: ignore[method-assign]
    try:
        async with asyncio.timeout(WAIT_S):
            while asked < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        inbound.receive = receive  # type: ignore[method-assign]


async def pay_and_cancel(bank: RunningBank, ordered: list[str]) -> None:
    """Order payments and cancel them at once, until the node isn't there any more."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            orders = [order(1) for _ in range(20)]
            ordered += [one["id"] for one in orders]
            taken = await bank.send("POST", "/payments/batch", {"payments": orders}, plain=True)
            assert taken.status_code == 200, taken.text
            ids = {"payments": [one["id"] for one in orders]}
            assert (await bank.send("POST", "/payments/cancellations", ids, plain=True)).status_code == 200


@pytest.mark.parametrize(
    "gate", [pytest.param(None, id="at work"), pytest.param("event.payment.cancelled", id="with the answer in hand")]
)
async def test_who_cancels_is_killed(town: Town, replicas: dict[str, list[Replica]], gate: str | None) -> None:
    """Whatever it had asked for, both banks say the same of each payment once another node has gone on."""
    assert replicas, "their gates"
    alpha, victim, ordered = town.alpha, await begun(town.alpha), list[str]()
    await victim.ready()
    async with AsyncExitStack() as halt:
        if gate is not None:
            await halt.enter_async_context(closed(dsn(alpha.node.database_url), gate))
        working = asyncio.create_task(pay_and_cancel(victim.bank, ordered))
        if gate is not None:
            await victim.halted("advisory")
        else:
            async with asyncio.timeout(WAIT_S):
                while len(ordered) < 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await victim.kill()
    await working
    await victim.close()
    for id_ in ordered:
        if (await alpha.send("GET", f"/payments/{id_}")).status_code == 404:
            continue  # The last ones may not have been taken in.
        sent = await alpha.until(id_, "posted", "cancelled")
        received = await town.bravo.until(id_, "accepted", "declined")
        assert (sent["status"], received["status"]) in (("posted", "accepted"), ("cancelled", "declined"))
        assert sent.get("sequence") == received.get("sequence")


async def test_a_receiver_is_killed_before_its_answer(town: Town, replicas: dict[str, list[Replica]]) -> None:
    """The sender asks another one the same, and is answered as if nothing had been."""
    before = await lane(town.bravo, CARLO)
    batch = town.sealed(*(terms(1, debtor_account="c-1") for _ in range(ORDERS)), sender=CARLO)
    victim = replicas[BRAVO].pop()
    settings = replace(town.bravo.settings, url=victim.bank.plain_url)
    at_victim = replace(town, banks={**town.banks, BRAVO: replace(town.bravo, settings=settings)})
    async with halting(town, "commit", victim.database):
        asked = asyncio.create_task(at_victim.deliver(batch, sender=CARLO))
        await victim.halted("SyncRep")
        await victim.kill()
        with pytest.raises(httpx.TransportError):
            await asked
    for _ in range(2):
        answer = town.acknowledged(await town.deliver(batch, sender=CARLO))
        assert [outcome.status for outcome in answer.outcomes] == ["accepted"] * ORDERS
        assert [outcome.sequence for outcome in answer.outcomes] == list(range(before + 1, before + ORDERS + 1))
    assert await lane(town.bravo, CARLO) == before + ORDERS


async def test_the_books_are_sound_after_all_of_it(town: Town) -> None:
    for bank in (town.alpha, town.bravo):
        report = await fsck(dsn(bank.node.database_url), bank.bic)
        assert report.ok, [check for check in report.checks if not check.ok]
