"""What the importer says of a file: dry runs, reports, its status, exit codes; and what is left when it is killed."""

from __future__ import annotations

import asyncio
import csv
import shutil
import signal
from pathlib import Path

import pytest
from importing import WAIT_S, command, paid, row, start, write
from running_banks import Town, order
from running_coordinator import ALPHA, BRAVO
from support import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_dry_run_says_what_an_import_would_do(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-dry", balance=1_000)
    known = row("f-dry", "1.00", "known")
    await command(town.alpha, "import", str(write(tmp_path / "known.csv", known)))
    path = write(tmp_path / "dry.csv", known, row("f-dry", "2.00", "new"), row("f-dry", "99.00", "poor"))
    for _ in range(2):
        code, output = await command(town.alpha, "import", str(path), "--dry-run")
        assert code == 3
        assert "1 payments would be taken (0 held by screening), 1 known before, 1 rows refused" in output
        assert "paid before by known.csv" in output
        assert "line 4: insufficient_funds" in output
    code, output = await command(town.alpha, "file-status", str(path))
    assert (code, "no row of it has reached" in output) == (3, True), output
    assert await paid(town.alpha, "f-dry") == [100]


async def test_all_or_nothing(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-all", balance=1_000)
    good, more = row("f-all", "4.00", "one"), row("f-all", "5.00", "two")
    other_banks = row("f-all", "1.005", "theirs", debtor_bank=BRAVO)
    for name, refused in (("read", row("f-all", "0.005", "typo")), ("bank", row("f-all", "2.00", "too much"))):
        path, report = write(tmp_path / f"{name}.csv", good, more, refused), tmp_path / f"{name}-refused.csv"
        code, output = await command(town.alpha, "import", str(path), "--all-or-nothing", "--report", str(report))
        assert (code, "0 payments taken" in output, "3 rows refused" in output) == (3, True, True), output
        assert await paid(town.alpha, "f-all") == []
    path = write(tmp_path / "good.csv", good, more, other_banks)
    code, output = await command(town.alpha, "import", str(path), "--all-or-nothing")
    assert (code, await paid(town.alpha, "f-all")) == (0, [400, 500]), output


async def test_refused_rows_are_a_file_that_pays_what_they_said_once(town: Town, tmp_path: Path) -> None:
    """Of three equal rows the money serves one; the report is imported when there is more, and the file again."""
    await town.alpha.open("f-report", balance=100)
    rows = [row("f-report", "1.00", '"equal, ""quoted"""')] * 3
    path, report = write(tmp_path / "rows.csv", *rows, row("f-report", "1.005", "typo")), tmp_path / "refused.csv"
    assert (await command(town.alpha, "import", str(path), "--report", str(report)))[0] == 3
    with report.open(newline="") as stream:
        found = [(one["line"], one["reason"], one["amount"]) for one in csv.DictReader(stream)]
    assert sorted(found) == [
        ("3", "insufficient_funds", "1"),
        ("4", "insufficient_funds", "1"),
        ("5", "too_many_decimals", "1.005"),
    ]
    code, output = await command(town.alpha, "import", str(report), "--report", str(report))
    assert (code, "is the file itself" in output) == (2, True), output
    given = order(200, creditor_agent=ALPHA, debtor_account="b-1", creditor_account="f-report")
    await town.bravo.send("POST", "/payments", given)
    await town.bravo.until(given["id"], "posted")
    again = tmp_path / "again.csv"
    code, output = await command(town.alpha, "import", str(report), "--report", str(again))
    assert (code, "2 payments taken" in output, "1 rows refused" in output) == (3, True, True), output
    code, output = await command(town.alpha, "import", str(path))
    assert (code, "3 known before" in output) == (3, True), output
    assert await paid(town.alpha, "f-report") == [100, 100, 100]


async def test_the_status_of_a_file(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-status")
    path = write(tmp_path / "status.csv", row("f-status", "1.00", "good"), row("f-nobody", "1.00", "bad"))
    assert (await command(town.alpha, "import", str(path)))[0] == 3
    copy = shutil.copy(path, tmp_path / "renamed.csv")
    code, output = await command(town.alpha, "file-status", str(copy))
    assert code == 3
    assert "status.csv, imported by dora at " in output
    assert "rows: 1 refused, 1 taken" in output
    assert "line 3: debtor_account_unknown" in output


async def test_exit_codes_of_what_is_no_row_s_fault(town: Town, tmp_path: Path) -> None:
    path = write(tmp_path / "away.csv", row("f-codes", "1.00", "x"))
    away = f"http://127.0.0.1:{free_port()}"
    for arguments in (("import", str(path), "--patience-s", "0.2"), ("file-status", str(path))):
        code, output = await command(town.alpha, *arguments, url=away)
        assert (code, "Run the same command again" in output) == (1, True), output
    for arguments in (("import", str(tmp_path / "none.csv")), ("import", str(path), "--currency", "XXX"),
                      ("import", str(path), "--report", str(tmp_path / "none" / "refused.csv"))):  # fmt: skip
        assert (await command(town.alpha, *arguments))[0] == 2


async def test_an_interrupted_import_says_so(town: Town, tmp_path: Path) -> None:
    path = write(tmp_path / "slow.csv", row("f-codes", "1.00", "x"))
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(WAIT_S):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        process = await start(town.alpha, "import", str(path), url=url)
        await asked.wait()
        process.send_signal(signal.SIGINT)
        output, _ = await process.communicate()
    assert (process.returncode, "interrupted" in output.decode()) == (130, True), output


async def test_an_importer_killed_in_the_middle_is_run_again(town: Town, tmp_path: Path) -> None:
    """Each row is paid once, equal ones included, whatever was on its way when it died."""
    await town.alpha.open("f-killed", balance=10**9)
    rows = [row("f-killed", f"{1 + number % 40}.00", "many") for number in range(400)]
    path = write(tmp_path / "killed.csv", *rows)
    for least in (1, 100, 200):
        process = await start(town.alpha, "import", str(path), "--batch", "5")
        async with asyncio.timeout(WAIT_S):
            while process.returncode is None and len(await paid(town.alpha, "f-killed")) < least:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        if process.returncode is None:
            process.kill()
        await process.communicate()
    code, output = await command(town.alpha, "import", str(path))
    assert (code, "paid before by this file" in output) == (0, True), output
    assert sorted(await paid(town.alpha, "f-killed")) == sorted(100 * (1 + number % 40) for number in range(400))
    code, output = await command(town.alpha, "file-status", str(path))
    assert (code, "rows: 400 taken" in output) == (0, True), output
