"""What one person of the bank proposes and another one confirms: by asking for the very same thing.

An opening that holds money, a deposit, a block that is lifted, a sanctions list that takes names out, and a ceiling
that lets others owe more come about when two people have asked for them.
Who asks second sees what he confirms, for he brings it himself, and is shown what the first one asked for. What was
proposed is kept in the database, so it outlives a restart and counts for every node of the bank; after a week it counts
no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
import msgspec
from msgspec import Struct

from compliance.person import same_person

DAYS_MAX = 7
KEEP_OUT = "SELECT pg_advisory_xact_lock(hashtextextended('proposal ' || $1, 0))"
PROPOSED = f"""
SELECT sha256, person FROM proposal
WHERE kind = $1 AND sha256 = ANY($2::bytea[]) AND recorded_at > now() - interval '{DAYS_MAX} days'
ORDER BY id
"""  # noqa: S608 - a number of ours
PROPOSE = """
INSERT INTO proposal (kind, subject, sha256, content, person)
SELECT $1, u.subject, u.sha256, u.content::jsonb, $5
FROM unnest($2::text[], $3::bytea[], $4::text[]) AS u (subject, sha256, content)
"""
WAITING = f"""
SELECT id, kind, subject, person, recorded_at, content FROM proposal p
WHERE ($3::bigint IS NULL OR id < $3) AND recorded_at > now() - interval '{DAYS_MAX} days' AND NOT EXISTS (
    SELECT FROM account a WHERE p.kind = 'opening' AND a.kind = 'customer' AND p.subject = a.code || ' ' || a.currency
) AND NOT EXISTS (
    SELECT FROM screening_list l WHERE p.kind = 'list' AND l.name = p.subject AND l.imported_at > p.recorded_at
) AND NOT EXISTS (
    SELECT FROM subject_event e WHERE p.kind = 'ceiling' AND e.subject = $2::uuid AND e.recorded_at > p.recorded_at
) AND NOT EXISTS (
    SELECT FROM own_entry o WHERE p.kind = 'entry' AND p.subject = o.id::text
) AND (p.kind <> 'unblocking' OR EXISTS (
    SELECT FROM account a JOIN account_balance b ON b.account_id = a.id
    WHERE p.subject = a.code || ' ' || a.currency || ', change ' || b.changes + 1
)) ORDER BY id DESC LIMIT $1
"""  # noqa: S608 - a number of ours


class Proposal(Struct, frozen=True):
    """One thing that is proposed: `subject` is what it is about, for people; `sha256` says exactly what.

    `content` says the same to whoever is to confirm it, by the members of what is asked for.
    """

    subject: str
    sha256: bytes
    content: Mapping[str, str]


class Waiting(Struct, frozen=True):
    """What waits for a second person."""

    id: int
    kind: str
    subject: str
    person: str
    proposed_at: datetime
    content: Mapping[str, str]


async def propose(
    connection: asyncpg.Connection, kind: str, proposals: Sequence[Proposal], person: str
) -> list[str | None]:
    """Return for each proposal the other person who proposed the same, or None; then it is kept for another one.

    Called in a transaction, which whoever proposes something of this kind meanwhile waits for.
    """
    await connection.execute(KEEP_OUT, kind)
    earlier: dict[bytes, list[str]] = {}
    for row in await connection.fetch(PROPOSED, kind, [proposal.sha256 for proposal in proposals]):
        earlier.setdefault(row[0], []).append(row[1])
    others = [
        next((other for other in earlier.get(proposal.sha256, ()) if not same_person(other, person)), None)
        for proposal in proposals
    ]
    new = {proposal.sha256: proposal for proposal in proposals if proposal.sha256 not in earlier}
    if new:
        subjects = [proposal.subject for proposal in new.values()]
        contents = [msgspec.json.encode(proposal.content).decode() for proposal in new.values()]
        await connection.execute(PROPOSE, kind, subjects, list(new), contents, person)
    return others


async def waiting(
    connection: asyncpg.Connection, limit: int, *, ceilings: str, before: int | None = None
) -> list[Waiting]:
    """Return what was proposed and not confirmed yet, the newest first, before one of that number.

    `ceilings` is the subject of their events.
    """
    rows = await connection.fetch(WAITING, limit, ceilings, before)
    return [
        Waiting(row[0], row[1], row[2], row[3], row[4].astimezone(UTC), msgspec.json.decode(row[5])) for row in rows
    ]
