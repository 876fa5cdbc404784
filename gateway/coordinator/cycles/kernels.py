"""The netting engine's compiled kernels, made ready by a process of its own before a cycle needs them.

Compiling takes a minute or two, once for a machine and a release. In this process it would slow down everybody's
requests.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from netting.kernels.compile import is_complete
from netting.liquidity.branch import INTERPRETED_MAX

LOWEST_PRIORITY = 19
COMPILING_SECONDS_MAX = 900
"""After which compiling is given up, and left to whoever nets."""

log = structlog.get_logger(__name__)


class Kernels:
    """Compiles in the background, once at most; belongs to one event loop.

    `command` compiles every kernel, and `complete` tells whether all are compiled.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-P", "-m", "netting"),
        complete: Callable[[], bool] = is_complete,
    ) -> None:
        self._command = command
        self._complete = complete
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing is left to wait for: all is compiled, or it was tried in vain and is left to who nets."""
        return (self._task is not None and self._task.done()) or self._complete()

    def start(self) -> None:
        """Begin to compile, unless it has begun or nothing is left to."""
        if self._task is None and not self.ready:
            self._task = asyncio.create_task(self._compile(), name="kernels")

    async def stop(self) -> None:
        """Give up what is under way; what is compiled by then is kept."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _compile(self) -> None:
        started_at = time.monotonic()
        log.info("netting_kernels_compiling")
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            log.warning("netting_kernels_not_compiled", error=type(error).__name__)
            return
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
            code = await asyncio.wait_for(process.wait(), COMPILING_SECONDS_MAX)
        except TimeoutError:
            code = None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code == 0:
            log.info("netting_kernels_compiled", seconds=round(time.monotonic() - started_at))
        else:
            log.warning("netting_kernels_not_compiled", code=code)


def may_be_needed(banks: int) -> bool:
    """Tell whether a cycle of so many banks can have more pairs in a currency than are netted without compiling."""
    return banks * (banks - 1) // 2 > INTERPRETED_MAX
