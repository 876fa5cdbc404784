"""The payments that wait for another bank, as the queue has them: what whoever sends them asks of it."""

from __future__ import annotations

QUEUED = """
SELECT payment_id::text FROM payment_open
WHERE counterparty = $1 AND state = 'queued' AND NOT payment_id = ANY($2::uuid[])
ORDER BY event_sequence LIMIT $3
"""

# Those that their sender withdraws; a partial index has them.
CANCELLING = """
SELECT payment_id::text FROM payment_open
WHERE counterparty = $1 AND state = 'cancelling' ORDER BY event_sequence LIMIT $2
"""
COUNTERPARTIES_CANCELLING = "SELECT DISTINCT counterparty FROM payment_open WHERE state = 'cancelling'"

# How many of a batch still wait as they did when it was made.
STILL_WAITING = """
SELECT count(*) FROM payment_open WHERE counterparty = $1 AND state = $2 AND event_sequence = ANY($3::bigint[])
"""

STILL_QUEUED = """
SELECT payment_id::text FROM payment_open
WHERE counterparty = $1 AND state = 'queued' AND payment_id = ANY($2::uuid[]) ORDER BY event_sequence
"""

STILL_UNANSWERED = """
SELECT payment_id::text FROM payment_open
WHERE counterparty = $1 AND state IN ('queued', 'cancelling') AND payment_id = ANY($2::uuid[]) ORDER BY event_sequence
"""

# From one counterparty to the next along the key, so the cost grows with the counterparties and not with the queue.
STANDING = """
WITH RECURSIVE waiting (counterparty) AS (
    SELECT min(counterparty) FROM payment_open
    UNION ALL
    SELECT (SELECT min(counterparty) FROM payment_open WHERE counterparty > w.counterparty)
    FROM waiting w WHERE w.counterparty IS NOT NULL
)
SELECT w.counterparty, o.event_sequence FROM waiting w CROSS JOIN LATERAL (
    SELECT event_sequence FROM payment_open
    WHERE counterparty = w.counterparty AND state = 'queued' ORDER BY event_sequence LIMIT 1
) o
"""
