"""What finding out about a restored backup reads from the ledger, for this bank and for those who ask it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

import asyncpg
import msgspec

from compliance.crypto.dsse import Envelope
from gateway.federation.messages.lanes import NEWEST_MAX, NumberedPayment, SharedLane
from participants.continuity.findings import Finding
from participants.ledger.lanes import LaneKey

SHARED_LANES = """
SELECT l.sender, l.receiver, l.currency, e.sequence, e.payment_id::text
FROM lane l CROSS JOIN LATERAL (
    SELECT sequence, payment_id FROM lane_entry WHERE lane_id = l.id ORDER BY sequence DESC LIMIT $2
) e
WHERE l.sender = $1 OR l.receiver = $1
ORDER BY l.sender, l.receiver, l.currency, e.sequence DESC
"""
# What the counterparty signed of a payment: the batch with one that it sent, the acknowledgement of one sent to it.
EVIDENCE = """
SELECT v.envelope FROM subject_event e JOIN evidence v
ON v.sha256 = decode(coalesce(e.data->>'batch', e.data->>'acknowledgement'), 'hex')
WHERE e.subject = $1 AND e.type IN ('payment.accepted', 'payment.held_in', 'payment.posted') AND v.counterparty = $2
LIMIT 1
"""
NUMBERED = """
SELECT e.sequence, e.payment_id::text FROM lane l JOIN lane_entry e ON e.lane_id = l.id
WHERE l.sender = $1 AND l.receiver = $2 AND l.currency = $3 AND e.sequence = ANY ($4::bigint[])
"""
KNOWN = "SELECT subject::text FROM event_key WHERE subject = ANY ($1::uuid[]) AND version = 1"
KEPT = "SELECT finding FROM restored"
KEEP = "INSERT INTO restored (noticed_at, finding) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def shared_lanes(connection: asyncpg.Connection, counterparty: str) -> tuple[SharedLane, ...]:
    """Return the lanes with another bank, each with its newest payments, the last number first."""
    rows = await connection.fetch(SHARED_LANES, counterparty, NEWEST_MAX)
    return tuple(
        SharedLane(
            sender=lane[0],
            receiver=lane[1],
            currency=lane[2],
            newest=tuple(NumberedPayment(sequence=row[3], payment=row[4]) for row in entries),
        )
        for lane, entries in groupby(rows, key=lambda row: (row[0], row[1], row[2]))
    )


async def evidence(connection: asyncpg.Connection, payment_id: str, counterparty: str) -> Envelope | None:
    """Return what another bank signed of a payment with it, or None."""
    envelope = await connection.fetchval(EVIDENCE, payment_id, counterparty)
    return None if envelope is None else msgspec.json.decode(envelope, type=Envelope)


async def numbered(connection: asyncpg.Connection, lane: LaneKey, sequences: Sequence[int]) -> dict[int, str]:
    """Return which payments these numbers of a lane were given to."""
    return {row[0]: row[1] for row in await connection.fetch(NUMBERED, *lane, list(sequences))}


async def known(connection: asyncpg.Connection, payment_ids: Sequence[str]) -> set[str]:
    """Return those of the payments that the ledger holds."""
    return {row[0] for row in await connection.fetch(KNOWN, list(payment_ids))}


async def head(connection: asyncpg.Connection) -> int:
    """Return the number of the ledger's last event."""
    return int(await connection.fetchval("SELECT sequence FROM ledger_head"))


async def kept_finding(connection: asyncpg.Connection) -> Finding | None:
    """Return what was found out about this ledger, by whichever node of the bank."""
    finding = await connection.fetchval(KEPT)
    return None if finding is None else msgspec.json.decode(finding, type=Finding)


async def keep_finding(connection: asyncpg.Connection, finding: Finding, at: datetime) -> None:
    """Keep the first finding, so that no start forgets it."""
    await connection.execute(KEEP, at, msgspec.json.encode(finding).decode())
