"""Waiting for events: a long poll that wakes when any replica commits one.

PostgreSQL's NOTIFY only says "look again". The feed then reads what is new from the table, once for all who wait, and
keeps the newest events in memory. Before a reader is told that there is nothing, the table is asked: so a lost
notification costs time and never an event. It looks by time too, and so notices a server that is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.audience import concerns
from gateway.coordinator.log import events
from gateway.federation.messages.events import Event, Events
from gateway.federation.storage.sessions import connect
from gateway.federation.supervision import Supervised

RECONNECT_S = 1.0
LOOK_S = 2.0
KEPT_EVENTS = 1_000
"""In memory; who is further behind reads the table."""

log = structlog.get_logger(__name__)


class Newest:
    """The newest events, without a gap, and who may see each."""

    def __init__(self) -> None:
        self._kept: list[tuple[Event, tuple[str, ...] | None]] = []

    @property
    def last(self) -> int:
        """The id of the newest event, 0 before the first."""
        return self._kept[-1][0].id if self._kept else 0

    def add(self, newer: Iterable[tuple[Event, tuple[str, ...] | None]]) -> None:
        """Take in events that follow each other; if they don't follow the newest, they replace all."""
        for event, audience in newer:
            if event.id != self.last + 1:
                self._kept.clear()
            self._kept.append((event, audience))
        del self._kept[:-KEPT_EVENTS]

    def read(self, *, after: int, limit: int, viewer: str | None) -> tuple[Event, ...] | None:
        """Return the events after a cursor that a viewer may see; None if the cursor is further behind."""
        before = self._kept[0][0].id - 1 if self._kept else 0
        if after < before:
            return None
        visible = (event for event, audience in self._kept[after - before :] if concerns(viewer, audience))
        return tuple(islice(visible, limit))


class EventFeed:
    """Reads the event log for its readers and lets them wait. One per process; `start` before use."""

    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self._engine = engine
        self._url = url
        self._news = asyncio.Event()
        self._newest: Newest | None = None
        self._closing = False
        self.task = Supervised("event-feed", self._listen)
        self._releasing: asyncio.Task[None] | None = None

    def start(self, stopping: asyncio.Event) -> None:
        """Begin to listen; once `stopping` is set, every waiting reader goes with what it has."""
        self.task.start()
        self._releasing = asyncio.create_task(self._release(stopping), name="event-feed-release")

    async def stop(self) -> None:
        await self.task.stop()
        if self._releasing is not None:
            self._releasing.cancel()
            await asyncio.gather(self._releasing, return_exceptions=True)

    async def read(self, *, after: int, limit: int, wait_s: float, viewer: str | None) -> Events:
        """Return the events after a cursor, waiting up to `wait_s` for the first; `viewer` None sees all.

        A cursor below zero counts back from the newest event.
        """
        if after < 0:
            async with self._engine.connect() as conn:
                after = max(0, await events.last(conn) + after)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            # Taken before looking: what is committed in between sets this very signal.
            news = self._news
            page = None if self._newest is None else self._newest.read(after=after, limit=limit, viewer=viewer)
            wait_left_s = deadline - loop.time()
            if page is None or not (page or wait_left_s > 0):
                async with self._engine.connect() as conn:
                    page = await events.read(conn, after=after, limit=limit, viewer=viewer)
            if page or wait_left_s <= 0 or self._closing:
                return Events(events=page, next=page[-1].id if page else after)
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), wait_left_s)

    async def _release(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("event_feed_disconnected", error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)

    async def _listen_once(self) -> None:
        """Follow the table until the connection is lost; nobody waits for the pool's connections here."""
        conn = await connect(self._url, application_name="concordat coordinator feed")
        newest, signal = Newest(), asyncio.Event()
        try:
            conn.add_termination_listener(lambda _: signal.set())
            await conn.add_listener(events.CHANNEL, lambda *_: signal.set())
            while not conn.is_closed():
                # Cleared before reading: what is committed meanwhile sets it again.
                signal.clear()
                if (newer := await events.newest(conn, after=newest.last, limit=KEPT_EVENTS)) or self._newest is None:
                    newest.add(newer)
                    self._newest = newest
                    self._wake()
                with suppress(TimeoutError):
                    await asyncio.wait_for(signal.wait(), LOOK_S)
        finally:
            # Readers ask the table from now on.
            self._newest = None
            conn.terminate()
