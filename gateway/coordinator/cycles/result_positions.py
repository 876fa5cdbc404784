"""The positions that a result includes, kept in memory from its netting to its finality.

There are as many as pairs of banks, and each step between would read them all from the tables again. A result names
the digest of each, so what is kept under a result's digest is right for as long as anybody asks for that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.positions import Position
from gateway.coordinator.cycles.tables import pairs

Included = Sequence[tuple[str, Position]]
"""Digests of statements, and what they say."""


class ResultPositions:
    """Keeps those of the newest result that this process netted or asked for."""

    def __init__(self) -> None:
        self._newest: tuple[str, Included] | None = None

    def keep(self, result: str, included: Included) -> None:
        """Keep what a result includes, by the result's digest."""
        self._newest = result, included

    async def of(self, conn: AsyncConnection, cycle: str, result: str) -> Included:
        """Return what the result in force of a cycle includes."""
        if self._newest is None or self._newest[0] != result:
            self.keep(result, await pairs.agreed_statements(conn, cycle))
        assert self._newest is not None
        return self._newest[1]

    def forget(self, result: str) -> None:
        """Let go of them: nobody will ask again."""
        if self._newest is not None and self._newest[0] == result:
            self._newest = None
