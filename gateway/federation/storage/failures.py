"""What a failing database means to whoever asks: which of its errors pass by themselves, and what they are called.

| what PostgreSQL or the network says | reason |
|---|---|
| disk full (53100) | `database_full` |
| a read-only transaction (25006): a standby, or a server that was set so | `database_read_only` |
| too many connections, out of memory, a lock, a deadlock, a statement that took too long | `database_busy` |
| no connection, a lost one, a server that stops, starts or has trouble with its files | `database_unavailable` |

Anything else is a defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.federation.problems import Refusal, ServiceReason

DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises: for who tries again whatever it was, and needs no reason."""

DETAILS = {
    ServiceReason.DATABASE_FULL: "the database's disk is full",
    ServiceReason.DATABASE_READ_ONLY: "the database takes no writes",
    ServiceReason.DATABASE_BUSY: "the database is busy; try again in a moment",
    ServiceReason.DATABASE_UNAVAILABLE: "the database can't be reached",
}
_BY_STATE = {
    "53100": ServiceReason.DATABASE_FULL,
    "25006": ServiceReason.DATABASE_READ_ONLY,
    # The server ended a session that stood still inside a transaction, or a transaction that took too long.
    "25P03": ServiceReason.DATABASE_UNAVAILABLE,
    "25P04": ServiceReason.DATABASE_UNAVAILABLE,
    # lock_not_available, and query_canceled: our limits of a lock and of a statement.
    "55P03": ServiceReason.DATABASE_BUSY,
    "57014": ServiceReason.DATABASE_BUSY,
    # serialization_failure and deadlock_detected: nothing happened, and the same may succeed when done again.
    "40001": ServiceReason.DATABASE_BUSY,
    "40P01": ServiceReason.DATABASE_BUSY,
}
_BY_CLASS = (
    ("53", ServiceReason.DATABASE_BUSY),  # insufficient_resources, too_many_connections
    ("08", ServiceReason.DATABASE_UNAVAILABLE),  # connection_exception
    ("57P", ServiceReason.DATABASE_UNAVAILABLE),  # operator_intervention: the server stops, or starts
    ("58", ServiceReason.DATABASE_UNAVAILABLE),  # system_error: the server can't read or write its files
)

# A temporary table is in the database's own tablespace, and creating one is refused where writing is.
READ_ONLY = "SHOW transaction_read_only"
TRIAL = (
    "CREATE TEMPORARY TABLE concordat_trial ON COMMIT DROP AS"
    " SELECT md5(n::text) FROM generate_series(1, 20000) AS rows (n)"
)
"""Shows whether there is room for a megabyte; in a transaction that is rolled back, it leaves nothing."""


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE behind an error of asyncpg or SQLAlchemy, if there is one."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return state if isinstance(state, str) else None


def failure_of(error: BaseException) -> ServiceReason | None:
    """Return why the database failed, where that passes by itself; None if the error is something else."""
    state = sqlstate(error)
    if state is not None:
        by_class = (reason for beginning, reason in _BY_CLASS if state.startswith(beginning))
        return _BY_STATE.get(state) or next(by_class, None)
    if isinstance(error, PoolTimeoutError):
        return ServiceReason.DATABASE_BUSY
    origin = error.orig if isinstance(error, DBAPIError) else error
    # What can't be encoded is an InterfaceError too, and a ValueError: that isn't the connection's fault.
    lost = isinstance(origin, (ConnectionError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError))
    disconnected = isinstance(error, DBAPIError) and error.connection_invalidated
    if disconnected or (lost and not isinstance(origin, ValueError)):
        return ServiceReason.DATABASE_UNAVAILABLE
    return None


def database_refusal(reason: ServiceReason) -> Refusal:
    """Return what somebody is told whose request a failing database has stopped."""
    retry_after_s = 1 if reason is ServiceReason.DATABASE_BUSY else 5
    return Refusal(reason, DETAILS[reason], retry_after_s=retry_after_s)


class Writability:
    """Whether a database takes writes, for a node's readiness.

    That it is read-only it says itself. That its disk is full only writing shows: so the last write that failed for
    that is remembered until a trial succeeds.
    """

    def __init__(self) -> None:
        self.full = False

    def note(self, error: BaseException) -> None:
        """Remember an error if it says that the disk is full."""
        self.full = self.full or failure_of(error) is ServiceReason.DATABASE_FULL

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what the block raises."""
        try:
            yield
        except Exception as error:
            self.note(error)
            raise

    def watch(self, engine: AsyncEngine) -> None:
        """Note every error of an engine."""
        event.listen(engine.sync_engine, "handle_error", lambda context: self.note(context.original_exception))

    async def require(self, engine: AsyncEngine) -> None:
        """Return if the database takes writes. Raises Refusal if it says that it doesn't, and what asking it raises."""
        async with engine.connect() as connection:
            require_writable(await connection.scalar(text(READ_ONLY)))
            if self.full:
                await connection.execute(text(TRIAL))
                await connection.rollback()
        self.full = False

    async def require_in(self, pool: asyncpg.Pool) -> None:
        """Do what `require` does, over a pool of asyncpg's."""
        async with pool.acquire() as connection:
            require_writable(await connection.fetchval(READ_ONLY))
            if self.full:
                trial = connection.transaction()
                await trial.start()
                try:
                    await connection.execute(TRIAL)
                finally:
                    await trial.rollback()
        self.full = False


def require_writable(read_only: str | None) -> None:
    """Raise Refusal if a database answered that it is read-only."""
    if read_only == "on":
        raise database_refusal(ServiceReason.DATABASE_READ_ONLY)
