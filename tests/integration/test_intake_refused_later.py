"""Rows of files whose payments were refused after they were taken: said to be unpaid, paid anew only if asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from importing import WAIT_S, command, paid, row, write
from running_banks import Town

pytestmark = pytest.mark.asyncio(loop_scope="module")

AFTERWARDS = "it was taken, and refused afterwards (creditor_account_unknown): its money is free, and --pay-again"


async def until_decided(town: Town, account: str, count: int) -> list[Any]:
    """Wait until so many payments of an account ended; return their states in order."""
    found: list[Any] = []
    async with asyncio.timeout(WAIT_S):
        while len(found) < count:
            await asyncio.sleep(0.05)
            rows = await town.alpha.node.pool.fetch(
                "SELECT e.type FROM event e JOIN event o ON o.subject = e.subject AND o.version = 1 "
                "WHERE o.data->>'debtor_account' = $1 AND e.type IN ('payment.posted', 'payment.refused') "
                "ORDER BY o.sequence",
                account,
            )
            found = [one[0] for one in rows]
    return found


async def test_a_payment_that_the_other_bank_refused_is_not_paid_before(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-later", balance=10_000)
    path = write(
        tmp_path / "later.csv", row("f-later", "1.00", "good"), row("f-later", "2.00", "late", creditor="b-later")
    )
    assert (await command(town.alpha, "import", str(path)))[0] == 0
    assert await until_decided(town, "f-later", 2) == ["payment.posted", "payment.refused"]
    # By whatever way it is asked again, it isn't paid, and money doesn't move by itself.
    for options in ((), ("--dry-run",), ("--all-or-nothing",)):
        code, output = await command(town.alpha, "import", str(path), *options)
        assert code == 3, output
        assert "1 known before, 1 rows refused" in output
        assert f"line 3: creditor_account_unknown: {AFTERWARDS}" in output.replace("\n", " ")
    code, output = await command(town.alpha, "file-status", str(path))
    assert (code, "line 3: creditor_account_unknown: payment" in output) == (3, True), output
    assert "was refused after it was taken" in output
    assert await paid(town.alpha, "f-later") == [100, 200]
    # Once it is asked for, it is paid under another id, once, however often that is asked.
    await town.bravo.open("b-later")
    for expected in ("1 payments taken", "0 payments taken"):
        code, output = await command(town.alpha, "import", str(path), "--pay-again")
        assert (code, expected in output) == (0, True), output
    assert await until_decided(town, "f-later", 3) == ["payment.posted", "payment.refused", "payment.posted"]
    for what in ("import", "file-status"):
        code, output = await command(town.alpha, what, str(path))
        assert code == 0, output
    assert await paid(town.alpha, "f-later") == [100, 200, 200]


async def test_the_reason_is_the_other_banks_whatever_would_be_answered_now(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-poor", balance=200)
    path = write(tmp_path / "poor.csv", row("f-poor", "2.00", "late", creditor="b-poor"))
    assert (await command(town.alpha, "import", str(path)))[0] == 0
    assert await until_decided(town, "f-poor", 1) == ["payment.refused"]
    other = write(tmp_path / "other.csv", row("f-poor", "2.00", "another"))
    assert (await command(town.alpha, "import", str(other)))[0] == 0
    for options, reason in (((), "creditor_account_unknown"), (("--pay-again",), "insufficient_funds")):
        code, output = await command(town.alpha, "import", str(path), *options)
        assert (code, f"line 2: {reason}" in output) == (3, True), output
    assert await paid(town.alpha, "f-poor") == [200, 200]


async def test_all_or_nothing_pays_anew_only_if_asked(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-whole", balance=10_000)
    bad = row("f-whole", "2.00", "late", creditor="b-whole")
    first = write(tmp_path / "first.csv", bad)
    assert (await command(town.alpha, "import", str(first)))[0] == 0
    assert await until_decided(town, "f-whole", 1) == ["payment.refused"]
    path = write(tmp_path / "whole.csv", bad, row("f-whole", "3.00", "another"))
    code, output = await command(town.alpha, "import", str(path), "--all-or-nothing")
    assert code == 3, output
    assert "line 2: creditor_account_unknown" in output
    assert "line 3: batch_not_taken" in output
    code, output = await command(town.alpha, "import", str(path), "--all-or-nothing", "--pay-again")
    assert (code, "2 payments taken" in output) == (0, True), output
    assert await paid(town.alpha, "f-whole") == [200, 200, 300]


async def test_each_bad_row_of_all_or_nothing_has_its_own_reason(town: Town, tmp_path: Path) -> None:
    """Whether the reader of files or the bank finds it, and however many there are."""
    await town.alpha.open("f-own", balance=1_000)
    good = row("f-own", "1.00", "good")
    rows = {
        row("f-own", "0.005", "typo"): "too_many_decimals",
        good: "batch_not_taken",
        row("f-nobody", "1.00", "who"): "debtor_account_unknown",
        row("f-own", "99.00", "much"): "insufficient_funds",
    }
    for name, some in (("all", list(rows)), ("bank", list(rows)[1:])):
        path = write(tmp_path / f"{name}.csv", *some)
        for options in ((), ("--dry-run",)):
            code, output = await command(town.alpha, "import", str(path), "--all-or-nothing", *options)
            assert (code, "0 payments" in output) == (3, True), output
            for line, one in enumerate(some, 2):
                assert f"line {line}: {rows[one]}" in output
    assert await paid(town.alpha, "f-own") == []
