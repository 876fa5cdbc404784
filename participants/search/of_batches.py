"""The payments of a batch, or of a file, in the order of its lines, those refused included."""

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
FILES = f"SELECT id::text FROM batch WHERE name = $1 ORDER BY recorded_at DESC LIMIT {FILES_MAX}"  # noqa: S608 - a number
Line = tuple[str, int, str]
"""A batch, a line of it, and its payment's id."""
FIRST: Line = (str(UUID(int=0)), -1, str(UUID(int=0)))

# An order that was refused isn't the payment that may stand under its id.
ORDERS = f"""
WITH b AS MATERIALIZED (
    SELECT batch_id, line, payment_id, outcome FROM batch_order
    WHERE batch_id = ANY($15::uuid[]) AND (batch_id, line, payment_id) > ($16::uuid, $17, $18::uuid)
    ORDER BY batch_id, line, payment_id LIMIT $19
), payments AS (
    SELECT b.payment_id, f.subject, f.type, f.data, f.recorded_at
    FROM b CROSS JOIN LATERAL (SELECT * FROM event WHERE subject = b.payment_id AND version = 1 LIMIT 1) f
    WHERE b.outcome <> 'refused'
), found AS (
    SELECT f.payment_id FROM payments f {BESIDE} WHERE {MATCHES}
), refused AS (
    SELECT b.payment_id, r.id FROM b CROSS JOIN LATERAL (
        SELECT * FROM refusal WHERE payment_id = b.payment_id AND asked IS NOT NULL ORDER BY id DESC LIMIT 1
    ) r WHERE b.outcome = 'refused' AND {REFUSAL_MATCHES}
)
SELECT b.batch_id::text, b.line, b.payment_id::text, coalesce(r.id, 0), f.payment_id IS NOT NULL OR r.id IS NOT NULL
FROM b LEFT JOIN found f USING (payment_id) LEFT JOIN refused r ON r.payment_id = b.payment_id
ORDER BY b.batch_id, b.line, b.payment_id
"""  # noqa: S608 - text of ours


class OfBatch(Struct, frozen=True):
    """An order of a batch: its payment's id, or the number of its refusal."""

    line: Line
    payment_id: str
    refusal: int


async def find_of_batches(
    pool: asyncpg.Pool, criteria: Criteria, *, after: Line, limit: int
) -> tuple[Sequence[OfBatch], Line | None]:
    """Return the next orders of the batches that match, and the line that the next page begins after."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ids = [] if criteria.batch is None else [criteria.batch]
    if criteria.file is not None:
        async with pool.acquire() as connection:
            named = [row[0] for row in await connection.fetch(FILES, criteria.file)]
        ids = [id_ for id_ in named if criteria.batch in (None, id_)]
    orders: list[OfBatch] = []
    while True:
        async with pool.acquire() as connection:
            rows = await connection.fetch(ORDERS, *criteria.arguments(), ids, *after, LOOKED_AT)
        for row in rows:
            if len(orders) == limit:
                return orders, orders[-1].line
            if row[4]:
                orders.append(OfBatch((row[0], row[1], row[2]), row[2], row[3]))
        if len(rows) < LOOKED_AT:
            return orders, None
        after = (rows[-1][0], rows[-1][1], rows[-1][2])
        if loop.time() - begun > SECONDS_MAX:
            return orders, after
