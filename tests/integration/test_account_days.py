"""Each day of an account opens with what the day before closed with, and an instant is one place in the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from bank_ledgers import BETA, Bank, bank, connect, payment, rewrite_times, settle

from participants import account_statements
from participants.account_statements import Period, Statement
from participants.audit.replay import accounts_at
from participants.ledger.instants import INVERSION_MAX, last_event_at, last_event_before

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)


@pytest.fixture
async def banks(new_database: Any) -> AsyncIterator[tuple[Bank, Bank]]:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        yield alfa, beta


async def ids(connection: asyncpg.Connection) -> list[int]:
    return [row[0] for row in await connection.fetch("SELECT id FROM account ORDER BY id")]


async def of_day(connection: asyncpg.Connection, account: int, day: date, zone: ZoneInfo = BERLIN) -> Statement:
    return await account_statements.statement(connection, account, Period.of_day(day, zone))


async def test_days_are_a_chain(banks: tuple[Bank, Bank]) -> None:
    alfa, beta = banks
    await alfa.open("a-1", "a-2", balance=10_000)
    await beta.open("b-1", "b-2")
    for number in range(12):
        await alfa.order(payment(10 + number), payment(5, creditor="nobody"))
        await alfa.deliver(beta)
        if number % 5 == 4:
            await settle(f"2026-03-28-{number:02d}", alfa, beta)
    # Over the night in which clocks are put forward.
    await rewrite_times(alfa.url, FIRST, timedelta(minutes=97))
    connection = alfa.connection
    days = [date(2026, 3, 26) + timedelta(days=number) for number in range(9)]
    short = Period.of_day(date(2026, 3, 29), BERLIN)
    assert short.ends_at.timestamp() - short.begins_at.timestamp() == 23 * 3600
    for account in await ids(connection):
        balance, seen = 0, 0
        for day in days:
            statement = await of_day(connection, account, day)
            assert statement.opening.balance == balance
            listed = await account_statements.entries(connection, statement)
            assert all(entry.booked_at.astimezone(BERLIN).date() == day for entry in listed)
            assert sum(entry.amount for entry in listed) == statement.closing.balance - statement.opening.balance
            balance, seen = statement.closing.balance, seen + len(listed)
        now = await account_statements.standing_at(connection, account, None)
        assert (balance, seen) == (now.balance, now.posting)
        assert statement.final
    at = FIRST + timedelta(hours=30)
    expected = await accounts_at(connection, at)
    found = [
        (await account_statements.standing_at(connection, account, at)).balance for account in await ids(connection)
    ]
    assert found[: len(expected)] == list(expected.values())


async def test_an_instant_is_before_the_first_event_that_is_later(banks: tuple[Bank, Bank]) -> None:
    """Also where clocks step back: the event numbered later is later, whatever it says."""
    alfa, _ = banks
    await alfa.open(*(f"a-{number}" for number in range(300)), balance=5)
    await rewrite_times(alfa.url, FIRST, timedelta(seconds=1))
    connection = alfa.connection
    last = await connection.fetchval("SELECT max(sequence) FROM event")
    for number in (1, 2, 7, 150, last):
        at = FIRST + timedelta(seconds=number - 1)
        assert await last_event_at(connection, at) == number
        assert await last_event_before(connection, at) == number - 1
    assert await last_event_before(connection, FIRST - timedelta(days=9)) == 0
    assert await last_event_before(connection, datetime.now(UTC)) == last
    # Event 150 says that it is of half a minute before event 149.
    owner = await connect(alfa.url, role=None)
    await owner.execute("SET session_replication_role = replica")
    await owner.execute("UPDATE event SET recorded_at = recorded_at - interval '30 s' WHERE sequence = 150")
    await owner.close()
    for seconds in range(110, 170):
        at = FIRST + timedelta(seconds=seconds)
        first_later = await connection.fetchval("SELECT min(sequence) FROM event WHERE recorded_at >= $1", at)
        assert await last_event_before(connection, at) == first_later - 1
    assert timedelta(seconds=30) < INVERSION_MAX
