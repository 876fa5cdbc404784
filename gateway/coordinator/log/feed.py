"""Waiting for events: a long poll that wakes when any replica commits one.

The newest events are read once for all who wait, and kept in memory (`sinks/newest.py`). Before a reader is told that
there is nothing, the table is asked: so a lost notification costs time and never an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext, suppress

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.audience import Reader, View, part_of
from gateway.coordinator.log import events
from gateway.coordinator.log.following import Following
from gateway.coordinator.log.sinks.newest import Newest
from gateway.federation.messages.events import Event, Events
from gateway.federation.problems import ServiceReason
from gateway.federation.sharing import Shares, Turns
from gateway.federation.supervision import Supervised

WAITING_MAX = 64
"""Requests of one reader that wait for news at a time: each node of a bank has one."""


class EventFeed:
    """Reads the event log for its readers and lets them wait. One per process; `start` before use."""

    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self._engine = engine
        self._newest = Newest()
        self._following = Following(self._newest, url)
        self._turns = Turns()
        self._waiting = Shares(WAITING_MAX, ServiceReason.TOO_MANY_REQUESTS, "requests for news")
        self._closing = False
        self._releasing: asyncio.Task[None] | None = None

    @property
    def task(self) -> Supervised:
        """The background work, for the node's readiness."""
        return self._following.task

    def start(self, stopping: asyncio.Event) -> None:
        """Begin to listen; once `stopping` is set, every waiting reader goes with what it has."""
        self.task.start()
        self._releasing = asyncio.create_task(self._release(stopping), name="event-feed-release")

    async def stop(self) -> None:
        await self.task.stop()
        if self._releasing is not None:
            self._releasing.cancel()
            await asyncio.gather(self._releasing, return_exceptions=True)

    async def read(self, *, after: int, limit: int, wait_s: float, reader: Callable[[], Awaitable[Reader]]) -> Events:
        """Return the events after a cursor, waiting up to `wait_s` for the first that its reader may see.

        Who reads is asked again whenever there is something to show: a member may be suspended while it waits. A cursor
        below zero counts back from the newest event. Raises Refusal if as many of a reader's requests wait as may.
        """
        who = await reader()
        with self._waiting.share_of(who.name) if wait_s else nullcontext():
            return await self._read(after, limit, wait_s, who, reader)

    async def _read(
        self, after: int, limit: int, wait_s: float, who: Reader, reader: Callable[[], Awaitable[Reader]]
    ) -> Events:
        viewer = part_of(View.EVENTS, role=who.role, name=who.name)
        if after < 0:
            async with self._engine.connect() as conn:
                after = max(0, await events.last(conn) + after)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            # Taken before looking: what is committed in between sets this very signal.
            news = self._newest.news
            page = self._newest.read(after=after, limit=limit, viewer=viewer)
            wait_left_s = deadline - loop.time()
            if page is None or not (page or wait_left_s > 0):
                async with self._engine.connect() as conn:
                    page = await events.read(conn, after=after, limit=limit, viewer=viewer)
            shown = () if not page else _shown(page, await reader())
            after = page[-1].id if page else after
            if shown or (not page and (wait_left_s <= 0 or self._closing)):
                return Events(events=shown, next=after)
            if page:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_left_s):
                    await news.wait()
                    await self._turns.take()

    async def _release(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._closing = True
        self._newest.wake()


def _shown(page: Iterable[Event], reader: Reader) -> tuple[Event, ...]:
    """Return as much of a page as its reader is shown."""
    read = ((event, reader.reads(event.type, event.data)) for event in page)
    return tuple(msgspec.structs.replace(event, data=dict(data)) for event, data in read if data is not None)
