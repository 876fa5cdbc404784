"""Parts of the journal are made ahead, taken out into files, and put back; the books stay proved throughout."""

from __future__ import annotations

import asyncio
import os
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from bank_ledgers import ALFA, Bank, connect, payment, rewrite_times, settle
from journal_parts import LONG_AGO, SIZE, assert_proved, built, copied, put_back, rows_of, take_out
from typer.testing import CliRunner

from gateway.cli import app
from gateway.federation.http.client import MemberIdentity
from gateway.federation.problems import Refusal
from participants import account_statements
from participants.archive.document import ArchiveReason, ArchiveRefusedError
from participants.audit.fsck import fsck
from participants.audit.replay import accounts_at
from participants.feed.reads import read_stretch
from participants.ledger import store
from participants.ledger.partitions import JournalReason, partitions


@pytest.fixture(scope="module")
def journals(postgres_url: str) -> Iterator[list[str]]:
    with built(postgres_url) as urls:
        yield urls


@pytest.fixture
async def pair(postgres_url: str, journals: list[str]) -> AsyncIterator[tuple[Bank, Bank]]:
    async with copied(postgres_url, journals) as banks:
        yield banks


async def test_parts_are_made_ahead_of_what_is_written(alfa_url: str) -> None:
    connection = await connect(alfa_url)
    assert [part.events for part in await partitions(connection)] == [0, 0, 0]
    assert await connection.fetchval("SELECT extend_journal()") == 0
    writer = await connect(alfa_url, role=None)
    first = (await partitions(connection))[1].first
    await writer.execute("UPDATE ledger_head SET sequence = $1", first)
    assert await asyncio.gather(*(one.fetchval("SELECT extend_journal()") for one in (connection, writer))) in (
        [1, 0], [0, 1],
    )  # fmt: skip
    assert len(await partitions(connection)) == 4
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT make_journal_partition(0, 1)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("SELECT FROM event_0")
    await connection.close()
    await writer.close()


@pytest.fixture
async def alfa_url(new_database: Callable[[str], Awaitable[str]]) -> str:
    return await new_database("participants.ledger")


async def test_a_subjects_version_is_taken_once_in_all_parts(pair: tuple[Bank, Bank]) -> None:
    one = pair[0].connection
    subject, head = await one.fetchval("SELECT subject FROM event WHERE sequence = 5"), 19 * SIZE
    row = (head, subject, 1, "payment.reserved", 2, "{}")
    with pytest.raises(asyncpg.UniqueViolationError):
        await one.copy_records_to_table(
            "event", records=[row], columns=["sequence", "subject", "version", "type", "schema_version", "data"]
        )


async def test_books_are_proved_with_parts_detached_and_attached_again(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    for one in pair:
        before = await rows_of(one)
        balances = await accounts_at(one.connection)
        first = await take_out(one, tmp_path)
        assert (first.manifest.first, first.manifest.bound, first.manifest.events.rows) == (0, SIZE, SIZE - 1)
        assert 0 < first.kept < SIZE - 1
        await assert_proved(one)
        second = await take_out(one, tmp_path)
        assert second.manifest.first == SIZE
        assert second.manifest.previous
        await assert_proved(one)
        assert await accounts_at(one.connection) == balances
        with pytest.raises(ArchiveRefusedError, match=ArchiveReason.ARCHIVE_UNKNOWN):
            await put_back(one, first.path)
        await put_back(one, second.path)
        await assert_proved(one)
        await put_back(one, first.path)
        await assert_proved(one)
        assert await rows_of(one) == before


async def test_payments_go_on_beside_detached_parts(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, beta = pair
    for one in pair:
        await take_out(one, tmp_path)
    await alfa.order(payment(7))
    await alfa.deliver(beta)
    await settle("2026-11-27-01", alfa, beta)
    for one in pair:
        await assert_proved(one)


async def test_nobody_waits_for_each_other_while_tables_change_places(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    owner = await connect(alfa.url, role=None)
    await owner.execute("SELECT make_journal_partition(max(bound), 1000000) FROM journal_partition")
    await owner.close()
    done = asyncio.Event()

    async def pay() -> None:
        while not done.is_set():
            (outcome,) = await alfa.order(payment(1))
            assert outcome.status == "reserved"

    paying = [asyncio.create_task(pay()) for _ in range(3)]
    for _ in range(3):
        await put_back(alfa, (await take_out(alfa, tmp_path)).path)
    done.set()
    await asyncio.gather(*paying)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await alfa.connection.fetchval(deadlocks) == 0
    await assert_proved(alfa)


async def test_what_stands_in_a_detached_part_is_said_to(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    paid = await alfa.connection.fetchval("SELECT subject::text FROM event WHERE type = 'payment.posted' LIMIT 1")
    account = await alfa.connection.fetchval("SELECT id FROM account WHERE code = 'a-1'")
    at = LONG_AGO + timedelta(hours=SIZE + 10)
    standing = await account_statements.standing_at(alfa.connection, account, at)
    await take_out(alfa, tmp_path)
    assert await account_statements.standing_at(alfa.connection, account, at) == standing
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: store.read_payments(alfa.connection, [paid]),
        lambda: account_statements.standing_at(alfa.connection, account, LONG_AGO + timedelta(hours=5)),
        lambda: accounts_at(alfa.connection, LONG_AGO + timedelta(hours=5)),
        lambda: read_stretch(alfa.connection, after=3, through=None, limit=10, types=[]),
    ]
    for ask in asked:
        with pytest.raises(Refusal, match="detached") as refused:
            await ask()
        assert refused.value.reason == JournalReason.JOURNAL_DETACHED
    # Each order is judged for itself.
    outcomes = await alfa.order(payment(1, id_=paid), payment(2))
    assert [(one.status, one.reason) for one in outcomes] == [("refused", "id_detached"), ("reserved", None)]
    await assert_proved(alfa)


async def test_nothing_is_detached_that_is_needed(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.NOTHING_TO_DETACH):
        await take_out(alfa, tmp_path, before=LONG_AGO)
    await rewrite_times(alfa.url, datetime.now(UTC) - timedelta(days=91), timedelta(seconds=1))
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.TOO_YOUNG):
        await take_out(alfa, tmp_path)
    await rewrite_times(alfa.url, LONG_AGO, timedelta(hours=1))
    webhook = (
        "INSERT INTO webhook (id, url, types, created_by, secret_sha256, cursor)"
        " VALUES (gen_random_uuid(), 'https://a', '{}', 'a', sha256(''), 7)"
    )
    for needing, done, reason in (
        (webhook, "DELETE FROM webhook", ArchiveReason.WEBHOOK_BEHIND),
        (
            "UPDATE event_term_cursor SET through = 7",
            "UPDATE event_term_cursor SET through = 10000",
            ArchiveReason.SEARCH_BEHIND,
        ),
    ):
        await alfa.connection.execute(needing)
        with pytest.raises(ArchiveRefusedError, match=reason):
            await take_out(alfa, tmp_path)
        await alfa.connection.execute(done)
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.ARCHIVE_UNWRITABLE):
        await take_out(alfa, tmp_path / "gone")
    assert not os.listdir(tmp_path)
    while (unsettled := await refusal(alfa, tmp_path)) is None:
        pass
    assert unsettled is ArchiveReason.PAYMENTS_UNSETTLED
    assert len(os.listdir(tmp_path)) > 1
    await assert_proved(alfa)


async def refusal(one: Bank, directory: Path) -> ArchiveReason | None:
    """Take out a part, or return why not."""
    try:
        await take_out(one, directory)
    except ArchiveRefusedError as error:
        return error.reason
    return None


async def test_a_file_that_differs_is_not_attached(pair: tuple[Bank, Bank], tmp_path: Path) -> None:
    alfa, _ = pair
    good = (await take_out(alfa, tmp_path)).path
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(good) as original, zipfile.ZipFile(bad, "w") as changed:
        for name in original.namelist():
            data = original.read(name)
            changed.writestr(name, data.replace(b",100", b",101") if name == "postings.csv" else data)
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.ARCHIVE_DIFFERS):
        await put_back(alfa, bad)
    bad.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(ArchiveRefusedError, match=ArchiveReason.ARCHIVE_UNREADABLE):
        await put_back(alfa, bad)
    await assert_proved(alfa)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE journal_closing SET balance = balance + 1 WHERE account_id = 1",
        "DELETE FROM event_0 WHERE type = 'accounts.opened'",
        "UPDATE journal_archive SET manifest = replace(manifest::text, 'a', 'b')::json",
    ],
)
async def test_fsck_finds_what_is_changed_about_detached_parts(
    pair: tuple[Bank, Bank], tmp_path: Path, tampering: str
) -> None:
    alfa, _ = pair
    await take_out(alfa, tmp_path)
    connection = await connect(alfa.url, role=None)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(tampering)
    await connection.close()
    assert not (await fsck(alfa.url, ALFA))["archives"].ok


async def test_the_commands_say_what_they_did(
    pair: tuple[Bank, Bank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCORDAT_BIC", ALFA)
    monkeypatch.setenv("CONCORDAT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CONCORDAT_DATABASE_URL", pair[0].url)
    MemberIdentity.made(ALFA, tmp_path / "data" / "keys")

    async def run(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["participant", *arguments], env={"COLUMNS": "200"})
        return f"{result.exit_code} {result.output}"

    days = ("--out", str(tmp_path), "--before")
    assert (await run("journal-detach", *days, "2023-01-01")).startswith("1 refused: nothing_to_detach")
    path = tmp_path / f"{ALFA}-journal-0-{SIZE - 1}.zip"
    assert (await run("journal-detach", *days, "2026-01-01")).startswith(f"0 {path}: events 0 to {SIZE - 1}, ")
    listed = await run("journal")
    assert all(word in listed for word in ("detached", "current", "ahead"))
    assert "are in the journal again" in await run("journal-attach", str(path))
    assert "detached" not in await run("journal")
