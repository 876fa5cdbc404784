"""What `participant journal…` print and leave, at a desk and for programs."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from bank_ledgers import ALFA, Bank, connect
from commands import Said, concordat
from journal_parts import SIZE, built, copied

from gateway.federation.http.client import MemberIdentity
from gateway.federation.storage.owner import require_owner
from participants.ledger.events import RecallRequested
from participants.ledger.partitions import JournalDetached, require_attached
from participants.payments.recalls import RequestRecall


@pytest.fixture(scope="module")
def journals(postgres_url: str) -> Iterator[list[str]]:
    with built(postgres_url) as urls:
        yield urls


@pytest.fixture
async def alfa(postgres_url: str, journals: list[str]) -> AsyncIterator[Bank]:
    async with copied(postgres_url, journals) as (alfa, _):
        await require_owner(alfa.url, ALFA, claim=True)
        yield alfa


async def run(one: Bank, arguments: str, directory: Path) -> Said:
    settings = {
        "CONCORDAT_BIC": ALFA,
        "CONCORDAT_DATA_DIR": str(directory / "node"),
        "CONCORDAT_DATABASE_URL": one.url,
    }
    MemberIdentity.made(ALFA, directory / "node" / "keys")
    return await asyncio.to_thread(concordat, f"participant {arguments}", settings)


async def test_parts_are_listed_a_line_each_and_as_json(alfa: Bank, tmp_path: Path) -> None:
    await run(alfa, f"journal-detach --out {tmp_path} --before 2026-01-01", tmp_path)
    said = await run(alfa, "journal", tmp_path)
    parts = json.loads((await run(alfa, "journal --json", tmp_path)).out)
    lines = said.out.splitlines()
    assert len(lines) == 2 + len(parts)
    assert lines[2].split()[:4] == ["0", "to", str(SIZE - 1), str(SIZE - 1)]
    assert "events stay" in lines[2]
    assert (parts[0]["first"], parts[0]["last"], parts[0]["state"]) == (0, SIZE - 1, "detached")
    assert [part["state"] for part in parts[1:]] == sorted(
        (part["state"] for part in parts[1:]), key=["full", "current", "ahead"].index
    )


async def test_a_day_that_is_none_is_said_to_be(alfa: Bank, tmp_path: Path) -> None:
    said = await run(alfa, f"journal-detach --out {tmp_path} --before yesterday", tmp_path)
    assert (said.code, "'yesterday' is no day, as in 2025-01-31" in said.err) == (2, True)


async def test_an_archive_is_its_owners_alone(alfa: Bank, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        said = await run(alfa, f"journal-detach --out {tmp_path} --before 2026-01-01", tmp_path)
    finally:
        os.umask(before)
    assert said.code == 0, said
    archive = tmp_path / f"{ALFA}-journal-0-{SIZE - 1}.zip"
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


async def test_attaching_again_is_no_failure_until_it_is_detached_again(alfa: Bank, tmp_path: Path) -> None:
    archive = tmp_path / f"{ALFA}-journal-0-{SIZE - 1}.zip"
    for _ in range(2):
        await run(alfa, f"journal-detach --out {tmp_path} --before 2026-01-01", tmp_path)
        for when in ("again", "already", "already"):
            said = await run(alfa, f"journal-attach {archive}", tmp_path)
            assert said == (0, f"events 0 to {SIZE - 1} are in the journal {when}\n", "")


async def test_a_detached_payment_names_its_part_and_those_before_it(alfa: Bank, tmp_path: Path) -> None:
    """Asking for it isn't a failure of the ledger, and isn't logged as one."""
    for _ in range(3):
        assert (await run(alfa, f"journal-detach --out {tmp_path} --before 2026-01-01", tmp_path)).code == 0
    connection = await connect(alfa.url)
    wanted = {}
    for part in range(3):
        wanted[part] = await connection.fetchval(
            "SELECT subject::text FROM event_key k WHERE sequence >= $1 AND sequence < $2 AND version = 1"
            " AND NOT EXISTS (SELECT FROM event e WHERE e.sequence = k.sequence) ORDER BY sequence DESC LIMIT 1",
            part * SIZE,
            (part + 1) * SIZE,
        )
    for part, after in (
        (0, ", after the 2 parts taken out after it"),
        (1, ", after the 1 part taken out after it"),
        (2, ""),
    ):
        with pytest.raises(JournalDetached) as refused:
            await require_attached(connection, [wanted[part]])
        name = f"{ALFA}-journal-{part * SIZE}-{(part + 1) * SIZE - 1}"
        assert refused.value.detail == f"the events of {wanted[part]} are detached: put {name} back{after}"
        assert refused.value.for_others().detail == f"the events of {wanted[part]} are detached"
    await connection.close()
    asked = RecallRequested(id="018f0000-0000-7000-8000-000000000001", reason="DUPL", text=None, person="mona")
    with structlog.testing.capture_logs() as logged, pytest.raises(JournalDetached):
        await alfa.ledger.submit(RequestRecall(wanted[0], asked))
    assert [entry for entry in logged if entry["log_level"] == "error"] == []
