"""A bank's nostro is its account at the settlement agent: what moves there outside of cycles is booked, once.

The agent, the coordinator and the banks are real ones; replicas and restarts are further writers of one ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from bank_ledgers import AGENT as LEDGERS_AGENT
from bank_ledgers import ALFA, BETA, bank, connect, payment, settle
from earlier_databases import lay_down
from running_banks import OPENING, RunningBank
from running_coordinator import AGENT
from running_desk import Desk, pay, running_desk, settled, until
from support import Live, NewDatabase

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.iso20022 import NOTIFICATION_TYPE
from gateway.federation.iso20022 import Notification, notification
from gateway.federation.messages.settlement import Funding
from gateway.federation.settings import FUNDING_ACCOUNT
from gateway.federation.storage import database
from gateway.federation.storage.database import asyncpg_pool
from gateway.federation.storage.postgres import dsn
from participants.audit.fsck import Check, fsck
from participants.cycle.movements import Movement, Settlement
from participants.cycle.nostro import NostroBooking
from participants.cycle.settlement_account import EXPLAIN, KEEP, KEPT, read_settlements
from participants.ledger import MIGRATIONS
from participants.ledger.writer import Ledger

JOURNALS = json.loads((Path(__file__).parents[1] / "evidence" / "journals-schema-0001.json").read_text("utf-8"))
BOOKED = "SELECT data ->> 'amount_minor' FROM event WHERE type = 'nostro.moved' ORDER BY sequence"


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Live) -> AsyncIterator[Desk]:
    async with running_desk(postgres_url, await new_database("gateway.agent"), tmp_path, live) as running:
        yield running


async def fund(desk: Desk, bank: RunningBank, amount: int, *, id_: str | None = None) -> None:
    """Move central money to a bank's account at the agent, or back, and let the bank look."""
    funding = Funding(id=id_ or str(uuid4()), currency="EUR", amount_minor=str(amount))
    await desk.at_agent(f"/accounts/{bank.bic}/funding", funding)
    bank.node.settlement_account.wake()


async def nostro_of(bank: RunningBank) -> Check:
    return (await fsck(bank.node.database_url, bank.bic))["nostro"]


async def funding_account(bank: RunningBank) -> int:
    """Return what stands against the nostro, debits positive."""
    (account,) = (await bank.get("/accounts", kind="internal", code=FUNDING_ACCOUNT, currency="EUR"))["items"]
    return int(account["balance_minor"])


async def test_what_moves_outside_of_cycles_is_booked_and_agrees(desk: Desk) -> None:
    bravo = desk.town.bravo
    # What customers opened with stands on the internal account until the money is at the agent: the nostro is empty.
    assert await bravo.balance(AGENT, kind="nostro") == 0
    assert await funding_account(bravo) == 2 * OPENING
    receipt = str(uuid4())
    await fund(desk, bravo, 2 * OPENING, id_=receipt)
    await settled(bravo, 2 * OPENING)
    assert await funding_account(bravo) == 0
    # The same funding again moves nothing, there or here.
    await fund(desk, bravo, 2 * OPENING, id_=receipt)
    await fund(desk, bravo, -500)
    await settled(bravo, 2 * OPENING - 500)
    assert await funding_account(bravo) == 500
    await pay(bravo, desk.town.carlo, 300)
    cycle = await desk.netted()
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "final")
    await settled(bravo, 2 * OPENING - 800)

    async def entries() -> int:
        return (await nostro_of(bravo)).examined

    await until(entries, 3)
    check = await nostro_of(bravo)
    assert (check.difference, check.proves) == (None, "the nostro is the account at the settlement agent")
    heard = (await bravo.get("/events", type="nostro.moved"))["events"]
    assert [(one["nostro"]["amount_minor"], one["nostro"]["entry"], one["nostro"]["against"]) for one in heard] == [
        (str(2 * OPENING), 1, FUNDING_ACCOUNT),
        ("-500", 2, FUNDING_ACCOUNT),
    ]
    (nostro,) = (await bravo.get("/accounts", kind="nostro"))["items"]
    today = heard[0]["at"][:10]
    listed = (await bravo.get(f"/accounts/{nostro['id']}/statement", date=today))["entries"]
    assert [entry["amount_minor"] for entry in listed] == [str(2 * OPENING), "-500", "-300"]

    # Whoever moves the nostro by anything else is found, with the amount.
    owner = await asyncpg.connect(dsn(bravo.node.database_url), server_settings={"session_replication_role": "replica"})
    tampering = "UPDATE posting SET amount = amount + 7, balance = balance + 7 WHERE account_id = $1 AND version = 1"
    await owner.execute(tampering, int(nostro["id"]))
    await owner.close()
    assert "7 more here than anything explains" in str((await nostro_of(bravo)).difference)


async def test_replicas_and_restarts_book_an_entry_once(desk: Desk) -> None:
    bravo = desk.town.bravo
    async with beside(bravo) as (first, pool), beside(bravo) as (second, _):
        for amount in (1_000, -100, 50):
            await fund(desk, bravo, amount)

        async def kept() -> list[Movement]:
            return [Movement(*row) for row in await pool.fetch(KEPT, AGENT, 0)]

        async def count() -> int:
            return len(await kept())

        await until(count, 3)
        movements = await kept()
        both = [one.book(AGENT, movements, {}, explained=()) for one in (first, second)]
        await asyncio.gather(*both, *(one.move_openings() for one in (first, second)))
        # One that comes up again looks at what is booked, and books nothing.
        async with beside(bravo) as (again, _):
            await again.book(AGENT, movements, {}, explained=())
        assert [row[0] for row in await pool.fetch(BOOKED)] == ["1000", "-100", "50"]
    await settled(bravo, 950)
    assert (await nostro_of(bravo)).difference is None


async def test_a_blocked_funding_account_is_an_alarm_and_loses_nothing(desk: Desk) -> None:
    bravo = desk.town.bravo
    account = f"/accounts/{(await bravo.get('/accounts', kind='internal'))['items'][0]['id']}/state"
    assert (await bravo.send("PUT", account, {"state": "blocked", "reason": "audit"})).is_success
    await fund(desk, bravo, 900)
    assert await faults(bravo, lambda found: bool(found)) == ["movement_not_booked"]
    # Not booked yet, and named: the entry came just now, and none after it is booked.
    check = await nostro_of(bravo)
    assert check.difference is None
    assert f"EUR: 0 in the books, 900 at {AGENT}: 900 of entry 1 are yet to be booked" in check.proves
    for person in ("sam", "tom"):
        await bravo.send("PUT", account, {"state": "open", "reason": "audited"}, subject=person)
    assert await faults(bravo, lambda found: not found) == []
    await settled(bravo, 900)
    assert (await nostro_of(bravo)).proves == "the nostro is the account at the settlement agent"
    # An entry left out while a later one is booked is a difference.
    owner = await asyncpg.connect(dsn(bravo.node.database_url), server_settings={"session_replication_role": "replica"})
    await fund(desk, bravo, 50)
    await settled(bravo, 950)
    await owner.execute("DELETE FROM event WHERE type = 'nostro.moved' AND data ->> 'entry' = '1'")
    await owner.close()
    found = str((await nostro_of(bravo)).difference)
    assert found == f"entry 1 in EUR at {AGENT}: 900 isn't booked, and entry 2 after it is"


async def test_a_ledger_of_before_catches_up_by_itself(new_database: NewDatabase) -> None:
    url = await new_database()
    await lay_down(url, MIGRATIONS, "0001", JOURNALS["alfa"])
    await database.migrate(url, MIGRATIONS)
    before = (await fsck(url, ALFA))["nostro"]
    assert before.difference is None
    assert "of opening balances, which the node takes off at its start" in before.proves
    pool = await asyncpg_pool(url)
    connection = await connect(url)
    query = "SELECT currency, code, balance FROM account JOIN account_balance ON account_id = id WHERE kind = $1"
    stood = {row[0]: row[2] for row in await connection.fetch(query, "nostro")}
    ledger = Ledger(lambda: connect(url), bank=ALFA, agent=AGENT)
    await ledger.start()
    for _ in range(2):
        await NostroBooking(pool, ledger).move_openings()
    await ledger.stop()
    moved = "SELECT data ->> 'currency', data ->> 'amount_minor' FROM event WHERE type = 'nostro.openings_moved'"
    opened = {row[0]: int(row[1]) for row in await connection.fetch(moved)}
    assert opened.keys() == stood.keys()
    assert {row[0]: tuple(row)[1:] for row in await connection.fetch(query, "internal")} == {
        currency: (FUNDING_ACCOUNT, amount) for currency, amount in opened.items()
    }
    assert {row[0]: row[2] for row in await connection.fetch(query, "nostro")} == {
        currency: balance - opened[currency] for currency, balance in stood.items()
    }
    await connection.close()
    await pool.close()
    report = await fsck(url, ALFA)
    assert [(check.name, check.difference) for check in report.checks if not check.ok] == []
    assert "opening balances" not in report["nostro"].proves


async def faults(bank: RunningBank, wanted: Callable[[list[str]], bool]) -> list[str]:
    """Return what a bank finds wrong with its settlement account, once it is what is wanted."""
    found: list[str] = []

    async def seen() -> bool:
        bank.node.settlement_account.wake()
        found[:] = [one["fault"] for one in (await bank.get("/settlement-account"))["findings"]]
        return wanted(found)

    await until(seen, True)
    return found


@asynccontextmanager
async def beside(bank: RunningBank) -> AsyncIterator[tuple[NostroBooking, Any]]:
    """Return what another node of the bank books by, with a writer of its own."""
    url = bank.node.database_url
    pool = await asyncpg_pool(url)
    ledger = Ledger(lambda: connect(url), bank=bank.bic, agent=AGENT)
    await ledger.start()
    try:
        yield NostroBooking(pool, ledger), pool
    finally:
        await ledger.stop()
        await pool.close()


async def test_an_entry_that_people_explained_before_its_cycle_was_instructed_is_booked_once(
    new_database: NewDatabase,
) -> None:
    """The agent was quicker than the coordinator's feed: what the cycle books is taken back again."""
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1")
        await alfa.order(payment(300))
        await alfa.deliver(beta)
        pool, key, now = await asyncpg_pool(urls[1]), SigningKey.generate(), datetime.now(UTC)
        cycle = "2026-11-28-01"
        entry = Notification(
            message_id="M1", created_at=now, sender=LEDGERS_AGENT, participant=BETA, account="X", sequence=1,
            currency="EUR", amount=300, reference="R1", booked_at=now, value_date=now.date(), settlement="S",
            cycle=cycle,
        )  # fmt: skip
        signed = msgspec.json.encode(dsse.seal(notification(entry), NOTIFICATION_TYPE, key)).decode()
        await pool.execute(KEEP, LEDGERS_AGENT, 1, "EUR", 1, 300, cycle, "R1", signed)
        booking = NostroBooking(pool, beta.ledger)

        async def book(by: NostroBooking) -> int:
            settlements: dict[tuple[str, str], Settlement] = {}
            await read_settlements(pool, LEDGERS_AGENT, settlements)
            movements = [Movement(*row) for row in await pool.fetch(KEPT, LEDGERS_AGENT, 0)]
            await by.book(LEDGERS_AGENT, movements, settlements, explained={1})
            return await beta.balance("nostro", LEDGERS_AGENT)

        assert await book(booking) == 300
        await pool.execute(EXPLAIN, LEDGERS_AGENT, 1, "known", "sam")
        assert (await fsck(urls[1], BETA))["nostro"].difference is None
        await settle(cycle, alfa, beta)
        between = (await fsck(urls[1], BETA))["nostro"]
        assert between.difference is None
        assert "300 of entry 1 are yet to be taken back, for its cycle books them" in between.proves
        # By this node and by another one, as often as they look.
        for by in (booking, NostroBooking(pool, beta.ledger), booking):
            assert await book(by) == 300
        assert (await fsck(urls[1], BETA))["nostro"].proves == "the nostro is the account at the settlement agent"
        await pool.close()
