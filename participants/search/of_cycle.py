"""What a cycle settled of this bank's payments: lane by lane, number by number."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
from msgspec import Struct

from participants.cycle import attestations, reads
from participants.feed.messages import SettledLane
from participants.ledger.payment import Direction
from participants.search.settlement import settled_at

# A lane's settlements follow each other: each takes it from the one before to its own number.
LANES = """
SELECT l.id, l.sender, l.receiver, l.currency, coalesce(b.sequence, 0) + 1, s.sequence,
       (s.total - coalesce(b.total, 0))::text
FROM lane_settled s JOIN lane l ON l.id = s.lane_id
LEFT JOIN LATERAL (
    SELECT sequence, total FROM lane_settled
    WHERE lane_id = s.lane_id AND sequence < s.sequence ORDER BY sequence DESC LIMIT 1
) b ON true
WHERE s.cycle = $1 ORDER BY l.id
"""
ENTRIES = """
SELECT e.lane_id, e.sequence, e.payment_id::text
FROM unnest($1::integer[], $2::bigint[], $3::bigint[]) AS l (id, first, last)
CROSS JOIN LATERAL (
    SELECT lane_id, sequence, payment_id FROM lane_entry
    WHERE lane_id = l.id AND sequence BETWEEN l.first AND l.last ORDER BY sequence LIMIT $4
) e ORDER BY e.lane_id, e.sequence LIMIT $4
"""


class CycleLane(Struct, frozen=True):
    """A lane, and what a cycle settled of it."""

    id: int
    currency: str
    settled: SettledLane


class CycleEntry(Struct, frozen=True):
    """A payment that a cycle settled, by its lane and number."""

    lane: int
    sequence: int
    payment_id: str


async def settled_currencies(connection: asyncpg.Connection, cycle: str, bank: str) -> list[str] | None:
    """Return the currencies in which a cycle is final at a bank; None if the bank has done nothing in such a cycle."""
    attested = await reads.attested(connection, cycle)
    if not attested and not await reads.took_part(connection, cycle):
        return None
    currencies = {position.currency for said in attested for position in attestations.positions_in(said)}
    settled = await settled_at(connection, bank, {(cycle, currency) for currency in currencies})
    return sorted(currency for _, currency in settled)


async def settled_lanes(
    connection: asyncpg.Connection,
    cycle: str,
    *,
    bank: str,
    currency: str | None = None,
    counterparty: str | None = None,
    direction: Direction | None = None,
) -> list[CycleLane]:
    """Return what a cycle settled, lane by lane."""
    lanes = []
    for row in await connection.fetch(LANES, cycle):
        lane = SettledLane(
            sender=row[1], receiver=row[2], first_sequence=row[4], last_sequence=row[5], amount_minor=row[6]
        )
        way, other = ("out", row[2]) if row[1] == bank else ("in", row[1])
        if currency in (None, row[3]) and counterparty in (None, other) and direction in (None, way):
            lanes.append(CycleLane(row[0], row[3], lane))
    return lanes


async def settled_payments(
    connection: asyncpg.Connection, lanes: Sequence[CycleLane], *, after: tuple[int, int], limit: int
) -> list[CycleEntry]:
    """Return the payments of lanes that a cycle settled, those after a lane and number, in their order."""
    parts = [
        (
            lane.id,
            max(lane.settled.first_sequence, after[1] + 1 if lane.id == after[0] else 0),
            lane.settled.last_sequence,
        )
        for lane in lanes
        if lane.id >= after[0]
    ]
    if not parts:
        return []
    rows = await connection.fetch(ENTRIES, *map(list, zip(*parts, strict=True)), limit)
    return [CycleEntry(row[0], row[1], row[2]) for row in rows]
