"""Waiting for events: a long poll that wakes when any replica commits one.

PostgreSQL's NOTIFY only says "look again"; what is delivered is always read from the table, so a lost notification
costs time and never an event.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.coordinator import events
from gateway.federation.postgres import dsn
from gateway.federation.wire import Events

RECONNECT_S = 1.0

log = structlog.get_logger(__name__)


class EventFeed:
    """Reads the event log for its readers and lets them wait. One per process; `start` before use."""

    def __init__(self, engine: AsyncEngine, url: str) -> None:
        self._engine = engine
        self._dsn = dsn(url)
        self._news = asyncio.Event()
        self._closing = False
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def start(self, stopping: asyncio.Event) -> None:
        """Begin to listen; once `stopping` is set, every waiting reader goes with what it has."""
        self._tasks = (
            asyncio.create_task(self._listen(), name="event-feed"),
            asyncio.create_task(self._release(stopping), name="event-feed-release"),
        )

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def read(self, *, after: int, limit: int, wait_s: float, viewer: str | None) -> Events:
        """Return the events after a cursor, waiting up to `wait_s` for the first; `viewer` None sees all."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            # Taken before the table is read: what is committed in between sets this very signal.
            news = self._news
            async with self._engine.connect() as conn:
                found = await events.read(conn, after=after, limit=limit, viewer=viewer)
            left = deadline - loop.time()
            if found or left <= 0 or self._closing:
                return Events(events=found, next=found[-1].id if found else after)
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), left)

    async def _release(self, stopping: asyncio.Event) -> None:
        await stopping.wait()
        self._closing = True
        self._wake()

    def _wake(self, *_: Any) -> None:
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
        conn = await asyncpg.connect(self._dsn)
        try:
            lost = asyncio.Event()
            conn.add_termination_listener(lambda _: lost.set())
            await conn.add_listener(events.CHANNEL, self._wake)
            # Whatever was announced while nobody listened.
            self._wake()
            await lost.wait()
        finally:
            conn.terminate()
