"""Proposals and decisions: the maker is never the checker, in code and in the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.coordinator.cycles.approval import (
    PROPOSAL_LIFETIME_S,
    TRIGGERS,
    require_decidable,
    require_participants,
    require_possible,
)
from gateway.coordinator.cycles.reasons import CycleReason, refusal
from gateway.coordinator.cycles.tables import cycles, proposals, results
from gateway.coordinator.cycles.tables.proposals import Proposal
from gateway.coordinator.log import events
from gateway.federation.messages.proposals import Decision, ProposalRequest, Proposals, ProposalView
from gateway.federation.storage.database import transaction


class Approvals:
    """Keeps what operators propose and decide, and moves the cycle when a proposal is confirmed."""

    def __init__(self, engine: AsyncEngine, *, now: Callable[[], datetime], wake: Callable[[], None]) -> None:
        self._engine = engine
        self._now = now
        self._wake = wake

    async def proposals(self, cycle_id: str) -> Proposals:
        """Return a cycle's proposals, newest first. Raises Refusal."""
        async with transaction(self._engine) as conn:
            await cycles.find(conn, cycle_id)
            found = await proposals.of_cycle(conn, cycle_id)
        return Proposals(proposals=tuple(proposal.view(self._now()) for proposal in found))

    async def propose(self, cycle_id: str, request: ProposalRequest, *, maker: str) -> ProposalView:
        """Keep a proposal for somebody else to decide. Raises Refusal."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            require_possible(request.action, cycle)
            participants = tuple(sorted(set(request.participants)))
            result = await results.find(conn, cycle_id) if participants else None
            require_participants(request.action, participants, None if result is None else result.document)
            now = self._now()
            proposal = Proposal(
                id=str(uuid4()),
                cycle=cycle_id,
                action=request.action,
                reason=request.reason,
                participants=participants,
                subject_sha256=cycle.result,
                made_by=maker,
                made_at=now,
                expires_at=now + timedelta(seconds=PROPOSAL_LIFETIME_S),
            )
            await proposals.insert(conn, proposal)
            data: dict[str, Any] = {
                "proposal": proposal.id,
                "action": request.action,
                "by": maker,
                "reason": request.reason,
                "subject_sha256": cycle.result,
            }
            if participants:
                data["participants"] = participants
            await events.append(conn, "proposal.made", data, cycle=cycle_id, audience=events.OPERATORS)
        return proposal.view(now)

    async def decide(self, proposal_id: str, decision: Decision, *, checker: str) -> ProposalView:
        """Confirm or reject another operator's proposal; confirming moves the cycle. Raises Refusal.

        The same decision again by the same person is answered again.
        """
        async with transaction(self._engine) as conn:
            found = await proposals.find(conn, proposal_id)
            if found is None:
                raise refusal(CycleReason.PROPOSAL_UNKNOWN, f"no proposal {proposal_id}")
            # The cycle first, as everywhere, so that nobody waits for each other.
            cycle = await cycles.find(conn, found.cycle, lock=True)
            proposal = await proposals.find(conn, proposal_id, lock=True) or found
            now = self._now()
            if (proposal.decision, proposal.decided_by) == (decision.decision, checker):
                return proposal.view(now)
            require_decidable(proposal, cycle, checker=checker, now=now)
            confirmed = decision.decision == "confirm"
            if confirmed:
                require_possible(proposal.action, cycle)
            decided = replace(
                proposal,
                decision=decision.decision,
                decided_by=checker,
                decided_at=now,
                decision_reason=decision.reason,
            )
            await proposals.decide(conn, decided)
            data = {
                "proposal": proposal.id,
                "action": proposal.action,
                "decision": decision.decision,
                "by": checker,
                "reason": decision.reason,
            }
            await events.append(conn, "proposal.decided", data, cycle=cycle.id, audience=events.OPERATORS)
            if confirmed:
                moved = {"proposal": proposal.id} if cycle.result is None else {
                    "proposal": proposal.id,
                    "result": cycle.result,
                }  # fmt: skip
                await cycles.move(conn, cycle, TRIGGERS[proposal.action], data=moved)
        if confirmed:
            self._wake()
        return decided.view(now)
