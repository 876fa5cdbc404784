"""Giving a sink what is logged, as it is committed by any replica.

PostgreSQL's NOTIFY only says "look again"; what is new is read from the table, and it is looked at by time too. So a
lost notification costs time and never an event, and a server that is gone is noticed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from gateway.coordinator.log import events
from gateway.coordinator.log.sinks.sink import Sink
from gateway.federation.storage.failures import DATABASE_ERRORS
from gateway.federation.storage.sessions import connect
from gateway.federation.supervision import Supervised

RECONNECT_S = 1.0
LOOK_S = 2.0
EVENTS_AT_ONCE = 1_000

log = structlog.get_logger(__name__)


class Following:
    """Follows the log for one sink, over a connection of its own: a slow sink holds up no other."""

    def __init__(self, sink: Sink, url: str) -> None:
        self.sink = sink
        self.task = Supervised(sink.name, self._follow)
        self._url = url

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except DATABASE_ERRORS as error:
                log.warning("log_not_followed", sink=self.sink.name, error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)

    async def _follow_once(self) -> None:
        """Follow the table until the connection is lost."""
        conn = await connect(self._url, application_name=f"concordat coordinator {self.sink.name}")
        signal = asyncio.Event()
        try:
            conn.add_termination_listener(lambda _: signal.set())
            await conn.add_listener(events.CHANNEL, lambda *_: signal.set())
            while not conn.is_closed():
                # Cleared before reading: what is committed meanwhile sets it again.
                signal.clear()
                position = await self.sink.position(await events.newest_id(conn))
                newer = await events.read_addressed(conn, after=position, limit=EVENTS_AT_ONCE)
                await self.sink.take(newer)
                if len(newer) < EVENTS_AT_ONCE:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(signal.wait(), LOOK_S)
        finally:
            self.sink.interrupt()
            conn.terminate()
