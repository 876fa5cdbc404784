"""What the agent's database refuses to anybody, and what `fsck` finds when somebody got around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from agent_harness import AGENT, ALFA, BETA, entitled_request, request, transfer

from gateway.agent.fsck import fsck
from gateway.agent.ledger import Ledger
from gateway.federation.messages.settlement import AccountOpening, Funding
from gateway.federation.storage.database import asyncpg_pool
from gateway.federation.storage.postgres import dsn


@pytest.fixture
async def database_url(new_database: Any) -> str:
    """Books with two accounts, a funding, a settlement and a rejection."""
    url: str = await new_database("gateway.agent")
    pool = await asyncpg_pool(url)
    ledger = Ledger(pool, AGENT)
    for bank in (ALFA, BETA):
        await ledger.open_account(AccountOpening(participant=bank, currency="EUR"), by="dora")
    await ledger.fund(ALFA, Funding(id=str(uuid4()), currency="EUR", amount_minor="1000"), by="dora")
    for message_id, amount in (("1", 400), ("2", 601)):
        message = request(message_id, *transfer(ALFA, BETA, amount))
        await ledger.settle(entitled_request(message), b"the order")
    await pool.close()
    return url


@pytest.fixture
async def application(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn(database_url), server_settings={"role": "concordat_app"})
    yield connection
    await connection.close()


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn(database_url))
    yield connection
    await connection.close()


HISTORY = ("entry", "posting", "request", "answer", "notification", "settled_cycle", "operator_register")
FORBIDDEN = [
    *(f"DELETE FROM {table}" for table in (*HISTORY, "account")),
    *(f"TRUNCATE {table} CASCADE" for table in (*HISTORY, "account")),
    "UPDATE entry SET posted_by = 'mallory'",
    "UPDATE posting SET amount = 1",
    "UPDATE request SET message_id = '3'",
    "UPDATE answer SET status = 'ACSC'",
    "UPDATE notification SET participant = 'BETADEFF'",
]


async def test_the_application_cannot_change_history_or_a_balance(application: asyncpg.Connection) -> None:
    for statement in (*FORBIDDEN, "UPDATE account SET balance = 5", "UPDATE account SET version = 5"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(statement)


async def test_not_even_the_owner_changes_history(owner: asyncpg.Connection) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await owner.execute(statement)


POST = (
    "INSERT INTO posting (entry_id, account_id, currency, amount) SELECT {entry}, id, currency, {amount} FROM account"
)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO posting (entry_id, account_id, currency, amount, balance) VALUES (1, 2, 'EUR', 1, 1)", "42501"),
        (POST.format(entry="e", amount="1") + ", fresh WHERE participant = 'BETADEFF'", "23514"),  # unbalanced
        (POST.format(entry="e", amount="0") + ", fresh", "23514"),  # nothing
        (
            # Balanced, but Beta has less than that.
            POST.format(entry="e", amount="CASE participant WHEN 'BETADEFF' THEN -401 ELSE 401 END")
            + ", fresh WHERE kind = 'participant'",
            "23514",
        ),
        (
            "INSERT INTO posting (entry_id, account_id, currency, amount) SELECT e, id, 'JPY', 1 FROM account, fresh",
            "23503",
        ),
    ],
)
async def test_only_balanced_covered_entries_are_posted(
    application: asyncpg.Connection, statement: str, error: str
) -> None:
    before = await application.fetch("SELECT id, balance, version FROM account ORDER BY id")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await post_forged(application, statement)
    assert refused.value.sqlstate == error
    assert await application.fetch("SELECT id, balance, version FROM account ORDER BY id") == before


async def post_forged(application: asyncpg.Connection, statement: str) -> None:
    """Begin an entry, whose id is `fresh.e`, and run a statement that posts to it."""
    async with application.transaction():
        entry = await application.fetchval(
            "INSERT INTO entry (kind, cause, value_date, posted_at, posted_by)"
            " VALUES ('funding', 'x', current_date, now(), 'mallory') RETURNING id"
        )
        await application.execute(f"CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS SELECT {entry}::bigint AS e")
        await application.execute(statement)


async def test_fsck_finds_nothing_in_sound_books(owner: asyncpg.Connection) -> None:
    assert [check.name for check in await fsck(owner) if not check.passed] == []


@pytest.mark.parametrize(
    ("tampering", "contradicted"),
    [
        (
            "UPDATE account SET balance = balance + 1 WHERE participant = 'ALFADEFF'",
            {"balances follow from the postings", "central money adds up per currency"},
        ),
        (
            "UPDATE posting SET amount = amount + 1 WHERE version = 2",
            {
                "entries balance per currency",
                "balances follow from the postings",
                "every posting continues the one before",
                "answers say what was posted",
                "notifications say what was posted",
            },
        ),
        ("DELETE FROM notification WHERE id = 1", {"every posting was notified"}),
        (
            "UPDATE answer SET status = 'RJCT', entry_id = NULL WHERE message_id = '1'",
            {"every request has its answer, every settlement its request", "answers say what was posted"},
        ),
        (
            "DELETE FROM answer WHERE message_id = '2'",
            {"every request has its answer, every settlement its request"},
        ),
        (
            "UPDATE request SET fingerprint = repeat('0', 64) WHERE message_id = '1'",
            {"answers say what was posted"},
        ),
        ("UPDATE notification SET document = 'x' WHERE id = 1", {"notifications say what was posted"}),
    ],
)
async def test_fsck_finds_what_was_tampered_with(
    owner: asyncpg.Connection, tampering: str, contradicted: set[str]
) -> None:
    """Somebody with the rights of the owner turns the triggers off and changes a row."""
    for table in (*HISTORY, "account"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await owner.execute(tampering)
    assert {check.name for check in await fsck(owner) if not check.passed} == contradicted
