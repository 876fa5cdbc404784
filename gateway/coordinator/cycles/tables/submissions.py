"""What the banks say in a cycle besides their positions: cuts, settled lanes, contests, breaks. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import CONTEST_EVENT, Contest
from compliance.cycle.cuts import Lane, bounds_of
from compliance.cycle.matching import Match, PairKey
from compliance.cycle.positions import Position
from compliance.statements import CycleCut
from gateway.coordinator.cycles.submission import ReadCut, to_json
from gateway.coordinator.cycles.tables.columns import column, rows_of
from gateway.coordinator.log import events
from gateway.federation.messages.attestation import BreakNotice

SEVERAL = 8_192
"""Rows that one statement writes, well within the time that a statement may take."""
FEW = 16
"""Rows of one bank each that are read at once: a row may have a hundred kilobytes."""


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
    """Keep cuts, and that their banks delivered them."""
    await conn.execute(
        text(
            "WITH cut AS (INSERT INTO cuts (cycle, received_at, receiver, sha256, envelope)"
            " SELECT :cycle, :at, receiver, sha256, CAST(envelope AS json) FROM unnest(CAST(:receivers AS text[]),"
            " CAST(:digests AS text[]), CAST(:envelopes AS text[])) AS given (receiver, sha256, envelope)"
            " RETURNING receiver)"
            " UPDATE cycle_participants SET cut_at = :at"
            " WHERE cycle = :cycle AND participant IN (SELECT receiver FROM cut)"
        ),
        {
            "cycle": cycle,
            "at": at,
            "receivers": [cut.document.receiver for cut in cuts],
            "digests": [cut.sha256 for cut in cuts],
            "envelopes": [to_json(cut.envelope) for cut in cuts],
        },
    )


async def cuts_since(conn: AsyncConnection, cycle: str, known: Sequence[str]) -> AsyncIterator[list[ReadCut]]:
    """Yield the cuts of a cycle but those of some banks, a few at a time. They were verified when they came in."""
    query = text("SELECT sha256, envelope::text FROM cuts WHERE cycle = :cycle AND receiver <> ALL (:known)")
    async with conn.stream(query, {"cycle": cycle, "known": list(known)}) as rows:
        async for part in rows.partitions(FEW):
            yield await asyncio.to_thread(_read_cuts, part)


async def cuts_by(conn: AsyncConnection, cycle: str, receivers: Iterable[str]) -> Mapping[Lane, int]:
    """Return where some banks cut their lanes in a cycle."""
    rows = await conn.execute(
        text("SELECT sha256, envelope::text FROM cuts WHERE cycle = :cycle AND receiver = ANY (:receivers)"),
        {"cycle": cycle, "receivers": sorted(set(receivers))},
    )
    cuts = await asyncio.to_thread(_read_cuts, rows.all())
    return bounds_of(cut.document for cut in cuts).cuts


def _read_cuts(rows: Iterable[Sequence[str]]) -> list[ReadCut]:
    decode, cuts = msgspec.json.Decoder(CycleCut).decode, []
    for sha256, document in rows:
        envelope = envelope_of(document)
        cuts.append(ReadCut(document=decode(envelope.payload_bytes()), envelope=envelope, sha256=sha256))
    return cuts


async def settled_lanes(conn: AsyncConnection) -> dict[Lane, int]:
    """Return through which payment each lane is settled."""
    # There are as many lanes as pairs of banks, so they come as an array for each receiver and not as rows.
    query = text(
        "SELECT receiver, currency, array_agg(sender), array_agg(settled_sequence) FROM lane_settlements"
        " GROUP BY receiver, currency"
    )
    settled: dict[Lane, int] = {}
    async with conn.stream(query) as rows:
        async for part in rows.partitions(FEW):
            for receiver, currency, senders, numbers in part:
                settled.update(((s, receiver, currency), number) for s, number in zip(senders, numbers, strict=True))
            await asyncio.sleep(0)
    return settled


async def settle_lanes(conn: AsyncConnection, cycle: str, included: Sequence[tuple[str, Position]]) -> None:
    """Write down that the payments of positions, each with its digest, are settled."""
    for at in range(0, len(included), SEVERAL):
        values = await asyncio.to_thread(_lanes_settled, included[at : at + SEVERAL])
        await conn.execute(
            text(
                "INSERT INTO lane_settlements (sender, receiver, currency, settled_sequence, cycle)"
                " SELECT sender, receiver, currency, settled, :cycle FROM"
                f" {rows_of(sender='text', receiver='text', currency='text', settled='bigint')}"
                " ON CONFLICT (sender, receiver, currency)"
                " DO UPDATE SET settled_sequence = excluded.settled_sequence, cycle = excluded.cycle"
            ),
            {"cycle": cycle, **values},
        )


def _lanes_settled(included: Iterable[tuple[str, Position]]) -> dict[str, str]:
    """Return sender, receiver, currency and last number of each lane of positions, as columns."""
    low_to_high = [(p.low, p.high, p.currency, p.forth_last) for _, p in included if p.forth_last]
    high_to_low = [(p.high, p.low, p.currency, p.back_last) for _, p in included if p.back_last]
    names = ("sender", "receiver", "currency", "settled")
    flows = [*low_to_high, *high_to_low]
    columns = map(column, zip(*flows, strict=True)) if flows else [""] * len(names)
    return dict(zip(names, columns, strict=True))


# --- statements of cycles before there were attestations -------------------------------------------------


async def statement_envelopes(conn: AsyncConnection, cycle: str, bank: str) -> tuple[Envelope, ...]:
    """Return the statements that a bank signed one by one, in the order of pairs and revisions."""
    query = text(
        "SELECT envelope::text FROM statements WHERE cycle = :cycle AND participant = :bank"
        " ORDER BY currency, pair_low, pair_high, revision"
    )
    return tuple(envelope_of(row[0]) for row in await conn.execute(query, {"cycle": cycle, "bank": bank}))


# --- equivocations --------------------------------------------------------------------------------------


async def insert_equivocation(
    conn: AsyncConnection,
    *,
    cycle: str,
    bank: str,
    digests: tuple[str, str],
    documents: tuple[str, str],
    at: datetime,
) -> bool:
    """Keep both documents (JSON), unless a proof of their kind is kept; tell whether it is new.

    Cuts are kept as their envelopes, statements as what proves each of them.
    """
    row = await conn.execute(
        text(
            "INSERT INTO equivocations (cycle, participant, first_sha256, second_sha256, first, second, noticed_at)"
            " SELECT :cycle, :bank, :first_sha256, :second_sha256, CAST(:first AS json), CAST(:second AS json), :at"
            " WHERE NOT EXISTS (SELECT FROM equivocations WHERE cycle = :cycle AND participant = :bank"
            " AND first->>'payloadType' IS NOT DISTINCT FROM CAST(:first AS json)->>'payloadType') RETURNING id"
        ),
        {
            "cycle": cycle,
            "bank": bank,
            "first_sha256": digests[0],
            "second_sha256": digests[1],
            "first": documents[0],
            "second": documents[1],
            "at": at,
        },
    )
    return row.one_or_none() is not None


# --- contested cuts -------------------------------------------------------------------------------------


async def contests_since(conn: AsyncConnection, cycle: str, seen: int) -> list[tuple[int, Contest]]:
    """Return the cuts that senders contested in a cycle, from its events after one of them."""
    contested = await events.data_of(conn, cycle, CONTEST_EVENT, after=seen)
    return [(number, Contest.of(data)) for number, data in contested]


def contest_notices(stands: Mapping[Contest, bool]) -> list[BreakNotice]:
    """Return contested cuts, each with whether it still stands, as breaks."""
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


_PAIR = {"currency": "text", "pair_low": "text", "pair_high": "text"}
_BREAK = "currency, pair_low, pair_high, revision, kind, missing_from, resolved_at IS NOT NULL AS resolved"


async def breaks(conn: AsyncConnection, cycle: str, bank: str | None = None) -> list[BreakNotice]:
    """Return the breaks of a cycle, or of one bank's pairs, in order."""
    rows = await conn.execute(
        text(
            f"SELECT {_BREAK} FROM breaks WHERE cycle = :cycle"
            + ("" if bank is None else " AND (pair_low = :bank OR pair_high = :bank)")
        ),
        {"cycle": cycle} if bank is None else {"cycle": cycle, "bank": bank},
    )
    return _notices(rows)


async def notice_breaks(conn: AsyncConnection, cycle: str, matches: Sequence[Match], at: datetime) -> list[BreakNotice]:
    """Write breaks down, and return those that weren't noticed before."""
    rows = await conn.execute(
        text(
            "INSERT INTO breaks (cycle, currency, pair_low, pair_high, revision, kind, missing_from, noticed_at)"
            " SELECT :cycle, currency, pair_low, pair_high, revision, kind, missing_from, :at FROM "
            + rows_of(**_PAIR, revision="integer", kind="text", missing_from="text")
            + f" ON CONFLICT DO NOTHING RETURNING {_BREAK}"
        ),
        {
            "cycle": cycle,
            "at": at,
            **_pairs(match.key for match in matches),
            "revision": column(match.revision for match in matches),
            "kind": column(match.status for match in matches),
            "missing_from": column(match.missing_from for match in matches),
        },
    )
    return _notices(rows)


async def resolve_breaks(conn: AsyncConnection, cycle: str, keys: Sequence[PairKey], at: datetime) -> list[BreakNotice]:
    """Write down that the breaks of some pairs are mended, and return them."""
    rows = await conn.execute(
        text(
            "UPDATE breaks SET resolved_at = :at WHERE cycle = :cycle AND resolved_at IS NULL"
            f" AND (currency, pair_low, pair_high) IN (SELECT * FROM {rows_of(**_PAIR)}) RETURNING {_BREAK}"
        ),
        {"cycle": cycle, "at": at, **_pairs(keys)},
    )
    return _notices(rows)


def _pairs(keys: Iterable[PairKey]) -> dict[str, str]:
    """Return the columns of _PAIR."""
    return dict(zip(_PAIR, map(column, zip(*keys, strict=True)), strict=True))


def _notices(rows: Iterable[Any]) -> list[BreakNotice]:
    notices = [
        BreakNotice(
            pair=(row.pair_low, row.pair_high),
            currency=row.currency,
            revision=row.revision,
            kind=row.kind,
            missing_from=row.missing_from,
            resolved=row.resolved,
        )
        for row in rows
    ]
    return sorted(notices, key=lambda notice: (notice.currency, *notice.pair, notice.revision, notice.kind))
