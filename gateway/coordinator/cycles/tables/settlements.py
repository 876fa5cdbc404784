"""What follows from a cycle's result: instructions, settlement attempts, finality. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto.dsse import Envelope
from compliance.export.record import SignedSettlement
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.settlement import Rejected, Reply, Settled, Shortfall
from gateway.coordinator.cycles.submission import to_json
from gateway.coordinator.cycles.tables.submissions import envelope_of
from gateway.federation.messages.cycles import InstructionView

# --- instructions ---------------------------------------------------------------------------------------

AT_ONCE_BYTES = 8 * 2**20
_IN_FORCE = "edition = (SELECT max(r.edition) FROM results r WHERE r.cycle = i.cycle)"
"""Of the instructions `i`, those of the result's edition in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInstruction:
    """An instruction as it is kept: what it is found by, the digest of its payload, its envelope in JSON."""

    id: str
    participant: str
    currency: str
    net_minor: str
    sha256: str
    envelope: str


async def insert_instructions(
    conn: AsyncConnection, cycle: str, edition: int, signed: Sequence[SignedInstruction]
) -> None:
    """Keep signed instructions; those that exist stay as they are.

    A row a statement: one instruction of hundreds of lines is a hundred kilobytes, and an array of hundreds of them
    takes PostgreSQL three times as long. All together may be a gigabyte, so a few go at a time, for time is limited.
    """
    insert = text(
        "INSERT INTO instructions (cycle, edition, id, participant, currency, net_minor, sha256, envelope)"
        " VALUES (:cycle, :edition, :id, :participant, :currency, CAST(CAST(:net AS text) AS numeric), :sha256,"
        " CAST(CAST(:envelope AS text) AS json)) ON CONFLICT DO NOTHING"
    )
    for part in _few(signed):
        rows = [
            {
                "cycle": cycle,
                "edition": edition,
                "id": instruction.id,
                "participant": instruction.participant,
                "currency": instruction.currency,
                "net": instruction.net_minor,
                "sha256": instruction.sha256,
                "envelope": instruction.envelope,
            }
            for instruction in part
        ]
        await conn.execute(insert, rows)


def _few(signed: Iterable[SignedInstruction]) -> Iterator[list[SignedInstruction]]:
    """Yield as many instructions at a time as have AT_ONCE_BYTES, or one that has more."""
    part: list[SignedInstruction] = []
    room = AT_ONCE_BYTES
    for instruction in signed:
        room -= len(instruction.envelope)
        if room < 0 and part:
            yield part
            part, room = [], AT_ONCE_BYTES - len(instruction.envelope)
        part.append(instruction)
    if part:
        yield part


async def instructions(conn: AsyncConnection, cycle: str, participant: str | None = None) -> list[Envelope]:
    """Return the signed instructions in force of a cycle, or one participant's, by currency and participant."""
    rows = await conn.execute(
        text(
            f"SELECT envelope::text AS envelope FROM instructions i WHERE cycle = :cycle AND {_IN_FORCE}"
            " AND (CAST(:participant AS text) IS NULL OR participant = :participant) ORDER BY currency, participant"
        ),
        {"cycle": cycle, "participant": participant},
    )
    return [envelope_of(row.envelope) for row in rows]


async def instruction_texts(conn: AsyncConnection, cycle: str, participants: Sequence[str]) -> dict[str, list[str]]:
    """Return the JSON of the signed instructions in force of some participants in a cycle, each one's by currency."""
    rows = await conn.execute(
        text(
            f"SELECT participant, envelope::text FROM instructions i WHERE cycle = :cycle AND {_IN_FORCE}"
            " AND participant = ANY (:participants) ORDER BY currency"
        ),
        {"cycle": cycle, "participants": list(participants)},
    )
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for participant, envelope in rows:
        texts[participant].append(envelope)
    return texts


async def instructed(conn: AsyncConnection, cycle: str, edition: int) -> tuple[list[Envelope], list[Envelope]]:
    """Return the instructions of one edition of a cycle's result, and the banks' receipts for them."""
    rows = await conn.execute(
        text(
            "SELECT envelope::text AS envelope, receipt::text AS receipt FROM instructions"
            " WHERE cycle = :cycle AND edition = :edition ORDER BY currency, participant"
        ),
        {"cycle": cycle, "edition": edition},
    )
    instructed = rows.all()
    return await asyncio.to_thread(
        lambda: (
            [envelope_of(row.envelope) for row in instructed],
            [envelope_of(row.receipt) for row in instructed if row.receipt],
        )
    )


async def pending_instructions(conn: AsyncConnection, participant: str) -> list[Envelope]:
    """Return a participant's instructions in force without receipt, oldest first; none of abandoned cycles."""
    rows = await conn.execute(
        text(
            "SELECT i.envelope::text AS envelope FROM instructions i JOIN cycles c ON c.id = i.cycle"
            " WHERE i.participant = :participant AND i.acknowledged_at IS NULL AND c.state <> 'abandoned'"
            f" AND {_IN_FORCE}"
            " ORDER BY c.value_date, c.number, i.currency"
        ),
        {"participant": participant},
    )
    return [envelope_of(row.envelope) for row in rows]


async def instruction_views(
    conn: AsyncConnection, *, cycle: str | None, acknowledged: bool | None
) -> list[InstructionView]:
    """Return the instructions in force as operators follow them."""
    rows = await conn.execute(
        text(
            "SELECT id, cycle, participant, currency, net_minor::text AS net_minor, sha256, acknowledged_at"
            f" FROM instructions i WHERE {_IN_FORCE} AND (CAST(:cycle AS text) IS NULL OR cycle = :cycle)"
            " AND (CAST(:acknowledged AS boolean) IS NULL OR (acknowledged_at IS NOT NULL) = :acknowledged)"
            " ORDER BY cycle, currency, participant"
        ),
        {"cycle": cycle, "acknowledged": acknowledged},
    )
    return [
        InstructionView(
            id=row.id,
            cycle=row.cycle,
            participant=row.participant,
            currency=row.currency,
            net_minor=row.net_minor,
            sha256=row.sha256,
            acknowledged_at=None if row.acknowledged_at is None else timestamp(row.acknowledged_at),
        )
        for row in rows
    ]


async def instruction_digest(conn: AsyncConnection, instruction: str, participant: str) -> str | None:
    """Return the digest of a participant's instruction."""
    query = text("SELECT sha256 FROM instructions WHERE id = :id AND participant = :participant")
    digest = (await conn.execute(query, {"id": instruction, "participant": participant})).scalar_one_or_none()
    return None if digest is None else str(digest)


async def acknowledge(conn: AsyncConnection, instruction: str, receipt: Envelope, at: datetime) -> None:
    """Keep the first receipt of an instruction; a repeated one changes nothing."""
    await conn.execute(
        text(
            "UPDATE instructions SET acknowledged_at = :at, receipt = CAST(:receipt AS json)"
            " WHERE id = :id AND acknowledged_at IS NULL"
        ),
        {"id": instruction, "receipt": to_json(receipt), "at": at},
    )


# --- settlement attempts --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One settlement request, signed. Without any there is nothing to move, and nobody is asked.

    `unsigned` is one that release 0.1 wrote down: it is signed when it is sent.
    """

    cycle: str
    attempt: int
    agent: str
    message_id: str
    request: Envelope | None
    unsigned: str | None = None
    edition: int = 1
    outcome: Literal["settled", "shortfall", "rejected"] | None = None
    reference: str | None = None
    settled_at: datetime | None = None
    detail: str | None = None


async def insert_attempt(conn: AsyncConnection, attempt: Attempt, at: datetime) -> None:
    """Keep a request before it is sent: after a crash the very same is sent again."""
    await conn.execute(
        text(
            "INSERT INTO settlement_attempts (cycle, attempt, agent, message_id, signed_request, edition, made_at)"
            " VALUES (:cycle, :attempt, :agent, :message_id, CAST(:request AS json), :edition, :at)"
        ),
        {
            "cycle": attempt.cycle,
            "attempt": attempt.attempt,
            "agent": attempt.agent,
            "message_id": attempt.message_id,
            "request": None if attempt.request is None else to_json(attempt.request),
            "edition": attempt.edition,
            "at": at,
        },
    )


async def last_attempt(conn: AsyncConnection, cycle: str) -> Attempt | None:
    """Return the newest settlement request of a cycle."""
    query = text(
        "SELECT cycle, attempt, agent, message_id, request AS unsigned, signed_request::text AS request, edition,"
        " outcome, reference, settled_at, detail FROM settlement_attempts WHERE cycle = :cycle"
        " ORDER BY attempt DESC LIMIT 1"
    )
    row = (await conn.execute(query, {"cycle": cycle})).one_or_none()
    if row is None:
        return None
    return Attempt(**{**row._asdict(), "request": None if row.request is None else envelope_of(row.request)})


async def record_answer(conn: AsyncConnection, attempt: Attempt, reply: Reply, at: datetime) -> None:
    """Keep the agent's answer, and what was signed on both sides."""
    values: dict[str, Any] = {"outcome": None, "reference": None, "settled_at": None, "detail": None}
    match reply.answer:
        case Settled(reference, settled_at):
            values |= {"outcome": "settled", "reference": reference, "settled_at": settled_at}
        case Shortfall(detail):
            values |= {"outcome": "shortfall", "detail": detail}
        case Rejected(reason):
            values |= {"outcome": "rejected", "detail": reason}
    await conn.execute(
        text(
            "UPDATE settlement_attempts SET outcome = :outcome, reference = :reference, settled_at = :settled_at,"
            " detail = :detail, answered_at = :at, signed_request = CAST(:request AS json),"
            " signed_answer = CAST(:answer AS json) WHERE cycle = :cycle AND attempt = :attempt"
        ),
        {
            **values,
            "cycle": attempt.cycle,
            "attempt": attempt.attempt,
            "at": at,
            "request": None if attempt.request is None else to_json(attempt.request),
            "answer": None if reply.signed is None else to_json(reply.signed),
        },
    )


async def signed(conn: AsyncConnection, cycle: str) -> tuple[SignedSettlement, ...]:
    """Return the signed requests of a cycle, each with the agent's signed answer once there is one."""
    rows = await conn.execute(
        text(
            "SELECT attempt, edition, signed_request::text AS request, signed_answer::text AS answer"
            " FROM settlement_attempts WHERE cycle = :cycle AND signed_request IS NOT NULL ORDER BY attempt"
        ),
        {"cycle": cycle},
    )
    return tuple(
        SignedSettlement(
            attempt=row.attempt,
            edition=row.edition,
            request=envelope_of(row.request),
            answer=None if row.answer is None else envelope_of(row.answer),
        )
        for row in rows
    )


async def insert_finality(conn: AsyncConnection, cycle: str, envelope: Envelope) -> None:
    """Keep a cycle's finality: once."""
    await conn.execute(
        text("INSERT INTO finalities (cycle, envelope) VALUES (:cycle, CAST(:envelope AS json))"),
        {"cycle": cycle, "envelope": to_json(envelope)},
    )


async def attempts(conn: AsyncConnection, cycle: str, edition: int | None = None) -> int:
    """Return how often the agent was asked to settle a cycle, or one edition of its result."""
    query = text(
        "SELECT count(*) FROM settlement_attempts WHERE cycle = :cycle"
        " AND (CAST(:edition AS integer) IS NULL OR edition = :edition)"
    )
    return int((await conn.execute(query, {"cycle": cycle, "edition": edition})).scalar_one())


async def finality(conn: AsyncConnection, cycle: str) -> Envelope | None:
    """Return a cycle's signed finality."""
    query = text("SELECT envelope::text FROM finalities WHERE cycle = :cycle")
    envelope = (await conn.execute(query, {"cycle": cycle})).scalar_one_or_none()
    return None if envelope is None else envelope_of(envelope)
