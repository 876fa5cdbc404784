"""Files at the command line: what pays once, and what pays nobody."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid5

import asyncpg
import pytest
from importing import HEADER, command, paid, row, write
from running_banks import Town, order
from running_coordinator import BRAVO

from gateway.federation.storage.postgres import dsn

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_corrected_resaved_and_reordered_file_pays_only_what_is_new(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-fix")
    rent, typo, corrected = (
        row("f-fix", amount, text) for amount, text in (("11.00", "rent"), ("0.005", "typo"), ("0.50", "typo"))
    )
    first = write(tmp_path / "first.csv", rent, typo)
    code, output = await command(town.alpha, "import", str(first))
    assert (code, "1 payments taken" in output, "line 3: too_many_decimals" in output) == (3, True, True), output
    code, output = await command(town.alpha, "import", str(write(tmp_path / "second.csv", rent, corrected)))
    assert (code, "1 payments taken" in output, "1 known before" in output) == (0, True, True), output
    assert "paid before by first.csv, imported by dora at " in output
    assert ": line 2\n" in output
    resaved = write(tmp_path / "third.csv", corrected, rent, start="\ufeff", end="\r\n")
    code, output = await command(town.alpha, "import", str(resaved))
    assert (code, "0 payments taken" in output, "2 known before" in output) == (0, True, True), output
    assert "paid before by second.csv" in output
    assert await paid(town.alpha, "f-fix") == [1100, 50]
    code, output = await command(town.alpha, "import", str(resaved))
    assert (code, await paid(town.alpha, "f-fix")) == (0, [1100, 50]), output


async def test_two_equal_rows_are_two_payments_once(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-equal")
    path = write(tmp_path / "equal.csv", *[row("f-equal", "1.00", "coffee")] * 2)
    for taken, known in ((2, 0), (0, 2)):
        code, output = await command(town.alpha, "import", str(path))
        assert (code, f"{taken} payments taken" in output, f"{known} known before" in output) == (0, True, True), output
    assert "paid before by this file, imported before: lines 2 to 3" in output
    assert await paid(town.alpha, "f-equal") == [100, 100]


@pytest.mark.parametrize(
    ("name", "lines", "code", "told"),
    [
        ("newline", [HEADER, row("f-none", "1.00", '"see below'), row("f-none", "9000.00", "x", creditor="b-2"), '"'],
         3, "lines 2 to 4: remittance_invalid"),
        ("value_date", [HEADER + ",value_dat", row("f-none", "1.13", "future") + ",2026-12-24"],
         2, "unknown columns: value_dat"),
        ("preamble", ["Payments export 27.11.2026", "", HEADER, row("f-none", "1.03", "x")],
         2, "stands above the header, which is line 3"),
        ("quote", [HEADER, row("f-none", "1.00", "good"), row("f-none", "1.00", '"open')],
         2, "line 3: a quote is opened that nothing closes"),
        ("no_bic", [HEADER, row("f-none", "2.00", "x", debtor_bank="ALPHAFR")], 3, "line 2: bank_invalid"),
    ],
)  # fmt: skip
async def test_what_pays_nobody(town: Town, tmp_path: Path, name: str, lines: list[str], code: int, told: str) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_text("".join(line + "\n" for line in lines))
    found, output = await command(town.alpha, "import", str(path))
    assert (found, told in output) == (code, True), output
    assert await paid(town.alpha, "f-none") == []


async def test_separator_decimal_mark_and_header_are_found(town: Town, tmp_path: Path) -> None:
    await town.alpha.open("f-semicolon")
    semicolons = row("f-semicolon", "1.234,56".replace(",", "§"), "x").replace(",", ";").replace("§", ",")
    path = write(tmp_path / "semicolon.csv", semicolons, header=HEADER.replace(",", ";"))
    assert (await command(town.alpha, "import", str(path)))[0] == 0
    spelled = HEADER.replace("debtor_bank,debtor_account", "Debtor_Bank, Debtor_Account ").replace("amount", "Amount")
    path = write(tmp_path / "spelled.csv", row("f-semicolon", "1.08", "x"), header=spelled)
    assert (await command(town.alpha, "import", str(path)))[0] == 0
    assert await paid(town.alpha, "f-semicolon") == [123_456, 108]


async def test_what_an_earlier_release_paid_of_files_is_not_paid_again(town: Town, tmp_path: Path) -> None:
    """Its ids followed from a file's bytes; the same row in the same or another file is known by what it says."""
    await town.alpha.open("f-earlier")
    earlier = order(1100, id=str(uuid5(UUID(int=2), "of a digest and a line")), debtor_account="f-earlier")
    earlier |= {"debtor_name": "Ada Alder", "creditor_name": "Bruno Birch", "remittance": "rent"}
    assert (await town.alpha.send("POST", "/payments", earlier)).status_code == 201
    # What migration 0007 writes of it, which has run already here.
    content = "\x1f".join(("f-earlier", "Ada Alder", BRAVO, "b-1", "Bruno Birch", "1100", "EUR", "rent"))
    owner = await asyncpg.connect(dsn(town.alpha.node.database_url))
    try:
        await owner.execute(
            "INSERT INTO earlier_order VALUES ($1::uuid, $2, 1)", earlier["id"], sha256(content.encode()).digest()
        )
    finally:
        await owner.close()
    rent, new = row("f-earlier", "11.00", "rent"), row("f-earlier", "2.00", "new")
    path = write(tmp_path / "upgraded.csv", rent, new, rent)
    for arguments, told in (
        (("--dry-run",), "2 payments would be taken (0 held by screening), 1 known before"),
        ((), "2 payments taken (0 held by screening), 1 known before"),
        ((), "0 payments taken (0 held by screening), 3 known before"),
    ):
        code, output = await command(town.alpha, "import", str(path), *arguments)
        assert (code, told in output) == (0, True), output
    assert "paid before by an order without a file, or a file of an earlier release: line 2" in output
    assert await paid(town.alpha, "f-earlier") == [1100, 200, 1100]
