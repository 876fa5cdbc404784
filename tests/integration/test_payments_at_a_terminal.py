"""Payments and rows of files at the command line: each once, by what became of it in the end, and why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from importing import WAIT_S, command, row, write
from running_banks import Town, order
from support import uuid7

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def none_waits(town: Town) -> None:
    async with asyncio.timeout(WAIT_S):
        while await town.alpha.node.pool.fetchval("SELECT count(*) FROM payment_open"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_row_that_is_paid_anew_counts_once_in_whatever_file(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("t-anew", balance=10_000)
    good, late = row("t-anew", "1.00", "good"), row("t-anew", "2.00", "late", creditor="b-anew")
    first, other = write(tmp_path / "first.csv", good, late), write(tmp_path / "other.csv", late)
    for arguments, code in (((str(first),), 0), ((str(other),), 3), ((str(first), "--pay-again"), 0)):
        got, output = await command(town.alpha, "import", *arguments)
        assert got == code, output
        await none_waits(town)
    code, output = await command(town.alpha, "file-status", str(first))
    assert (code, output.count("line 3: creditor_account_unknown")) == (3, 1), output
    assert "rows: 2 taken\npayments: 1 posted, 1 refused\n" in output
    await town.bravo.open("b-anew")
    assert (await command(town.alpha, "import", str(first), "--pay-again"))[0] == 0
    await none_waits(town)
    code, output = await command(town.alpha, "file-status", str(first))
    assert (code, "rows: 2 taken\npayments: 2 posted\n" in output, "line" in output) == (0, True, False), output
    # Imported before it was paid, and after.
    copy = write(tmp_path / "copy.csv", late, good, row("t-anew", "3.00", "new"))
    code, output = await command(town.alpha, "import", str(copy))
    assert (code, "paid before by first.csv" in output, "lines 2 to 3" in output) == (0, True, True), output
    await none_waits(town)
    for path, rows, payments in ((other, "1 known", "1 posted"), (copy, "2 known, 1 taken", "3 posted")):
        code, output = await command(town.alpha, "file-status", str(path))
        assert (code, f"rows: {rows}\npayments: {payments}\n" in output) == (0, True), output
    paid = await town.alpha.get("/payments", account="t-anew", amount_from="200", amount_to="200", status="posted")
    code, output = await command(town.alpha, "payments", "--file", "copy.csv")
    assert (code, paid["items"][0]["id"] in output) == (0, True), output


async def test_a_file_that_was_changed_is_not_said_to_be_unpaid(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("t-edit")
    one = row("t-edit", "1.00", "one")
    assert (await command(town.alpha, "import", str(write(tmp_path / "edit.csv", one))))[0] == 0
    changed = write(tmp_path / "edit.csv", one, row("t-edit", "2.00", "two"))
    for name in ("file-status", "file-cancel"):
        code, output = await command(town.alpha, name, str(changed))
        assert (code, "file of this content" in output, "--dry-run" in output) == (3, True, True), output


async def test_what_can_not_be_cancelled_is_named(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("t-late")
    path = write(tmp_path / "late.csv", row("t-late", "3.00", "three"))
    assert (await command(town.alpha, "import", str(path)))[0] == 0
    await none_waits(town)
    (paid,) = (await town.alpha.get("/payments", account="t-late"))["items"]
    code, output = await command(town.alpha, "file-cancel", str(path))
    assert (code, f"line 2: payment_answered: payment {paid['id']}, which is posted" in output) == (3, True), output


async def test_a_payment_shows_what_is_given_back_and_its_recalls(town: Town) -> None:
    body = order(100, debtor_account="a-1")
    await town.alpha.send("POST", "/payments", body)
    await town.alpha.until(body["id"], "posted")
    path = f"/payments/{body['id']}"
    recall = uuid7()
    asked = await town.alpha.send("POST", f"{path}/recalls", {"id": recall, "reason": "TECH", "text": "twice"})
    assert asked.status_code == 201, asked.text
    async with asyncio.timeout(WAIT_S):
        while not (await town.bravo.get("/recalls", direction="in"))["items"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    code, output = await command(town.alpha, "payment", body["id"])
    assert (code, f"recall {recall}: TECH: twice, open\n" in output, "given back" in output) == (0, True, False)
    back = uuid7()
    given = {"id": back, "amount_minor": "40"}
    answer = await town.bravo.send("POST", f"{path}/recalls/{recall}/return", given)
    assert answer.status_code == 201, answer.text
    async with asyncio.timeout(WAIT_S):
        while (await town.alpha.get(path))["recalls"][0]["state"] == "open":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    code, output = await command(town.alpha, "payment", body["id"])
    assert f"given back: 0.40 of 1.00 EUR\n  0.40 EUR by {back}\n" in output, output
    assert f"recall {recall}: TECH: twice, returned, by {back}\n" in output, output
