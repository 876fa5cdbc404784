"""Looking at the bank's database again and again, beside the work: one way for all who do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from gateway.federation.problems import ServiceReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised

QUIET_SECONDS = 2.0
"""While a database goes or comes some find it and some don't: that is one outage."""

log = structlog.get_logger(__name__)


class Outage:
    """Whether the database is away, as all who look at it find together: said once, and once that it is back."""

    def __init__(self) -> None:
        self._reason: ServiceReason | None = None
        self._failed_at = 0.0

    def began(self, reason: ServiceReason) -> None:
        """Say so, if nobody has."""
        if self._reason is None:
            log.warning("database away; what is looked at now and then waits", reason=reason)
        self._reason = reason
        self._failed_at = time.monotonic()

    def ended(self) -> None:
        """Say so, if it was away and nobody's look has failed of late."""
        if self._reason is not None and time.monotonic() - self._failed_at >= QUIET_SECONDS:
            log.info("database there again", was=self._reason)
            self._reason = None


class Watch:
    """A look every few seconds, in the background. A failing database is waited out; any other error is one."""

    def __init__(self, name: str, look: Callable[[], Awaitable[None]], *, every_s: float, outage: Outage) -> None:
        self.task = Supervised(name, self._watch)
        self._look = look
        self._every_s = every_s
        self._outage = outage

    async def _watch(self) -> None:
        while True:
            try:
                await self._look()
                self._outage.ended()
            except Exception as error:
                reason = failure_of(error)
                if reason is None:
                    raise
                self._outage.began(reason)
            await asyncio.sleep(self._every_s)
