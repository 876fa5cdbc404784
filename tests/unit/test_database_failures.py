"""What a failing database is called, by what it says: one table for every service."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.federation.problems import ServiceReason
from gateway.federation.storage.failures import Writability, database_refusal, failure_of
from gateway.federation.storage.sessions import DatabaseUnreachableError

BUSY, FULL = ServiceReason.DATABASE_BUSY, ServiceReason.DATABASE_FULL
READ_ONLY, UNAVAILABLE = ServiceReason.DATABASE_READ_ONLY, ServiceReason.DATABASE_UNAVAILABLE

FAILURES = [
    (asyncpg.DiskFullError("could not extend file"), FULL),
    (asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT"), READ_ONLY),
    (asyncpg.TooManyConnectionsError("sorry, too many clients already"), BUSY),
    (asyncpg.OutOfMemoryError("out of memory"), BUSY),
    (asyncpg.LockNotAvailableError("lock timeout"), BUSY),
    (asyncpg.QueryCanceledError("statement timeout"), BUSY),
    (asyncpg.DeadlockDetectedError("deadlock"), BUSY),
    (asyncpg.SerializationError("could not serialize"), BUSY),
    (PoolTimeoutError(), BUSY),
    (asyncpg.CannotConnectNowError("the database system is starting up"), UNAVAILABLE),
    (asyncpg.AdminShutdownError("terminating connection"), UNAVAILABLE),
    (asyncpg.CrashShutdownError("terminating connection"), UNAVAILABLE),
    (asyncpg.IdleInTransactionSessionTimeoutError("idle"), UNAVAILABLE),
    (asyncpg.ConnectionDoesNotExistError("connection was closed"), UNAVAILABLE),
    (asyncpg.ConnectionFailureError("lost"), UNAVAILABLE),
    (asyncpg.PostgresIOError("could not read block"), UNAVAILABLE),
    (asyncpg.InterfaceError("connection is closed"), UNAVAILABLE),
    (DatabaseUnreachableError("ConnectionRefusedError"), UNAVAILABLE),
    (ConnectionResetError("reset"), UNAVAILABLE),
    (TimeoutError(), UNAVAILABLE),
    # Defects, and what isn't about the database at all.
    (asyncpg.UniqueViolationError("duplicate key"), None),
    (asyncpg.UndefinedTableError("no such table"), None),
    (asyncpg.InsufficientPrivilegeError("permission denied"), None),
    (asyncpg.DataCorruptedError("invalid page"), None),
    (asyncpg.DataError("invalid input for query argument"), None),
    (asyncpg.InvalidTextRepresentationError("not a uuid"), None),
    (FileNotFoundError("a list"), None),
    (KeyError("x"), None),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES])
def test_an_error_has_one_reason_whoever_raises_it(error: Exception, reason: ServiceReason | None) -> None:
    assert failure_of(error) is reason
    if isinstance(error, asyncpg.PostgresError):
        assert failure_of(DBAPIError("SELECT 1", None, error)) is reason


@pytest.mark.parametrize("reason", [BUSY, FULL, READ_ONLY, UNAVAILABLE])
def test_whoever_is_refused_may_come_again(reason: ServiceReason) -> None:
    refusal = database_refusal(reason)
    assert (refusal.status, refusal.retry_after_s is not None) == (503, True)


def test_a_node_remembers_only_that_the_disk_is_full() -> None:
    for error, reason in FAILURES:
        writability = Writability()
        writability.note(error)
        assert writability.full is (reason is FULL)
