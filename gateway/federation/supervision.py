"""Background work that is meant to go on for as long as the process does, and what the node's readiness says of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog
from prometheus_client import Counter

from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.telemetry import REGISTRY

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 30.0
# Work that went on for so long had begun well: its next end is a new one.
STEADY_SECONDS = 60.0
CANCEL_AGAIN_SECONDS = 5.0
"""What is cancelled may have to tidy up first."""

RESTARTS = Counter(
    "concordat_task_restarts", "Background tasks that ended and were begun again.", ("task",), registry=REGISTRY
)

log = structlog.get_logger(__name__)


class Supervised:
    """Work that is begun again whenever it ends, each time later, until `stop`. Belongs to one event loop.

    Work that `may_return` is over when it does so, and begun again only after an error.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], *, may_return: bool = False) -> None:
        self.name = name
        self.restarts = 0
        self.failure: str | None = None
        """Why it ended, while it waits to be begun again."""
        self._work = work
        self._may_return = may_return
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, unless it is going on already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    def cancel(self) -> None:
        """End the work wherever it is, without waiting for that."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End the work wherever it is, also where it takes being cancelled once for something else."""
        if self._task is not None:
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=CANCEL_AGAIN_SECONDS)
            self._task = None

    def condition(self) -> str:
        """Tell how it is, for the node's readiness."""
        if self.failure is not None:
            return f"waits to be begun again: {self.failure}"
        if self._task is None:
            return "stopped"
        if self._task.done():
            return "done"
        return "running" if self.restarts == 0 else f"running, begun again {self.restarts} times"

    async def _run(self) -> None:
        delay = RESTART_SECONDS_MIN
        while True:
            began = time.monotonic()
            try:
                await self._work()
                if self._may_return:
                    return
                self.failure = "it returned"
                log.error("background task returned", task=self.name)
            except Exception as error:  # whatever it was, the work must go on
                self.failure = type(error).__name__
                log.error("background task ended", task=self.name, exc_info=error)
            if time.monotonic() - began >= STEADY_SECONDS:
                delay = RESTART_SECONDS_MIN
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_SECONDS_MAX)
            self.restarts += 1
            RESTARTS.labels(self.name).inc()
            self.failure = None


def conditions(tasks: Iterable[Supervised]) -> dict[str, str]:
    """Return how each task is. Raises Refusal `not_ready`, which names each that isn't going on."""
    tasks = list(tasks)
    ended = [f"{task.name}: {task.failure}" for task in tasks if task.failure is not None]
    if ended:
        raise Refusal(ServiceReason.NOT_READY, "; ".join(ended), retry_after_s=1)
    return {task.name: task.condition() for task in tasks}
