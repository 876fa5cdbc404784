"""The journal as a feed: read from a cursor on, and waited for, by any number of readers at once.

The feed costs a payment nothing. Whoever waits is woken by one task, which looks where the journal ends some times a
second for as long as anybody waits, whichever of the bank's nodes has written; and reading has connections of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import asyncpg
import structlog
from msgspec import Struct

from gateway.federation.problems import Refusal, RefusalReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised
from participants.feed.messages import EventType, LedgerEvent, LedgerEvents
from participants.feed.reads import read_head, read_stretch
from participants.ledger.events import EventUnreadableError

LOOK_SECONDS = 0.05
"""How long news may wait to be told."""
RETRY_SECONDS = 1.0
WAITING_MAX = 256
"""Requests and streams of clients at once that wait for news, at one node. Its webhooks wait beside them."""
CLIENT_WAITING_MAX = 32
"""Of these one client's."""
STRETCHES_SECONDS = 1.0
"""For how long a request looks for events of a kind that is rare, before it answers how far it got."""
ACCOUNT_STRETCH = 1_000
"""Whose account an event is about is looked at here; so many are read at once."""

log = structlog.get_logger(__name__)


class FeedReason(RefusalReason):
    """Why the feed isn't read from here on, in order of precedence."""

    CURSOR_AHEAD = "cursor_ahead", 409
    """The journal ends before this cursor: the ledger is another one, or was restored to a backup of before."""
    EVENT_UNKNOWN = "event_unknown", 503
    """A node of a later release has written the next event: ask it, or upgrade this one; with `Retry-After`."""
    TOO_MANY_READERS_OF_CLIENT = "too_many_readers_of_client", 429
    """32 requests and streams of this client wait for news at this node already; with `Retry-After`."""
    TOO_MANY_READERS = "too_many_readers", 503
    """256 wait for news at this node already; with `Retry-After`."""


class Selection(Struct, frozen=True):
    """What somebody wants to hear: events of these types, and of one account, or of all."""

    types: frozenset[EventType]
    account: str | None = None

    def is_about(self, event: LedgerEvent) -> bool:
        """Tell whether an event is about the account."""
        if self.account is None:
            return True
        if event.payment is not None:
            return event.payment.account == self.account
        if event.entry is not None:
            return self.account in (event.entry.account, event.entry.against)
        if event.nostro is not None:
            return self.account == event.nostro.against
        return any(account.code == self.account for account in event.accounts)


class Feed:
    """Reads the journal for its hearers and lets them wait. One per node; `start` before use.

    Once `stopping` is set, nobody waits any longer. What clients ask for is read by `clients`, connections apart from
    those of the node's own (`pool`), so that its webhooks don't wait behind them.
    """

    def __init__(self, pool: asyncpg.Pool, stopping: asyncio.Event, *, clients: asyncpg.Pool | None = None) -> None:
        self.stopping = stopping
        self.task = Supervised("event-feed", self._look)
        self._pool = pool
        self._clients = clients or pool
        self._head = 0
        self._news = asyncio.Event()
        self._readers: Counter[str] = Counter()
        self._waiting = 0
        self._awaited = asyncio.Event()

    def start(self) -> None:
        self.task.start()

    async def stop(self) -> None:
        await self.task.stop()

    async def head(self) -> int:
        """Return the number of the journal's last event."""
        return await read_head(self._pool)

    @property
    def waiting(self) -> int:
        """How many requests and streams of clients have a place now."""
        return self._readers.total()

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Give a client one of the places, of which each has a share. Raises Refusal where there is none."""
        if self._readers[client] >= CLIENT_WAITING_MAX:
            detail = f"{CLIENT_WAITING_MAX} of this client wait for news at this node"
            raise Refusal(FeedReason.TOO_MANY_READERS_OF_CLIENT, detail, retry_after_s=5)
        if self.waiting >= WAITING_MAX:
            raise Refusal(FeedReason.TOO_MANY_READERS, "too many wait for news at this node", retry_after_s=5)
        self._readers[client] += 1
        try:
            yield
        finally:
            self._readers[client] -= 1
            if not self._readers[client]:
                del self._readers[client]

    async def read(
        self,
        *,
        after: int,
        limit: int,
        selection: Selection,
        wait_s: float = 0,
        through: int | None = None,
        for_client: bool = False,
    ) -> LedgerEvents:
        """Return the events after a cursor, waiting up to `wait_s` for the first; none after `through`.

        Whoever waits `for_client` has a `place`. Raises Refusal with a FeedReason.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            page = await self._page(self._clients if for_client else self._pool, after, limit, selection, through)
            waited = loop.time() - begun
            at_end = page.next in (page.head, through)
            if page.events or (at_end and waited >= wait_s) or waited >= max(wait_s, STRETCHES_SECONDS):
                return page
            after = page.next
            if at_end and (self.stopping.is_set() or not await self.wait(after, wait_s - waited)):
                return page

    async def wait(self, after: int, seconds: float) -> bool:
        """Wait, at most so long, until the journal goes on after an event; False if it didn't."""
        self._waiting += 1
        self._awaited.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self._head <= after and not self.stopping.is_set():
                        await self._news.wait()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._awaited.clear()
        return self._head > after

    async def _page(
        self, pool: asyncpg.Pool, after: int, limit: int, selection: Selection, through: int | None
    ) -> LedgerEvents:
        """Return what one stretch of the journal holds of what is wanted."""
        rows_max = limit if selection.account is None else max(limit, ACCOUNT_STRETCH)
        try:
            async with pool.acquire() as connection:
                stretch = await read_stretch(
                    connection, after=after, through=through, limit=rows_max, types=selection.types
                )
        except EventUnreadableError as error:
            log.error("the next event can't be read", after=after, error=str(error)[:200])
            raise Refusal(FeedReason.EVENT_UNKNOWN, "the next event is of a later release", retry_after_s=5) from error
        if after > stretch.head:
            raise Refusal(FeedReason.CURSOR_AHEAD, f"the journal ends with event {stretch.head}")
        events = tuple(event for event in stretch.events if selection.is_about(event))
        if len(events) > limit:
            events = events[:limit]
            return LedgerEvents(events=events, next=events[-1].sequence, head=stretch.head)
        return LedgerEvents(events=events, next=stretch.through, head=stretch.head)

    async def _look(self) -> None:
        """Look where the journal ends for as long as anybody waits, and wake them when it goes on."""
        while True:
            await self._awaited.wait()
            pause = LOOK_SECONDS
            try:
                head = await read_head(self._pool)
            except Exception as error:
                # A failing database is told of elsewhere, and this goes on when it is back.
                if failure_of(error) is None:
                    raise
                head, pause = self._head, RETRY_SECONDS
            if head != self._head or self.stopping.is_set():
                self._head = head
                news, self._news = self._news, asyncio.Event()
                news.set()
            await asyncio.sleep(pause)
