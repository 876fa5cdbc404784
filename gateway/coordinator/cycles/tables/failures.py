"""Failures of the step that a cycle has before it, counted in its row. SQL only."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.states import STUCK_EVENT
from gateway.coordinator.cycles.failures import Failure
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.log import events


async def count(conn: AsyncConnection, cycle: Cycle, failure: Failure, *, at: datetime, due_at: datetime) -> Cycle:
    """Count a failure of the step that is due to a locked cycle, and look again at `due_at`.

    Operators are told when it makes the cycle stuck, and when a stuck cycle's reason changes.
    """
    failed = replace(
        cycle,
        due_at=due_at,
        failures=cycle.failures + 1,
        failure_reason=failure.reason,
        failure_detail=failure.detail,
        failing_since=cycle.failing_since or at,
    )
    await conn.execute(
        text(
            "UPDATE cycles SET due_at = :due_at, failures = :failures, failure_reason = :reason,"
            " failure_detail = :detail, failing_since = :since WHERE id = :id"
        ),
        {
            "id": cycle.id,
            "due_at": due_at,
            "failures": failed.failures,
            "reason": failure.reason,
            "detail": failure.detail,
            "since": failed.failing_since,
        },
    )
    if failed.stuck and not (cycle.stuck and cycle.failure_reason is failure.reason):
        data = {"state": cycle.state, "reason": failure.reason, "detail": failure.detail, "failures": failed.failures}
        await events.append(conn, STUCK_EVENT, data, cycle=cycle.id)
    return failed


async def retry_now(conn: AsyncConnection, cycle_id: str) -> None:
    """Have the step that is due taken at once."""
    await conn.execute(text("UPDATE cycles SET due_at = NULL WHERE id = :id"), {"id": cycle_id})
