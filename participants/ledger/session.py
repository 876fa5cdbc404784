"""The writer's connection, and the books as they were read over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog

from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import store
from participants.ledger.books import Books
from participants.ledger.group import Group

# A statement of so many events costs less than the round trips of a COPY for each table.
STATEMENT_ITEMS_MAX = 256
RECONNECT_SECONDS_MIN = 0.05
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


class StaleBooksError(Exception):
    """The books don't hold what the database does: another writer moved the ledger, or a payment was known."""


class RestoredReason(RefusalReason):
    """Why nothing at all is written any more."""

    LEDGER_RESTORED = "ledger_restored", 503
    """The ledger is restored to a backup of before: it lacks what this bank signed. `/health/ready` says what."""


class LedgerRestored(Refusal):
    """The database holds fewer events than were read or written here before: it isn't the ledger that it was."""

    def __init__(self, detail: str) -> None:
        super().__init__(RestoredReason.LEDGER_RESTORED, detail)


class Session:
    """One connection to a ledger's database and the books read over it."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], books: Books) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self.books = books
        self.transactions = 0
        self.restored: str | None = None
        """What shows that the ledger is restored to a backup of before: nothing is written to it any more."""
        self._head_seen = 0

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection. Raises OSError while there is none."""
        if self._connection is None or self._connection.is_closed():
            raise OSError("not connected")
        return self._connection

    async def refresh(self) -> None:
        """Connect if need be, and begin with empty books. Raises OSError, asyncpg.PostgresError, LedgerRestored."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        self._begin(*await store.read_head(self._connection))

    async def lock(self) -> asyncpg.Connection:
        """Begin a transaction that keeps other writers waiting, and with empty books. Raises what `refresh` does."""
        self._begin(*await store.lock_head(self.connection))
        return self.connection

    def _begin(self, head: int, last_account: int, last_lane: int) -> None:
        if head < self._head_seen:
            self.restored = f"the database ends with event {head}, and {self._head_seen} was committed before"
            raise LedgerRestored(self.restored)
        self._head_seen = head
        self.books.clear(head, last_account, last_lane)

    async def refresh_patiently(self) -> None:
        """Do what `refresh` does, and try until the database is there."""
        delay = RECONNECT_SECONDS_MIN
        while True:
            try:
                return await self.refresh()
            except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
                log.warning("ledger database unreachable", error=type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RECONNECT_SECONDS_MAX)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Give the connection, and roll back whatever transaction an error leaves open."""
        connection = self.connection
        try:
            yield connection
        except BaseException:
            if not connection.is_closed() and connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            raise

    async def write(self, group: Group) -> None:
        """Write a group and commit. Raises StaleBooksError if the books weren't what the database holds."""
        rows = group.rows
        async with self.transaction() as connection:
            if group.assumed_versions and await store.any_later_event(connection, group.assumed_versions):
                raise StaleBooksError
            if group.writes_nothing:
                return
            if len(rows.events) <= STATEMENT_ITEMS_MAX and rows.only_orders():
                if not await store.write_at_once(connection, rows, group.head_before, group.head_after):
                    raise StaleBooksError
            else:
                if not await store.take_head(connection, group.head_before, group.head_after):
                    raise StaleBooksError
                await store.write(connection, rows)
                await connection.execute("COMMIT")
            self.transactions += 1
            self._head_seen = group.head_after

    async def write_locked(self, group: Group) -> None:
        """Write a group and commit, in the transaction that `store.lock_head` began.

        Every payment was read in it, and no other writer gets in between: nothing is assumed.
        """
        connection = self.connection
        if group.writes_nothing:
            await connection.execute("ROLLBACK")
            return
        await store.move_head(connection, group.head_before, group.head_after)
        await store.write(connection, group.rows)
        await connection.execute("COMMIT")
        self.transactions += 1
        self._head_seen = group.head_after
