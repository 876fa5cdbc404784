"""What the banks signed in a cycle: cuts, statements, screenings, and what doesn't fit. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import CONTEST_EVENT, Contest, standing
from compliance.cycle.cuts import Bounds, Lane
from compliance.cycle.matching import Attested, Match, PairKey
from compliance.cycle.positions import Position
from compliance.statements import ScreeningStatement
from gateway.coordinator.cycles.submission import (
    ReadCut,
    ReadScreening,
    ReadStatement,
    to_json,
)
from gateway.coordinator.log import events
from gateway.federation.messages.attestation import BreakNotice


def envelope_of(document: str) -> Envelope:
    """Read a stored envelope."""
    return msgspec.json.decode(document, type=Envelope)


# --- cuts -----------------------------------------------------------------------------------------------


async def cuts_of(conn: AsyncConnection, cycle: str, receivers: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return digest and envelope (JSON) of the cuts of some receivers."""
    query = text("SELECT receiver, sha256, envelope::text FROM cuts WHERE cycle = :cycle AND receiver = ANY (:banks)")
    rows = await conn.execute(query, {"cycle": cycle, "banks": list(receivers)})
    return {row[0]: (row[1], row[2]) for row in rows}


async def newest_cut(conn: AsyncConnection, receiver: str) -> tuple[str, str] | None:
    """Return the newest cycle that a bank handed in a cut for, and the cut's envelope (JSON)."""
    query = text(
        "SELECT t.cycle, t.envelope::text FROM cuts t JOIN cycles c ON c.id = t.cycle WHERE t.receiver = :receiver"
        " ORDER BY c.opened_at DESC, c.value_date DESC, c.number DESC LIMIT 1"
    )
    row = (await conn.execute(query, {"receiver": receiver})).one_or_none()
    return None if row is None else (row[0], row[1])


async def insert_cuts(conn: AsyncConnection, cycle: str, cuts: Sequence[ReadCut], at: datetime) -> None:
    """Keep cuts, their lanes for lookup, and that their banks delivered them."""
    given = [{"receiver": cut.document.receiver, "sha256": cut.sha256, "envelope": cut.envelope} for cut in cuts]
    lanes = [
        {
            "receiver": cut.document.receiver,
            "sender": lane.sender,
            "currency": lane.currency,
            "last_sequence": lane.last_sequence,
        }
        for cut in cuts
        for lane in cut.document.lanes
    ]
    await conn.execute(
        text(
            "WITH cut AS (INSERT INTO cuts (cycle, received_at, receiver, sha256, envelope)"
            " SELECT :cycle, :at, * FROM json_to_recordset(CAST(:cuts AS json))"
            " AS given (receiver text, sha256 text, envelope json) RETURNING receiver),"
            " lanes AS (INSERT INTO cut_lanes (cycle, receiver, sender, currency, last_sequence)"
            " SELECT :cycle, * FROM json_to_recordset(CAST(:lanes AS json))"
            " AS given (receiver text, sender text, currency text, last_sequence bigint))"
            " UPDATE cycle_participants SET cut_at = :at"
            " WHERE cycle = :cycle AND participant IN (SELECT receiver FROM cut)"
        ),
        {"cycle": cycle, "at": at, "cuts": to_json(given), "lanes": to_json(lanes)},
    )


async def cut_lanes(conn: AsyncConnection, cycle: str, banks: Iterable[str] | None = None) -> dict[Lane, int]:
    """Return the last sequence of each lane of a cycle, or of the lanes that some banks send or receive on."""
    source = "last_sequence) FROM cut_lanes WHERE cycle = :cycle"
    return await _lanes(conn, source, {"cycle": cycle}, banks)


async def settled_lanes(conn: AsyncConnection, banks: Iterable[str] | None = None) -> dict[Lane, int]:
    """Return through which payment each lane is settled, or each lane that some banks send or receive on."""
    return await _lanes(conn, "settled_sequence) FROM lane_settlements WHERE true", {}, banks)


async def _lanes(
    conn: AsyncConnection, source: str, values: dict[str, object], banks: Iterable[str] | None
) -> dict[Lane, int]:
    # There are as many lanes as pairs of banks, so they come as four arrays and not as rows.
    query = f"SELECT array_agg(sender), array_agg(receiver), array_agg(currency), array_agg({source}"
    if banks is not None:
        query += " AND (sender = ANY (:banks) OR receiver = ANY (:banks))"
        values = {**values, "banks": list(banks)}
    senders, receivers, currencies, numbers = (await conn.execute(text(query), values)).one()
    return dict(zip(zip(senders, receivers, currencies, strict=True), numbers, strict=True)) if senders else {}


async def settle_lanes(conn: AsyncConnection, cycle: str, positions: Iterable[Position]) -> None:
    """Write down that the payments of the positions are settled."""
    both = [((p.low, p.high, p.currency, p.forth_last), (p.high, p.low, p.currency, p.back_last)) for p in positions]
    lanes = [lane for of_pair in both for lane in of_pair if lane[3]]
    await conn.execute(
        text(
            "INSERT INTO lane_settlements (sender, receiver, currency, settled_sequence, cycle)"
            " SELECT sender, receiver, currency, settled, :cycle FROM unnest(CAST(:senders AS text[]),"
            " CAST(:receivers AS text[]), CAST(:currencies AS text[]), CAST(:settled AS bigint[]))"
            " AS lane (sender, receiver, currency, settled) ON CONFLICT (sender, receiver, currency)"
            " DO UPDATE SET settled_sequence = excluded.settled_sequence, cycle = excluded.cycle"
        ),
        {
            "cycle": cycle,
            "senders": [lane[0] for lane in lanes],
            "receivers": [lane[1] for lane in lanes],
            "currencies": [lane[2] for lane in lanes],
            "settled": [lane[3] for lane in lanes],
        },
    )


async def bounds(conn: AsyncConnection, cycle: str, banks: Sequence[str], delivered: Iterable[str]) -> Bounds:
    """Return the numbers that bound the statements of some banks."""
    return Bounds(
        delivered=frozenset(delivered),
        cuts=await cut_lanes(conn, cycle, banks),
        settled=await settled_lanes(conn, banks),
    )


# --- statements -----------------------------------------------------------------------------------------


async def attested(conn: AsyncConnection, cycle: str, banks: Iterable[str] | None = None) -> list[Attested]:
    """Return all statements of a cycle, or those of some banks' pairs, of both sides."""
    rows = await conn.execute(
        text(
            "SELECT currency, pair_low, pair_high, participant, revision, sha256 FROM statements WHERE cycle = :cycle"
            + ("" if banks is None else " AND (pair_low = ANY (:banks) OR pair_high = ANY (:banks))")
        ),
        {"cycle": cycle} if banks is None else {"cycle": cycle, "banks": list(banks)},
    )
    return [
        Attested((currency, low, high), participant, revision, sha256)
        for currency, low, high, participant, revision, sha256 in rows.all()
    ]


async def insert_statements(
    conn: AsyncConnection, cycle: str, statements: Iterable[tuple[str, ReadStatement]], at: datetime
) -> None:
    """Keep statements with the banks that signed them, all at once."""
    rows = [
        {
            "participant": bank,
            "currency": statement.document.currency,
            "pair_low": statement.document.pair[0],
            "pair_high": statement.document.pair[1],
            "revision": statement.document.revision,
            "sha256": statement.sha256,
            "envelope": statement.envelope,
            "forth_minor": str(statement.amounts[0]),
            "back_minor": str(statement.amounts[1]),
        }
        for bank, statement in statements
    ]
    await conn.execute(
        text(
            "INSERT INTO statements (cycle, received_at, participant, currency, pair_low, pair_high, revision, sha256,"
            " envelope, forth_minor, back_minor)"
            " SELECT :cycle, :at, * FROM json_to_recordset(CAST(:rows AS json)) AS given ("
            "participant text, currency text, pair_low text, pair_high text, revision integer, sha256 text,"
            " envelope json, forth_minor numeric, back_minor numeric)"
        ),
        {"cycle": cycle, "at": at, "rows": to_json(rows)},
    )


async def mark_attested(conn: AsyncConnection, cycle: str, banks: Iterable[str], at: datetime) -> None:
    """Write down that banks have said all they have to say."""
    await conn.execute(
        text("UPDATE cycle_participants SET attested_at = :at WHERE cycle = :cycle AND participant = ANY (:banks)"),
        {"cycle": cycle, "banks": list(banks), "at": at},
    )


async def statement_envelope(conn: AsyncConnection, cycle: str, bank: str, key: PairKey, revision: int) -> str:
    """Return one stored statement (JSON of its envelope)."""
    query = text(
        "SELECT envelope::text FROM statements WHERE cycle = :cycle AND participant = :bank AND currency = :currency"
        " AND pair_low = :low AND pair_high = :high AND revision = :revision"
    )
    values = {"cycle": cycle, "bank": bank, "currency": key[0], "low": key[1], "high": key[2], "revision": revision}
    return str((await conn.execute(query, values)).scalar_one())


async def statement_envelopes(conn: AsyncConnection, cycle: str, bank: str) -> list[Envelope]:
    """Return the statements that a bank submitted, in the order of pairs and revisions."""
    query = text(
        "SELECT envelope::text FROM statements WHERE cycle = :cycle AND participant = :bank"
        " ORDER BY currency, pair_low, pair_high, revision"
    )
    return [envelope_of(row[0]) for row in await conn.execute(query, {"cycle": cycle, "bank": bank})]


async def statement_counts(conn: AsyncConnection, cycle: str) -> dict[str, int]:
    """Return how many statements each participant submitted."""
    query = text("SELECT participant, count(*) FROM statements WHERE cycle = :cycle GROUP BY participant")
    return {row[0]: row[1] for row in await conn.execute(query, {"cycle": cycle})}


async def insert_screenings(
    conn: AsyncConnection, cycle: str, screenings: Sequence[ReadScreening], at: datetime
) -> None:
    """Keep screening statements in their order; the last one a bank submits counts."""
    rows = [
        {"participant": screening.document.participant, "sha256": screening.sha256, "envelope": screening.envelope}
        for screening in screenings
    ]
    await conn.execute(
        text(
            "INSERT INTO screenings (cycle, received_at, participant, sha256, envelope)"
            " SELECT :cycle, :at, * FROM json_to_recordset(CAST(:rows AS json))"
            " AS given (participant text, sha256 text, envelope json) ON CONFLICT DO NOTHING"
        ),
        {"cycle": cycle, "at": at, "rows": to_json(rows)},
    )


async def screening_digests(conn: AsyncConnection, cycle: str, banks: Iterable[str]) -> dict[str, list[str]]:
    """Return the digests of the screening statements that some banks handed in."""
    query = text(
        "SELECT participant, array_agg(sha256) FROM screenings WHERE cycle = :cycle AND participant = ANY (:banks)"
        " GROUP BY participant"
    )
    return {row[0]: row[1] for row in await conn.execute(query, {"cycle": cycle, "banks": list(banks)})}


async def screenings(conn: AsyncConnection, cycle: str) -> dict[str, ScreeningStatement]:
    """Return each participant's last screening statement. They were verified when they came in."""
    rows = await conn.execute(
        text(
            "SELECT DISTINCT ON (participant) participant, envelope::text AS envelope FROM screenings"
            " WHERE cycle = :cycle ORDER BY participant, id DESC"
        ),
        {"cycle": cycle},
    )
    return {
        row.participant: msgspec.json.decode(envelope_of(row.envelope).payload_bytes(), type=ScreeningStatement)
        for row in rows
    }


async def insert_equivocation(
    conn: AsyncConnection,
    *,
    cycle: str,
    bank: str,
    digests: tuple[str, str],
    envelopes: tuple[str, str],
    at: datetime,
) -> bool:
    """Keep both documents (JSON of their envelopes), unless a proof of their kind is kept; tell whether it is new."""
    row = await conn.execute(
        text(
            "INSERT INTO equivocations (cycle, participant, first_sha256, second_sha256, first, second, noticed_at)"
            " SELECT :cycle, :bank, :first_sha256, :second_sha256, CAST(:first AS json), CAST(:second AS json), :at"
            " WHERE NOT EXISTS (SELECT FROM equivocations WHERE cycle = :cycle AND participant = :bank"
            " AND first->>'payloadType' = CAST(:first AS json)->>'payloadType') RETURNING id"
        ),
        {
            "cycle": cycle,
            "bank": bank,
            "first_sha256": digests[0],
            "second_sha256": digests[1],
            "first": envelopes[0],
            "second": envelopes[1],
            "at": at,
        },
    )
    return row.one_or_none() is not None


# --- contested cuts -------------------------------------------------------------------------------------


async def contests(conn: AsyncConnection, cycle: str) -> list[Contest]:
    """Return the cuts that senders contested in a cycle, from its events."""
    return [Contest.of(data) for data in await events.data_of(conn, cycle, CONTEST_EVENT)]


async def contest_notices(conn: AsyncConnection, cycle: str, bank: str | None = None) -> list[BreakNotice]:
    """Return the contested cuts of a cycle, or of one bank's pairs, as breaks."""
    contested = [c for c in await contests(conn, cycle) if bank is None or bank in c.lane]
    if not contested:
        return []
    banks = [contest.sender for contest in contested]
    stands = standing(contested, cuts=await cut_lanes(conn, cycle, banks), attested=await attested(conn, cycle, banks))
    return [
        BreakNotice(
            pair=contest.key[1:],
            currency=contest.currency,
            revision=1,
            kind="contested",
            missing_from=contest.sender,
            resolved=not still,
            cut_at=contest.cut_at,
            known_through=contest.known_through,
        )
        for contest, still in sorted(stands.items(), key=lambda item: item[0].lane)
    ]


# --- breaks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Break:
    """A noticed break."""

    key: PairKey
    notice: BreakNotice


async def breaks(conn: AsyncConnection, cycle: str, bank: str | None = None) -> list[Break]:
    """Return the breaks of a cycle, or of one bank's pairs, in order."""
    rows = await conn.execute(
        text(
            "SELECT currency, pair_low, pair_high, revision, kind, missing_from, resolved_at IS NOT NULL AS resolved"
            " FROM breaks WHERE cycle = :cycle"
            + ("" if bank is None else " AND (pair_low = :bank OR pair_high = :bank)")
            + " ORDER BY currency, pair_low, pair_high, revision, kind"
        ),
        {"cycle": cycle} if bank is None else {"cycle": cycle, "bank": bank},
    )
    return [
        Break(
            (row.currency, row.pair_low, row.pair_high),
            BreakNotice(
                pair=(row.pair_low, row.pair_high),
                currency=row.currency,
                revision=row.revision,
                kind=row.kind,
                missing_from=row.missing_from,
                resolved=row.resolved,
            ),
        )
        for row in rows
    ]


async def notice_break(conn: AsyncConnection, cycle: str, match: Match, at: datetime) -> BreakNotice | None:
    """Write down a break; None if it was noticed before."""
    currency, low, high = match.key
    added = await conn.execute(
        text(
            "INSERT INTO breaks (cycle, currency, pair_low, pair_high, revision, kind, missing_from, noticed_at)"
            " VALUES (:cycle, :currency, :low, :high, :revision, :kind, :missing_from, :at)"
            " ON CONFLICT DO NOTHING RETURNING cycle"
        ),
        {
            "cycle": cycle,
            "currency": currency,
            "low": low,
            "high": high,
            "revision": match.revision,
            "kind": match.status,
            "missing_from": match.missing_from,
            "at": at,
        },
    )
    if added.one_or_none() is None:
        return None
    return BreakNotice(
        pair=(low, high),
        currency=currency,
        revision=match.revision,
        kind="different" if match.status == "different" else "missing",
        missing_from=match.missing_from,
    )


async def resolve_breaks(conn: AsyncConnection, cycle: str, key: PairKey, at: datetime) -> None:
    """Write down that a pair's breaks are mended."""
    await conn.execute(
        text(
            "UPDATE breaks SET resolved_at = :at WHERE cycle = :cycle AND currency = :currency AND pair_low = :low"
            " AND pair_high = :high AND resolved_at IS NULL"
        ),
        {"cycle": cycle, "currency": key[0], "low": key[1], "high": key[2], "at": at},
    )
