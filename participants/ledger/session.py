"""The writer's connection, the books as they were read over it, and whether the database takes writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog
from prometheus_client import Counter

from gateway.federation.problems import Refusal, RefusalReason, ServiceReason
from gateway.federation.storage.failures import database_refusal, failure_of
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


class RestoredReason(RefusalReason):
    """Why nothing at all is written any more."""

    LEDGER_RESTORED = "ledger_restored", 503
    """The ledger is restored to a backup of before: it lacks what this bank signed. `/health/ready` says what, on the
    private port."""


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
        self.failure: ServiceReason | None = None
        """Why the database takes no writes, from when patience with it ended until a trial succeeds."""
        self.restored: str | None = None
        """What shows that the ledger is restored to a backup of before: nothing is written to it any more."""
        self._head_seen = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    def refusal(self) -> Refusal | None:
        """Return why nothing can be written now; None while it can."""
        if self.restored is not None:
            return LedgerRestored(self.restored)
        return None if self.failure is None else database_refusal(self.failure)

    @property
    def connection(self) -> asyncpg.Connection:
        """The connection. Raises ConnectionError while there is none."""
        if self._connection is None or self._connection.is_closed():
            raise ConnectionError("not connected")
        return self._connection

    async def refresh(self) -> None:
        """Connect if need be, and begin with empty books. Raises OSError, asyncpg.PostgresError, LedgerRestored."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        self._begin(*await store.read_head(self._connection))
        self.books.limits = await store.read_limits(self._connection)

    async def lock(self) -> asyncpg.Connection:
        """Begin a transaction that keeps other writers waiting, and with empty books. Raises what `refresh` does."""
        self._begin(*await store.lock_head(self.connection))
        self.books.limits = await store.read_limits(self.connection)
        return self.connection

    def _begin(self, head: int, last_account: int, last_lane: int) -> None:
        if head < self._head_seen:
            self.restored = f"the database ends with event {head}, and {self._head_seen} was committed before"
            raise LedgerRestored(self.restored)
        self._head_seen = head
        self.books.clear(head, last_account, last_lane)

    async def try_writing(self) -> None:
        """Begin with empty books if the database takes writes; otherwise `refusal` says why it doesn't.

        Raises what isn't the database's passing trouble.
        """
        if self.restored is not None:
            return
        try:
            await self.refresh()
            async with self.transaction() as connection:
                await store.try_writing(connection)
        except LedgerRestored:
            return
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
