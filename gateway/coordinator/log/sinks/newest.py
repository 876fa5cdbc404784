"""The newest events in memory, for the readers of the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from compliance.cycle.audience import concerns
from gateway.coordinator.log.sinks.sink import AddressedEvent
from gateway.federation.messages.events import Event

KEPT_EVENTS = 1_000
"""Who is further behind reads the table."""


class Newest:
    """The newest events, without a gap, and who may see each. A Sink; belongs to one event loop."""

    name = "event-feed"

    def __init__(self) -> None:
        self.news = asyncio.Event()
        """Set, and replaced by another, whenever something was taken."""
        self._kept: list[AddressedEvent] = []
        self._followed = False

    async def position(self, newest: int) -> int:
        return max(self._kept[-1][0].id if self._kept else 0, newest - KEPT_EVENTS)

    async def take(self, events: Sequence[AddressedEvent]) -> None:
        if self._kept and events and events[0][0].id != self._kept[-1][0].id + 1:
            self._kept.clear()
        self._kept.extend(events)
        del self._kept[:-KEPT_EVENTS]
        self._followed = True
        self.wake()

    def interrupt(self) -> None:
        self._kept.clear()
        self._followed = False

    def wake(self) -> None:
        """Let everybody who waits for news look again."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    def read(self, *, after: int, limit: int, viewer: str | None) -> tuple[Event, ...] | None:
        """Return the events after a cursor that a viewer may see; None where the table has to be asked."""
        before = self._kept[0][0].id - 1 if self._kept else 0
        if after < before or not self._followed:
            return None
        visible = (event for event, audience in self._kept[after - before :] if concerns(viewer, audience))
        return tuple(islice(visible, limit))
