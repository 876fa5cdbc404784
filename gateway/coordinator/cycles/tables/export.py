"""Everything that is to be said about a cycle, gathered for an audit export. SQL only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle.limits import Limits
from compliance.cycle.positions import ProvenStatement
from compliance.event_log import LoggedEvent
from compliance.export.record import Attendance, CycleRecord, Equivocation, Proposal, Superseded
from compliance.statements import TrustList
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.tables import cycles, proposals, results, settlements, stated
from gateway.coordinator.cycles.tables.results import Result
from gateway.coordinator.cycles.tables.submissions import envelope_of
from gateway.coordinator.registry import operators


async def record(conn: AsyncConnection, cycle_id: str) -> CycleRecord:
    """Return the record of a cycle as it stands, from a transaction that sees one moment. Raises Refusal."""
    cycle = await cycles.find(conn, cycle_id)
    events = await _events(conn, cycle_id)
    trust_lists = await _trust_lists(conn, events)
    editions = [
        await _edition(conn, cycle_id, result, trust_lists) for result in await results.editions(conn, cycle_id)
    ]
    now = editions[-1] if editions else None
    registers = await operators.during(conn, events[0].id, events[-1].id)
    besides = CycleRecord(
        cycle=cycle_id,
        value_date=cycle.value_date.isoformat(),
        state=cycle.state.value,
        rulebook=(await _text(conn, "SELECT document::text FROM rulebooks WHERE sha256 = :it", cycle.rulebook)),
        trust_lists=trust_lists,
        events=events,
        cuts=await _cuts(conn, cycle_id),
        equivocations=await _equivocations(conn, cycle_id),
        limits=Limits() if now is None else now.limits,
        certificates=() if now is None else now.certificates,
        checks=() if now is None else now.checks,
        result=None if now is None else now.result,
        superseded=tuple(editions[:-1]),
        operators=registers,
        proposals=await _proposals(conn, cycle_id, signed=bool(registers)),
        instructions=() if now is None else now.instructions,
        receipts=() if now is None else now.receipts,
        finality=await settlements.finality(conn, cycle_id),
        participants=await _participants(conn, cycle_id),
        limit_events=await _limit_events(conn, events),
        settlements=await settlements.signed(conn, cycle_id) if registers else (),
    )
    return await stated.with_statements(conn, besides)


async def _edition(conn: AsyncConnection, cycle: str, result: Result, trust_lists: Sequence[Envelope]) -> Superseded:
    """Return one edition of the result with what rests on it."""
    instructed, receipts = await settlements.instructed(conn, cycle, result.edition)
    return Superseded(
        result=await results.signed(conn, result.sha256),
        limits=await results.kept_limits(conn, result.sha256),
        certificates=await results.certificates(conn, result.sha256),
        checks=result.checks,
        instructions=tuple(instructed),
        receipts=_signed_within(receipts, trust_lists),
    )


async def _text(conn: AsyncConnection, query: str, it: str) -> bytes:
    return str((await conn.execute(text(query), {"it": it})).scalar_one()).encode()


async def _cuts(conn: AsyncConnection, cycle: str) -> tuple[Envelope, ...]:
    rows = await conn.execute(text("SELECT envelope::text FROM cuts WHERE cycle = :cycle"), {"cycle": cycle})
    documents = rows.scalars().all()
    return await asyncio.to_thread(lambda: tuple([envelope_of(document) for document in documents]))


async def _events(conn: AsyncConnection, cycle: str) -> tuple[LoggedEvent, ...]:
    """Return the log from the cycle's opening to its last event, with all that came in between."""
    rows = await conn.execute(
        text(
            "SELECT id, type, at, cycle, data::text AS data, audience, prev_hash FROM events WHERE id BETWEEN"
            " (SELECT min(id) FROM events WHERE cycle = :cycle) AND (SELECT max(id) FROM events WHERE cycle = :cycle)"
            " ORDER BY id"
        ),
        {"cycle": cycle},
    )
    return tuple(_event(row) for row in rows)


async def _limit_events(conn: AsyncConnection, events: tuple[LoggedEvent, ...]) -> tuple[LoggedEvent, ...]:
    """Return the last change of each limit before the cycle's opening."""
    rows = await conn.execute(
        text(
            "SELECT DISTINCT ON (type, data->>'bic', data->>'currency', data->>'counterparty')"
            " id, type, at, cycle, data::text AS data, audience, prev_hash FROM events WHERE id < :first"
            " AND type IN ('cap.changed', 'prefunding.changed', 'bilateral_limit.changed')"
            " ORDER BY type, data->>'bic', data->>'currency', data->>'counterparty', id DESC"
        ),
        {"first": events[0].id},
    )
    return tuple(_event(row) for row in rows)


def _event(row: Any) -> LoggedEvent:
    return LoggedEvent(
        id=row.id,
        type=row.type,
        at=timestamp(row.at),
        cycle=row.cycle,
        data=msgspec.json.decode(row.data),
        audience=None if row.audience is None else tuple(row.audience),
        prev_hash=row.prev_hash,
    )


async def _trust_lists(conn: AsyncConnection, events: tuple[LoggedEvent, ...]) -> tuple[Envelope, ...]:
    """Return the version in force at the cycle's opening and those published before its last event."""
    published = [event.data["version"] for event in events if event.type == "trust_list.published"]
    rows = await conn.execute(
        text(
            "SELECT coalesce(dated, envelope)::text FROM trust_lists WHERE version = ANY (:published) OR version ="
            " (SELECT max((data->>'version')::bigint) FROM events WHERE type = 'trust_list.published' AND id < :first)"
            " ORDER BY version"
        ),
        {"published": published, "first": events[0].id},
    )
    return tuple(envelope_of(document) for document in rows.scalars())


def _signed_within(receipts: Sequence[Envelope], trust_lists: Iterable[Envelope]) -> tuple[Envelope, ...]:
    """Return the receipts by keys that the lists of the record name.

    A bank that changed its keys after the cycle's last event may have signed by one that no file of the record knows.
    """
    lists = (canonical.decode(envelope.payload_bytes(), TrustList) for envelope in trust_lists)
    known = {key.kid for of in lists for member in of.members for key in member.keys if key.status == "active"}
    return tuple(receipt for receipt in receipts if receipt.signatures[0].keyid in known)


async def _participants(conn: AsyncConnection, cycle: str) -> tuple[Attendance, ...]:
    """Return when each participant delivered its cut and said that it had no more to state, and its last screening.

    Of several that a bank attests the one counts that it named last, whichever it handed in first.
    """
    rows = await conn.execute(
        text(
            "SELECT p.participant, p.cut_at, p.attested_at, (SELECT s.sha256 FROM screenings s WHERE s.cycle = p.cycle"
            " AND s.participant = p.participant ORDER BY s.id DESC LIMIT 1) AS screening"
            " FROM cycle_participants p WHERE p.cycle = :cycle ORDER BY p.participant"
        ),
        {"cycle": cycle},
    )
    return tuple(
        Attendance(
            participant=row.participant,
            cut_at=None if row.cut_at is None else timestamp(row.cut_at),
            attested_at=None if row.attested_at is None else timestamp(row.attested_at),
            screening=row.screening,
        )
        for row in rows
    )


async def _equivocations(conn: AsyncConnection, cycle: str) -> tuple[Equivocation, ...]:
    """Return what convicts banks: two envelopes, or two statements that are proven to be under attestations."""
    rows = await conn.execute(
        text(
            "SELECT participant, first::text AS first, second::text AS second,"
            " first->>'statement' IS NOT NULL AS proven FROM equivocations WHERE cycle = :cycle ORDER BY id"
        ),
        {"cycle": cycle},
    )
    return tuple(
        Equivocation(participant=row.participant, proven=(_proof(row.first), _proof(row.second)))
        if row.proven
        else Equivocation(participant=row.participant, first=envelope_of(row.first), second=envelope_of(row.second))
        for row in rows
    )


def _proof(document: str) -> ProvenStatement:
    return msgspec.json.decode(document, type=ProvenStatement)


async def _proposals(conn: AsyncConnection, cycle: str, *, signed: bool) -> tuple[Proposal, ...]:
    """Return what was proposed and decided; `signed` with the signatures, of which a record of before knows nothing."""
    return tuple(
        Proposal(
            id=proposal.id,
            action=proposal.action,
            reason=proposal.reason,
            participants=proposal.participants,
            made_by=proposal.made_by,
            made_at=timestamp(proposal.made_at),
            subject_sha256=proposal.subject_sha256,
            decision=proposal.decision,
            decided_by=proposal.decided_by,
            decided_at=None if proposal.decided_at is None else timestamp(proposal.decided_at),
            decision_reason=proposal.decision_reason,
            proposed=proposal.proposed if signed else None,
            answered=proposal.answered if signed else None,
        )
        for proposal in await proposals.of_cycle(conn, cycle)
        if proposal.action is not None
    )
