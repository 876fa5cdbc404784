"""`fsck` proves sound books and names what is wrong with corrupt ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from bank_ledgers import ALFA, BETA, HIT, bank, connect, giving_back, payment, settle
from sqlalchemy.engine import make_url

from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import PostgresError, create_database, drop_database
from participants.audit.command import run_fsck
from participants.audit.fsck import Report, fsck
from participants.audit.replay import accounts_at, balances_at, replay
from participants.ledger.accounts import AccountKey
from participants.payments.disputes import Dispute


async def build(server_url: str) -> list[str]:
    """Two banks after a day with everything in it: a settled cycle, a return, holds, a dispute, queued payments."""
    urls = [await create_database(server_url, f"fsck_{os.getpid()}_{name}") for name in ("alfa", "beta")]
    for url in urls:
        await migrate(url, "participants.ledger")
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", "a-2", balance=10_000)
        await alfa.open("a-1", balance=500, currency="KWD")
        await beta.open("b-1", "b-2", balance=10_000)
        await beta.open("b-1", currency="KWD")
        returned, disputed = payment(300), payment(77)
        await alfa.order(returned, payment(5, currency="KWD"), payment(40, creditor="nobody"))
        await beta.order(payment(120, debtor="b-1", creditor="a-2", to=ALFA))
        await alfa.deliver(beta)
        await beta.deliver(alfa)
        await settle("2026-10-02-01", alfa, beta)
        await alfa.order(disputed, payment(60), payment(61))
        await alfa.deliver(beta)
        await beta.ledger.submit(Dispute(disputed.id, "dora", "no such invoice"))
        await beta.order(giving_back(returned))
        await beta.deliver(alfa)
        await alfa.order(payment(9), hits=[HIT])
        await alfa.order(payment(11))
        await beta.receive(alfa, payment(13).terms(), hits=[HIT])
    return urls


@pytest.fixture(scope="module")
def day(postgres_url: str) -> Iterator[list[str]]:
    """The databases of the two banks, built once and only copied."""
    urls = asyncio.run(build(postgres_url))
    yield urls
    for url in urls:
        asyncio.run(drop_database(postgres_url, database_name(url)))


@pytest.fixture
async def copies(postgres_url: str, day: list[str]) -> AsyncIterator[list[str]]:
    """Copies of the two banks' databases, for one test."""
    names = [f"{database_name(url)}_copy" for url in day]
    yield [
        await create_database(postgres_url, name, template=database_name(url))
        for name, url in zip(names, day, strict=True)
    ]
    for name in names:
        await drop_database(postgres_url, name)


def database_name(url: str) -> str:
    return str(make_url(url).database)


def differences(report: Report) -> dict[str, str | None]:
    return {check.name: check.difference for check in report.checks if not check.ok}


async def test_sound_books_are_proved(day: list[str]) -> None:
    for url, bic in zip(day, (ALFA, BETA), strict=True):
        report = await fsck(url, bic)
        assert differences(report) == {}
        assert report["histories"].examined == report["event_numbers"].examined > 20
        assert report["settlements"].examined == 2


async def test_the_books_of_another_bank_are_not_proved(day: list[str]) -> None:
    assert "lane_trees" in differences(await fsck(day[0], BETA[:4] + "DEFF"))


async def test_empty_books_are_sound(new_database: Any) -> None:
    assert differences(await fsck(await new_database("participants.ledger"), ALFA)) == {}


RETAG = "UPDATE event SET type = 'payment.posted' WHERE type = 'payment.refused'"
NEWER = "UPDATE event SET schema_version = 99 WHERE sequence = 3"
UNKNOWN = "UPDATE event SET type = 'payment.teleported' WHERE type = 'payment.reserved'"
NOT_JSON = "UPDATE event SET data = '{\"order\":1}' WHERE type = 'payment.held_out'"
RESERVED = "(SELECT min(sequence) FROM event WHERE type = 'payment.reserved')"
A_1 = "(SELECT id FROM account WHERE kind = 'customer' AND code = 'a-1' AND currency = 'EUR')"
HEAD = "(lane_id, sequence) = (SELECT lane_id, sequence FROM lane_head ORDER BY sequence DESC LIMIT 1)"

CORRUPTIONS = [
    ("an event is lost", "DELETE FROM event WHERE sequence = 7", "event_numbers"),
    ("a key is lost", "DELETE FROM event_key WHERE sequence = 7", "event_keys"),
    ("a key leads to another event", "UPDATE event_key SET sequence = 8 WHERE sequence = 7", "event_keys"),
    ("the last event is lost", "DELETE FROM event WHERE sequence = (SELECT max(sequence) FROM event)", "event_numbers"),
    ("the head is ahead", "UPDATE ledger_head SET sequence = sequence + 1", "event_numbers"),
    ("the head is lost", "DELETE FROM ledger_head", "event_numbers"),
    ("a type is changed", RETAG, "histories"),
    ("a type is unknown", UNKNOWN, "histories"),
    ("a form is unknown", NEWER, "histories"),
    ("data are of another form", NOT_JSON, "histories"),
    ("a version is skipped", "UPDATE event SET version = 9 WHERE type = 'payment.posted'", "histories"),
    (
        "a subject is swapped",
        "UPDATE event SET subject = gen_random_uuid() WHERE type = 'payment.accepted'",
        "histories",
    ),
    (
        "an amount is changed in an order",
        'UPDATE event SET data = replace(data::text, \'"amount_minor":"300"\', \'"amount_minor":"301"\')::json'
        " WHERE type = 'payment.reserved'",
        "postings_follow_events",
    ),
    ("one leg is lost", "DELETE FROM posting WHERE event_sequence = 9 AND amount > 0", "entries_balanced"),
    (
        "an unknown account is posted to",
        f"UPDATE posting SET account_id = 99 WHERE account_id = {A_1}",
        "entries_balanced",
    ),
    (
        "an entry has no event",
        "UPDATE posting SET event_sequence = 9999 WHERE event_sequence = 9",
        "entries_have_events",
    ),
    ("an entry is lost", "DELETE FROM posting WHERE event_sequence = 9", "postings_follow_events"),
    (
        "a posting is moved to another customer",
        "UPDATE posting SET account_id = (SELECT id FROM account WHERE code = 'a-2'), version = 99"
        f" WHERE account_id = {A_1} AND version = 2",
        "postings_follow_events",
    ),
    (
        "a posting's version is skipped",
        f"UPDATE posting SET version = 90 WHERE account_id = {A_1} AND version = 2",
        "posting_chains",
    ),
    (
        "a chain is broken",
        f"UPDATE posting SET previous_balance = previous_balance - 1, balance = balance - 1 WHERE account_id = {A_1}"
        " AND version = 2",
        "posting_chains",
    ),
    (
        "a balance is better",
        f"UPDATE account_balance SET balance = balance - 1 WHERE account_id = {A_1}",
        "account_balances",
    ),
    ("a balance's version is wrong", "UPDATE account_balance SET version = version + 1", "account_balances"),
    ("a balance is lost", f"DELETE FROM account_balance WHERE account_id = {A_1}", "account_balances"),
    ("bounds are widened", f"UPDATE account_balance SET highest = 10000 WHERE account_id = {A_1}", "account_bounds"),
    (
        "an account was opened by nothing",
        f"UPDATE account SET opened_by = {RESERVED} WHERE code = 'a-1'",
        "accounts_opened",
    ),
    ("money is made", f"UPDATE account_balance SET balance = balance - 5 WHERE account_id = {A_1}", "zero_sum"),
    ("a queued payment is forgotten", "DELETE FROM payment_open WHERE state = 'queued'", "open_payments"),
    ("a hold is forgotten", "DELETE FROM payment_open WHERE state = 'held'", "open_payments"),
    ("a held payment is queued", "UPDATE payment_open SET state = 'queued'", "open_payments"),
    (
        "an unknown payment is queued",
        f"INSERT INTO payment_open VALUES (gen_random_uuid(), 'out', '{BETA}', 'queued', 3)",
        "open_payments",
    ),
    ("a lane entry is lost", "DELETE FROM lane_entry WHERE amount = 60", "lane_entries"),
    ("a lane entry has another amount", "UPDATE lane_entry SET amount = 61 WHERE amount = 60", "lane_entries"),
    ("a leaf is forged", "UPDATE lane_entry SET leaf = sha256('') WHERE amount = 60", "lane_entries"),
    (
        "a lane entry is of no payment",
        "UPDATE lane_entry SET payment_id = gen_random_uuid() WHERE amount = 60",
        "lane_entries",
    ),
    ("a leaf is forged, seen in the tree", "UPDATE lane_entry SET leaf = sha256('') WHERE amount = 60", "lane_trees"),
    ("a gap in the numbers", "DELETE FROM lane_entry WHERE sequence = 1", "lane_trees"),
    ("a head's total is wrong", f"UPDATE lane_head SET total = total + 1 WHERE {HEAD}", "lane_trees"),
    (
        "a head's tree is wrong",
        f"UPDATE lane_head SET peaks = sha256('') || substr(peaks, 33) WHERE {HEAD}",
        "lane_trees",
    ),
    ("the newest head is lost", f"DELETE FROM lane_head WHERE {HEAD}", "lane_trees"),
    ("a head is ahead of the payments", "UPDATE lane_head SET sequence = 99 WHERE sequence = 1", "lane_trees"),
    ("a settled total is wrong", "UPDATE lane_settled SET total = total + 1", "lane_trees"),
    ("the lanes are another bank's", "UPDATE lane SET sender = 'GAMAITRR' WHERE id = 1", "lane_trees"),
    ("a settled number is wrong", "UPDATE lane_settled SET sequence = 2 WHERE total = 300", "settlements"),
    ("a settlement is forgotten", "DELETE FROM lane_settled", "settlements"),
    ("an instruction is lost", "DELETE FROM event WHERE type = 'cycle.instructed'", "settlements"),
    (
        "a position that was attested is changed",
        "UPDATE event SET data = replace(data::text, '\"300\"', '\"301\"')::json WHERE type = 'cycle.attested'",
        "attestations",
    ),
    (
        "a position is taken out of an attestation",
        "UPDATE event SET data = (data::jsonb #- '{positions,0}')::json WHERE type = 'cycle.attested'",
        "attestations",
    ),
    (
        "a settled amount is changed",
        "UPDATE posting SET amount = amount + 1 WHERE event_sequence ="
        " (SELECT max(sequence) FROM event WHERE type = 'cycle.settled')",
        "settlements",
    ),
    (
        "a reservation is forgotten",
        "UPDATE account_balance SET balance = 0 WHERE account_id ="
        " (SELECT id FROM account WHERE kind = 'reserved' AND currency = 'EUR')",
        "reserved_accounts",
    ),
    (
        "what is due is less",
        "UPDATE account_balance SET balance = balance + 1 WHERE account_id ="
        " (SELECT id FROM account WHERE kind = 'due_to' AND currency = 'EUR')",
        "due_accounts",
    ),
]


@pytest.mark.parametrize(("corruption", "check"), [c[1:] for c in CORRUPTIONS], ids=[c[0] for c in CORRUPTIONS])
async def test_corruption_is_found_by_its_check(copies: list[str], corruption: str, check: str) -> None:
    found = await after(copies[0], corruption)
    assert found.get(check), found


@pytest.mark.parametrize(
    "corruption",
    [
        "DELETE FROM dispute",
        "UPDATE dispute SET amount = amount + 1",
        "UPDATE dispute SET sequence = sequence + 1",
        "UPDATE dispute SET payment_id = gen_random_uuid()",
    ],
)
async def test_disputes_are_compared(copies: list[str], corruption: str) -> None:
    assert (await after(copies[1], corruption, BETA)).keys() == {"disputes"}


async def after(url: str, corruption: str, bic: str = ALFA) -> dict[str, str | None]:
    """Corrupt the books as only somebody with the superuser's rights could, and return what fsck finds."""
    connection = await connect(url, role=None)
    await connection.execute("SET session_replication_role = replica")
    for table, constraint in await connection.fetch(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint"
        " WHERE contype = 'c' AND conrelid <> 0 AND coninhcount = 0"
    ):
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    assert await connection.execute(corruption) not in ("UPDATE 0", "DELETE 0")
    await connection.close()
    return differences(await fsck(url, bic))


async def test_fsck_can_not_write(day: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from participants.audit import sql_checks

    writing = sql_checks.SqlCheck("w", "w", "SELECT 1", "DELETE FROM dispute RETURNING 'gone'")
    monkeypatch.setattr(sql_checks, "CHECKS", (writing,))
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await fsck(day[0], ALFA)


# --- balances ----------------------------------------------------------------------------------------------


async def test_balances_at_any_instant(copies: list[str]) -> None:
    connection = await connect(copies[0])
    now = await accounts_at(connection)
    assert now == {key: balance for key, (balance, _) in (await replay(connection)).items()}
    rows = await connection.fetch("SELECT sequence, recorded_at FROM event ORDER BY sequence")
    for sequence, instant in rows:
        expected: dict[AccountKey, int] = {}
        last = max(row[0] for row in rows if row[1] <= instant)
        assert last >= sequence
        for kind, code, currency, total in await connection.fetch(
            "SELECT a.kind, a.code, a.currency, coalesce(sum(p.amount), 0) FROM account a"
            " LEFT JOIN posting p ON p.account_id = a.id AND p.event_sequence <= $1 WHERE a.opened_by <= $1"
            " GROUP BY a.id",
            last,
        ):
            expected[AccountKey(kind, code, currency)] = int(total)
        assert await accounts_at(connection, instant) == expected
    assert await accounts_at(connection, datetime(2020, 1, 1, tzinfo=UTC)) == {}
    assert sum(now.values()) == 0
    await connection.close()


async def test_balances_for_people_sum_to_zero_by_currency(copies: list[str]) -> None:
    connection = await connect(copies[0])
    found = await balances_at(connection)
    await connection.close()
    totals: dict[str, int] = {}
    for row in found:
        totals[row["currency"]] = totals.get(row["currency"], 0) + int(row["balance_minor"])
    assert totals == {"EUR": 0, "KWD": 0}
    customers = [row for row in found if row["kind"] == "customer" and row["currency"] == "EUR"]
    assert [(row["accounts"], row["code"]) for row in customers] == [("2", "")]


# --- the command -------------------------------------------------------------------------------------------


async def test_the_command_prints_and_exits(
    copies: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = NodeSettings(bic=ALFA, url="http://127.0.0.1:1", data_dir=tmp_path, database_url=copies[0])
    assert await asyncio.to_thread(run_fsck, settings) == 0
    assert "FAILED" not in capsys.readouterr().out
    await after(copies[0], "UPDATE ledger_head SET sequence = sequence + 1")
    assert await asyncio.to_thread(run_fsck, settings) == 1
    assert "FAILED" in capsys.readouterr().out


async def test_a_database_without_a_ledger_is_said_to_be_one(new_database: Any, tmp_path: Path) -> None:
    settings = NodeSettings(bic=ALFA, url="http://127.0.0.1:1", data_dir=tmp_path, database_url=await new_database())
    with pytest.raises(PostgresError, match="holds nothing yet"):
        await asyncio.to_thread(run_fsck, settings)
