"""Proposals and decisions: the maker is never the checker, in code and in the database."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from compliance.cycle.approval import (
    PROPOSAL_LIFETIME_S,
    TRIGGERS,
    Action,
    DecisionRefusal,
    possible_actions,
    possible_states,
    refusal_of_decision,
)
from compliance.statements import NettingResult
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import cycles, proposals, results
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.proposals import Proposal
from gateway.coordinator.log import events
from gateway.federation.http.problems import Refusal
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
            listed = await proposals.of_cycle(conn, cycle_id)
        return Proposals(proposals=tuple(proposal.view(self._now()) for proposal in listed))

    async def propose(self, cycle_id: str, request: ProposalRequest, *, maker: str) -> ProposalView:
        """Keep a proposal for somebody else to decide. Raises Refusal."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            action = Action(request.action)
            _require_possible(action, cycle)
            participants = tuple(sorted(set(request.participants)))
            result = await results.find(conn, cycle_id) if participants else None
            require_participants(action, participants, None if result is None else result.document)
            now = self._now()
            proposal = Proposal(
                id=str(uuid4()),
                cycle=cycle_id,
                action=action,
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
                "action": action,
                "by": maker,
                "reason": request.reason,
                "subject_sha256": cycle.result,
            }
            if participants:
                data["participants"] = participants
            await events.append(conn, "proposal.made", data, cycle=cycle_id)
        return proposal.view(now)

    async def decide(self, proposal_id: str, decision: Decision, *, checker: str) -> ProposalView:
        """Confirm or reject another operator's proposal; confirming moves the cycle. Raises Refusal.

        The same decision again by the same person is answered again.
        """
        async with transaction(self._engine) as conn:
            named = await proposals.find(conn, proposal_id)
            if named is None:
                raise Refusal(CycleReason.PROPOSAL_UNKNOWN, f"no proposal {proposal_id}")
            # The cycle first, as everywhere, so that nobody waits for each other.
            cycle = await cycles.find(conn, named.cycle, lock=True)
            proposal = await proposals.find(conn, proposal_id, lock=True) or named
            now = self._now()
            if (proposal.decision, proposal.decided_by) == (decision.decision, checker):
                return proposal.view(now)
            _require_decidable(proposal, cycle, checker=checker, now=now)
            confirmed = decision.decision == "confirm"
            if confirmed:
                _require_possible(proposal.action, cycle)
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
            await events.append(conn, "proposal.decided", data, cycle=cycle.id)
            if confirmed:
                moved = {"proposal": proposal.id} if cycle.result is None else {
                    "proposal": proposal.id,
                    "result": cycle.result,
                }  # fmt: skip
                await cycles.move(conn, cycle, TRIGGERS[proposal.action], data=moved)
        if confirmed:
            self._wake()
        return decided.view(now)


def require_participants(action: Action, participants: Collection[str], result: NettingResult | None) -> None:
    """Refuse names that don't fit the action. Raises Refusal `participants_refused`.

    An unwinding names those who can't pay, each with a position in the result; nothing else names anybody.
    """
    if action is not Action.UNWIND:
        if participants:
            raise Refusal(CycleReason.PARTICIPANTS_REFUSED, f"to {action} concerns the whole cycle; name nobody")
        return
    if not participants:
        raise Refusal(CycleReason.PARTICIPANTS_REFUSED, "name those who can't pay")
    with_position = {
        position.participant for of in (() if result is None else result.results) for position in of.positions
    }
    for bank in sorted(set(participants) - with_position):
        raise Refusal(CycleReason.PARTICIPANTS_REFUSED, f"{bank} has no position in the result")


def _require_possible(action: Action, cycle: Cycle) -> None:
    """Refuse an action that the cycle's state doesn't allow. Raises Refusal `action_impossible`."""
    if action not in possible_actions(cycle.state):
        detail = f"cycle {cycle.id} is {cycle.state}; to {action} takes {' or '.join(possible_states(action))}"
        raise Refusal(CycleReason.ACTION_IMPOSSIBLE, detail)


def _require_decidable(proposal: Proposal, cycle: Cycle, *, checker: str, now: datetime) -> None:
    """Refuse a decision that comes too late, or from the maker. Raises Refusal."""
    why = refusal_of_decision(
        decided=proposal.decision is not None,
        expires_at=proposal.expires_at,
        now=now,
        maker=proposal.made_by,
        checker=checker,
        subject_sha256=proposal.subject_sha256,
        result_sha256=cycle.result,
    )
    match why:
        case None:
            return
        case DecisionRefusal.PROPOSAL_DECIDED:
            detail = f"{proposal.decided_by} decided already: {proposal.decision}"
        case DecisionRefusal.PROPOSAL_EXPIRED:
            detail = "the proposal was valid for an hour; make a new one"
        case DecisionRefusal.MAKER_IS_CHECKER:
            detail = f"{checker} made the proposal; somebody else decides"
        case DecisionRefusal.PROPOSAL_STALE:
            detail = f"cycle {cycle.id} has another result than when this was proposed"
    raise Refusal(CycleReason[why.name], detail)
