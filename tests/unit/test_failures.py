"""What makes a step of a cycle fail, and what is only the trouble of a database or network."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from compliance.cycle.result import InconsistentInputError
from gateway.coordinator.cycles.failures import FailureReason, retry_after_s, step_failure
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.federation.iso20022 import MessageReason, MessageRefused
from gateway.federation.problems import Refusal, ServiceReason


def wrapped(error: Exception) -> DBAPIError:
    return DBAPIError("SELECT", {}, error)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(), None),
        (TimeoutError(), None),
        (PoolTimeoutError(), None),
        (asyncpg.InterfaceError("connection is closed"), None),
        (wrapped(asyncpg.ConnectionDoesNotExistError()), None),
        (wrapped(asyncpg.DiskFullError()), None),
        (wrapped(asyncpg.TooManyConnectionsError()), None),
        (wrapped(asyncpg.ReadOnlySQLTransactionError()), None),
        (wrapped(asyncpg.IdleInTransactionSessionTimeoutError()), None),
        (wrapped(asyncpg.LockNotAvailableError()), None),
        (wrapped(asyncpg.DeadlockDetectedError()), None),
        (wrapped(asyncpg.SerializationError()), None),
        (wrapped(asyncpg.AdminShutdownError()), None),
        (wrapped(asyncpg.CannotConnectNowError()), None),
        (Refusal(ServiceReason.NOT_READY, "no database"), None),
        (Refusal(CycleReason.RESULT_UNKNOWN, "no result"), FailureReason.STEP_FAILED),
        (wrapped(asyncpg.QueryCanceledError()), FailureReason.TOO_SLOW),
        (wrapped(asyncpg.UniqueViolationError()), FailureReason.STEP_FAILED),
        (wrapped(asyncpg.NumericValueOutOfRangeError()), FailureReason.STEP_FAILED),
        (wrapped(asyncpg.DataError("value out of int64 range")), FailureReason.STEP_FAILED),
        (NoResultFound(), FailureReason.STEP_FAILED),
        (MessageRefused(MessageReason.AMOUNT_MALFORMED, "over 18 digits"), FailureReason.MESSAGE_REFUSED),
        (InconsistentInputError("twice"), FailureReason.INPUTS_REFUSED),
        (LookupError("no result"), FailureReason.STEP_FAILED),
        (MemoryError(), FailureReason.STEP_FAILED),
    ],
)
def test_what_a_step_ended_in(error: Exception, reason: FailureReason | None) -> None:
    failure = step_failure(error)
    assert (None if failure is None else failure.reason) is reason


def test_what_a_row_held_is_no_part_of_the_detail() -> None:
    error = asyncpg.UniqueViolationError("duplicate key value: Key (participant)=(ALFADEFF)")
    failure = step_failure(wrapped(error))
    assert failure is not None
    assert "ALFADEFF" not in failure.detail


def test_a_step_is_tried_at_once_and_then_ever_later() -> None:
    assert [retry_after_s(failures) for failures in range(1, 9)] == [0, 2, 4, 8, 16, 32, 60, 60]
