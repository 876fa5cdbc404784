"""Background work that ends is begun again, counted and named; a log that can't be written ends none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.federation import supervision
from gateway.federation.problems import Refusal
from gateway.federation.supervision import Supervised, conditions


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RESTART_SECONDS_MIN", 0.01)
    monkeypatch.setattr(supervision, "RESTART_SECONDS_MAX", 0.02)


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def ending(*ends: Exception | None) -> tuple[Callable[[], Awaitable[None]], asyncio.Event]:
    """Work that ends as often as there are ends, by an error or by returning, and then goes on."""
    left, steady = list(ends), asyncio.Event()

    async def work() -> None:
        if left:
            if (error := left.pop(0)) is not None:
                raise error
            return
        steady.set()
        await asyncio.Event().wait()

    return work, steady


@pytest.mark.parametrize(
    ("ends", "condition"),
    [
        ([], "running"),
        ([ValueError("x")], "running, begun again 1 times"),
        ([None], "running, begun again 1 times"),
        ([OSError(28, "full"), None, AssertionError()], "running, begun again 3 times"),
    ],
)
async def test_it_goes_on(ends: list[Exception | None], condition: str) -> None:
    work, steady = ending(*ends)
    task = Supervised("work", work)
    assert task.condition() == "stopped"
    task.start()
    task.start()
    async with asyncio.timeout(5):
        await steady.wait()
    assert conditions([task]) == {"work": condition}
    await task.stop()
    assert task.condition() == "stopped"


async def test_work_that_may_return_is_over_then_and_begun_again_only_after_an_error() -> None:
    began = 0

    async def work() -> None:
        nonlocal began
        began += 1
        if began < 3:
            raise ValueError

    task = Supervised("work", work, may_return=True)
    task.start()
    await until(lambda: task.condition() == "done")
    assert (began, task.restarts, conditions([task])) == (3, 2, {"work": "done"})
    await task.stop()


async def test_work_that_takes_being_cancelled_for_something_else_is_stopped_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "CANCEL_AGAIN_SECONDS", 0.05)
    begun, never, swallowed = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        while True:
            begun.set()
            try:
                await never.wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(1)

    task = Supervised("work", work)
    task.start()
    await begun.wait()
    async with asyncio.timeout(10):
        await task.stop()
    assert swallowed
    assert task.condition() == "stopped"


async def test_what_does_not_go_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "RESTART_SECONDS_MIN", 60)
    failing = Supervised("failing", ending(KeyError("x"))[0])
    running = Supervised("running", ending()[0])
    failing.start()
    running.start()
    await until(lambda: failing.failure)
    with pytest.raises(Refusal) as refused:
        conditions([running, failing])
    assert (refused.value.reason, str(refused.value)) == ("not_ready", "not_ready: failing: KeyError")
    await failing.stop()
    await running.stop()


LOGGING = """
import logging, structlog
from gateway.federation.telemetry import LINES_LOST, configure_logging
configure_logging("info")
for number in range(100):
    structlog.get_logger("a").warning("told", number=number)
    logging.getLogger("b").error("told too", exc_info=ValueError("x"))
print("went on,", "lost" if LINES_LOST._value.get() >= 100 else "nothing lost", flush=True)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_that_cannot_be_written_never_raises_into_the_work() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", LOGGING], stdout=subprocess.PIPE, stderr=full, timeout=60)
    assert done.stdout.decode().strip() == "went on, lost"
