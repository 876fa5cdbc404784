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
from bank_ledgers import ALFA, BETA, bank, connect, payment, settle
from earlier_databases import lay_down

from compliance.crypto import canonical
from compliance.statements import CycleCut
from gateway.federation.storage import database
from participants.audit.fsck import fsck
from participants.cycle import reads
from participants.ledger import MIGRATIONS
from participants.payments.disputes import WithdrawDispute

JOURNALS = json.loads((Path(__file__).parents[1] / "evidence" / "journals-schema-0001.json").read_text("utf-8"))
CYCLE = "2026-10-02-01"
BANKS = {"alfa": ALFA, "beta": BETA}


@pytest.fixture
async def urls(new_database: Any) -> dict[str, str]:
    """The two banks' databases after the migration."""
    urls = {}
    for name, tables in JOURNALS.items():
        urls[name] = await new_database()
        await lay_down(urls[name], MIGRATIONS, "0001", tables)
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
        assert await connection.fetchval("SELECT bic FROM owner") == BANKS[name]
        await connection.close()


async def test_its_tables_become_the_first_part_as_they_stand(new_database: Any) -> None:
    url = await new_database()
    await lay_down(url, MIGRATIONS, "0001", JOURNALS["alfa"])
    connection = await connect(url, role=None)
    files = "SELECT pg_relation_filenode($1::regclass), pg_relation_filenode($2::regclass)"
    before = await connection.fetchrow(files, "event", "posting")
    await database.migrate(url, MIGRATIONS)
    assert await connection.fetchrow(files, "event_0", "posting_0") == before
    assert await connection.fetchval("SELECT count(*) FROM event_key") == len(JOURNALS["alfa"]["event"])
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
