"""Cycles whose banks signed statement by statement: not migrated half done, and shown as ever once they are closed."""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import msgspec
import pytest
from clearing_house import rulebook

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle import positions
from compliance.cycle.positions import Position
from gateway.coordinator.cycles.tables import attestations, pairs
from gateway.federation.storage.database import create_engine, migrate, transaction
from gateway.federation.storage.postgres import PostgresError, dsn
from tests.conftest import NewDatabase
from tests.earlier_databases import lay_down

PACKAGE, BEFORE = "gateway.coordinator", "0009"
CYCLE = "2026-01-05-01"
LOW, HIGH = "ALFADEFF", "BETAFRPP"
P = Position("EUR", LOW, HIGH, 1, 1, 2, 2, "15000", "0" * 64, 1, 1, 1, "4000", "1" * 64)


def tables(state: str) -> dict[str, list[dict[str, Any]]]:
    """One cycle of before with one pair, which agrees."""
    at = "2026-01-05T12:00:00Z"
    statement = positions.statement_of(CYCLE, P)
    sha256 = canonical.digest(canonical.encode(statement))
    pair = {"cycle": CYCLE, "currency": "EUR", "pair_low": LOW, "pair_high": HIGH, "sha256": sha256}
    amounts = {"forth_minor": 15000, "back_minor": 4000}
    signed = {
        bank: {"participant": bank, "envelope": msgspec.to_builtins(dsse.sign(statement, SigningKey.generate()))}
        for bank in (LOW, HIGH)
    }
    cycle = {
        "id": CYCLE, "value_date": "2026-01-05", "number": 1, "state": state, "currencies": ["EUR"],
        "closed": {}, "rulebook": rulebook().sha256, "trust_list_version": 1, "opened_at": at, "version": 3,
        "failures": 0,
    }  # fmt: skip
    return {
        "cycles": [cycle],
        "cycle_participants": [{"cycle": CYCLE, "participant": bank, "cut_at": at} for bank in (LOW, HIGH)],
        "statements": [{**pair, **amounts, **of_bank, "revision": 1, "received_at": at} for of_bank in signed.values()],
        "screenings": [
            {"id": 1, "cycle": CYCLE, "participant": LOW, "sha256": hashlib.sha256(b"").hexdigest(), "envelope": {},
             "received_at": at}
        ],
        "cycle_pairs": [pair],
    }  # fmt: skip


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.mark.parametrize("state", ["cut_off", "attesting"])
async def test_a_cycle_that_takes_in_what_banks_sign_ends_under_its_own_release(url: str, state: str) -> None:
    await lay_down(url, PACKAGE, BEFORE, tables(state))
    with pytest.raises(PostgresError, match=f"cycle {CYCLE} .* between two cycles"):
        await migrate(url, PACKAGE)
    connection = await asyncpg.connect(dsn(url))
    try:
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == BEFORE
        assert await connection.fetchval("SELECT count(*) FROM cut_lanes") == 0
        await connection.execute("UPDATE cycles SET state = 'matched'")
    finally:
        await connection.close()
    await migrate(url, PACKAGE)


async def test_what_agreed_before_nets_and_shows_as_it_did(url: str) -> None:
    await lay_down(url, PACKAGE, BEFORE, tables("matched"))
    await migrate(url, PACKAGE)
    engine = create_engine(url)
    try:
        async with transaction(engine) as conn:
            sha256 = canonical.digest(canonical.encode(positions.statement_of(CYCLE, P)))
            assert await pairs.agreed_statements(conn, CYCLE) == [(sha256, P)]
            assert await pairs.agreed_gross(conn, CYCLE) == {("EUR", LOW): (4000, 15000), ("EUR", HIGH): (15000, 4000)}
            assert (await pairs.outcomes(conn, [CYCLE]))[CYCLE].total == (1, 0)
            assert await attestations.statement_counts(conn, CYCLE) == {LOW: 1, HIGH: 1}
            signed = await attestations.attested(conn, CYCLE, [("EUR", LOW, HIGH)])
            assert {(one.participant, one.sha256) for one in signed} == {(LOW, sha256), (HIGH, sha256)}
            assert await pairs.totals(conn, CYCLE) == [(("EUR", LOW, HIGH), 19000)]
    finally:
        await engine.dispose()
