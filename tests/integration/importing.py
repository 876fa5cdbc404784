"""Payment files, the command that imports them, and what it paid, for tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from running_banks import RunningBank
from running_coordinator import ALPHA, BRAVO

HEADER = (
    "debtor_bank,debtor_account,debtor_name,creditor_bank,creditor_account,creditor_name,amount,currency,remittance"
)
WAIT_S = 60


def row(account: str, amount: str, remittance: str, *, debtor_bank: str = ALPHA, creditor: str = "b-1") -> str:
    return f"{debtor_bank},{account},Ada Alder,{BRAVO},{creditor},Bruno Birch,{amount},EUR,{remittance}"


def write(path: Path, *rows: str, start: str = "", end: str = "\n", header: str = HEADER) -> Path:
    path.write_bytes((start + "".join(line + end for line in (header, *rows))).encode())
    return path


async def start(
    bank: RunningBank, *arguments: str, url: str | None = None, subject: str | None = "dora"
) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "CONCORDAT_BIC": bank.bic,
        "CONCORDAT_URL": url or bank.settings.url,
        "CONCORDAT_DATA_DIR": str(bank.settings.data_dir),
        "COLUMNS": "200",
    }
    program = shutil.which("concordat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program is not None
    who = ("--subject", subject) if subject else ()
    return await asyncio.create_subprocess_exec(
        program, "participant", arguments[0], *who, *arguments[1:], env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def command(
    bank: RunningBank, *arguments: str, url: str | None = None, subject: str | None = "dora"
) -> tuple[int, str]:
    process = await start(bank, *arguments, url=url, subject=subject)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def paid(bank: RunningBank, account: str) -> list[int]:
    """Return the amounts that left an account, in order."""
    rows = await bank.node.pool.fetch(
        "SELECT (data->>'amount_minor')::bigint FROM event WHERE type = 'payment.reserved' "
        "AND data->>'debtor_account' = $1 ORDER BY sequence",
        account,
    )
    return [one[0] for one in rows]
