"""The check of `fsck` that no payment was accepted beyond what its sender might owe then."""

from __future__ import annotations

import asyncpg

from participants.ledger import events
from participants.ledger.exposure import SUBJECTS, Limits

LIMIT_CHANGES = """
SELECT sequence, subject::text, version, type, schema_version, data FROM subject_event
WHERE subject = ANY($1::uuid[]) ORDER BY sequence
"""
# The most that each counterparty came to owe by a payment, for each time between two changes of limits. Before the
# first change nothing is known, as in journals of earlier releases.
HIGHEST = """
SELECT width_bucket(p.event_sequence, $1::bigint[]) AS changes, a.code, a.currency, max(p.balance), count(*)
FROM posting p JOIN account a ON a.id = p.account_id
WHERE a.kind = 'due_from' AND p.amount > 0 AND p.event_sequence > $1[1]
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
FIRST_BEYOND = """
SELECT min(p.event_sequence) FROM posting p JOIN account a ON a.id = p.account_id
WHERE (a.kind, a.code, a.currency) = ('due_from', $1, $2) AND p.amount > 0 AND p.balance > $3
  AND p.event_sequence > $4
"""


async def first_beyond(connection: asyncpg.Connection) -> tuple[int, str | None]:
    """Return how many accepted payments were examined, and the first by which a counterparty owed too much, if any."""
    rows = [events.EventRow(*row) for row in await connection.fetch(LIMIT_CHANGES, list(SUBJECTS))]
    try:
        changes = [events.read(row) for row in rows]
    except events.EventUnreadableError as error:
        return 0, str(error)
    if not changes:
        return 0, None
    limits, taken, examined = Limits(), 0, 0
    for row in await connection.fetch(HIGHEST, [change.sequence for change in changes]):
        for change in changes[taken : row["changes"]]:
            limits = limits.after(change)
        taken = row["changes"]
        examined += row["count"]
        limit = limits.of(row["code"], row["currency"])
        if row["max"] > limit.minor:
            since = changes[taken - 1].sequence
            event = await connection.fetchval(FIRST_BEYOND, row["code"], row["currency"], limit.minor, since)
            place = f"event {event}: {row['code']} owes {row['currency']} beyond {limit.minor}"
            return examined, f"{place}, the limit then ({limit.source}): up to {row['max']}"
    return examined, None
