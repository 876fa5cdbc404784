"""Keeping two documents of one bank that contradict each other: what convicts it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.coordinator.cycles.tables import submissions
from gateway.coordinator.log import events


async def keep(
    conn: AsyncConnection, cycle: str, bank: str, digests: tuple[str, str], documents: tuple[str, str], *, at: datetime
) -> None:
    """Keep two contradicting documents (JSON) of one bank, if they are the first of their kind, and tell of them."""
    added = await submissions.insert_equivocation(
        conn, cycle=cycle, bank=bank, digests=digests, documents=documents, at=at
    )
    if added:
        data = {"participant": bank, "first": digests[0], "second": digests[1]}
        await events.append(conn, "cycle.equivocation", data, cycle=cycle)
