"""Altering a lane of a bank's ledger as nobody can who hasn't the database: entries, and the tree heads over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from compliance.crypto.merkle import Tree
from gateway.federation.storage.postgres import dsn

LANE = "SELECT id FROM lane WHERE sender = $1 AND receiver = $2 AND currency = $3"
ENTRIES = "SELECT sequence, amount, leaf FROM lane_entry WHERE lane_id = $1 ORDER BY sequence"


@asynccontextmanager
async def altered(database_url: str, sender: str, receiver: str, currency: str = "EUR") -> AsyncIterator[AlteredLane]:
    """Let a lane be altered, then make its tree heads anew."""
    owner = await asyncpg.connect(dsn(database_url))
    try:
        await owner.execute("SET session_replication_role = replica")
        lane = AlteredLane(owner, await owner.fetchval(LANE, sender, receiver, currency))
        yield lane
        await lane.hash_again()
    finally:
        await owner.close()


class AlteredLane:
    """A lane's rows, with the rights of the database's owner."""

    def __init__(self, owner: asyncpg.Connection, lane: int) -> None:
        self.owner = owner
        self.id = lane

    async def execute(self, statement: str, *values: object) -> None:
        """Run a statement whose $1 is the lane's number."""
        await self.owner.execute(statement, self.id, *values)

    async def hash_again(self) -> None:
        await self.execute("DELETE FROM lane_head WHERE lane_id = $1")
        tree, total, heads = Tree(), 0, []
        for sequence, amount, leaf in await self.owner.fetch(ENTRIES, self.id):
            tree, total = tree.append([leaf]), total + amount
            assert tree.size == sequence
            heads.append((self.id, sequence, total, tree.to_bytes()))
        await self.owner.copy_records_to_table(
            "lane_head", records=heads, columns=["lane_id", "sequence", "total", "peaks"]
        )
