"""What operators proposed on cycles, and what others decided. SQL only."""

# ruff: noqa: S608 - every SQL text here is made of constants.

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle.approval import Action
from gateway.coordinator.clock import timestamp
from gateway.federation.messages.proposals import ProposalStatus, ProposalView

_PROPOSAL = (
    "id::text AS id, cycle, action, reason, participants, subject_sha256, made_by, made_at, expires_at, decision,"
    " decided_by, decided_at, decision_reason"
)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One operator's proposal on a cycle, and another's decision."""

    id: str
    cycle: str
    action: Action
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

    def view(self, now: datetime) -> ProposalView:
        """Return the proposal as operators see it at an instant."""
        if self.decision is not None:
            status: ProposalStatus = "confirmed" if self.decision == "confirm" else "rejected"
        else:
            status = "pending" if now < self.expires_at else "expired"
        return ProposalView(
            id=self.id,
            cycle=self.cycle,
            action=self.action.value,
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
        )


async def insert(conn: AsyncConnection, proposal: Proposal) -> None:
    """Keep a proposal."""
    await conn.execute(
        text(
            "INSERT INTO proposals (id, cycle, action, reason, participants, subject_sha256, made_by, made_at,"
            " expires_at) VALUES (CAST(:id AS uuid), :cycle, :action, :reason, :participants, :subject_sha256,"
            " :made_by, :made_at, :expires_at)"
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


def _proposal(row: Any) -> Proposal:
    return Proposal(**{**row._asdict(), "action": Action(row.action), "participants": tuple(row.participants)})


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
            "UPDATE proposals SET decision = :decision, decided_by = :by, decided_at = :at, decision_reason = :reason"
            " WHERE id = CAST(:id AS uuid)"
        ),
        {
            "id": proposal.id,
            "decision": proposal.decision,
            "by": proposal.decided_by,
            "at": proposal.decided_at,
            "reason": proposal.decision_reason,
        },
    )
