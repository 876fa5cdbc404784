"""A day of thousands of cycles: what is asked of the newest ones reads these alone."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.coordinator.cycles.tables import cycles, pairs, submissions
from gateway.federation.storage.database import create_engine
from tests.conftest import NewDatabase

CYCLES = 3_000
ROWS_MAX = 200


@pytest.fixture
async def conn(new_database: NewDatabase) -> AsyncIterator[AsyncConnection]:
    """A coordinator's database after a long day in which one bank handed in a cut for each cycle."""
    engine = create_engine(await new_database("gateway.coordinator"), role=None)
    async with engine.begin() as begun:
        for statement in (
            "SET session_replication_role = replica",
            "INSERT INTO rulebooks (sha256, document, adopted_at) VALUES (repeat('0', 64), '{}', now())",
            "INSERT INTO cycles (id, value_date, number, state, currencies, rulebook, trust_list_version, opened_at)"
            " SELECT '2026-11-27-' || to_char(n, 'FM0000'), '2026-11-27', n, 'final', ARRAY['EUR'], repeat('0', 64), 1,"
            f" timestamptz '2026-11-27Z' + n * interval '8 seconds' FROM generate_series(1, {CYCLES}) AS n",
            "INSERT INTO cuts (cycle, receiver, sha256, envelope, received_at)"
            " SELECT id, 'ALFADEFF', repeat('0', 64), '{}', now() FROM cycles",
            "ANALYZE cycles",
            "ANALYZE cuts",
        ):
            await begun.execute(text(statement))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


QUESTIONS: dict[str, Callable[[AsyncConnection], Awaitable[object]]] = {
    "the last settled ones": lambda conn: pairs.settled_cycles(conn, last=20),
    "the newest that a bank has a cut in": lambda conn: submissions.newest_cut(conn, "ALFADEFF"),
    "the newest ones, in a list": lambda conn: cycles.page(conn, limit=20, before=None, value_date=None),
    "the one in progress": cycles.in_progress,
    "the open one": cycles.current,
}


async def rows_read(conn: AsyncConnection) -> int:
    """Return how many rows this session has looked at, as far as it hasn't told the statistics yet."""
    read = await conn.execute(
        text(
            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
            " WHERE relname IN ('cycles', 'cuts')"
        )
    )
    return int(read.scalar_one())


@pytest.mark.parametrize("question", QUESTIONS)
async def test_of_a_long_day_only_the_newest_cycles_are_read(conn: AsyncConnection, question: str) -> None:
    before = await rows_read(conn)
    await QUESTIONS[question](conn)
    assert await rows_read(conn) - before <= ROWS_MAX
