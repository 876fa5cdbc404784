"""Any sequence of entries, payments, blocks and closings leaves books that balance, and statements that are a chain."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import pytest
from bank_ledgers import ALFA, BETA, HIT, Bank, bank, payment, rewrite_times
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import uuid7

from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants import account_statements
from participants.account_statements import Period
from participants.audit.fsck import fsck
from participants.ledger.account_changes import ChangeState, Rename
from participants.ledger.account_events import AccountOpening, EntryKind, EntryTerms
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.own_entries import AskedEntry, EntryReason, MakeEntry

ZONE = ZoneInfo("Pacific/Apia")
FIRST = datetime(2026, 3, 27, 12, tzinfo=UTC)
KINDS: tuple[EntryKind, ...] = ("deposit", "withdrawal", "fee")
_databases = count(1)
steps = st.lists(
    st.tuples(st.sampled_from(("enter", "enter", "pay", "pay", "deliver", "state", "rename")), st.integers(0, 1000)),
    min_size=5,
    max_size=25,
)


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[str]:
    """The name of an empty ledger's database."""
    name = f"accounts_{os.getpid()}"

    async def make() -> None:
        await migrate(await create_database(postgres_url, name), "participants.ledger")

    asyncio.run(make())
    yield name
    asyncio.run(drop_database(postgres_url, name))


@given(steps=steps, minutes=st.integers(1, 600))
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Making an example smaller would take minutes; the one found is printed.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_books_balance_and_days_are_a_chain(
    postgres_url: str, template: str, steps: list[tuple[str, int]], minutes: int
) -> None:
    asyncio.run(_run(postgres_url, template, steps, timedelta(minutes=minutes)))


async def _run(postgres_url: str, template: str, steps: Sequence[tuple[str, int]], step: timedelta) -> None:
    run = next(_databases)
    names = [f"{template}_{run}_{bic.lower()}" for bic in (ALFA, BETA)]
    urls = [await create_database(postgres_url, name, template=template) for name in names]
    try:
        async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
            for one in (alfa, beta):
                cash = AccountOpening(code="cash", currency="EUR", name="Cash", kind="internal")
                await one.ledger.submit(OpenAccounts([AskedOpening(cash, ("mona",))]))
            await alfa.open("a-1", balance=500)
            await alfa.open("a-2")
            await beta.open("b-1", balance=500)
            for action, choice in steps:
                await _step(action, choice, alfa, beta)
            for one in (alfa, beta):
                await rewrite_times(one.url, FIRST, step)
                report = await fsck(one.url, one.bic)
                assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]
                await _days_are_a_chain(one)
    finally:
        for name in names:
            await drop_database(postgres_url, name)


async def _step(action: str, choice: int, alfa: Bank, beta: Bank) -> None:
    code = ("a-1", "a-2")[choice % 2]
    key = AccountKey("customer", code, "EUR")
    if action == "enter":
        kind = KINDS[choice % 3]
        terms = EntryTerms(
            id=uuid7(),
            account=code,
            currency="EUR",
            amount_minor=str(1 + choice),
            against="cash",
            reference=uuid7()[:35],
        )
        before = await alfa.balance("customer", code)
        refused = await alfa.ledger.submit(MakeEntry(AskedEntry(kind, terms), people=("mona", "nora")))
        change = 0 if refused else (1 + choice) * (1 if kind == "deposit" else -1)
        assert await alfa.balance("customer", code) == before + change
        alone = await alfa.ledger.submit(MakeEntry(AskedEntry("deposit", terms), people=("mona", "Mona")))
        assert alone is not None
        assert refused is not None or alone is EntryReason.SECOND_PERSON_MISSING or kind != "deposit"
    elif action == "pay":
        await alfa.order(payment(1 + choice, debtor=code), hits=[HIT] if choice % 7 == 0 else ())
        await beta.order(payment(1 + choice % 50, debtor="b-1", creditor=code, to=ALFA))
    elif action == "deliver":
        await alfa.deliver(beta)
        await beta.deliver(alfa)
    elif action == "state":
        state = tuple(AccountState)[choice % 4]
        seen = await alfa.connection.fetchval(
            "SELECT b.changes FROM account a JOIN account_balance b ON b.account_id = a.id"
            " WHERE (a.kind, a.code, a.currency) = ($1, $2, $3)", *key,
        )  # fmt: skip
        people = ("mona", "nora") if choice % 3 else ("mona",)
        change = ChangeState(key, state, people=people, reason="why", seen=seen)
        await alfa.ledger.submit(change)
    else:
        await alfa.ledger.submit(Rename(key, f"Name {choice}", people=("mona",), reason="why"))


async def _days_are_a_chain(one: Bank) -> None:
    connection = one.connection
    last: datetime = await connection.fetchval("SELECT max(recorded_at) FROM event")
    days = (last.astimezone(ZONE).date() - FIRST.astimezone(ZONE).date()).days + 1
    begin: date = FIRST.astimezone(ZONE).date()
    for (account,) in await connection.fetch("SELECT id FROM account"):
        balance = entries = 0
        for day in range(-1, days + 1):
            period = Period.of_day(begin + timedelta(days=day), ZONE)
            statement = await account_statements.statement(connection, account, period)
            listed = await account_statements.entries(connection, statement)
            assert statement.opening.balance == balance
            assert balance + sum(entry.amount for entry in listed) == statement.closing.balance
            balance, entries = statement.closing.balance, entries + len(listed)
        now = await account_statements.standing_at(connection, account, None)
        assert (balance, entries) == (now.balance, now.posting)
