"""The commands that take parts of the journal out and put them back, killed or stopped at each step."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bank_ledgers import ALFA, Bank, connect, payment
from journal_parts import SIZE, assert_proved, built, copied, rows_of

from gateway.federation.http.client import MemberIdentity

# Runs a command of `concordat` that gets a signal as it calls a function, the nth time, whose arguments have a text.
SIGNALLED = """
import os, sys
signal, name, text, times = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = 0

def look(frame, event, called):
    global seen
    if event == "c_call":
        found = called is getattr(os, name, None)
    else:
        ours = event == "call" and frame.f_code.co_name == name and name not in vars(os)
        found = ours and text in str(frame.f_locals.get("query", ""))
    if found:
        seen += 1
        if seen == times:
            os.kill(os.getpid(), signal)

from gateway.cli import main
sys.argv = ["concordat", *sys.argv[5:]]
sys.setprofile(look)
main()
"""
Step = tuple[str, str, int]
DETACHING: dict[str, Step] = {
    "in the middle of the file": ("pack", "", 3),
    "before it has its name": ("link", "", 1),
    "when it has two names": ("unlink", "", 2),
    "when it is whole": ("require_whole", "", 1),
    "before the tables change places": ("execute", "DETACH PARTITION", 1),
    "before the commit": ("execute", "COMMIT", 2),
}
LEFT = {
    "in the middle of the file": [".part"],
    "before it has its name": [".part"],
    "when it has two names": [".part", ".zip"],
}
ATTACHING: dict[str, Step] = {
    "in the middle of the rows": ("unpacked", "", 2),
    "before the tables change places": ("execute", "DETACH PARTITION", 1),
    "before the commit": ("execute", "COMMIT", 1),
}
COMMITTED: Step = ("echo", "", 1)


@pytest.fixture(scope="module")
def journals(postgres_url: str) -> Iterator[list[str]]:
    with built(postgres_url) as urls:
        yield urls


@pytest.fixture
async def alfa(postgres_url: str, journals: list[str]) -> AsyncIterator[Bank]:
    async with copied(postgres_url, journals) as (one, _):
        yield one


class Commands:
    """Commands on a bank's journal, as processes of their own."""

    def __init__(self, bank: Bank, directory: Path) -> None:
        self.directory = directory / "archive"
        self.directory.mkdir()
        self.path = self.directory / f"{ALFA}-journal-0-{SIZE - 1}.zip"
        MemberIdentity.made(ALFA, directory / "data" / "keys")
        self._environment = os.environ | {
            "CONCORDAT_BIC": ALFA,
            "CONCORDAT_DATA_DIR": str(directory / "data"),
            "CONCORDAT_DATABASE_URL": bank.url,
        }

    async def detach(self, step: Step = ("", "", 0)) -> tuple[int, str]:
        return await self.ended(await self._started(signal.SIGKILL, step, *self._detaching))

    async def attach(self, step: Step = ("", "", 0)) -> tuple[int, str]:
        return await self.ended(await self._started(signal.SIGKILL, step, "journal-attach", str(self.path)))

    async def detach_until(self, step: Step) -> Process:
        """Begin to take a part out, and stop at a step."""
        process = await self._started(signal.SIGSTOP, step, *self._detaching)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        return process

    async def ended(self, process: Process) -> tuple[int, str]:
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    @property
    def _detaching(self) -> list[str]:
        return ["journal-detach", "--out", str(self.directory), "--before", "2026-01-01"]

    async def _started(self, signum: int, step: Step, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", SIGNALLED, str(signum), *map(str, step), "participant", *arguments,
            env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip


@asynccontextmanager
async def paying(one: Bank) -> AsyncIterator[None]:
    """Let a bank take orders all the while; each is taken."""

    async def pay() -> None:
        while not done.is_set():
            (outcome,) = await one.order(payment(1))
            assert outcome.status == "reserved"
            await asyncio.sleep(0.2)

    done = asyncio.Event()
    task = asyncio.create_task(pay())
    try:
        yield
    finally:
        done.set()
        await task


async def old_rows(one: Bank) -> list[tuple[object, ...]]:
    """Return what was in the journal before anything was paid meanwhile."""
    return (await rows_of(one))[: 2 * SIZE]


async def test_taking_out_ends_whenever_it_is_killed(alfa: Bank, tmp_path: Path) -> None:
    commands = Commands(alfa, tmp_path)
    before = await old_rows(alfa)
    async with paying(alfa):
        for name, step in DETACHING.items():
            assert (await commands.detach(step))[0] == -signal.SIGKILL, name
            assert await old_rows(alfa) == before, name
            left = sorted(path.suffix for path in commands.directory.iterdir())
            assert left == LEFT.get(name, [".zip"]), name
        assert commands.path.exists()
        code, said = await commands.detach(COMMITTED)
        assert code == -signal.SIGKILL
        assert await alfa.connection.fetchval("SELECT sequence FROM journal_floor") == SIZE, said
        assert [path.name for path in commands.directory.iterdir()] == [commands.path.name]
        await assert_proved(alfa)
        code, said = await commands.attach()
        assert code == 0, said
        assert await old_rows(alfa) == before
    await assert_proved(alfa)


async def test_putting_back_ends_whenever_it_is_killed(alfa: Bank, tmp_path: Path) -> None:
    commands = Commands(alfa, tmp_path)
    before = await old_rows(alfa)
    async with paying(alfa):
        code, said = await commands.detach()
        assert code == 0, said
        without = await old_rows(alfa)
        for name, step in ATTACHING.items():
            assert (await commands.attach(step))[0] == -signal.SIGKILL, name
            assert await old_rows(alfa) == without, name
        await assert_proved(alfa)
        assert (await commands.attach(COMMITTED))[0] == -signal.SIGKILL
        assert await old_rows(alfa) == before
        code, said = await commands.attach()
        assert (code, "are in the journal already" in said) == (0, True)
    await assert_proved(alfa)


@pytest.mark.parametrize("name", ["in the middle of the file", "before the commit"])
async def test_a_database_that_goes_away_is_said_in_a_line(alfa: Bank, tmp_path: Path, name: str) -> None:
    commands = Commands(alfa, tmp_path)
    before = await rows_of(alfa)
    process = await commands.detach_until(DETACHING[name])
    end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'concordat journal'"
    admin = await connect(alfa.url, role=None)
    assert await admin.fetchval(end) == 1
    await admin.close()
    process.send_signal(signal.SIGCONT)
    code, said = await commands.ended(process)
    assert (code, said.count("\n")) == (2, 1), said
    assert said.startswith("concordat: the database can't be reached: ")
    assert await rows_of(alfa) == before
    code, said = await commands.detach()
    assert code == 0, said
    await assert_proved(alfa)


@pytest.mark.parametrize("busy", [False, True])
async def test_what_another_command_takes_a_part_out_by_stays(alfa: Bank, tmp_path: Path, busy: bool) -> None:
    commands = Commands(alfa, tmp_path)
    before = await rows_of(alfa)
    # Both have the file open. The one that made it comes too late, or gives up as somebody reads the journal at length.
    maker, other = [await commands.detach_until(("require_whole", "", 1)) for _ in range(2)]
    if busy:
        async with alfa.connection.transaction():
            await alfa.connection.fetchval("SELECT count(*) FROM event")
            maker.send_signal(signal.SIGCONT)
            made = await commands.ended(maker)
        other.send_signal(signal.SIGCONT)
        taken_out = await commands.ended(other)
    else:
        other.send_signal(signal.SIGCONT)
        taken_out = await commands.ended(other)
        maker.send_signal(signal.SIGCONT)
        made = await commands.ended(maker)
    assert (taken_out[0], made[0], "journal_moved" in made[1]) == (0, 1, True), (taken_out, made)
    code, said = await commands.attach()
    assert code == 0, said
    assert await rows_of(alfa) == before
    await assert_proved(alfa)
