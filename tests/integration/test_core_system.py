"""The core system of the guide, killed at random: each credit once, one that was held for long included.

A few seconds among the tests; `make core MINUTES=60` goes on for as long as one wants, and prints what it came to.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_banks import LISTED, SANCTIONS, RunningBank, Town, order

pytestmark = pytest.mark.asyncio(loop_scope="module")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "connect-your-core.md"
KILLS_MIN = 5
MINUTES = float(os.environ.get("CONCORDAT_CORE_MINUTES") or 0)
PAUSE_S = 0.25 if MINUTES else 0.0
"""Between two payments: whoever lets it run for an hour wants the machine for something else as well."""
CORE = re.search(r"^```python core\.py\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


class Core:
    """The guide's program in a directory of its own, at work for one bank."""

    def __init__(self, bank: RunningBank, directory: Path) -> None:
        assert CORE is not None
        self.directory = directory
        directory.mkdir()
        (directory / "core.py").write_text(CORE[1])
        settings = bank.settings
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CORE_BIC": bank.bic,
            "CORE_URL": settings.url,
            "XDG_CONFIG_HOME": str(directory),
            "HOME": str(directory),
            "NO_PROXY": "127.0.0.1",
        }
        node = {
            "CONCORDAT_BIC": bank.bic,
            "CONCORDAT_URL": settings.url,
            "CONCORDAT_DATA_DIR": str(settings.data_dir),
            "CONCORDAT_DATABASE_URL": bank.node.database_url,
        }
        roles = [f"--role={role}" for role in ("orders", "events", "read")]
        for command in (
            ["participant", "client", "add", "core", "--create", "core.pem", *roles],
            ["login", "core", "--key", "core.pem", "--url", settings.url, "--bic", bank.bic],
        ):
            subprocess.run(["concordat", *command], cwd=directory, env=self.environment | node, check=True)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "core.py",
            *arguments,
            cwd=self.directory,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, *arguments: str) -> str:
        process = await self.start(*arguments)
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    def credits(self) -> list[str]:
        return self._read("SELECT payment FROM entry WHERE amount > 0 AND payment NOT NULL")

    def debits(self) -> list[str]:
        return self._read("SELECT payment FROM entry WHERE amount < 0 AND payment NOT NULL")

    def ordered(self) -> list[str]:
        return self._read("SELECT id FROM outbox")

    def _read(self, query: str) -> list[str]:
        with sqlite3.connect(self.directory / "core.db") as books:
            return [row[0] for row in books.execute(query)]


async def test_a_core_that_is_killed_books_each_credit_once(
    town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha, bravo = town.alpha, town.bravo
    core = await asyncio.to_thread(Core, bravo, tmp_path / "core")
    held = order(999, creditor_name=LISTED)
    await _screen(bravo)
    assert (await alpha.send("POST", "/payments", held)).status_code == 201
    await bravo.until(held["id"], "held")
    paid, kills, began = [held["id"]], 0, time.monotonic()
    while kills < KILLS_MIN or time.monotonic() - began < MINUTES * 60:
        # Two at once, as where one is started again while it still runs: they share the books, and book once.
        at_work = [
            await core.start("hear"),
            await core.start("hear"),
            await core.start("pay", "b-1", alpha.bic, "a-1", "10"),
        ]
        until = time.monotonic() + random.uniform(0.1, 1.2 + 8 * PAUSE_S)
        while time.monotonic() < until:
            one = order(random.randint(1, 500))
            assert (await alpha.send("POST", "/payments", one)).status_code == 201
            paid.append(one["id"])
            await asyncio.sleep(PAUSE_S)
        for process in at_work:
            if process.returncode is None:
                process.kill()
                kills += 1
            await process.wait()
    for person in ("gina", "hugo"):
        word = {"decision": "release", "reason": "another person"}
        answer = await bravo.send("POST", f"/holds/{held['id']}/decisions", word, subject=person)
        assert answer.status_code in (200, 201), answer.text
    for id_ in paid:
        await bravo.until(id_, "accepted")
    await core.run("pay", "b-1", alpha.bic, "a-1", "250")
    for id_ in core.ordered():
        await bravo.until(id_, "posted")
    said = await core.run("reconcile")
    assert said.endswith("reconciled\n"), said
    assert sorted(core.credits()) == sorted(paid)
    assert sorted(core.debits()) == sorted(core.ordered())
    if MINUTES:
        with capsys.disabled():
            print(
                f"\n{kills} kills in {(time.monotonic() - began) / 60:.1f} minutes: {len(paid)} credits, of which one"
            )
            print(f"was held meanwhile, and {len(core.ordered())} orders, each booked once")


async def _screen(bank: RunningBank) -> None:
    files = {"list.csv": base64.b64encode(SANCTIONS).decode()}
    answer = await bank.send("POST", "/screening/lists", {"name": "test", "files": files})
    assert answer.status_code == 201, answer.text
