"""What the banks signed about their positions: attestations, each position once, screenings. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import ContestedLane
from compliance.cycle.matching import Attested, PairKey
from compliance.cycle.positions import Position
from compliance.statements import ScreeningStatement
from gateway.coordinator.cycles.submission import to_json
from gateway.coordinator.cycles.tables.columns import column, rows_of
from gateway.coordinator.cycles.tables.submissions import envelope_of

DIGEST_BYTES = 32
POSITION = (
    "json_build_array(json_build_array(p.currency, p.pair_low, p.pair_high, p.revision, p.forth_first, p.forth_last,"
    " p.forth_count, p.forth_minor::text, p.forth_root, p.back_first, p.back_last, p.back_count, p.back_minor::text,"
    " p.back_root), p.sha256)::text"
)
"""A `Position` and its digest, of positions p, as JSON: a column for each would take Python four times as long."""
_positions = msgspec.json.Decoder(list[tuple[Position, str]]).decode

_COLUMNS = {
    "currency": "text",
    "pair_low": "text",
    "pair_high": "text",
    "revision": "integer",
    "forth_first": "bigint",
    "forth_last": "bigint",
    "forth_count": "bigint",
    "forth_minor": "numeric",
    "forth_root": "text",
    "back_first": "bigint",
    "back_last": "bigint",
    "back_count": "bigint",
    "back_minor": "numeric",
    "back_root": "text",
    "sha256": "text",
    "attestation": "bigint",
}
_INSERT_POSITIONS = text(
    f"INSERT INTO positions (cycle, {', '.join(_COLUMNS)}) SELECT :cycle, * FROM {rows_of(**_COLUMNS)}"
)

AT_ONCE = 4_096
"""Rows of which Python makes something at once: some milliseconds, after which others have their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An attestation as it is kept: the digests that its signature covers, and the indexes of those not taken in."""

    id: int
    participant: str
    leaves: tuple[bytes, ...]
    refused: frozenset[int]

    @property
    def taken(self) -> list[bytes]:
        """The digests of the statements that were taken in."""
        return [digest for index, digest in enumerate(self.leaves) if index not in self.refused]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """An attestation to be kept."""

    participant: str
    sha256: str
    envelope: Envelope
    leaves: Sequence[bytes]
    refused: Sequence[int]
    screening: str | None
    contested: Sequence[ContestedLane]


def _leaves(column: bytes) -> tuple[bytes, ...]:
    return tuple(column[at : at + DIGEST_BYTES] for at in range(0, len(column), DIGEST_BYTES))


# --- attestations ---------------------------------------------------------------------------------------


async def insert(conn: AsyncConnection, cycle: str, fresh: Sequence[Fresh], at: datetime) -> list[int]:
    """Keep attestations, in their order, and return their ids."""
    rows = await conn.execute(
        text(
            "INSERT INTO attestations"
            " (cycle, received_at, participant, sha256, envelope, leaves, refused, screening, contested)"
            " SELECT :cycle, :at, participant, sha256, CAST(envelope AS json), leaves, CAST(refused AS integer[]),"
            " screening, CAST(contested AS json) FROM unnest(CAST(:participants AS text[]), CAST(:digests AS text[]),"
            " CAST(:envelopes AS text[]), CAST(:leaves AS bytea[]), CAST(:refused AS text[]),"
            " CAST(:screenings AS text[]), CAST(:contested AS text[])) WITH ORDINALITY"
            " AS given (participant, sha256, envelope, leaves, refused, screening, contested, number) ORDER BY number"
            " RETURNING participant, sha256, id"
        ),
        {
            "cycle": cycle,
            "at": at,
            "participants": [attestation.participant for attestation in fresh],
            "digests": [attestation.sha256 for attestation in fresh],
            "envelopes": [to_json(attestation.envelope) for attestation in fresh],
            "leaves": [b"".join(attestation.leaves) for attestation in fresh],
            "refused": ["{" + ",".join(map(str, attestation.refused)) + "}" for attestation in fresh],
            "screenings": [attestation.screening for attestation in fresh],
            "contested": [to_json(attestation.contested) if attestation.contested else None for attestation in fresh],
        },
    )
    ids = {(row.participant, row.sha256): row.id for row in rows}
    return [ids[attestation.participant, attestation.sha256] for attestation in fresh]


async def handed_in(conn: AsyncConnection, cycle: str, digests: Iterable[str]) -> set[tuple[str, str]]:
    """Return which of some attestations are kept: (participant, digest)."""
    query = text("SELECT participant, sha256 FROM attestations WHERE cycle = :cycle AND sha256 = ANY (:digests)")
    rows = await conn.execute(query, {"cycle": cycle, "digests": list(digests)})
    return {(row[0], row[1]) for row in rows}


async def heard(conn: AsyncConnection, cycle: str, banks: Collection[str]) -> set[str]:
    """Return of which of some banks an attestation is kept."""
    query = text("SELECT DISTINCT participant FROM attestations WHERE cycle = :cycle AND participant = ANY (:banks)")
    return set((await conn.execute(query, {"cycle": cycle, "banks": list(banks)})).scalars())


async def find(conn: AsyncConnection, cycle: str, bank: str, sha256: str) -> Stored | None:
    """Return one attestation of a bank."""
    kept = await _find(conn, "cycle = :cycle AND participant = :bank AND sha256 = :sha256", cycle, bank, sha256)
    return None if kept is None else kept[0]


async def holding(conn: AsyncConnection, cycle: str, bank: str, sha256: str) -> tuple[Stored, Envelope]:
    """Return the first attestation of a bank in which a statement was taken in."""
    of_bank = "cycle = :cycle AND participant = :bank AND position(decode(:sha256, 'hex') in leaves) > 0"
    kept = await _find(conn, of_bank, cycle, bank, sha256)
    if kept is None:
        raise LookupError(f"no attestation of {bank} for cycle {cycle} holds {sha256}")
    return kept


async def _find(conn: AsyncConnection, where: str, *values: str) -> tuple[Stored, Envelope] | None:
    query = f"SELECT id, participant, leaves, refused, envelope::text FROM attestations WHERE {where} ORDER BY id"
    rows = await conn.execute(text(query), dict(zip(("cycle", "bank", "sha256"), values, strict=True)))
    row = rows.first()
    return None if row is None else (_stored(row[:4]), envelope_of(row[4]))


async def since(conn: AsyncConnection, cycle: str, seen: int) -> list[Stored]:
    """Return the attestations of a cycle after one of them."""
    query = text(
        "SELECT id, participant, leaves, refused FROM attestations WHERE cycle = :cycle AND id > :seen ORDER BY id"
    )
    return [_stored(row) for row in await conn.execute(query, {"cycle": cycle, "seen": seen})]


def _stored(row: Sequence[Any]) -> Stored:
    number, participant, leaves, refused = row
    return Stored(id=number, participant=participant, leaves=_leaves(leaves), refused=frozenset(refused))


async def envelopes(conn: AsyncConnection, cycle: str, bank: str) -> tuple[Envelope, ...]:
    """Return what a bank signed, in its order."""
    query = text("SELECT envelope::text FROM attestations WHERE cycle = :cycle AND participant = :bank ORDER BY id")
    rows = await conn.execute(query, {"cycle": cycle, "bank": bank})
    return tuple(envelope_of(document) for document in rows.scalars())


async def statement_counts(conn: AsyncConnection, cycle: str) -> dict[str, int]:
    """Return how many statements each participant of a cycle made, in the form of before or in today's."""
    query = text(
        "SELECT participant, sum(number)::bigint FROM ("
        f" SELECT participant, octet_length(leaves) / {DIGEST_BYTES} - cardinality(refused) FROM attestations"
        " WHERE cycle = :cycle"
        " UNION ALL SELECT participant, count(*) FROM statements WHERE cycle = :cycle GROUP BY participant"
        ") AS counted (participant, number) GROUP BY participant"
    )
    return {row[0]: row[1] for row in await conn.execute(query, {"cycle": cycle})}


async def attested(conn: AsyncConnection, cycle: str, keys: Collection[PairKey]) -> list[Attested]:
    """Return what the banks of some pairs signed in a cycle, in the form of before or in today's."""
    values = {
        "cycle": cycle,
        "currencies": [key[0] for key in keys],
        "lows": [key[1] for key in keys],
        "highs": [key[2] for key in keys],
    }
    of_pairs = (
        "cycle = :cycle AND (currency, pair_low, pair_high) IN (SELECT * FROM unnest(CAST(:currencies AS text[]),"
        " CAST(:lows AS text[]), CAST(:highs AS text[])))"
    )
    stated = await conn.execute(
        text(f"SELECT currency, pair_low, pair_high, revision, sha256 FROM positions WHERE {of_pairs}"), values
    )
    signed = await conn.execute(
        text(
            "SELECT id, participant, leaves, refused FROM attestations"
            " WHERE cycle = :cycle AND participant = ANY (:banks)"
        ),
        {"cycle": cycle, "banks": sorted({bank for key in keys for bank in key[1:]})},
    )
    taken: defaultdict[str, set[bytes]] = defaultdict(set)
    for row in signed:
        attestation = _stored(row)
        taken[attestation.participant].update(attestation.taken)
    signed_today = [
        Attested((currency, low, high), bank, revision, sha256)
        for currency, low, high, revision, sha256 in stated
        for bank in (low, high)
        if bytes.fromhex(sha256) in taken[bank]
    ]
    before = await conn.execute(
        text(f"SELECT currency, pair_low, pair_high, participant, revision, sha256 FROM statements WHERE {of_pairs}"),
        values,
    )
    return signed_today + [Attested((row[0], row[1], row[2]), row[3], row[4], row[5]) for row in before]


# --- positions ------------------------------------------------------------------------------------------


async def insert_positions(conn: AsyncConnection, cycle: str, fresh: Sequence[tuple[Position, bytes, int]]) -> None:
    """Keep positions that nobody stated before: each with its digest and the id of the attestation that brought it."""
    columns = await asyncio.to_thread(_columns_of, fresh)
    await conn.execute(_INSERT_POSITIONS, {"cycle": cycle, **dict(zip(_COLUMNS, columns, strict=True))})


def _columns_of(fresh: Sequence[tuple[Position, bytes, int]]) -> list[str]:
    members = zip(*[msgspec.structs.astuple(p) for p, _, _ in fresh], strict=True)
    of_row = [digest.hex() for _, digest, _ in fresh], [number for _, _, number in fresh]
    return [column(values) for values in (*members, *of_row)]


async def positions_since(conn: AsyncConnection, cycle: str, seen: int) -> list[tuple[Position, bytes]]:
    """Return the positions that attestations after one of them brought, with their digests."""
    query = text(f"SELECT {POSITION} FROM positions p WHERE p.cycle = :cycle AND p.attestation > :seen")
    return [
        (p, bytes.fromhex(sha256)) for p, sha256 in await read_positions(conn, query, {"cycle": cycle, "seen": seen})
    ]


async def position(conn: AsyncConnection, cycle: str, sha256: str) -> Position:
    """Return one position by its digest."""
    query = text(f"SELECT {POSITION} FROM positions p WHERE p.cycle = :cycle AND p.sha256 = :sha256")
    [(p, _)] = await read_positions(conn, query, {"cycle": cycle, "sha256": sha256})
    return p


async def read_positions(
    conn: AsyncConnection, query: TextClause, values: Mapping[str, object]
) -> list[tuple[Position, str]]:
    """Return what a query of `POSITION` finds. There may be many of them."""
    positions: list[tuple[Position, str]] = []
    async with conn.stream(query, values) as rows:
        async for part in rows.partitions(AT_ONCE):
            positions += _positions(f"[{','.join(row[0] for row in part)}]")
            await asyncio.sleep(0)
    return positions


# --- screenings -----------------------------------------------------------------------------------------


async def insert_screenings(
    conn: AsyncConnection, cycle: str, screenings: Sequence[tuple[ScreeningStatement, str, int]], at: datetime
) -> None:
    """Keep screening statements: each with its digest and the id of the attestation that names it."""
    await conn.execute(
        text(
            "INSERT INTO screenings (cycle, received_at, participant, sha256, document, attestation)"
            " SELECT :cycle, :at, participant, sha256, CAST(document AS json), attestation FROM unnest("
            "CAST(:participants AS text[]), CAST(:digests AS text[]), CAST(:documents AS text[]),"
            " CAST(:attestations AS bigint[])) AS given (participant, sha256, document, attestation)"
            " ON CONFLICT (cycle, participant, sha256) DO NOTHING"
        ),
        {
            "cycle": cycle,
            "at": at,
            "participants": [document.participant for document, _, _ in screenings],
            "digests": [sha256 for _, sha256, _ in screenings],
            "documents": [to_json(document) for document, _, _ in screenings],
            "attestations": [number for _, _, number in screenings],
        },
    )


async def screening_digests(conn: AsyncConnection, cycle: str, banks: Iterable[str]) -> dict[str, list[str]]:
    """Return the digests of the screening statements that some banks handed in."""
    query = text(
        "SELECT participant, array_agg(sha256) FROM screenings WHERE cycle = :cycle AND participant = ANY (:banks)"
        " GROUP BY participant"
    )
    return {row[0]: row[1] for row in await conn.execute(query, {"cycle": cycle, "banks": list(banks)})}


async def screenings(conn: AsyncConnection, cycle: str) -> dict[str, ScreeningStatement]:
    """Return each participant's screening statement that counts: the last that it named. They were verified."""
    rows = await conn.execute(
        text(
            "SELECT DISTINCT ON (s.participant) s.participant, s.envelope::text AS envelope,"
            " s.document::text AS document"
            " FROM screenings s LEFT JOIN attestations a"
            " ON (a.cycle, a.participant, a.screening) = (s.cycle, s.participant, s.sha256)"
            " WHERE s.cycle = :cycle ORDER BY s.participant, a.id DESC NULLS LAST, s.id DESC"
        ),
        {"cycle": cycle},
    )
    decode = msgspec.json.Decoder(ScreeningStatement).decode
    return {row.participant: decode(row.document or envelope_of(row.envelope).payload_bytes()) for row in rows}
