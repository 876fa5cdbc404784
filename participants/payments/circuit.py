"""How often a counterparty that can't be paid is tried, and since when: a circuit breaker for each of them.

| state | event | then |
|---|---|---|
| closed | a failure, fewer than 5 in a row | closed: tried again after 0.1 s, doubled each time |
| closed | the fifth failure in a row that isn't ours | open |
| open | its time is over, or the counterparty calls | half open: one batch is a probe |
| half open | a failure | open: for twice as long, a minute at most |
| any | an answer | closed |
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from datetime import UTC, datetime
from enum import StrEnum

from prometheus_client import Gauge

from gateway.federation.telemetry import REGISTRY

FAILURES_MAX = 5
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 5.0
PROBE_SECONDS_MIN = 1.0
PROBE_SECONDS_MAX = 60.0

UNDELIVERABLE_SINCE = Gauge(
    "concordat_payments_undeliverable_since_seconds",
    "Unix time since when payments to a counterparty can't be delivered; 0 if they can.",
    ("counterparty",),
    registry=REGISTRY,
)


class CircuitState(StrEnum):
    """Whether payments go to a counterparty."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Circuit:
    """The state of delivery to one counterparty. Belongs to one event loop."""

    def __init__(self, counterparty: str) -> None:
        self.state = CircuitState.CLOSED
        self._gauge = UNDELIVERABLE_SINCE.labels(counterparty)
        self._gauge.set(0)
        self._failures = 0
        self._retry_s = RETRY_SECONDS_MIN
        self._failing_since: datetime | None = None
        self._heard = asyncio.Event()

    @property
    def undeliverable_since(self) -> datetime | None:
        """When the first of many failures in a row was; None while payments are delivered."""
        return self._failing_since if self._failures >= FAILURES_MAX else None

    def failed(self, *, ours: bool, retry_after_s: int | None = None) -> float:
        """Note a failure and return after how many seconds to try again. `ours`: not the counterparty's doing."""
        self._failing_since = self._failing_since or datetime.now(UTC)
        self._failures += 1
        if self._failures == FAILURES_MAX:
            self._gauge.set(self._failing_since.timestamp())
        if not ours and self._failures >= FAILURES_MAX:
            self.state = CircuitState.OPEN
        elif ours:
            self.state = CircuitState.CLOSED
        longest = PROBE_SECONDS_MAX if self.state is CircuitState.OPEN else RETRY_SECONDS_MAX
        seconds = max(min(self._retry_s, longest), min(retry_after_s or 0, PROBE_SECONDS_MAX))
        self._retry_s = min(self._retry_s * 2, longest)
        # Banks that lost the same peer don't come back at the same moment.
        return seconds * random.uniform(0.8, 1.0)  # noqa: S311 - no secret

    def succeeded(self) -> None:
        """Note an answer."""
        if self._failures >= FAILURES_MAX:
            self._gauge.set(0)
        self.state, self._failures, self._failing_since = CircuitState.CLOSED, 0, None
        self._retry_s = RETRY_SECONDS_MIN

    def heard(self) -> None:
        """The counterparty called: it lives, so an open circuit needn't wait for its time."""
        self._heard.set()

    async def rest(self, seconds: float) -> None:
        """Wait before the next attempt; cut short, but not below a second, when the counterparty calls."""
        at_least = min(seconds, PROBE_SECONDS_MIN)
        end = time.monotonic() + seconds
        self._heard.clear()
        await asyncio.sleep(at_least)
        if self.state is CircuitState.OPEN:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(end - time.monotonic()):
                    await self._heard.wait()
            self.state = CircuitState.HALF_OPEN
        else:
            await asyncio.sleep(max(0.0, end - time.monotonic()))
