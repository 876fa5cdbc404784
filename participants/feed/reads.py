"""Reading the journal for its hearers: a stretch of it in one statement, whatever the events are about.

Writers exclude each other over `ledger_head` for the whole of their transactions, so events are committed in the order
of their numbers: up to the head that a statement sees, it sees every event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import asyncpg
from msgspec import Struct

from participants.feed.messages import EventType, LedgerEvent, SettledLane
from participants.feed.public import CYCLE_SETTLED, PAYMENTS, PUBLIC, Recorded, public_event
from participants.ledger.events import TYPES, Event, EventRow, read
from participants.ledger.partitions import detached

STRETCH = 10_000
"""How many events of the journal one statement looks through for those that are asked for."""

HEAD = "SELECT sequence FROM ledger_head"
HEAD_AND_FLOOR = "SELECT h.sequence, f.sequence FROM ledger_head h CROSS JOIN journal_floor f"
# The first event of each payment beside it, by its key. LATERAL and LIMIT leave the planner no other way, which would
# read the whole journal.
EVENTS = """
SELECT e.*, f.sequence, f.type, f.schema_version, f.data FROM (
    SELECT sequence, subject::text, version, type, schema_version, data, recorded_at, effective_at FROM event
    WHERE sequence > $1 AND sequence <= $2 AND (type = ANY($3::text[]) OR type <> ALL($4::text[]))
    ORDER BY sequence LIMIT $5
) e LEFT JOIN LATERAL (
    SELECT sequence, type, schema_version, data FROM subject_event
    WHERE subject = e.subject::uuid AND version = 1 AND e.version > 1 AND e.type = ANY($6::text[]) LIMIT 1
) f ON true ORDER BY e.sequence
"""
LANES = """
SELECT s.cycle, l.currency, l.sender, l.receiver, coalesce(b.sequence, 0) + 1, s.sequence,
       (s.total - coalesce(b.total, 0))::text
FROM lane_settled s JOIN lane l ON l.id = s.lane_id
LEFT JOIN LATERAL (
    SELECT sequence, total FROM lane_settled
    WHERE lane_id = s.lane_id AND sequence < s.sequence ORDER BY sequence DESC LIMIT 1
) b ON true
WHERE s.cycle = ANY($1::text[]) ORDER BY l.sender, l.receiver
"""
_FOLLOWING = list(PAYMENTS)
_KNOWN = list(TYPES)


class Stretch(Struct, frozen=True):
    """The events that a stretch of the journal holds, up to which number it goes, and the journal's last event."""

    events: Sequence[LedgerEvent]
    through: int
    head: int


async def read_head(connection: asyncpg.Connection | asyncpg.Pool) -> int:
    """Return the number of the journal's last event."""
    head: int = await connection.fetchval(HEAD)
    return head


async def read_stretch(
    connection: asyncpg.Connection, *, after: int, through: int | None, limit: int, types: Collection[EventType]
) -> Stretch:
    """Return the next events of these types, as many as `limit`, of at most a stretch of the journal.

    Where a newer program has written an event that this one doesn't know, raises EventUnreadableError: nobody who
    follows the journal may be led past it unawares.
    """
    head, floor = await connection.fetchrow(HEAD_AND_FLOOR)
    if after + 1 < floor:
        before = f"events before {floor} are"
        raise await detached(connection, f"begin after {floor - 1}; {before}", event=after + 1)
    end = min(head, after + STRETCH, head if through is None else through)
    names = [name for name, type_ in PUBLIC.items() if type_ in types]
    rows = await connection.fetch(EVENTS, after, end, names, _KNOWN, limit, _FOLLOWING) if end > after else []
    journal = [read(EventRow(*row[:6])) for row in rows]
    lanes = await _lanes(connection, journal)
    events = (
        public_event(
            Recorded(
                event,
                row[6],
                row[7],
                None if row[8] is None else read(EventRow(row[8], row[1], 1, *row[9:])),
                lanes.get((event.data.cycle, event.data.currency), ()) if event.type == CYCLE_SETTLED else (),
            )
        )
        for event, row in zip(journal, rows, strict=True)
    )
    last = journal[-1].sequence if len(journal) == limit else end
    return Stretch([event for event in events if event is not None], max(last, after), head)


async def _lanes(connection: asyncpg.Connection, events: Sequence[Event]) -> dict[tuple[str, str], list[SettledLane]]:
    """Return what the cycles settled that are settled in these events, by cycle and currency."""
    lanes: dict[tuple[str, str], list[SettledLane]] = {}
    if cycles := [event.data.cycle for event in events if event.type == CYCLE_SETTLED]:
        for row in await connection.fetch(LANES, cycles):
            lane = SettledLane(
                sender=row[2], receiver=row[3], first_sequence=row[4], last_sequence=row[5], amount_minor=row[6]
            )
            lanes.setdefault((row[0], row[1]), []).append(lane)
    return lanes
