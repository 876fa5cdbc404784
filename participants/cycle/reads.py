"""What a bank's side of a cycle reads from its database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.crypto.merkle import Tree
from compliance.cycle.positions import Position
from compliance.cycle.result import instruction_id
from compliance.statements import EDITIONS_MAX, CycleCut, SettlementInstruction
from gateway.federation.sharing import beside_if_large
from participants.cycle import attestations
from participants.cycle.statements import LanePoint
from participants.ledger import events
from participants.ledger.lanes import LaneKey

LEAF_BYTES = 32
RECEIVING = "SELECT sender, receiver, currency FROM lane WHERE receiver = $1"
# All lanes that are asked for in one go, however many: for each the nearest stored head at or below the number, the
# entries after it, what is settled, and what is disputed in between. OFFSET leaves the planner each lane's own index.
AT = """
WITH asked AS MATERIALIZED (
    SELECT k.place, k.sequence, l.id, coalesce(s.sequence, 0) AS settled, coalesce(s.total, 0) AS settled_total
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        WITH ORDINALITY AS k (sender, receiver, currency, sequence, place)
    JOIN lane l ON l.sender = k.sender AND l.receiver = k.receiver AND l.currency = k.currency
    LEFT JOIN LATERAL (
        SELECT sequence, total FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1
    ) s ON true
), disputed AS (
    SELECT a.place, count(*) AS count, sum(d.amount) AS amount FROM asked a
    JOIN dispute d ON d.lane_id = a.id AND d.sequence > a.settled AND d.sequence <= a.sequence GROUP BY a.place
)
SELECT a.place, a.settled, a.settled_total, coalesce(h.sequence, 0), coalesce(h.total, 0), coalesce(h.peaks, ''),
    coalesce(e.leaves, ''), coalesce(e.amount, 0), coalesce(d.count, 0), coalesce(d.amount, 0)
FROM asked a LEFT JOIN disputed d USING (place)
LEFT JOIN LATERAL (
    SELECT sequence, total, peaks FROM lane_head
    WHERE lane_id = a.id AND sequence <= a.sequence ORDER BY sequence DESC LIMIT 1
) h ON true
LEFT JOIN LATERAL (
    SELECT string_agg(leaf, ''::bytea ORDER BY sequence) AS leaves, sum(amount) AS amount FROM (
        SELECT sequence, leaf, amount FROM lane_entry
        WHERE lane_id = a.id AND sequence > coalesce(h.sequence, 0) AND sequence <= a.sequence OFFSET 0
    ) further
) e ON true
"""
UNANSWERED = """
SELECT k.receiver, p.id FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (receiver, currency, count)
CROSS JOIN LATERAL (
    SELECT o.payment_id::text AS id FROM payment_open o
    JOIN subject_event e ON e.subject = o.payment_id AND e.version = 1
    WHERE o.counterparty = k.receiver AND o.state IN ('queued', 'cancelling')
    AND coalesce(e.data->'order'->>'currency', e.data->>'currency') = k.currency
    ORDER BY o.event_sequence LIMIT k.count
) p
"""
# By the first word of each cycle: a later one may be one of many, and each holds thousands of positions.
NEWEST_ATTESTED = """
SELECT data->>'cycle' FROM event WHERE type = 'cycle.attested' AND version = 1 ORDER BY sequence DESC LIMIT $1
"""
CUT_AT = "SELECT recorded_at FROM subject_event WHERE subject = ANY ($1::uuid[]) AND version = 1"
RECORDED = """
SELECT DISTINCT subject::text FROM subject_event WHERE subject = ANY ($1::uuid[]) AND type LIKE 'cycle.%'
"""
EVENTS_OF = """
SELECT sequence, subject::text, version, type, schema_version, data FROM subject_event
WHERE subject = ANY ($1::uuid[]) AND type LIKE 'cycle.%' ORDER BY sequence
"""


async def events_of(connection: asyncpg.Connection, *subjects: str) -> list[events.Event]:
    """Return a cycle's events under subjects, however those were written, in their order."""
    rows = await connection.fetch(EVENTS_OF, _spellings(subjects))
    # There may be thousands of positions, or lines, in one.
    size = sum(len(row[5]) for row in rows)
    return await beside_if_large(size, lambda: [events.read(events.EventRow(*row)) for row in rows])


def _spellings(subjects: Iterable[str]) -> list[str]:
    """Return subjects as they are written, and as they were before there were reserved ones."""
    return [spelling for subject in subjects for spelling in (subject, events.earlier_subject(subject))]


async def cut(connection: asyncpg.Connection, cycle: str) -> tuple[CycleCut | None, Envelope | None]:
    """Return this bank's cut of a cycle once it is fixed, and what it signed for it once it did."""
    document, envelope = None, None
    for event in await events_of(connection, events.cut_subject(cycle)):
        if event.type == "cycle.cut":
            document, envelope = event.data.cut, event.data.envelope
        else:
            (envelope,) = event.data.envelopes
    return document, envelope


async def took_part(connection: asyncpg.Connection, cycle: str) -> bool:
    """Tell whether this bank has cut anything off for a cycle, or attested anything in it."""
    return bool(await attested(connection, cycle)) or (await cut(connection, cycle))[0] is not None


async def cut_at(connection: asyncpg.Connection, cycle: str) -> datetime | None:
    """Return when this bank fixed its cut of a cycle."""
    subject = events.cut_subject(cycle)
    at: datetime | None = await connection.fetchval(CUT_AT, [subject, events.earlier_subject(subject)])
    return at


async def attested(connection: asyncpg.Connection, cycle: str) -> list[events.CycleAttested]:
    """Return what this bank attested in a cycle, each time it did."""
    return [event.data for event in await events_of(connection, events.attested_subject(cycle))]


async def signed_digests(connection: asyncpg.Connection, cycle: str) -> set[str]:
    """Return the digests of the documents that this bank signed of its positions in a cycle."""
    signed = [envelope for said in await attested(connection, cycle) for envelope in said.signed]
    return {canonical.digest(envelope.payload_bytes()) for envelope in signed}


async def signed_positions(connection: asyncpg.Connection, cycle: str) -> dict[str, Position]:
    """Return what this bank signed in a cycle, by the SHA-256 of each statement's canonical bytes."""
    said = await attested(connection, cycle)
    return await asyncio.to_thread(attestations.by_digest, cycle, said)


async def receiving_lanes(connection: asyncpg.Connection, bank: str) -> list[LaneKey]:
    """Return the lanes on which a bank has accepted anything."""
    return [LaneKey(*row) for row in await connection.fetch(RECEIVING, bank)]


async def points(
    connection: asyncpg.Connection, cuts: Mapping[LaneKey, int]
) -> tuple[dict[LaneKey, LanePoint], dict[LaneKey, int]]:
    """Return each lane at its cut, and through which payment those are known that aren't known up to it.

    One statement reads them all: for each lane the nearest stored head at or below the cut, and at most one batch of
    entries, however long the lane is.
    """
    asked = [(key, sequence) for key, sequence in cuts.items() if sequence]
    if not asked:
        return {}, {}
    rows = await connection.fetch(AT, *_columns(asked))
    return await asyncio.to_thread(_points, asked, rows)


def _points(
    asked: Sequence[tuple[LaneKey, int]], rows: Iterable[Sequence[Any]]
) -> tuple[dict[LaneKey, LanePoint], dict[LaneKey, int]]:
    at_cuts: dict[LaneKey, LanePoint] = {}
    known_through = dict.fromkeys((key for key, _ in asked), 0)
    for place, settled, settled_total, size, total, peaks, leaves, further, disputed, disputed_amount in rows:
        key, sequence = asked[place - 1]
        known_through[key] = size + len(leaves) // LEAF_BYTES
        if known_through[key] != sequence:
            continue
        del known_through[key]
        tree = Tree.from_bytes(size, peaks)
        if leaves:
            tree = tree.append(leaves[at : at + LEAF_BYTES] for at in range(0, len(leaves), LEAF_BYTES))
        at_cuts[key] = LanePoint(
            key,
            sequence,
            int(total + further),
            tree.root(),
            settled,
            int(settled_total),
            disputed,
            int(disputed_amount),
        )
    return at_cuts, known_through


async def totals(connection: asyncpg.Connection, numbers: Mapping[LaneKey, int]) -> dict[LaneKey, int]:
    """Return the total of each lane's payments 1..number."""
    asked = list(numbers.items())
    rows = await connection.fetch(AT, *_columns(asked))
    return {asked[row[0] - 1][0]: int(row[4] + row[7]) for row in rows}


def _columns(asked: Iterable[tuple[LaneKey, int]]) -> list[list[Any]]:
    return list(map(list, zip(*((*key, sequence) for key, sequence in asked), strict=True))) or [[], [], [], []]


async def unanswered(connection: asyncpg.Connection, counts: Mapping[LaneKey, int]) -> dict[str, list[str]]:
    """Return, by receiver, the oldest payments that this bank has no answer to, so many of each lane."""
    asked = [(key.receiver, key.currency, count) for key, count in counts.items()]
    payments: dict[str, list[str]] = {}
    for receiver, payment in await connection.fetch(UNANSWERED, *map(list, zip(*asked, strict=True))) if asked else ():
        payments.setdefault(receiver, []).append(payment)
    return payments


async def shown_results(connection: asyncpg.Connection, cycle: str) -> list[events.ResultShown]:
    """Return what this bank and its counterparties were shown of a cycle's result, as far as it is kept."""
    return [event.data for event in await events_of(connection, events.result_subject(cycle))]


async def newest_attested(connection: asyncpg.Connection, count: int) -> list[str]:
    """Return the cycles that this bank signed for last, the newest first."""
    return list(dict.fromkeys(row[0] for row in await connection.fetch(NEWEST_ATTESTED, count)))


async def recorded(connection: asyncpg.Connection, *subjects: str) -> set[str]:
    """Return those of the subjects under which anything is recorded."""
    written = {row[0] for row in await connection.fetch(RECORDED, _spellings(subjects))}
    return {subject for subject in subjects if not written.isdisjoint(_spellings([subject]))}


async def exists(connection: asyncpg.Connection, subject: str) -> bool:
    """Tell whether anything is recorded under a subject."""
    return bool(await recorded(connection, subject))


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
    currencies = sorted({position.currency for position in (await signed_positions(connection, cycle)).values()})
    # After a default there is a later edition, of which alone the finality can be.
    names = [
        instruction_id(cycle, bank, currency, edition)
        for currency in currencies
        for edition in range(1, EDITIONS_MAX + 1)
    ]
    kept = await events_of(connection, *map(events.instructed_subject, names))
    place = {events.instructed_subject(name): at for at, name in enumerate(names)}
    place |= {events.earlier_subject(subject): at for subject, at in place.items()}
    return [event.data.instruction for event in sorted(kept, key=lambda event: place[event.subject])]


async def instruction(connection: asyncpg.Connection, name: str) -> SettlementInstruction | None:
    """Return an instruction that this bank verified and kept, or None."""
    for event in await events_of(connection, events.instructed_subject(name)):
        return canonical.decode(event.data.instruction.payload_bytes(), SettlementInstruction)
    return None
