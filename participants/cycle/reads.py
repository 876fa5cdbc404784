"""What a bank's side of a cycle reads from its database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import asyncpg

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.crypto.merkle import Tree
from compliance.cycle.result import instruction_id
from compliance.statements import EDITIONS_MAX, CycleCut, PositionStatement, SettlementInstruction
from participants.cycle.statements import LanePoint
from participants.ledger import events
from participants.ledger.lanes import LaneKey

LANES = """
SELECT l.sender, l.receiver, l.currency, l.id, coalesce(s.sequence, 0), coalesce(s.total, 0)
FROM lane l LEFT JOIN LATERAL (
    SELECT sequence, total FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1
) s ON true
"""
HEAD_BELOW = """
SELECT sequence, total, peaks FROM lane_head WHERE lane_id = $1 AND sequence <= $2 ORDER BY sequence DESC LIMIT 1
"""
ENTRIES = """
SELECT leaf, amount FROM lane_entry WHERE lane_id = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence
"""
DISPUTED = """
SELECT count(*), coalesce(sum(amount), 0) FROM dispute WHERE lane_id = $1 AND sequence > $2 AND sequence <= $3
"""
UNANSWERED = """
SELECT o.payment_id::text FROM payment_open o JOIN subject_event e ON e.subject = o.payment_id AND e.version = 1
WHERE o.counterparty = $1 AND o.state IN ('queued', 'cancelling')
AND coalesce(e.data->'order'->>'currency', e.data->>'currency') = $2
ORDER BY o.event_sequence LIMIT $3
"""
NEWEST_ATTESTED = """
SELECT cycle FROM (
    SELECT sequence, data->>'cycle' AS cycle FROM event WHERE type = 'cycle.attested' ORDER BY sequence DESC LIMIT 100
) AS newest
GROUP BY cycle ORDER BY max(sequence) DESC LIMIT $1
"""
CUT_AT = "SELECT recorded_at FROM subject_event WHERE subject = ANY ($1::uuid[]) AND version = 1"
EVENTS_OF = """
SELECT sequence, subject::text, version, type, schema_version, data FROM subject_event
WHERE subject = ANY ($1::uuid[]) AND type LIKE 'cycle.%' ORDER BY sequence
"""


async def events_of(connection: asyncpg.Connection, *subjects: str) -> list[events.Event]:
    """Return a cycle's events under subjects, however those were written, in their order."""
    spellings = [*subjects, *map(events.earlier_subject, subjects)]
    return [events.read(events.EventRow(*row)) for row in await connection.fetch(EVENTS_OF, spellings)]


async def cut(connection: asyncpg.Connection, cycle: str) -> tuple[CycleCut | None, Envelope | None]:
    """Return this bank's cut of a cycle once it is fixed, and what it signed for it once it did."""
    document, envelope = None, None
    for event in await events_of(connection, events.cut_subject(cycle)):
        if event.type == "cycle.cut":
            document, envelope = event.data.cut, event.data.envelope
        else:
            (envelope,) = event.data.envelopes
    return document, envelope


async def cut_at(connection: asyncpg.Connection, cycle: str) -> datetime | None:
    """Return when this bank fixed its cut of a cycle."""
    subject = events.cut_subject(cycle)
    at: datetime | None = await connection.fetchval(CUT_AT, [subject, events.earlier_subject(subject)])
    return at


async def submissions(connection: asyncpg.Connection, cycle: str) -> list[events.CycleDocuments]:
    """Return the statements that this bank signed in a cycle, each time it did."""
    return [event.data for event in await events_of(connection, events.attested_subject(cycle))]


async def lanes(connection: asyncpg.Connection) -> dict[LaneKey, tuple[int, int, int]]:
    """Return every lane: its id, and the number and total it is settled through."""
    return {LaneKey(row[0], row[1], row[2]): (row[3], row[4], int(row[5])) for row in await connection.fetch(LANES)}


async def points(
    connection: asyncpg.Connection, cuts: Mapping[LaneKey, int]
) -> tuple[dict[LaneKey, LanePoint], dict[LaneKey, int]]:
    """Return each lane at its cut, and through which payment those are known that aren't known up to it.

    Reads the nearest stored head at or below the cut and at most one batch of entries, however long the lane is.
    """
    stored = await lanes(connection)
    at_cuts: dict[LaneKey, LanePoint] = {}
    known_through: dict[LaneKey, int] = {}
    for key, sequence in cuts.items():
        if sequence == 0:
            continue
        if key not in stored:
            known_through[key] = 0
            continue
        lane_id, settled_sequence, settled_total = stored[key]
        tree, total = await _at(connection, lane_id, sequence)
        if tree.size != sequence:
            known_through[key] = tree.size
            continue
        disputed = await connection.fetchrow(DISPUTED, lane_id, settled_sequence, sequence)
        at_cuts[key] = LanePoint(
            key, sequence, total, tree.root(), settled_sequence, settled_total, disputed[0], int(disputed[1])
        )
    return at_cuts, known_through


async def unanswered(connection: asyncpg.Connection, receiver: str, currency: str, count: int) -> list[str]:
    """Return the oldest payments that a bank has been sent in a currency and this bank has no answer to."""
    return [row[0] for row in await connection.fetch(UNANSWERED, receiver, currency, count)]


async def total_at(connection: asyncpg.Connection, key: LaneKey, sequence: int) -> int:
    """Return the total of a lane's payments 1..sequence."""
    lane_id = (await lanes(connection))[key][0]
    return (await _at(connection, lane_id, sequence))[1]


async def _at(connection: asyncpg.Connection, lane_id: int, sequence: int) -> tuple[Tree, int]:
    tree, total = Tree(), 0
    head = await connection.fetchrow(HEAD_BELOW, lane_id, sequence)
    if head is not None:
        tree, total = Tree.from_bytes(head[0], head[2]), int(head[1])
    if tree.size < sequence:
        entries = await connection.fetch(ENTRIES, lane_id, tree.size, sequence)
        tree = tree.append([row[0] for row in entries])
        total += sum(row[1] for row in entries)
    return tree, total


async def signed_statements(connection: asyncpg.Connection, cycle: str) -> dict[str, PositionStatement]:
    """Return the statements that this bank signed in a cycle, by the SHA-256 of their canonical bytes."""
    statements = {}
    for documents in await submissions(connection, cycle):
        for envelope in documents.envelopes:
            payload = envelope.payload_bytes()
            if "position" in envelope.document_type:
                statements[canonical.digest(payload)] = canonical.decode(payload, PositionStatement)
    return statements


async def shown_results(connection: asyncpg.Connection, cycle: str) -> list[events.ResultShown]:
    """Return what this bank and its counterparties were shown of a cycle's result, as far as it is kept."""
    return [event.data for event in await events_of(connection, events.result_subject(cycle))]


async def newest_attested(connection: asyncpg.Connection, count: int) -> list[str]:
    """Return the cycles that this bank signed for last, the newest first."""
    return [row[0] for row in await connection.fetch(NEWEST_ATTESTED, count)]


async def exists(connection: asyncpg.Connection, subject: str) -> bool:
    """Tell whether anything is recorded under a subject."""
    return bool(await events_of(connection, subject))


async def next_version(connection: asyncpg.Connection, subject: str) -> int:
    """Return the version of a subject's next event. What was written before subjects were reserved isn't counted."""
    return int(
        await connection.fetchval("SELECT coalesce(max(version), 0) + 1 FROM event_key WHERE subject = $1", subject)
    )


async def read_cursor(connection: asyncpg.Connection) -> int:
    """Return the last event of the coordinator's feed that was dealt with."""
    return int(await connection.fetchval("SELECT last_event FROM feed_cursor"))


async def move_cursor(connection: asyncpg.Connection, event: int) -> None:
    """Remember that the feed was dealt with through an event."""
    await connection.execute("UPDATE feed_cursor SET last_event = $1 WHERE last_event < $1", event)


async def instructions(connection: asyncpg.Connection, cycle: str, bank: str) -> list[Envelope]:
    """Return the instructions of a cycle that this bank verified and kept."""
    envelopes: list[Envelope] = []
    currencies = sorted({s.currency for s in (await signed_statements(connection, cycle)).values()})
    for currency in currencies:
        # After a default there is a later edition, of which alone the finality can be.
        names = [instruction_id(cycle, bank, currency, edition) for edition in range(1, EDITIONS_MAX + 1)]
        subjects = [events.instructed_subject(name) for name in names]
        envelopes += [event.data.instruction for event in await events_of(connection, *subjects)]
    return envelopes


async def instruction(connection: asyncpg.Connection, name: str) -> SettlementInstruction | None:
    """Return an instruction that this bank verified and kept, or None."""
    for event in await events_of(connection, events.instructed_subject(name)):
        return canonical.decode(event.data.instruction.payload_bytes(), SettlementInstruction)
    return None
