"""The writer of a bank's ledger: concurrent commands become one transaction.

Whatever has arrived while the last transaction was being written goes into the next one: no timer, and the group
grows with the load. A group is decided in memory, copied in, and answered when PostgreSQL has committed.

Any number of processes may run a writer on the same ledger. A transaction first moves `ledger_head` from the event
number its books were read at; if another writer has moved it, nothing is written, the books are forgotten and the
group is decided again on what the database says, this time with the other writers kept waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import asyncpg
import structlog

from gateway.federation.http.problems import Refusal
from participants.ledger import store
from participants.ledger.books import Books, Command, Rows

R = TypeVar("R")

GROUP_ITEMS_MAX = 8_192
QUEUE_ITEMS_MAX = 65_536
AT_ONCE_ITEMS_MAX = 256
CACHED_ACCOUNTS_MAX = 500_000
RECONNECT_SECONDS_MAX = 2.0

CONNECTION_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.LockNotAvailableError,
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    command: Command[Any]
    answer: asyncio.Future[Any]
    items: int


class _Decided:
    """A group that has been decided on the books and not yet written."""

    def __init__(self, books: Books) -> None:
        books.begin(datetime.now(UTC))
        self.books = books
        self.before = books.head
        self.rows = books.rows
        self.doubted = books.doubted
        self.group: list[_Waiting] = []
        self.answers: list[Any] = []
        self.items = 0

    def add(self, waiting: _Waiting) -> None:
        self.group.append(waiting)
        self.items += waiting.items
        self.answers.append(waiting.command.decide(self.books))

    def close(self) -> None:
        """End the group: nothing decided after this changes what it writes."""
        self.books.advance_lanes()
        self.after = self.books.head
        self.rows.freeze()

    def answer(self) -> None:
        for waiting, answer in zip(self.group, self.answers, strict=True):
            if not waiting.answer.cancelled():
                waiting.answer.set_result(answer)


class _StaleError(Exception):
    """The books don't hold what the database does: another writer moved the ledger, or a payment was known."""


@asynccontextmanager
async def _undone_on_error(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Roll back whatever transaction an error leaves open."""
    try:
        yield
    except BaseException:
        if not connection.is_closed() and connection.is_in_transaction():
            await connection.execute("ROLLBACK")
        raise


class Ledger:
    """The writer of one ledger. `start` before use, `stop` to finish what was submitted."""

    def __init__(self, connect: Callable[[], Any], *, bank: str, agent: str) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._queue: deque[_Waiting] = deque()
        self._queued_items = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.failed = False
        """The writer ended by itself: nothing can be written until the process is started again."""
        self.books = Books(bank, agent)
        self.listeners: list[Callable[[Rows], None]] = []
        self.transactions = 0

    async def start(self) -> None:
        """Connect and begin to write. Raises OSError, asyncpg.PostgresError."""
        await self._reread()
        self._task = asyncio.create_task(self._run(), name="ledger-writer")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self.failed = True
        log.error("ledger writer ended", exc_info=error)
        for waiting in self._queue:
            waiting.answer.set_exception(error)
        self._queue.clear()

    async def stop(self) -> None:
        """Write what is queued, then let go of the connection."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._connection is not None:
            await self._connection.close()

    async def submit(self, command: Command[R]) -> R:
        """Decide a command and return its result once it is durable.

        Raises Refusal `ledger_busy` (503) when too much is waiting, `ledger_failed` (503) when the writer has ended.
        """
        items = max(1, len(command.payment_ids()))
        if self.failed:
            raise Refusal("ledger_failed", "the ledger can't be written; the node must be started again", status=503)
        if self._stopping or self._queued_items + items > QUEUE_ITEMS_MAX:
            raise Refusal("ledger_busy", "too many payments are waiting to be written", status=503, retry_after_s=1)
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(command, answer, items))
        self._queued_items += items
        self._wake.set()
        return await answer

    # --- the writer ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Write group after group; while one is being written, decide what comes in on top of it.

        A group that was written is answered once the next one is on its way: answering keeps the event loop busy
        for longer than PostgreSQL needs to write.
        """
        ahead: _Decided | None = None
        written: _Decided | None = None
        while True:
            if ahead is None:
                if not self._queue:
                    if self._stopping:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if len(self.books.accounts) > CACHED_ACCOUNTS_MAX:
                    self.books.clear(self.books.head, self.books.last_account, self.books.last_lane)
                if not self._decidable(self._queue[0].command):
                    await self._write_until_known(self._take())
                    continue
                ahead = _Decided(self.books)
                if not self._decide_what_waits(ahead):
                    await self._write_carefully(ahead)
                    ahead = None
                    continue
            decided, ahead = ahead, None
            decided.close()
            writing = asyncio.create_task(self._put(decided))
            writing.add_done_callback(lambda _: self._wake.set())
            await asyncio.sleep(0)
            if written is not None:
                self._written(written)
                written = None
            ahead = _Decided(self.books)
            sound = await self._decide_meanwhile(ahead, writing)
            if await writing and sound:
                if ahead.group:
                    written = decided
                else:
                    self._written(decided)
                    ahead = None
                continue
            # What was decided on top of a group that wasn't written, or that broke off, is decided again.
            if writing.result():
                self._written(decided)
            else:
                await self._write_carefully(decided)
            await self._write_carefully(ahead)
            ahead = None

    def _decidable(self, command: Command[Any]) -> bool:
        """Tell whether the books hold all that the command needs, so that it can be decided without reading."""
        books = self.books
        return (
            command.assumes_new
            and all(key in books.accounts for key in command.account_keys(books))
            and all(key in books.lanes for key in command.lane_keys(books))
            and not command.known_payment_ids()
        )

    def _decide_what_waits(self, group: _Decided) -> bool:
        """Decide waiting commands in their order, as far as that needs no reading; False if one broke off."""
        while self._queue and group.items + self._queue[0].items <= GROUP_ITEMS_MAX:
            if not self._decidable(self._queue[0].command):
                return True
            waiting = self._queue.popleft()
            self._queued_items -= waiting.items
            try:
                group.add(waiting)
            except Exception as error:  # whatever went wrong, the group is decided again, each command for itself
                log.warning("group broke off", command=type(waiting.command).__name__, error=repr(error))
                return False
        return True

    async def _decide_meanwhile(self, group: _Decided, writing: asyncio.Task[bool]) -> bool:
        """Decide what comes in until the writing is done; False if a command broke off."""
        while not writing.done():
            self._wake.clear()
            if not self._decide_what_waits(group):
                return False
            if self._queue:
                # The next one needs reading, or the group is full: neither changes before this is written.
                await asyncio.wait([writing])
            elif not writing.done():
                await self._wake.wait()
        return True

    async def _put(self, decided: _Decided) -> bool:
        """Write a group; False if it wasn't written, or nobody knows."""
        connection = self._connection
        try:
            if connection is None or connection.is_closed():
                return False
            async with _undone_on_error(connection):
                await self._put_rows(connection, decided)
        except Exception as error:  # whatever it was, the careful way finds out
            log.info("group not written at once", error=repr(error)[:200])
            return False
        return True

    async def _put_rows(self, connection: asyncpg.Connection, decided: _Decided, *, begun: bool = False) -> None:
        """Write a group and commit. Raises _StaleError if the books weren't what the database holds.

        With a transaction `begun`, every payment was read in it and the head is locked: nothing is in doubt.
        """
        rows = decided.rows
        if not begun and decided.doubted and await store.any_moved_on(connection, decided.doubted):
            raise _StaleError
        if decided.after == decided.before and not rows.refusals and not rows.closed:
            if begun:
                await connection.execute("ROLLBACK")
            return
        if not begun and len(rows.events) <= AT_ONCE_ITEMS_MAX and rows.only_orders():
            if not await store.write_at_once(connection, rows, decided.before, decided.after):
                raise _StaleError
        else:
            if not await store.take_head(connection, decided.before, decided.after, begun=begun):
                raise _StaleError
            await store.write(connection, rows)
            await connection.execute("COMMIT")
        self.transactions += 1

    def _written(self, decided: _Decided) -> None:
        for listener in self.listeners:
            listener(decided.rows)
        decided.answer()

    async def _write_carefully(self, decided: _Decided) -> None:
        """Write a group that was decided on wrong grounds, or whose fate is unknown, on fresh books."""
        await self._reread_patiently()
        if decided.group:
            await self._write_until_known(decided.group, careful=True)

    def _take(self) -> list[_Waiting]:
        group = [self._queue.popleft()]
        items = group[0].items
        while self._queue and items + self._queue[0].items <= GROUP_ITEMS_MAX:
            waiting = self._queue.popleft()
            group.append(waiting)
            items += waiting.items
        self._queued_items -= items
        return group

    async def _write_until_known(self, group: list[_Waiting], *, careful: bool = False) -> None:
        """Write a group and answer it, through lost connections and overtaking writers.

        After a lost connection it is unknown whether the transaction was committed; deciding again with the
        payments' histories read gives the stored answers where it was.
        """
        delay = 0.01
        while True:
            try:
                await self._write(group, careful=careful)
            except Exception as error:  # whatever went wrong in a group, each of it must be answered
                # What can't be encoded is an InterfaceError too, and a ValueError: that isn't the connection's fault.
                if isinstance(error, CONNECTION_LOST) and not isinstance(error, ValueError):
                    log.warning("ledger connection lost", error=type(error).__name__)
                    careful = True
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RECONNECT_SECONDS_MAX)
                    await self._reread_patiently()
                    continue
                await self._reread_patiently()
                if not careful:
                    # What was assumed of payments and not read may have been wrong.
                    careful = True
                    continue
                if len(group) > 1:
                    for waiting in group:
                        await self._write_until_known([waiting])
                    return
                log.error("ledger command failed", command=type(group[0].command).__name__, error=repr(error))
                if not group[0].answer.cancelled():
                    group[0].answer.set_exception(error)
                return
            else:
                return

    async def _write(self, group: list[_Waiting], *, careful: bool) -> None:
        """Decide a group and write it, or raise and leave the database as it was; then the books must be reread.

        `careful` keeps other writers out from the start, so that none overtakes, and reads every payment named.
        """
        connection = cast(asyncpg.Connection, self._connection)
        if connection is None or connection.is_closed():
            raise OSError("not connected")
        books = self.books
        async with _undone_on_error(connection):
            if careful:
                books.clear(*await store.lock_head(connection))
            commands = [waiting.command for waiting in group]
            known = await store.read_into(connection, books, commands, read_all=careful)
            decided = _Decided(books)
            books.payments = known
            for waiting in group:
                decided.add(waiting)
            decided.close()
            await self._put_rows(connection, decided, begun=careful)
        self._written(decided)

    async def _reread_patiently(self) -> None:
        delay = 0.05
        while True:
            try:
                return await self._reread()
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                log.warning("ledger database unreachable", error=type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    async def _reread(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        head = await store.read_head(self._connection)
        self.books.clear(*head)
