"""What operators proposed, on cycles and on the registry, and what others decided. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import Action
from compliance.statements import Act
from gateway.coordinator.clock import timestamp
from gateway.coordinator.cycles.tables.submissions import envelope_of
from gateway.federation.messages.proposals import ProposalStatus, ProposalView

_PROPOSAL = (
    "id::text AS id, cycle, action, reason, participants, subject_sha256, made_by, made_at, expires_at, decision,"
    " decided_by, decided_at, decision_reason, act::text AS act, proposed::text AS proposed,"
    " answered::text AS answered, proposed_sha256, withdrawn_at"
)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One operator's proposal, and another's decision.

    `cycle` and `action` are None for what isn't about a cycle, `act` and what was signed for proposals of before.
    """

    id: str
    cycle: str | None = None
    action: Action | None = None
    reason: str
    participants: tuple[str, ...] = ()
    subject_sha256: str | None
    made_by: str
    made_at: datetime
    expires_at: datetime
    decision: Literal["confirm", "reject"] | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_reason: str | None = None
    act: Act | None = None
    proposed: Envelope | None = None
    answered: Envelope | None = None
    proposed_sha256: str | None = None
    withdrawn_at: datetime | None = None

    def view(self, now: datetime) -> ProposalView:
        """Return the proposal as operators see it at an instant."""
        if self.decision is not None:
            status: ProposalStatus = "confirmed" if self.decision == "confirm" else "rejected"
        elif self.withdrawn_at is not None:
            status = "withdrawn"
        else:
            status = "pending" if now < self.expires_at else "expired"
        return ProposalView(
            id=self.id,
            cycle=self.cycle,
            action=self.action.value if self.action is not None else self.kind,
            subject=self.cycle if self.act is None else self.act.subject,
            reason=self.reason,
            participants=self.participants,
            status=status,
            subject_sha256=self.subject_sha256,
            made_by=self.made_by,
            made_at=timestamp(self.made_at),
            expires_at=timestamp(self.expires_at),
            decided_by=self.decided_by,
            decided_at=None if self.decided_at is None else timestamp(self.decided_at),
            decision_reason=self.decision_reason,
            shown=None if self.act is None else canonical.encode(self.act).decode(),
            proposed=self.proposed,
            answered=self.answered,
        )

    @property
    def kind(self) -> str:
        """What is proposed, in one word."""
        return "" if self.act is None else self.act.kind.value


async def insert(conn: AsyncConnection, proposal: Proposal) -> None:
    """Keep a proposal."""
    await conn.execute(
        text(
            "INSERT INTO proposals (id, cycle, action, reason, participants, subject_sha256, made_by, made_at,"
            " expires_at, act, proposed, proposed_sha256) VALUES (CAST(:id AS uuid), :cycle, :action, :reason,"
            " :participants, :subject_sha256, :made_by, :made_at, :expires_at, CAST(:act AS json),"
            " CAST(:proposed AS json), :proposed_sha256)"
        ),
        {
            "id": proposal.id,
            "cycle": proposal.cycle,
            "action": proposal.action,
            "reason": proposal.reason,
            "participants": list(proposal.participants),
            "subject_sha256": proposal.subject_sha256,
            "made_by": proposal.made_by,
            "made_at": proposal.made_at,
            "expires_at": proposal.expires_at,
            "act": _json(proposal.act),
            "proposed": _json(proposal.proposed),
            "proposed_sha256": proposal.proposed_sha256,
        },
    )


async def find(conn: AsyncConnection, proposal_id: str, *, lock: bool = False) -> Proposal | None:
    """Return a proposal; `lock` keeps others from deciding it meanwhile."""
    query = f"SELECT {_PROPOSAL} FROM proposals WHERE id = CAST(:id AS uuid){' FOR UPDATE' if lock else ''}"
    row = (await conn.execute(text(query), {"id": proposal_id})).one_or_none()
    return None if row is None else _proposal(row)


async def of_cycle(conn: AsyncConnection, cycle: str) -> list[Proposal]:
    """Return a cycle's proposals, newest first."""
    query = text(f"SELECT {_PROPOSAL} FROM proposals WHERE cycle = :cycle ORDER BY made_at DESC, id")
    return [_proposal(row) for row in await conn.execute(query, {"cycle": cycle})]


async def signed(conn: AsyncConnection, cycle: str, result: str) -> tuple[Envelope, ...]:
    """Return what operators signed to approve a result, and to release it where a check held it: the newest of each."""
    query = text(
        "SELECT DISTINCT ON (action) proposed::text AS proposed, answered::text AS answered FROM proposals"
        " WHERE cycle = :cycle AND subject_sha256 = :result AND decision = 'confirm'"
        " AND action IN ('approve', 'release') AND proposed IS NOT NULL AND answered IS NOT NULL"
        " ORDER BY action, decided_at DESC"
    )
    rows = await conn.execute(query, {"cycle": cycle, "result": result})
    return tuple(envelope_of(envelope) for row in rows for envelope in (row.proposed, row.answered))


async def pending(conn: AsyncConnection, now: datetime) -> list[Proposal]:
    """Return all that wait for a second person, newest first."""
    query = text(
        f"SELECT {_PROPOSAL} FROM proposals WHERE decision IS NULL AND withdrawn_at IS NULL AND expires_at > :now"
        " ORDER BY made_at DESC, id"
    )
    return [_proposal(row) for row in await conn.execute(query, {"now": now})]


async def is_known(conn: AsyncConnection, proposed_sha256: str) -> bool:
    """Tell whether a signed decision has proposed something before."""
    query = text("SELECT EXISTS (SELECT FROM proposals WHERE proposed_sha256 = :it)")
    return bool((await conn.execute(query, {"it": proposed_sha256})).scalar_one())


async def withdraw(conn: AsyncConnection, proposal_id: str, at: datetime) -> None:
    """Note that the maker took a proposal back."""
    query = text("UPDATE proposals SET withdrawn_at = :at WHERE id = CAST(:id AS uuid)")
    await conn.execute(query, {"id": proposal_id, "at": at})


def _proposal(row: Any) -> Proposal:
    fields = {
        **row._asdict(),
        "action": None if row.action is None else Action(row.action),
        "participants": tuple(row.participants),
        "act": None if row.act is None else canonical.decode(row.act.encode(), Act),
        "proposed": None if row.proposed is None else envelope_of(row.proposed),
        "answered": None if row.answered is None else envelope_of(row.answered),
    }
    return Proposal(**fields)


def _json(document: Act | Envelope | None) -> str | None:
    return None if document is None else canonical.encode(document).decode()


async def defaulted(conn: AsyncConnection, cycle: str) -> frozenset[str]:
    """Return those whom confirmed unwindings of a cycle leave out."""
    query = text(
        "SELECT unnest(participants) FROM proposals WHERE cycle = :cycle AND action = 'unwind' AND decision = 'confirm'"
    )
    return frozenset((await conn.execute(query, {"cycle": cycle})).scalars())


async def decide(conn: AsyncConnection, proposal: Proposal) -> None:
    """Keep a proposal's decision."""
    await conn.execute(
        text(
            "UPDATE proposals SET decision = :decision, decided_by = :by, decided_at = :at, decision_reason = :reason,"
            " answered = CAST(:answered AS json) WHERE id = CAST(:id AS uuid)"
        ),
        {
            "id": proposal.id,
            "decision": proposal.decision,
            "by": proposal.decided_by,
            "at": proposal.decided_at,
            "reason": proposal.decision_reason,
            "answered": _json(proposal.answered),
        },
    )
