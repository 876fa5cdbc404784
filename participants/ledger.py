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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

import asyncpg
import structlog

from gateway.federation.problems import Refusal
from participants import store
from participants.books import AccountKey, Books, LaneKey, Rows

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

GROUP_ITEMS_MAX = 8_192
QUEUE_ITEMS_MAX = 65_536
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


class Command(Protocol[R_co]):
    """Something to decide on the books. Deciding again must be safe: a group may be decided more than once."""

    assumes_new: bool
    """`payment_ids` are expected to be unknown or unchanged; they are read only when that turns out wrong."""

    def payment_ids(self) -> list[str]: ...

    def known_payment_ids(self) -> list[str]:
        """Payments whose history must be read before deciding."""
        ...

    def account_keys(self, books: Books) -> Iterable[AccountKey]: ...

    def lane_keys(self, books: Books) -> Iterable[LaneKey]: ...

    def decide(self, books: Books) -> R_co: ...


@dataclass(slots=True)
class _Waiting:
    command: Command[Any]
    answer: asyncio.Future[Any]
    items: int


class _StaleError(Exception):
    """The books don't hold what the database does: another writer moved the ledger, or a payment was known."""


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
        self.books = Books(bank, agent)
        self.listeners: list[Callable[[Rows], None]] = []
        self.transactions = 0

    async def start(self) -> None:
        """Connect and begin to write. Raises OSError, asyncpg.PostgresError."""
        await self._reread()
        self._task = asyncio.create_task(self._run(), name="ledger-writer")

    async def stop(self) -> None:
        """Write what is queued, then let go of the connection."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close()

    async def submit(self, command: Command[R]) -> R:
        """Decide a command and return its result once it is durable.

        Raises Refusal `ledger_busy` (503) when too much is waiting.
        """
        items = max(1, len(command.payment_ids()))
        if self._stopping or self._queued_items + items > QUEUE_ITEMS_MAX:
            raise Refusal("ledger_busy", "too many payments are waiting to be written", status=503, retry_after_s=1)
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(command, answer, items))
        self._queued_items += items
        self._wake.set()
        return await answer

    # --- the writer ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            group = self._take()
            await self._write_until_known(group)

    def _take(self) -> list[_Waiting]:
        group = [self._queue.popleft()]
        items = group[0].items
        while self._queue and items + self._queue[0].items <= GROUP_ITEMS_MAX:
            waiting = self._queue.popleft()
            group.append(waiting)
            items += waiting.items
        self._queued_items -= items
        return group

    async def _write_until_known(self, group: list[_Waiting]) -> None:
        """Write a group and answer it, through lost connections and overtaking writers.

        After a lost connection it is unknown whether the transaction was committed; deciding again with the
        payments' histories read gives the stored answers where it was.
        """
        careful = False
        delay = 0.01
        while True:
            try:
                answers = await self._write(group, careful=careful)
            except CONNECTION_LOST as error:
                log.warning("ledger connection lost", error=type(error).__name__)
                careful = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)
                await self._reread_patiently()
            except Exception as error:  # whatever went wrong in a group, each of it must be answered
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
                for waiting, answer in zip(group, answers, strict=True):
                    if not waiting.answer.cancelled():
                        waiting.answer.set_result(answer)
                return

    async def _write(self, group: list[_Waiting], *, careful: bool) -> list[Any]:
        """Decide a group and write it, or raise and leave the database as it was; then the books must be reread.

        `careful` keeps other writers out from the start, so that none overtakes, and reads every payment named.
        """
        connection = cast(asyncpg.Connection, self._connection)
        if connection is None or connection.is_closed():
            raise OSError("not connected")
        books = self.books
        try:
            if careful:
                books.clear(*await store.lock_head(connection))
            books.begin(datetime.now(UTC))
            commands = [waiting.command for waiting in group]
            await store.read_into(connection, books, commands, read_all=careful)
            before = books.head
            answers = [command.decide(books) for command in commands]
            rows = books.rows
            if not careful and books.doubted and await store.any_moved_on(connection, books.doubted):
                raise _StaleError
            if books.head == before and not rows.refusals and not rows.closed:
                if careful:
                    await connection.execute("ROLLBACK")
                return answers
            books.advance_lanes()
            if not await store.take_head(connection, before, books.head, begun=careful):
                raise _StaleError
            await store.write(connection, rows)
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise
        self.transactions += 1
        for listener in self.listeners:
            listener(rows)
        if len(books.accounts) > CACHED_ACCOUNTS_MAX:
            books.clear(books.head, books.last_account, books.last_lane)
        return answers

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
