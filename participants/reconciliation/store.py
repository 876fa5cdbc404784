"""The reconciliations that a bank was asked for or that follow from breaks, as its database keeps them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import asyncpg
import msgspec
from msgspec import Struct

from compliance.statements import Bic, CurrencyCode, CycleId
from gateway.federation.messages.base import Answer, Uuid, open_words
from participants.reconciliation.report import Report

CLAIM_SECONDS = 330
"""Longer than one takes at most."""
ATTEMPTS_MAX = 5

_COLUMNS = "number, id::text, counterparty, currency, cycle, asked_by, asked_at, state, ended_at, reason"
ADD = """
INSERT INTO reconciliation (id, counterparty, currency, cycle, asked_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (cycle, counterparty, currency) WHERE cycle IS NOT NULL DO NOTHING
"""
OPEN = "SELECT count(*) FROM reconciliation WHERE state IN ('asked', 'running')"
# One at a time with each other bank. What was begun too often, and never ended, ends whoever works on it.
CLAIM = f"""
UPDATE reconciliation SET state = 'running', attempts = attempts + 1,
    claimed_until = now() + make_interval(secs => {CLAIM_SECONDS})
WHERE number = (
    SELECT number FROM reconciliation r
    WHERE ((state = 'asked' AND (claimed_until IS NULL OR claimed_until < now()))
       OR (state = 'running' AND claimed_until < now()))
      AND NOT EXISTS (
        SELECT FROM reconciliation o
        WHERE o.state = 'running' AND o.claimed_until >= now() AND o.counterparty = r.counterparty
      )
    ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING number, counterparty, currency, attempts
"""  # noqa: S608 - text of ours
GIVE_UP = """
UPDATE reconciliation SET state = 'failed', reason = 'begun too often, and never ended', ended_at = now()
WHERE state = 'running' AND claimed_until < now() AND attempts >= $1
"""
END = "UPDATE reconciliation SET state = $2, reason = $3, report = $4, ended_at = now() WHERE number = $1"
AGAIN = """
UPDATE reconciliation SET state = 'asked', reason = $2, claimed_until = now() + make_interval(secs => $3)
WHERE number = $1
"""
LISTED = f"""
SELECT {_COLUMNS}, NULL FROM reconciliation
WHERE ($1::bigint IS NULL OR number < $1) AND ($2::text IS NULL OR counterparty = $2) ORDER BY number DESC LIMIT $3
"""  # noqa: S608 - text of ours
BY_ID = f"SELECT {_COLUMNS}, report FROM reconciliation WHERE id = $1"  # noqa: S608 - text of ours


class State(StrEnum):
    """How far a reconciliation is."""

    ASKED = "asked"
    """It waits for its turn, or to be tried again."""
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The other bank couldn't be asked, or its answers contradict each other: `reason`."""


class Reconciliation(Answer, frozen=True, kw_only=True):
    """A comparison of the books with another bank. It has a report once it is `done`.

    It was asked for by a person, or follows from a break of a cycle.
    """

    id: Uuid
    counterparty: Bic
    currency: CurrencyCode | None = None
    cycle: CycleId | None = None
    asked_by: str | None = None
    asked_at: datetime
    state: Annotated[str, open_words(*State)]
    ended_at: datetime | None = None
    reason: str | None = None
    report: Report | None = None


class Claimed(Struct, frozen=True):
    """A reconciliation that this node works on."""

    number: int
    counterparty: str
    currency: str | None
    attempts: int


async def add(
    connection: asyncpg.Connection,
    counterparty: str,
    currency: str | None,
    *,
    cycle: str | None = None,
    asked_by: str | None = None,
) -> str:
    """Keep that a reconciliation is asked for; one of a break that is known stays the only one. Returns its id."""
    made = str(uuid4())
    await connection.execute(ADD, made, counterparty, currency, cycle, asked_by)
    return made


async def open_count(connection: asyncpg.Connection) -> int:
    """Return how many wait or are under way."""
    return int(await connection.fetchval(OPEN))


async def claim(connection: asyncpg.Connection) -> Claimed | None:
    """Take the one that has waited longest and nobody works on, None if there is none."""
    await connection.execute(GIVE_UP, ATTEMPTS_MAX)
    row = await connection.fetchrow(CLAIM)
    return None if row is None else Claimed(row[0], row[1], row[2], row[3])


async def end(
    connection: asyncpg.Connection,
    number: int,
    state: State,
    *,
    reason: str | None = None,
    report: Report | None = None,
) -> None:
    """Keep what came of one."""
    text = None if report is None else msgspec.json.encode(report).decode()
    await connection.execute(END, number, state, reason, text)


async def try_again(connection: asyncpg.Connection, number: int, reason: str, seconds: float) -> None:
    """Let one be tried again after a while."""
    await connection.execute(AGAIN, number, reason, seconds)


async def listed(
    connection: asyncpg.Connection, before: int | None, limit: int, *, counterparty: str | None
) -> tuple[list[Reconciliation], int | None]:
    """Return the newest first, without their reports; and the number of the last one, if there may be more."""
    rows = await connection.fetch(LISTED, before, counterparty, limit)
    return [_read(row) for row in rows], rows[-1][0] if len(rows) == limit else None


async def read(connection: asyncpg.Connection, reconciliation: str) -> Reconciliation | None:
    """Return a reconciliation with its report."""
    row = await connection.fetchrow(BY_ID, reconciliation)
    return None if row is None else _read(row)


def _read(row: asyncpg.Record) -> Reconciliation:
    return Reconciliation(
        id=row[1],
        counterparty=row[2],
        currency=row[3],
        cycle=row[4],
        asked_by=row[5],
        asked_at=row[6],
        state=row[7],
        ended_at=row[8],
        reason=row[9],
        report=None if row[10] is None else msgspec.json.decode(row[10], type=Report),
    )
