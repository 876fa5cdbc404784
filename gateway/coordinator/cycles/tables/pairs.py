"""Pairs: how the banks' statements of a cycle came together. SQL only."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position, of_statement
from compliance.statements import CarryReason, PositionStatement

_AT_ONCE = 4_096
"""Rows that Python makes something of before others have their turn."""


async def insert_pairs(
    conn: AsyncConnection, cycle: str, agreed: Mapping[PairKey, str], carried: Mapping[PairKey, CarryReason]
) -> None:
    """Write down how attestation closed: the digest of each agreed statement, the reason of each other pair."""
    keys = [*agreed, *carried]
    await conn.execute(
        text(
            "INSERT INTO cycle_pairs (cycle, currency, pair_low, pair_high, sha256, carried) SELECT :cycle, * FROM"
            " unnest(CAST(:currencies AS text[]), CAST(:lows AS text[]), CAST(:highs AS text[]),"
            " CAST(:digests AS text[]), CAST(:carried AS text[]))"
        ),
        {
            "cycle": cycle,
            "currencies": [key[0] for key in keys],
            "lows": [key[1] for key in keys],
            "highs": [key[2] for key in keys],
            "digests": [agreed.get(key) for key in keys],
            "carried": [carried.get(key) for key in keys],
        },
    )


async def carry_over(conn: AsyncConnection, cycle: str, keys: Sequence[PairKey], reason: CarryReason) -> None:
    """Carry agreed pairs over."""
    await conn.execute(
        text(
            "UPDATE cycle_pairs SET carried = :reason WHERE cycle = :cycle AND (currency, pair_low, pair_high) IN"
            " (SELECT * FROM unnest(CAST(:currencies AS text[]), CAST(:lows AS text[]), CAST(:highs AS text[])))"
        ),
        {
            "cycle": cycle,
            "reason": reason,
            "currencies": [key[0] for key in keys],
            "lows": [key[1] for key in keys],
            "highs": [key[2] for key in keys],
        },
    )


async def readmit(conn: AsyncConnection, cycle: str, reasons: Collection[CarryReason]) -> None:
    """Take agreed pairs that were carried over for these reasons in again, to be netted anew."""
    await conn.execute(
        text("UPDATE cycle_pairs SET carried = NULL WHERE cycle = :cycle AND carried = ANY (:reasons)"),
        {"cycle": cycle, "reasons": sorted(reasons)},
    )


async def carried_pairs(conn: AsyncConnection, cycle: str) -> dict[PairKey, CarryReason]:
    """Return the reason of each pair that is carried over."""
    rows = await conn.execute(
        text("SELECT currency, pair_low, pair_high, carried FROM cycle_pairs WHERE cycle = :cycle AND carried <> ''"),
        {"cycle": cycle},
    )
    return {(row[0], row[1], row[2]): CarryReason(row[3]) for row in rows}


async def _expect_many_rows(conn: AsyncConnection) -> None:
    """Have whole cycles joined by hashing, for the rest of the transaction.

    A cycle's rows come within a second, long before the planner's statistics know of them: it would take them for a
    handful and look for the partner of each among all.
    """
    await conn.execute(text("SET LOCAL enable_nestloop = off"))


async def agreed_statements(
    conn: AsyncConnection, cycle: str, *, also: Collection[CarryReason] = ()
) -> list[tuple[str, Position]]:
    """Return the agreed positions that aren't carried over, or for the reasons `also`, with their digests, in order.

    Both banks signed the same bytes, so one envelope tells all; it was verified when it came in.
    """
    await _expect_many_rows(conn)
    rows = await conn.execute(
        text(
            "SELECT p.sha256, s.envelope->>'payload' FROM cycle_pairs p JOIN statements s"
            " ON (s.cycle, s.currency, s.pair_low, s.pair_high, s.participant, s.sha256)"
            " = (p.cycle, p.currency, p.pair_low, p.pair_high, p.pair_low, p.sha256)"
            " WHERE p.cycle = :cycle AND (p.carried IS NULL OR p.carried = ANY (:also))"
            " ORDER BY p.currency, p.pair_low, p.pair_high"
        ),
        {"cycle": cycle, "also": sorted(also)},
    )
    decode = msgspec.json.Decoder(PositionStatement).decode
    return [(sha256, of_statement(decode(b64decode(payload)))) for sha256, payload in rows.all()]


async def settled_cycles(conn: AsyncConnection, *, last: int) -> list[str]:
    """Return the last settled cycles, the newest first."""
    query = text(
        "SELECT id FROM cycles WHERE state = 'final' ORDER BY opened_at DESC, value_date DESC, number DESC LIMIT :last"
    )
    return list((await conn.execute(query, {"last": last})).scalars().all())


async def totals(conn: AsyncConnection, cycle: str) -> list[tuple[PairKey, int]]:
    """Return what each pair of a settled cycle came to, both ways together."""
    await _expect_many_rows(conn)
    query = text(
        "SELECT p.currency, p.pair_low, p.pair_high, (s.forth_minor + s.back_minor)::text AS total"
        " FROM cycle_pairs p JOIN statements s"
        " ON (s.cycle, s.currency, s.pair_low, s.pair_high, s.participant, s.sha256)"
        " = (p.cycle, p.currency, p.pair_low, p.pair_high, p.pair_low, p.sha256)"
        " WHERE p.carried IS NULL AND p.cycle = :cycle AND s.cycle = :cycle"
    )
    by_pair: list[tuple[PairKey, int]] = []
    async with conn.stream(query, {"cycle": cycle}) as rows:
        async for part in rows.partitions(_AT_ONCE):
            by_pair += [((currency, low, high), int(total)) for currency, low, high, total in part]
    return by_pair


@dataclass(frozen=True, slots=True)
class AgreedPair:
    """A pair that agrees so far: what pair[0] pays pair[1], and back."""

    key: PairKey
    forth: int
    back: int


async def agreed_so_far(conn: AsyncConnection, cycle: str) -> list[AgreedPair]:
    """Return the pairs of which both banks signed the same bytes."""
    await _expect_many_rows(conn)
    rows = await conn.execute(
        text(
            "SELECT low.currency, low.pair_low, low.pair_high, low.forth_minor::text AS forth,"
            " low.back_minor::text AS back FROM statements low JOIN statements high"
            " USING (cycle, currency, pair_low, pair_high, revision, sha256)"
            " WHERE cycle = :cycle AND low.participant = pair_low AND high.participant = pair_high"
        ),
        {"cycle": cycle},
    )
    return [AgreedPair((row[0], row[1], row[2]), int(row.forth), int(row.back)) for row in rows]


async def pair_outcomes(conn: AsyncConnection, cycle: str) -> dict[PairKey, CarryReason | None]:
    """Return every pair of a closed attestation with the reason why it is carried over, None for an included one."""
    rows = await conn.execute(
        text("SELECT currency, pair_low, pair_high, carried FROM cycle_pairs WHERE cycle = :cycle"), {"cycle": cycle}
    )
    return {(row[0], row[1], row[2]): None if row[3] is None else CarryReason(row[3]) for row in rows}


async def outcome_counts(
    conn: AsyncConnection, cycles: Sequence[str], participant: str | None
) -> dict[str, tuple[int, int]]:
    """Return how many pairs of each cycle, or of one participant in it, are included and carried over."""
    rows = await conn.execute(
        text(
            "SELECT cycle, count(*) FILTER (WHERE carried IS NULL) AS agreed, count(carried) AS carried"
            " FROM cycle_pairs WHERE cycle = ANY (:cycles)"
            " AND (CAST(:participant AS text) IS NULL OR :participant IN (pair_low, pair_high)) GROUP BY cycle"
        ),
        {"cycles": list(cycles), "participant": participant},
    )
    return {row.cycle: (row.agreed, row.carried) for row in rows}
