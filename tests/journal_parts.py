"""Two banks' journals in small parts, of which the first ones may be taken out, and what is done with them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bank_ledgers import ALFA, BETA, Bank, bank, connect, giving_back, payment, rewrite_times, settle
from sqlalchemy import make_url

from compliance.crypto.keys import SigningKey
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants.archive.attachment import Attached, attach
from participants.archive.cli import owner
from participants.archive.detachment import Detached, detach
from participants.audit.fsck import fsck

SIZE = 32
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)
KEY = SigningKey.generate()


async def in_small_parts(url: str) -> None:
    """Let an empty journal have parts of 32 events."""
    connection = await connect(url, role=None)
    parts = [row[0] for row in await connection.fetch("SELECT first FROM journal_partition")]
    await connection.execute("SET session_replication_role = replica; DELETE FROM journal_partition")
    for part in parts:
        await connection.execute(f"DROP TABLE event_{part}, posting_{part}")
    for first in range(0, 20 * SIZE, SIZE):
        await connection.execute("SELECT make_journal_partition($1, $2)", first, first + SIZE)
    await connection.close()


async def build(server_url: str) -> list[str]:
    """Make two banks' journals of small parts, in which payments were settled long ago and others were made since."""
    urls = [await create_database(server_url, f"parts_{os.getpid()}_{name}") for name in ("alfa", "beta")]
    for url in urls:
        await migrate(url, "participants.ledger")
        await in_small_parts(url)
    async with bank(urls[0], ALFA) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=100_000)
        await beta.open("b-1")
        for _ in range(8):
            orders = [payment(number) for number in range(1, 11)]
            await alfa.order(*orders)
            await alfa.deliver(beta)
        await beta.order(giving_back(orders[0]))
        await beta.deliver(alfa)
        await settle("2024-01-01-01", alfa, beta)
        await alfa.order(*[payment(5) for _ in range(40)])
        await alfa.deliver(beta)
        for one in (alfa, beta):
            await rewrite_times(one.url, LONG_AGO, timedelta(hours=1))
            await one.connection.execute("UPDATE event_term_cursor SET through = 10000")
    return urls


def database_name(url: str) -> str:
    return str(make_url(url).database)


@contextmanager
def built(server_url: str) -> Iterator[list[str]]:
    """Make the databases of the two banks once; they are only copied."""
    urls = asyncio.run(build(server_url))
    yield urls
    for url in urls:
        asyncio.run(drop_database(server_url, database_name(url)))


@asynccontextmanager
async def copied(server_url: str, journals: Sequence[str]) -> AsyncIterator[tuple[Bank, Bank]]:
    """Give the two banks on copies of their databases."""
    names = [f"{database_name(url)}_copy" for url in journals]
    urls = [
        await create_database(server_url, name, template=database_name(url))
        for name, url in zip(names, journals, strict=True)
    ]
    async with bank(urls[0], ALFA) as alfa, bank(urls[1], BETA) as beta:
        yield alfa, beta
    for name in names:
        await drop_database(server_url, name)


async def assert_proved(one: Bank) -> None:
    report = await fsck(one.url, one.bic)
    assert {check.name: check.difference for check in report.checks if not check.ok} == {}


async def take_out(one: Bank, directory: Path, *, before: datetime | None = None, key: SigningKey = KEY) -> Detached:
    async with owner(one.url) as connection:
        return await detach(connection, one.bic, key, directory, before=before or datetime.now(UTC))


async def put_back(one: Bank, path: Path, *, keys: Sequence[SigningKey] = (KEY,)) -> Attached:
    async with owner(one.url) as connection:
        return await attach(connection, path, bank=one.bic, keys={key.kid: key.verifying_key for key in keys})


async def rows_of(one: Bank) -> list[tuple[object, ...]]:
    rows = await one.connection.fetch("SELECT * FROM event ORDER BY sequence")
    rows += await one.connection.fetch("SELECT * FROM posting ORDER BY account_id, version")
    return [tuple(row) for row in rows]
