"""The payments of a batch, or of a file, each once and in the order of its lines, those refused included."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
from msgspec import Struct

from participants.search.criteria import BESIDE, MATCHES, REFUSAL_MATCHES, Criteria
from participants.search.search import SECONDS_MAX

LOOKED_AT = 2_000
FILES_MAX = 100
# In the order in which they came, so that one that comes in meanwhile moves nothing.
FILES = f"""
SELECT id::text FROM (SELECT id, recorded_at FROM batch WHERE name = $1 ORDER BY recorded_at DESC LIMIT {FILES_MAX}) b
ORDER BY recorded_at, id
"""  # noqa: S608 - a number
Line = tuple[str, int, str]
"""A batch, a line of it, and its payment's id."""
FIRST: Line = (str(UUID(int=0)), -1, str(UUID(int=0)))

# An order that was refused isn't the payment that may stand under its id. Of all batches that are asked for, $19, $20
# are those before this one: what stands in several is of the first, and no order is refused that one of them paid.
ORDERS = f"""
WITH b AS MATERIALIZED (
    SELECT batch_id, line, payment_id, outcome FROM batch_order
    WHERE batch_id = $15::uuid AND (line, payment_id) > ($16, $17::uuid)
    ORDER BY line, payment_id LIMIT $18
), once AS MATERIALIZED (
    SELECT * FROM b WHERE NOT EXISTS (
        SELECT FROM batch_order o WHERE o.payment_id = b.payment_id AND (
            (o.batch_id = ANY($20::uuid[]) AND (o.outcome <> 'refused' OR b.outcome = 'refused'))
            OR (o.batch_id = ANY($19::uuid[]) AND o.outcome <> 'refused' AND b.outcome = 'refused')
        )
    )
), payments AS (
    SELECT o.payment_id, f.subject, f.type, f.data, f.recorded_at
    FROM once o CROSS JOIN LATERAL (SELECT * FROM subject_event WHERE subject = o.payment_id AND version = 1 LIMIT 1) f
    WHERE o.outcome <> 'refused'
), found AS (
    SELECT f.payment_id FROM payments f {BESIDE} WHERE {MATCHES}
), refused AS (
    SELECT o.payment_id, r.id FROM once o CROSS JOIN LATERAL (
        SELECT * FROM refusal WHERE payment_id = o.payment_id AND asked IS NOT NULL ORDER BY id DESC LIMIT 1
    ) r WHERE o.outcome = 'refused' AND {REFUSAL_MATCHES}
)
SELECT b.line, b.payment_id::text, coalesce(r.id, 0), f.payment_id IS NOT NULL OR r.id IS NOT NULL
FROM b LEFT JOIN found f USING (payment_id) LEFT JOIN refused r ON r.payment_id = b.payment_id
ORDER BY b.line, b.payment_id
"""  # noqa: S608 - text of ours


class OfBatch(Struct, frozen=True):
    """An order of a batch: its payment's id, or the number of its refusal."""

    line: Line
    payment_id: str
    refusal: int


async def find_of_batches(
    pool: asyncpg.Pool, criteria: Criteria, *, after: Line, limit: int
) -> tuple[Sequence[OfBatch], Line | None]:
    """Return the next orders of the batches that match, and the line that the next page begins after.

    Batches follow one another as they came, and each payment comes once.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ids = [] if criteria.batch is None else [criteria.batch]
    if criteria.file is not None:
        async with pool.acquire() as connection:
            named = [row[0] for row in await connection.fetch(FILES, criteria.file)]
        ids = [id_ for id_ in named if criteria.batch in (None, id_)]
    orders: list[OfBatch] = []
    place = ids.index(after[0]) if after[0] in ids else 0
    _, line, payment_id = after if after[0] in ids else FIRST
    while place < len(ids):
        batch = ids[place]
        async with pool.acquire() as connection:
            rows = await connection.fetch(
                ORDERS, *criteria.arguments(), batch, line, payment_id, LOOKED_AT, ids, ids[:place]
            )
        for line, payment_id, refusal, matches in rows:
            if len(orders) == limit:
                return orders, orders[-1].line
            if matches:
                orders.append(OfBatch((batch, line, payment_id), payment_id, refusal))
        if loop.time() - begun > SECONDS_MAX and (len(rows) == LOOKED_AT or place + 1 < len(ids)):
            return orders, (batch, line, payment_id)
        if len(rows) < LOOKED_AT:
            place, (_, line, payment_id) = place + 1, FIRST
    return orders, None
