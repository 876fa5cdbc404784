"""The background task that takes a cycle's steps: promptly when told of news, and by the clock for deadlines.

After a crash it goes on from the stored state. Several replicas may run it: a step is one transaction on a locked
row, so each happens once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from gateway.coordinator.cycles.failures import step_failure
from gateway.coordinator.cycles.service import CycleService
from gateway.federation.supervision import Supervised

LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Driver:
    """Runs until stopped; belongs to the event loop that started it."""

    def __init__(self, cycles: CycleService, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self._cycles = cycles
        self._look_every_s = look_every_s
        self.task = Supervised("cycle-driver", self._run)

    def start(self) -> None:
        """Begin to take steps."""
        self.task.start()

    async def stop(self) -> None:
        """Stop between two steps or within one: the step that is cut short is taken again at the next start."""
        await self.task.stop()

    async def _run(self) -> None:
        while True:
            # Cleared before looking: what happens while we look sets it again.
            self._cycles.news.clear()
            try:
                await self._cycles.advance_current()
            except Exception as error:
                # The step has counted it where it is the cycle's trouble; the driver must be there when it can go on.
                if step_failure(error) is None:
                    log.warning("cycle_driver_waits", error=type(error).__name__)
                else:
                    log.exception("cycle_step_raised")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._cycles.news.wait(), self._look_every_s)
