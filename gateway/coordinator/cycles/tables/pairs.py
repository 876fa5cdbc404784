"""Pairs: how the banks' statements of a cycle came together. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.matching import PairKey, in_order
from compliance.cycle.positions import Position, of_statement
from compliance.statements import CarryReason, PositionStatement
from gateway.coordinator.cycles.book import Standing
from gateway.coordinator.cycles.tables.attestations import AT_ONCE, POSITION, read_positions
from gateway.coordinator.cycles.tables.columns import column, rows_of
from gateway.coordinator.cycles.tables.submissions import SEVERAL

_PAIR = {"currency": "text", "pair_low": "text", "pair_high": "text"}
_INSERT_PAIRS = text(
    "INSERT INTO cycle_pairs (cycle, currency, pair_low, pair_high, sha256, carried) SELECT :cycle, * FROM "
    + rows_of(**_PAIR, sha256="text", carried="text")
)


async def insert_pairs(
    conn: AsyncConnection, cycle: str, agreed: Mapping[PairKey, str], carried: Mapping[PairKey, CarryReason]
) -> None:
    """Write down how attestation closed: the digest of each agreed statement, the reason of each other pair."""
    keys = [*agreed, *carried]
    for at in range(0, len(keys), SEVERAL):
        part = keys[at : at + SEVERAL]
        await conn.execute(
            _INSERT_PAIRS,
            {
                "cycle": cycle,
                "currency": column(key[0] for key in part),
                "pair_low": column(key[1] for key in part),
                "pair_high": column(key[2] for key in part),
                "sha256": column(agreed.get(key) for key in part),
                "carried": column(carried.get(key) for key in part),
            },
        )


async def carry_over(conn: AsyncConnection, cycle: str, keys: Sequence[PairKey], reason: CarryReason) -> None:
    """Carry agreed pairs over."""
    await conn.execute(
        text(
            "UPDATE cycle_pairs SET carried = :reason WHERE cycle = :cycle"
            f" AND (currency, pair_low, pair_high) IN (SELECT * FROM {rows_of(**_PAIR)})"
        ),
        {
            "cycle": cycle,
            "reason": reason,
            "currency": column(key[0] for key in keys),
            "pair_low": column(key[1] for key in keys),
            "pair_high": column(key[2] for key in keys),
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
    """Return what agrees and isn't carried over, or for the reasons `also`, with the statements' digests, in order.

    Both banks attested the same bytes, so one position tells all; it was verified when it came in.
    """
    await _expect_many_rows(conn)
    included = "p.cycle = :cycle AND (o.carried IS NULL OR o.carried = ANY (:also))"
    values = {"cycle": cycle, "also": sorted(also)}
    positions = await read_positions(
        conn,
        text(f"SELECT {POSITION} FROM cycle_pairs o JOIN positions p USING (cycle, sha256) WHERE {included}"),
        values,
    )
    if not positions:
        positions = await _agreed_before(conn, included, values)
    return await asyncio.to_thread(_in_order, positions)


async def _agreed_before(
    conn: AsyncConnection, included: str, values: Mapping[str, object]
) -> list[tuple[Position, str]]:
    """Return the same of a cycle whose banks signed statement by statement, before there were attestations."""
    rows = await conn.execute(
        text(
            "SELECT p.sha256, p.envelope->>'payload' FROM cycle_pairs o JOIN statements p"
            " ON (p.cycle, p.currency, p.pair_low, p.pair_high, p.participant, p.sha256)"
            f" = (o.cycle, o.currency, o.pair_low, o.pair_high, o.pair_low, o.sha256) WHERE {included}"
        ),
        values,
    )
    decode = msgspec.json.Decoder(PositionStatement).decode
    return [(of_statement(decode(b64decode(payload))), sha256) for sha256, payload in rows.all()]


def _in_order(positions: list[tuple[Position, str]]) -> list[tuple[str, Position]]:
    return [(sha256, p) for p, sha256 in in_order(positions, lambda stated: stated[0].key)]


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
        "SELECT o.currency, o.pair_low, o.pair_high, (p.forth_minor + p.back_minor)::text AS total"
        " FROM cycle_pairs o JOIN positions p USING (cycle, sha256)"
        " WHERE o.carried IS NULL AND o.cycle = :cycle AND p.cycle = :cycle"
        " UNION ALL SELECT o.currency, o.pair_low, o.pair_high, (s.forth_minor + s.back_minor)::text AS total"
        " FROM cycle_pairs o JOIN statements s"
        " ON (s.cycle, s.currency, s.pair_low, s.pair_high, s.participant, s.sha256)"
        " = (o.cycle, o.currency, o.pair_low, o.pair_high, o.pair_low, o.sha256)"
        " WHERE o.carried IS NULL AND o.cycle = :cycle AND s.cycle = :cycle"
    )
    by_pair: list[tuple[PairKey, int]] = []
    async with conn.stream(query, {"cycle": cycle}) as rows:
        async for part in rows.partitions(AT_ONCE):
            by_pair += [((currency, low, high), int(total)) for currency, low, high, total in part]
    return by_pair


Gross = Mapping[tuple[str, str], tuple[int, int]]
"""What each participant receives and pays, by (currency, participant)."""


async def agreed_gross(conn: AsyncConnection, cycle: str) -> Gross:
    """Return what participants receive and pay by the pairs that agreed in a cycle and aren't carried over."""
    await _expect_many_rows(conn)
    rows = await conn.execute(
        text(
            "WITH agreed AS ("
            " SELECT p.currency, p.pair_low, p.pair_high, p.forth_minor, p.back_minor"
            " FROM cycle_pairs o JOIN positions p USING (cycle, sha256) WHERE o.cycle = :cycle AND o.carried IS NULL"
            " UNION ALL SELECT s.currency, s.pair_low, s.pair_high, s.forth_minor, s.back_minor"
            " FROM cycle_pairs o JOIN statements s"
            " ON (s.cycle, s.currency, s.pair_low, s.pair_high, s.participant, s.sha256)"
            " = (o.cycle, o.currency, o.pair_low, o.pair_high, o.pair_low, o.sha256)"
            " WHERE o.cycle = :cycle AND o.carried IS NULL)"
            " SELECT currency, bank, sum(receives)::text, sum(pays)::text FROM ("
            " SELECT currency, pair_low, back_minor, forth_minor FROM agreed"
            " UNION ALL SELECT currency, pair_high, forth_minor, back_minor FROM agreed"
            ") AS flows (currency, bank, receives, pays) GROUP BY currency, bank"
        ),
        {"cycle": cycle},
    )
    return {(currency, bank): (int(receives), int(pays)) for currency, bank, receives, pays in rows}


async def closed_with(conn: AsyncConnection, cycle: str, bank: str) -> dict[PairKey, Standing]:
    """Return where each pair of a bank stood when attestation closed."""
    rows = await conn.execute(
        text(
            "SELECT currency, pair_low, pair_high, CASE WHEN sha256 IS NOT NULL THEN 'agreed'"
            " WHEN carried = :broken THEN 'differing' ELSE 'missing' END"
            " FROM cycle_pairs WHERE cycle = :cycle AND :bank IN (pair_low, pair_high)"
        ),
        {"cycle": cycle, "bank": bank, "broken": CarryReason.BREAK},
    )
    return {(row[0], row[1], row[2]): row[3] for row in rows}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many pairs of a closed attestation are included and carried over: of all participants, and of each."""

    total: tuple[int, int] = (0, 0)
    of_bank: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def part(self, participant: str | None) -> tuple[int, int]:
        """Return the numbers of one participant, or all."""
        return self.total if participant is None else self.of_bank.get(participant, (0, 0))


async def outcomes(conn: AsyncConnection, cycles: Sequence[str]) -> dict[str, Outcomes]:
    """Return how the pairs of some cycles stand whose attestation is closed."""
    rows = await conn.execute(
        text(
            "WITH counted AS (SELECT cycle, pair_low, pair_high, count(*) FILTER (WHERE carried IS NULL) AS agreed,"
            " count(carried) AS carried FROM cycle_pairs WHERE cycle = ANY (:cycles)"
            " GROUP BY cycle, pair_low, pair_high)"
            " SELECT cycle, bank, sum(agreed)::bigint, sum(carried)::bigint FROM ("
            " SELECT cycle, pair_low, agreed, carried FROM counted"
            " UNION ALL SELECT cycle, pair_high, agreed, carried FROM counted"
            ") AS of_bank (cycle, bank, agreed, carried) GROUP BY cycle, bank"
        ),
        {"cycles": list(cycles)},
    )
    by_cycle: defaultdict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for cycle, bank, agreed, carried in rows:
        by_cycle[cycle][bank] = (agreed, carried)
    return {cycle: Outcomes(_halves(of_bank), of_bank) for cycle, of_bank in by_cycle.items()}


def _halves(of_bank: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Return the numbers of all pairs: each has two banks."""
    agreed, carried = (sum(numbers) // 2 for numbers in zip(*of_bank.values(), strict=True))
    return agreed, carried
