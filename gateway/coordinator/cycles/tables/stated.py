"""What banks stated in a cycle, as an export holds it: attestations and positions, or statements signed one by one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import ContestedLane
from compliance.cycle.cuts import bounds_of
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position, Proofs, ProvenStatement, texts
from compliance.export.record import (
    FORMAT_2,
    FORMAT_3,
    AttestedPosition,
    CycleRecord,
    SettledStatement,
    SignedAttestation,
    UnopenedLeaf,
)
from compliance.statements import Attestation, CycleCut, ScreeningStatement
from gateway.coordinator.cycles.tables.attestations import DIGEST_BYTES, POSITION, read_positions
from gateway.coordinator.cycles.tables.submissions import envelope_of


class _Attestation(NamedTuple):
    participant: str
    envelope: Envelope
    digests: bytes
    refused: frozenset[int]
    screening: str | None
    contested: str | None

    @property
    def leaves(self) -> list[bytes]:
        """The digests of all statements that the signature covers."""
        return [self.digests[at : at + DIGEST_BYTES] for at in range(0, len(self.digests), DIGEST_BYTES)]


async def with_statements(conn: AsyncConnection, record: CycleRecord) -> CycleRecord:
    """Return a record together with all that the banks stated in its cycle."""
    if await _signed_alone(conn, record.cycle):
        return await _with_statements_of_before(conn, record)
    signed = await _attestations(conn, record.cycle)
    positions = await read_positions(conn, _POSITIONS, {"cycle": record.cycle})
    entries, rows = await asyncio.to_thread(_opened, signed, positions)
    counting = {of.participant: of.screening for of in signed if of.screening is not None}
    record = msgspec.structs.replace(
        record,
        attestations=entries,
        positions=rows,
        screenings=await _screenings(conn, record.cycle),
        participants=tuple(
            msgspec.structs.replace(of, screening=counting.get(of.participant)) for of in record.participants
        ),
    )
    return await _with_settled(conn, record, await asyncio.to_thread(_nothing_more, entries))


async def _signed_alone(conn: AsyncConnection, cycle: str) -> bool:
    """Tell whether banks attested a cycle before there were attestations."""
    query = text(
        "SELECT NOT EXISTS (SELECT FROM attestations WHERE cycle = :cycle) AND ("
        " EXISTS (SELECT FROM statements WHERE cycle = :cycle) OR EXISTS (SELECT FROM screenings WHERE cycle = :cycle)"
        " OR EXISTS (SELECT FROM cycle_participants WHERE cycle = :cycle AND attested_at IS NOT NULL))"
    )
    return bool((await conn.execute(query, {"cycle": cycle})).scalar_one())


async def _with_statements_of_before(conn: AsyncConnection, record: CycleRecord) -> CycleRecord:
    record = msgspec.structs.replace(
        record,
        format=FORMAT_3 if record.operators else FORMAT_2,
        statements=await _envelopes(conn, "SELECT envelope::text FROM statements WHERE cycle = :cycle", record.cycle),
        signed_screenings=await _envelopes(
            conn, "SELECT envelope::text FROM screenings WHERE cycle = :cycle", record.cycle
        ),
    )
    return await _with_settled(conn, record, frozenset())


async def _envelopes(conn: AsyncConnection, query: str, cycle: str) -> tuple[Envelope, ...]:
    rows = await conn.execute(text(query), {"cycle": cycle})
    return tuple(envelope_of(document) for document in rows.scalars())


_POSITIONS = text(
    f"SELECT {POSITION}, p.sha256 FROM positions p WHERE p.cycle = :cycle"  # noqa: S608 - made of constants
    ' ORDER BY p.currency COLLATE "C", p.pair_low COLLATE "C", p.pair_high COLLATE "C", p.revision'
)
"""Those of a cycle, nearly in the order of the file, which costs less to sort then."""


# --- attestations ---------------------------------------------------------------------------------------


async def _attestations(conn: AsyncConnection, cycle: str, banks: Collection[str] | None = None) -> list[_Attestation]:
    """Return what was attested in a cycle, or by some banks, in its order."""
    rows = await conn.execute(
        text(
            "SELECT participant, envelope::text AS envelope, leaves, refused, screening, contested::text AS contested"
            " FROM attestations"
            " WHERE cycle = :cycle AND (:everybody OR participant = ANY (:banks)) ORDER BY id"
        ),
        {"cycle": cycle, "everybody": banks is None, "banks": sorted(banks or ())},
    )
    return [
        _Attestation(
            row.participant,
            envelope_of(row.envelope),
            row.leaves,
            frozenset(row.refused),
            row.screening,
            row.contested,
        )
        for row in rows
    ]


def _opened(
    signed: Iterable[_Attestation], positions: Iterable[tuple[Position, str]]
) -> tuple[tuple[SignedAttestation, ...], tuple[AttestedPosition, ...]]:
    """Return attestations with their numbers, and positions with the numbers of those that they are leaves of."""
    numbers: dict[bytes, tuple[int, ...]] = {bytes.fromhex(sha256): () for _, sha256 in positions}
    entries: list[SignedAttestation] = []
    lanes_of = msgspec.json.Decoder(tuple[ContestedLane, ...]).decode
    for number, attestation in enumerate(signed, 1):
        unopened: list[UnopenedLeaf] = []
        for index, digest in enumerate(attestation.leaves):
            if (known := numbers.get(digest)) is None:
                unopened.append(UnopenedLeaf(index=index, sha256=digest.hex()))
            else:
                numbers[digest] = (*known, number)
        entries.append(
            SignedAttestation(
                number=number,
                envelope=attestation.envelope,
                unopened=tuple(unopened),
                contested=() if attestation.contested is None else lanes_of(attestation.contested),
            )
        )
    rows = (AttestedPosition(position=p, attested=numbers[bytes.fromhex(sha256)]) for p, sha256 in positions)
    return tuple(entries), tuple(rows)


def _nothing_more(entries: Iterable[SignedAttestation]) -> frozenset[str]:
    """Return the banks that signed that they stated all, of which the record has a position for every leaf."""
    complete: set[str] = set()
    open_: set[str] = set()
    for entry in entries:
        document = msgspec.json.decode(entry.envelope.payload_bytes(), type=Attestation)
        if document.complete:
            complete.add(document.participant)
        if entry.unopened:
            open_.add(document.participant)
    return frozenset(complete - open_)


async def _screenings(conn: AsyncConnection, cycle: str) -> tuple[ScreeningStatement, ...]:
    query = text("SELECT document::text FROM screenings WHERE cycle = :cycle AND document IS NOT NULL")
    rows = await conn.execute(query, {"cycle": cycle})
    return tuple(msgspec.json.decode(document, type=ScreeningStatement) for document in rows.scalars())


# --- what was settled before ----------------------------------------------------------------------------


async def _with_settled(conn: AsyncConnection, record: CycleRecord, nothing_more: Collection[str]) -> CycleRecord:
    """Return a record with what both banks stated last of each pair with nothing new, if they don't say so now."""
    if record.result is None:
        return record
    # There are as many as pairs of banks, so they come as an array for each bank and not as rows.
    moved = await conn.execute(
        text(
            "SELECT currency, pair_low, array_agg(pair_high) FROM cycle_pairs WHERE cycle = :cycle"
            " GROUP BY currency, pair_low"
        ),
        {"cycle": record.cycle},
    )
    idle = await asyncio.to_thread(_idle, record.cuts, moved.all(), nothing_more)
    if not idle:
        return record
    values = {
        "cycle": record.cycle,
        "currencies": [key[0] for key in idle],
        "lows": [key[1] for key in idle],
        "highs": [key[2] for key in idle],
    }
    alone = await conn.execute(_SETTLED_ALONE, values)
    settled = [SettledStatement(alone=envelope_of(document)) for document in alone.scalars()]
    last = await conn.execute(_SETTLED_LAST, values)
    of_cycles: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for cycle, low, high, sha256 in last.all():
        of_cycles[cycle].append((low, high, sha256))
    for cycle, pairs in of_cycles.items():
        settled += await _proven(conn, cycle, pairs)
    return msgspec.structs.replace(record, settled=tuple(settled))


def _idle(cuts: Iterable[Envelope], moved: Iterable[Sequence[Any]], nothing_more: Collection[str]) -> list[PairKey]:
    """Return the pairs that cuts name and that had nothing new, but those of which both banks signed that."""
    documents = [msgspec.json.decode(cut.payload_bytes(), type=CycleCut) for cut in cuts]
    keys = {
        (currency, min(sender, receiver), max(sender, receiver))
        for (sender, receiver, currency), number in bounds_of(documents).cuts.items()
        if number
    }
    for currency, low, highs in moved:
        keys.difference_update((currency, low, high) for high in highs)
    return sorted(key for key in keys if not (key[1] in nothing_more and key[2] in nothing_more))


# Cycles settle one after another, in the order of the log.
_LAST = """
    WITH idle AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:currencies AS text[]), CAST(:lows AS text[]), CAST(:highs AS text[]))
        AS key (currency, low, high)),
    ended AS MATERIALIZED (
        SELECT c.id, e.id AS at FROM cycles c JOIN events e ON e.cycle = c.id AND e.type = 'cycle.final'
        WHERE c.state = 'final' AND e.id < (
            SELECT min(id) FROM events WHERE cycle = :cycle AND type = 'cycle.cut_off')),
    last AS (
        SELECT DISTINCT ON (currency, low, high) currency, low, high, p.cycle, p.sha256
        FROM idle JOIN cycle_pairs p USING (currency) JOIN ended ON ended.id = p.cycle
        WHERE (p.pair_low, p.pair_high) = (low, high) AND p.carried IS NULL
        ORDER BY currency, low, high, ended.at DESC)
"""
_SETTLED_ALONE = text(f"""
    {_LAST} SELECT s.envelope::text FROM last JOIN statements s
    ON (s.cycle, s.currency, s.pair_low, s.pair_high, s.sha256) = (last.cycle, last.currency, low, high, last.sha256)
""")  # noqa: S608 - made of constants
_SETTLED_LAST = text(f"""
    {_LAST} SELECT last.cycle, low, high, last.sha256 FROM last JOIN positions p
    ON (p.cycle, p.sha256) = (last.cycle, last.sha256)
""")  # noqa: S608 - made of constants


async def agreed(conn: AsyncConnection, cycle: str, key: PairKey) -> tuple[ProvenStatement, ProvenStatement] | None:
    """Return what both banks of a pair stated alike, as each proves it; None where they didn't, or signed it alone."""
    currency, low, high = key
    query = text(
        "SELECT sha256 FROM cycle_pairs JOIN positions USING (cycle, sha256) WHERE cycle = :cycle"
        " AND cycle_pairs.currency = :currency AND (cycle_pairs.pair_low, cycle_pairs.pair_high) = (:low, :high)"
    )
    row = await conn.execute(query, {"cycle": cycle, "currency": currency, "low": low, "high": high})
    if (sha256 := row.scalar()) is None:
        return None
    of_low, of_high = [of.proven for of in await _proven(conn, cycle, [(low, high, sha256)])]
    assert of_low is not None
    assert of_high is not None
    return of_low, of_high


async def _proven(conn: AsyncConnection, cycle: str, pairs: Sequence[tuple[str, str, str]]) -> list[SettledStatement]:
    """Return statements of a cycle, by digest, each under the attestations of both its banks."""
    query = text(f"SELECT {POSITION} FROM positions p WHERE p.cycle = :cycle AND p.sha256 = ANY (:digests)")  # noqa: S608
    rows = await read_positions(conn, query, {"cycle": cycle, "digests": [sha256 for _, _, sha256 in pairs]})
    signed = await _attestations(conn, cycle, {bank for low, high, _ in pairs for bank in (low, high)})
    return await asyncio.to_thread(_under_attestations, cycle, pairs, {of: p for p, of in rows}, signed)


def _under_attestations(
    cycle: str,
    pairs: Collection[tuple[str, str, str]],
    positions: Mapping[str, Position],
    signed: Iterable[_Attestation],
) -> list[SettledStatement]:
    digests = {bytes.fromhex(sha256) for _, _, sha256 in pairs}
    places: dict[tuple[str, bytes], tuple[Proofs, int]] = {}
    for attestation in signed:
        leaves = attestation.leaves
        proofs = Proofs(attestation.envelope, leaves)
        for index, digest in enumerate(leaves):
            if digest in digests and index not in attestation.refused:
                places.setdefault((attestation.participant, digest), (proofs, index))
    settled: list[SettledStatement] = []
    for *banks, sha256 in pairs:
        [statement] = texts(cycle, [positions[sha256]])
        for bank in banks:
            proofs, index = places[bank, bytes.fromhex(sha256)]
            settled.append(SettledStatement(proven=proofs.prove(index, statement)))
    return settled
