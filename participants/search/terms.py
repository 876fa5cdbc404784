"""What events are found by that the ledger's own keys don't find, taken down beside the path of orders.

The ledger finds a payment by its id, and by the accounts that it moves. What isn't found by these is written to a table
of its own by a task that follows the journal: a payment's references, the account and counterparty of one that moved
nothing, what happens to few, and the breaks of a cycle. An order waits for none of it. The task works for a small share
of the time, so under load it falls behind rather than costing payments anything; whoever searches looks at the rest of
the journal himself.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256

import asyncpg

from gateway.federation.storage.failures import failure_of
from gateway.federation.supervision import Supervised

STRETCH = 5_000
"""How many events one pass looks at."""
SHARE = 0.02
"""Of its time that the task works, at most."""
PAUSE_SECONDS = 0.5
TERM_BYTES = 8
NOT_PROVIDED = "NOTPROVIDED"
"""What ISO 20022 has written where there is no reference: nobody looks for it, so it isn't taken down."""

EXCEPTIONS = ("payment.declined", "payment.refused", "payment.cancelled", "payment.disputed", "payment.returned")
"""Events of few payments, each of which is found by them."""
_EXCEPTIONS = ", ".join(map(repr, EXCEPTIONS))

# Whoever has the row works; other nodes of the bank pass.
CURSOR = "SELECT through FROM event_term_cursor FOR UPDATE SKIP LOCKED"
HEAD = "SELECT sequence FROM ledger_head"
BEHIND = "SELECT c.through < h.sequence FROM event_term_cursor c CROSS JOIN ledger_head h"
MOVE = "UPDATE event_term_cursor SET through = $1"
# Canonical JSON writes a member's name only so; within a text its quotes would be escaped. LATERAL and LIMIT leave the
# planner no way that would read the whole journal.
KEEP = f"""
INSERT INTO event_term (term, event_sequence)
SELECT DISTINCT substr(sha256(convert_to(t.term, 'UTF8')), 1, {TERM_BYTES}), coalesce(f.sequence, e.sequence)
FROM (
    SELECT sequence, subject, type, data, CASE type
        WHEN 'payment.reserved' THEN data WHEN 'payment.held_out' THEN data->'order' ELSE data->'terms' END AS said
    FROM event WHERE sequence > $1 AND sequence <= $2 AND (
        type IN ('payment.declined', 'payment.held_in', 'cycle.break', {_EXCEPTIONS})
        OR (type IN ('payment.reserved', 'payment.held_out', 'payment.accepted') AND (
            strpos(data::text, '"uetr":') > 0
            OR strpos(data::text, '"end_to_end_id":') > 0
            OR strpos(data::text, '"instruction_id":') > 0
        ))
    )
) e
LEFT JOIN LATERAL (
    SELECT sequence FROM event_key WHERE subject = e.subject AND version = 1 AND e.type IN ({_EXCEPTIONS}) LIMIT 1
) f ON true
CROSS JOIN LATERAL unnest(ARRAY[
    'end_to_end_id=' || nullif(e.said->>'end_to_end_id', '{NOT_PROVIDED}'),
    'instruction_id=' || (e.said->>'instruction_id'),
    'uetr=' || (e.said->>'uetr'),
    CASE WHEN e.type IN ('payment.declined', 'payment.held_in') THEN 'account=' || (e.said->>'creditor_account') END,
    CASE WHEN e.type IN ('payment.declined', 'payment.held_in') THEN 'counterparty=' || (e.data->>'sender') END,
    CASE WHEN e.type IN ({_EXCEPTIONS}) THEN 'event=' || e.type END,
    CASE WHEN e.type = 'cycle.break' THEN 'break=' || (e.data->>'cycle') END
]) AS t (term)
WHERE t.term IS NOT NULL
ON CONFLICT DO NOTHING
"""  # noqa: S608 - text of ours


def term(member: str, value: str) -> bytes:
    """Return what stands in the table for a member's value."""
    return sha256(f"{member}={value}".encode()).digest()[:TERM_BYTES]


class Terms:
    """The task that follows the journal. Belongs to one event loop."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.task = Supervised("search-terms", self._follow)

    async def advance(self) -> bool:
        """Take down the terms of one stretch; False if another node does, or nothing is new."""
        async with self._pool.acquire() as connection:
            if not await connection.fetchval(BEHIND):
                return False
            async with connection.transaction():
                through = await connection.fetchval(CURSOR)
                head = await connection.fetchval(HEAD)
                if through is None or through >= head:
                    return False
                end = min(head, through + STRETCH)
                # What is lost with the server's memory is taken down again: nobody waits for the disk.
                await connection.execute("SET LOCAL synchronous_commit = off")
                await connection.execute(KEEP, through, end)
                await connection.execute(MOVE, end)
        return True

    async def _follow(self) -> None:
        while True:
            began = time.perf_counter()
            try:
                await self.advance()
            except Exception as error:
                # A failing database is told of elsewhere, and this goes on when it is back.
                if failure_of(error) is None:
                    raise
            await asyncio.sleep(max(PAUSE_SECONDS, (time.perf_counter() - began) / SHARE))
