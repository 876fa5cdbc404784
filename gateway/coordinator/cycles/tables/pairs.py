"""Pairs: how the banks' statements of a cycle came together. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.matching import PairKey, in_order
from compliance.cycle.positions import Position, of_statement
from compliance.statements import CarryReason, PositionStatement
from gateway.coordinator.cycles.book import Closed, Standing
from gateway.coordinator.cycles.tables.attestations import AT_ONCE, POSITION, read_positions
from gateway.coordinator.cycles.tables.columns import column, rows_of
from gateway.coordinator.cycles.tables.submissions import SEVERAL
from gateway.federation.storage.database import computed

_PAIR = {"currency": "text", "pair_low": "text", "pair_high": "text"}
_INSERT_PAIRS = text(
    "INSERT INTO cycle_pairs (cycle, currency, pair_low, pair_high, sha256, carried) SELECT :cycle, * FROM "
    + rows_of(**_PAIR, sha256="text", carried="text")
)


async def insert_pairs(conn: AsyncConnection, cycle: str, closed: Iterable[Closed]) -> tuple[int, int]:
    """Write down how each pair closed, some of them at a time; return how many agreed and how many are carried over."""
    agreed = carried = 0
    rest = iter(closed)
    while part := await computed(conn, lambda: list(islice(rest, SEVERAL))):
        await conn.execute(
            _INSERT_PAIRS,
            {
                "cycle": cycle,
                "currency": column(key[0] for key, _, _ in part),
                "pair_low": column(key[1] for key, _, _ in part),
                "pair_high": column(key[2] for key, _, _ in part),
                "sha256": column(sha256 for _, sha256, _ in part),
                "carried": column(reason for _, _, reason in part),
            },
        )
        without = sum(reason is None for _, _, reason in part)
        agreed, carried = agreed + without, carried + len(part) - without
    return agreed, carried


async def carry_over(conn: AsyncConnection, cycle: str, keys: Sequence[PairKey], reason: CarryReason) -> None:
    """Carry agreed pairs over."""
    query = text(
        "UPDATE cycle_pairs SET carried = :reason WHERE cycle = :cycle"
        f" AND (currency, pair_low, pair_high) IN (SELECT * FROM {rows_of(**_PAIR)})"
    )
    for at in range(0, len(keys), SEVERAL):
        columns = zip(*keys[at : at + SEVERAL], strict=True)
        values = dict(zip(_PAIR, map(column, columns), strict=True))
        await conn.execute(query, {"cycle": cycle, "reason": reason, **values})


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


async def _included(conn: AsyncConnection, cycle: str, also: Collection[CarryReason] = ()) -> set[str]:
    """Return the digests of what agrees and isn't carried over, or for the reasons `also`.

    A whole cycle's pairs are put together with their positions here: each table by itself comes row by row as it is
    read, and a join of millions comes when all of it is made, which is more than one statement has the time for.
    """
    query = text(
        "SELECT sha256 FROM cycle_pairs WHERE cycle = :cycle AND sha256 IS NOT NULL"
        " AND (carried IS NULL OR carried = ANY (:also))"
    )
    included: set[str] = set()
    async with conn.stream(query, {"cycle": cycle, "also": sorted(also)}) as rows:
        async for part in rows.scalars().partitions(AT_ONCE):
            included.update(part)
    return included


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
    included = await _included(conn, cycle, also)
    query = text(f"SELECT {POSITION} FROM positions p WHERE p.cycle = :cycle")
    stated = await read_positions(conn, query, {"cycle": cycle})
    if included and not stated:
        stated = await _agreed_before(conn, cycle, also)
    return await computed(
        conn, lambda: [(sha256, p) for p, sha256 in in_order((s for s in stated if s[1] in included), _key)]
    )


def _key(stated: tuple[Position, str]) -> PairKey:
    return stated[0].key


async def _agreed_before(
    conn: AsyncConnection, cycle: str, also: Collection[CarryReason]
) -> list[tuple[Position, str]]:
    """Return the same of a cycle whose banks signed statement by statement, before there were attestations."""
    await _expect_many_rows(conn)
    rows = await conn.execute(
        text(
            "SELECT p.sha256, p.envelope->>'payload' FROM cycle_pairs o JOIN statements p"
            " ON (p.cycle, p.currency, p.pair_low, p.pair_high, p.participant, p.sha256)"
            " = (o.cycle, o.currency, o.pair_low, o.pair_high, o.pair_low, o.sha256)"
            " WHERE p.cycle = :cycle AND (o.carried IS NULL OR o.carried = ANY (:also))"
        ),
        {"cycle": cycle, "also": sorted(also)},
    )
    decode = msgspec.json.Decoder(PositionStatement).decode
    return [(of_statement(decode(b64decode(payload))), sha256) for sha256, payload in rows.all()]


async def settled_cycles(conn: AsyncConnection, *, last: int) -> list[str]:
    """Return the last settled cycles, the newest first."""
    query = text(
        "SELECT id FROM cycles WHERE state = 'final' ORDER BY opened_at DESC, value_date DESC, number DESC LIMIT :last"
    )
    return list((await conn.execute(query, {"last": last})).scalars().all())


async def totals(conn: AsyncConnection, cycle: str) -> list[tuple[PairKey, int]]:
    """Return what each pair of a settled cycle came to, both ways together."""
    included = await _included(conn, cycle)
    by_pair: list[tuple[PairKey, int]] = []
    # What both banks of a pair signed one by one, before there were attestations, has the same digest.
    for table, of_one in (("positions", ""), ("statements", " AND participant = pair_low")):
        query = text(
            "SELECT currency, pair_low, pair_high, (forth_minor + back_minor)::text AS total, sha256"
            f" FROM {table} WHERE cycle = :cycle{of_one}"
        )
        async with conn.stream(query, {"cycle": cycle}) as rows:
            async for part in rows.partitions(AT_ONCE):
                by_pair += [((row[0], row[1], row[2]), int(row[3])) for row in part if row[4] in included]
        if by_pair:
            break
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
            "SELECT cycle, bank, sum(agreed)::bigint, sum(carried)::bigint FROM ("
            " SELECT cycle, coalesce(pair_low, pair_high), count(*) FILTER (WHERE carried IS NULL), count(carried)"
            " FROM cycle_pairs WHERE cycle = ANY (:cycles)"
            " GROUP BY GROUPING SETS ((cycle, pair_low), (cycle, pair_high))"
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
