"""Paying from a file through a running bank: every row taken once or reported, whatever breaks meanwhile."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running_banks import RunningBank, Town
from running_coordinator import ALPHA, BRAVO
from support import free_port, uuid7

from participants.bank_client import staff_client
from participants.intake.files import PaymentRow, ReadOptions, inspect_file, read_rows
from participants.intake.intake import Intake, IntakeError, Summary

pytestmark = pytest.mark.asyncio(loop_scope="module")

COLUMNS = (
    "id", "debtor_bank", "debtor_account", "debtor_name", "creditor_bank", "creditor_account", "creditor_name",
    "amount", "currency", "remittance",
)  # fmt: skip


def row(amount: str, account: str, **changes: str) -> dict[str, str]:
    fields = {
        "id": uuid7(), "debtor_bank": ALPHA, "debtor_account": account, "debtor_name": "Anna Alder",
        "creditor_bank": BRAVO, "creditor_account": "b-1", "creditor_name": "Bert Birch", "amount": amount,
        "currency": "EUR", "remittance": "",
    }  # fmt: skip
    return {**fields, **changes}


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


async def take(
    bank: RunningBank, path: Path, *, url: str | None = None, patience_s: float = 20, batch: int = 3
) -> Summary:
    async with staff_client(bank.settings.data_dir, url=bank.settings.url, subject="import") as client:
        intake = Intake(
            client, url=url or bank.settings.url, bank=bank.bic, batch_items=batch, patience_s=patience_s
        )  # fmt: skip
        return await intake.run(inspect_file(path), ReadOptions())


async def reserved(bank: RunningBank, *ids: str) -> int:
    """Return how many of the payments the bank knows."""
    answers = [await bank.send("GET", f"/payments/{id_}") for id_ in ids]
    return sum(answer.status_code == 200 for answer in answers)


@asynccontextmanager
async def losing_answers(url: str, count: int) -> AsyncIterator[str]:
    """Run a proxy that hands the first requests on and breaks off before it gives the answer back."""
    target = urlsplit(url)
    left = count

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        above = await asyncio.open_connection(target.hostname, target.port)
        upwards = asyncio.create_task(copy(reader, above[1]))
        while data := await above[0].read(65_536):
            if left > 0:
                left -= 1
                break
            writer.write(data)
            await writer.drain()
        for one in (writer, above[1]):
            one.close()
        await upwards

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    finally:
        proxy.close()
        assert left == 0


async def test_each_row_is_taken_or_reported(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("a-file", balance=1_000)
    rows = [
        row("3.00", "a-file"),
        row("4.00", "a-file", debtor_bank=BRAVO, creditor_bank=ALPHA),
        row("1.005", "a-file"),
        row("6.99", "a-file"),
        row("0.02", "a-file"),
        row("0.01", "nobody-here"),
        row("0.01", "a-file", creditor_bank="NONEDEFF"),
        row("0.01", "a-file"),
    ]
    summary = await take(town.alpha, write(tmp_path / "payments.csv", *rows))
    assert (summary.taken, summary.held, summary.of_other_banks) == (3, 0, 1)
    assert sorted((r.line, r.reason) for r in summary.refusals) == [
        (4, "too_many_decimals"),
        (6, "insufficient_funds"),
        (7, "debtor_account_unknown"),
        (8, "creditor_agent_unknown"),
    ]


async def test_a_second_run_takes_nothing_twice(town: Town, tmp_path: Path) -> None:
    """Neither with ids of its own nor with ids that follow from what the rows say."""
    await town.alpha.open("a-again", balance=1_000)
    own = write(tmp_path / "own.csv", *(row("1.00", "a-again") for _ in range(5)))
    derived = write(tmp_path / "derived.csv", *(row("1.00", "a-again", id="") for _ in range(5)))
    for path, taken in ((own, 5), (derived, 5), (own, 0), (derived, 0)):
        summary = await take(town.alpha, path)
        assert (summary.taken, summary.known_rows) == (taken, 5 - taken)
    booked = await town.alpha.node.pool.fetchval(
        "SELECT count(*) FROM event WHERE type = 'payment.reserved' AND data->>'debtor_account' = 'a-again'"
    )
    assert booked == 10


async def test_lost_answers_are_fetched_by_asking_again(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("a-lost", balance=1_000)
    rows = [row("1.00", "a-lost") for _ in range(8)]
    async with losing_answers(town.alpha.settings.url, 3) as url:
        summary = await take(town.alpha, write(tmp_path / "lost.csv", *rows), url=url)
    assert (summary.taken, summary.refusals) == (8, [])
    assert await reserved(town.alpha, *(r["id"] for r in rows)) == 8


async def test_a_row_that_spoils_its_request_is_reported_alone(town: Town, tmp_path: Path) -> None:
    """Should the reader of files let through what the API doesn't take, the other rows don't suffer."""
    await town.alpha.open("a-spoilt", balance=1_000)
    path = write(tmp_path / "spoilt.csv", *(row("0.01", "a-spoilt") for _ in range(7)))
    rows = [one for one in read_rows(inspect_file(path)) if isinstance(one, PaymentRow)]
    rows[2] = replace(rows[2], amount_minor=0)
    async with staff_client(town.alpha.settings.data_dir, url=town.alpha.settings.url, subject="import") as client:
        intake = Intake(client, url=town.alpha.settings.url, bank=ALPHA)
        await intake.take(rows)
    assert intake.summary.taken == 6
    assert [(r.line, r.reason) for r in intake.summary.refusals] == [(4, "validation_failed")]


async def test_a_bank_that_is_away_ends_the_run_in_time(town: Town, tmp_path: Path) -> None:
    path = write(tmp_path / "away.csv", row("1.00", "a-1"))
    with pytest.raises(IntakeError, match="doesn't answer"):
        await take(town.alpha, path, url=f"http://127.0.0.1:{free_port()}", patience_s=0.5)


# --- the command ---------------------------------------------------------------------------------------------


async def command(bank: RunningBank, *arguments: str, data_dir: Path | None = None) -> tuple[int, str]:
    environment = {
        **os.environ,
        "CONCORDAT_BIC": bank.bic,
        "CONCORDAT_URL": bank.settings.url,
        "CONCORDAT_DATA_DIR": str(data_dir or bank.settings.data_dir),
        "COLUMNS": "200",
    }
    program = shutil.which("concordat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program, "participant", "import", "--subject", "dora", *arguments, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_the_command_reports_refused_rows(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("a-command", balance=1_000)
    lines = [json.dumps(row("2.50", "a-command")), "{broken", json.dumps(row("99999.00", "a-command"))]
    path, report = tmp_path / "payments.jsonl.gz", tmp_path / "refused.csv"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    code, output = await command(town.alpha, str(path), "--report", str(report), "--batch", "2")
    assert code == 3, output
    assert "1 payments taken" in output
    assert "2 rows refused" in output
    with report.open(newline="") as stream:
        found = [(r["line"], r["reason"]) for r in csv.DictReader(stream)]
    assert found == [("2", "row_malformed"), ("3", "insufficient_funds")]


async def test_the_command_refuses_a_file_that_is_none(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:-10])
    code, output = await command(town.alpha, str(path))
    assert (code, "ends early" in output) == (2, True), output


async def test_the_command_needs_the_banks_key(town: Town, tmp_path: Path) -> None:
    path = write(tmp_path / "payments.csv", row("1.00", "a-1"))
    code, output = await command(town.alpha, str(path), data_dir=tmp_path)
    assert (code, "token.pem is missing" in output) == (1, True), output
