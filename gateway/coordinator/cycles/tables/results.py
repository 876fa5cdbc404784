"""The table of results: what a cycle came to, the limits and certificates it rests on, and what the checks said.

The signed document names every pair of the cycle: it has tens of megabytes where hundreds of banks clear, and hundreds
where thousands do. A long one is kept in parts, each of which is written and read well within the time that a statement
may take. Who asks what the cycle came to reads what stands beside it. SQL only.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import msgspec
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.cycle.certificate import Certificate
from compliance.cycle.checks import Check
from compliance.cycle.limits import BilateralLimit, Cap, Limits, Prefunding, in_order
from compliance.statements import EDITIONS_MAX, CurrencyResult
from gateway.coordinator.cycles.submission import to_json
from gateway.coordinator.cycles.tables.submissions import envelope_of
from gateway.federation.messages.cycles import CurrencyTotal
from gateway.federation.storage.database import computed

PART_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a cycle came to in each currency, and what the checks said."""

    sha256: str
    edition: int
    currencies: tuple[CurrencyResult, ...]
    checks: tuple[Check, ...]


async def insert(
    conn: AsyncConnection,
    cycle: str,
    *,
    edition: int,
    sha256: str,
    currencies: Sequence[CurrencyResult],
    envelope: Envelope,
    payload: bytes,
    limits: Limits,
    certificates: Sequence[Certificate],
    checks: Sequence[Check],
    totals: Sequence[CurrencyTotal],
) -> None:
    """Keep a cycle's result, or a later edition of it; the earlier ones stay. `payload` is what the envelope holds."""
    whole = len(payload) <= PART_BYTES
    await conn.execute(
        text(
            "INSERT INTO results"
            " (cycle, edition, sha256, currencies, envelope, caps, prefunding, bilateral, certificates, checks, totals)"
            " VALUES (:cycle, :edition, :sha256, CAST(:currencies AS json), CAST(:envelope AS json),"
            " CAST(:caps AS json), CAST(:prefunding AS json), CAST(:bilateral AS json), CAST(:certificates AS json),"
            " CAST(:checks AS json), CAST(:totals AS json))"
        ),
        {
            "cycle": cycle,
            "edition": edition,
            "sha256": sha256,
            "currencies": to_json(tuple(currencies)),
            "envelope": to_json(envelope if whole else replace(envelope, payload="")),
            "caps": to_json({f"{cap.participant}/{cap.currency}": cap.cap_minor for cap in limits.caps}),
            "prefunding": to_json(limits.prefunding),
            "bilateral": to_json(limits.bilateral),
            "certificates": to_json(tuple(certificates)),
            "checks": to_json(tuple(checks)),
            "totals": to_json(tuple(totals)),
        },
    )
    insert_part = text("INSERT INTO result_parts (result, number, part) VALUES (:result, :number, :part)")
    for number, at in enumerate(() if whole else range(0, len(payload), PART_BYTES)):
        part = payload[at : at + PART_BYTES].decode()  # no document has anything but ASCII in it
        await conn.execute(insert_part, {"result": sha256, "number": number, "part": part})


async def find(conn: AsyncConnection, cycle: str) -> Result | None:
    """Return a cycle's result once there is one: the edition in force."""
    newest = await _read(conn, cycle, most=1)
    return newest[0] if newest else None


async def checks(conn: AsyncConnection, cycle: str) -> tuple[Check, ...]:
    """Return what the checks said of the result in force; nothing before there is one."""
    query = text("SELECT checks::text FROM results WHERE cycle = :cycle ORDER BY edition DESC LIMIT 1")
    document = (await conn.execute(query, {"cycle": cycle})).scalar_one_or_none()
    return () if document is None else msgspec.json.decode(document, type=tuple[Check, ...])


async def editions(conn: AsyncConnection, cycle: str) -> list[Result]:
    """Return all editions of a cycle's result, the one in force last."""
    return (await _read(conn, cycle, most=EDITIONS_MAX))[::-1]


async def signed(conn: AsyncConnection, result: str) -> Envelope:
    """Return the result with this digest as it was signed. It may be long, so only who needs it reads it."""
    query = text("SELECT envelope::text FROM results WHERE sha256 = :result")
    envelope = envelope_of((await conn.execute(query, {"result": result})).scalar_one())
    if envelope.payload:
        return envelope
    query = text("SELECT part FROM result_parts WHERE result = :result AND number = :number")
    parts: list[str] = []
    for number in count():
        part = (await conn.execute(query, {"result": result, "number": number})).scalar_one_or_none()
        if part is None:
            break
        parts.append(part)
    payload = await computed(conn, lambda: b64encode("".join(parts).encode()).decode())
    return replace(envelope, payload=payload)


async def size(conn: AsyncConnection, result: str) -> int:
    """Return how many bytes the result with this digest has as it was signed; 0 where those are too few to matter."""
    query = text("SELECT coalesce(sum(octet_length(part)), 0)::bigint FROM result_parts WHERE result = :result")
    return int((await conn.execute(query, {"result": result})).scalar_one())


async def _read(conn: AsyncConnection, cycle: str, *, most: int) -> list[Result]:
    query = text(
        "SELECT sha256, edition, currencies::text AS currencies, checks::text AS checks FROM results"
        " WHERE cycle = :cycle ORDER BY edition DESC LIMIT :most"
    )
    return [
        Result(
            sha256=row.sha256,
            edition=row.edition,
            currencies=msgspec.json.decode(row.currencies, type=tuple[CurrencyResult, ...]),
            checks=msgspec.json.decode(row.checks, type=tuple[Check, ...]),
        )
        for row in await conn.execute(query, {"cycle": cycle, "most": most})
    ]


async def kept_limits(conn: AsyncConnection, result: str) -> Limits:
    """Return the limits that the result with this digest was netted with. There may be one for any two banks."""
    query = text(
        "SELECT caps::text AS caps, prefunding::text AS prefunding, bilateral::text AS bilateral FROM results"
        " WHERE sha256 = :result"
    )
    row = (await conn.execute(query, {"result": result})).one()
    caps = msgspec.json.decode(row.caps, type=dict[str, str])
    return in_order(
        Limits(
            caps=tuple(
                Cap(participant=name.partition("/")[0], currency=name.partition("/")[2], cap_minor=cap)
                for name, cap in caps.items()
            ),
            prefunding=msgspec.json.decode(row.prefunding, type=tuple[Prefunding, ...]),
            bilateral=msgspec.json.decode(row.bilateral, type=tuple[BilateralLimit, ...]),
        )
    )


async def totals(conn: AsyncConnection, cycles: Sequence[str]) -> dict[str, tuple[CurrencyTotal, ...]]:
    """Return the totals of those cycles that have a result."""
    rows = await conn.execute(
        text("SELECT cycle, totals::text AS totals FROM results WHERE cycle = ANY (:cycles) ORDER BY edition"),
        {"cycles": list(cycles)},
    )
    return {row.cycle: msgspec.json.decode(row.totals, type=tuple[CurrencyTotal, ...]) for row in rows}


async def certificates(conn: AsyncConnection, result: str) -> tuple[Certificate, ...]:
    """Return the certificates of the result with this digest. They may be long, so only who needs them reads them."""
    query = text("SELECT certificates::text FROM results WHERE sha256 = :result")
    return msgspec.json.decode(
        (await conn.execute(query, {"result": result})).scalar_one(), type=tuple[Certificate, ...]
    )
