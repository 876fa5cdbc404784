"""The writer's connection, the books as they were read over it, and whether the database takes writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog
from prometheus_client import Counter

from gateway.federation.problems import ServiceReason
from gateway.federation.storage.failures import failure_of
from gateway.federation.telemetry import REGISTRY
from participants.ledger import store
from participants.ledger.books import Books
from participants.ledger.group import Group

# A statement of so many events costs less than the round trips of a COPY for each table.
STATEMENT_ITEMS_MAX = 256

FAILURES = Counter(
    "concordat_ledger_failures",
    "Times that the ledger's database stopped taking writes.",
    ("reason",),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


class StaleBooksError(Exception):
    """The books don't hold what the database does: another writer moved the ledger, or a payment was known."""


class Session:
    """One connection to a ledger's database and the books read over it."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], books: Books) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self.books = books
        self.transactions = 0
        self.failure: ServiceReason | None = None
        """Why the database takes no writes, from when patience with it ended until a trial succeeds."""

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection. Raises ConnectionError while there is none."""
        if self._connection is None or self._connection.is_closed():
            raise ConnectionError("not connected")
        return self._connection

    async def refresh(self) -> None:
        """Connect if need be, and begin with empty books. Raises OSError, asyncpg.PostgresError."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        self.books.clear(*await store.read_head(self._connection))

    async def try_writing(self) -> None:
        """Begin with empty books if the database takes writes; otherwise `failure` says why it doesn't.

        Raises what isn't the database's passing trouble.
        """
        try:
            await self.refresh()
            async with self.transaction() as connection:
                await store.try_writing(connection)
        except Exception as error:
            self.drop()
            reason = failure_of(error)
            if reason is None:
                raise
            self.fail(reason)
        else:
            if self.failure is not None:
                log.warning("ledger takes writes again", was=self.failure)
            self.failure = None

    def fail(self, reason: ServiceReason) -> None:
        """Remember why the database takes no writes."""
        if reason != self.failure:
            log.error("ledger takes no writes", reason=reason)
            FAILURES.labels(reason).inc()
        self.failure = reason

    def drop(self) -> None:
        """Let go of a connection of which nobody knows what it is good for."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Give the connection, and roll back whatever transaction an error leaves open."""
        connection = self.connection
        try:
            yield connection
        except TimeoutError:
            # A server that doesn't answer isn't asked to roll back; it does so when the connection is gone.
            connection.terminate()
            raise
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
