"""Journals of schema 0001: they migrate, `fsck` proves them, and the bank goes on.

`tests/evidence/journals-schema-0001.json` holds every row of two banks' ledgers as they were written then, in a day
with a settled cycle, a return, holds, a dispute and queued payments in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from bank_ledgers import ALFA, BETA, bank, connect, payment, settle
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from compliance.crypto import canonical
from compliance.statements import CycleCut
from gateway.federation.storage import database
from gateway.federation.storage.postgres import async_url
from participants.audit.fsck import fsck
from participants.cycle import reads
from participants.ledger import MIGRATIONS
from participants.payments.disputes import WithdrawDispute

JOURNALS = json.loads((Path(__file__).parents[1] / "evidence" / "journals-schema-0001.json").read_text("utf-8"))
CYCLE = "2026-10-02-01"
BANKS = {"alfa": ALFA, "beta": BETA}


async def lay_down(url: str, tables: dict[str, list[Any]]) -> None:
    """Make the tables of revision 0001 and put the rows into them as they were."""
    engine = create_async_engine(async_url(url))
    async with engine.connect() as connection:
        await database._prepare_role(connection)
        config = database._alembic(MIGRATIONS)

        def upgrade(sync: Connection) -> None:
            config.attributes["connection"] = sync
            command.upgrade(config, "0001")

        await connection.run_sync(upgrade)
        await connection.commit()
    await engine.dispose()
    owner = await connect(url, role=None)
    await owner.execute("SET session_replication_role = replica; DELETE FROM ledger_head")
    for table, rows in tables.items():
        await owner.execute(
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::{table}, $1)",
            json.dumps(rows, separators=(",", ":"), ensure_ascii=False),
        )
    await owner.close()


@pytest.fixture
async def urls(new_database: Any) -> dict[str, str]:
    """The two banks' databases after the migration."""
    urls = {}
    for name, tables in JOURNALS.items():
        urls[name] = await new_database()
        await lay_down(urls[name], tables)
        await database.migrate(urls[name], MIGRATIONS)
    return urls


async def journal(connection: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT sequence, subject::text, version, type, schema_version, data::text FROM event ORDER BY sequence"
    )
    return [tuple(row) for row in rows]


async def test_a_journal_of_the_release_before_is_proved(urls: dict[str, str]) -> None:
    for name, url in urls.items():
        report = await fsck(url, BANKS[name])
        assert [(c.name, c.difference) for c in report.checks if not c.ok] == []
        assert report["histories"].examined == len(JOURNALS[name]["event"]) > 20
        assert report["settlements"].examined == len(
            [e for e in JOURNALS[name]["event"] if e["type"] == "cycle.settled"]
        )
        connection = await connect(url)
        assert [row[:5] for row in await journal(connection)] == [
            (e["sequence"], e["subject"], e["version"], e["type"], e["schema_version"]) for e in JOURNALS[name]["event"]
        ]
        assert await connection.fetchval("SELECT count(*) FROM event WHERE effective_at IS NOT NULL") == 0
        await connection.close()


async def test_its_signed_cut_is_handed_in_again_as_it_was(urls: dict[str, str]) -> None:
    for name, url in urls.items():
        connection = await connect(url)
        cut, envelope = await reads.cut(connection, CYCLE)
        (recorded,) = (e["data"] for e in JOURNALS[name]["event"] if e["type"] == "cycle.cut")
        assert envelope is not None
        assert json.loads(canonical.encode(envelope)) == recorded["envelopes"][0]
        assert cut == canonical.decode(envelope.payload_bytes(), CycleCut)
        assert cut.receiver == BANKS[name]
        await connection.close()


async def test_the_bank_goes_on(urls: dict[str, str]) -> None:
    """Queued payments are delivered, the dispute is withdrawn, another cycle settles, and all of it is proved."""
    async with bank(urls["alfa"]) as alfa, bank(urls["beta"], BETA) as beta:
        disputed = await beta.connection.fetchval("SELECT payment_id::text FROM dispute")
        assert not (await beta.ledger.submit(WithdrawDispute(disputed, "dora", "found the invoice"))).disputed
        await alfa.order(payment(17))
        await alfa.deliver(beta)
        assert await alfa.queued() == []
        await settle("2026-10-03-01", alfa, beta)
        assert await alfa.balance("due_to", BETA) == await beta.balance("due_from", ALFA) == 0
        for one in (alfa, beta):
            report = await fsck(one.url, one.bic)
            assert [(c.name, c.difference) for c in report.checks if not c.ok] == []
            times = "SELECT DISTINCT effective_at FROM event WHERE type = 'cycle.settled' AND effective_at IS NOT NULL"
            assert [row[0].isoformat() for row in await one.connection.fetch(times)] == ["2026-10-02T12:00:00+00:00"]
