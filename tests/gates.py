"""Stopping a process at one exact step, by its own transaction: a row that may not be written yet.

Every interesting table gets a trigger that takes a shared advisory lock named after the row. Nobody notices, until a
test holds the same lock: then whoever is about to write such a row waits, in the middle of its transaction, for as
long as the test looks, kills and lets go. No sleeping, and nothing of it is in the program under test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

REACHED_TIMEOUT_S = 60
LOOK_EVERY_S = 0.005

FUNCTION = """
CREATE FUNCTION simulation_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(
        hashtextextended(TG_ARGV[1] || '.' || (to_jsonb(NEW) ->> TG_ARGV[0]), 0));
    RETURN NEW;
END $$
"""
# A gate is "<table>.<value of this column>"; the row may be written to a partition of the table.
COLUMNS = {
    "participant": {"event": ("INSERT", "type")},
    "coordinator": {
        "cycles": ("UPDATE", "state"),
        "cuts": ("INSERT", "receiver"),
        "attestations": ("INSERT", "participant"),
        "instructions": ("UPDATE", "participant"),
        "proposals": ("INSERT", "action"),
    },
    "agent": {"entry": ("INSERT", "kind"), "answer": ("INSERT", "status")},
}

WAITING = """
SELECT pid, usename FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def build_gates(url: str, kind: str) -> None:
    """Put the triggers into an institution's database."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(FUNCTION)
        for table, (operation, column) in COLUMNS[kind].items():
            await connection.execute(
                f"CREATE TRIGGER simulation_gate BEFORE {operation} ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION simulation_gate('{column}', '{table}')"
            )
    finally:
        await connection.close()


@dataclass
class Gate:
    """A closed gate in one database."""

    name: str
    connection: asyncpg.Connection

    async def reached_by(self, work: asyncio.Task[None]) -> None:
        """Return when somebody stands before the gate; raise what the work that should lead there raises."""
        give_up_at = time.monotonic() + REACHED_TIMEOUT_S
        while not await self._waiting():
            if work.done():
                await work
            assert not work.done(), f"nobody came to {self.name}, and it is over"
            if time.monotonic() > give_up_at:
                work.cancel()
                raise AssertionError(f"nobody came to {self.name}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def roll_back(self) -> None:
        """End the transactions that wait here, as a server does when it finds their client gone."""
        for pid, _ in await self._waiting():
            await self.connection.execute("SELECT pg_terminate_backend($1, 5000)", pid)

    async def logins(self) -> set[str]:
        """Return as whom those have signed in at the database who stand before the gate."""
        return {login for _, login in await self._waiting()}

    async def _waiting(self) -> Iterable[tuple[int, str]]:
        return [(row["pid"], row["usename"]) for row in await self.connection.fetch(WAITING)]


@asynccontextmanager
async def closed(url: str, name: str) -> AsyncIterator[Gate]:
    """Close a gate until the block ends."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", name)
        yield Gate(name, connection)
    finally:
        # The lock ends with the connection.
        await connection.close()
