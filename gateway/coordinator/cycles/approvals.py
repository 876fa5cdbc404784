"""Proposals and decisions: two operators' signatures over one act, the maker never the checker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.dsse import Envelope
from compliance.cycle.approval import (
    PROPOSAL_LIFETIME_S,
    TRIGGERS,
    Action,
    DecisionRefusal,
    possible_actions,
    possible_states,
    refusal_of_decision,
)
from compliance.decisions import (
    DecisionError,
    DecisionFault,
    SignedDecision,
    cycle_act,
    is_fresh,
    require_other_eyes,
    valid_decision,
)
from compliance.statements import Act, CurrencyResult
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.tables import cycles, proposals, results
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.proposals import Proposal
from gateway.coordinator.log import events
from gateway.coordinator.registry import operators
from gateway.coordinator.registry.acts import RegistryActs, Warrant
from gateway.federation.messages.proposals import ActProposal, Decision, ProposalRequest, Proposals, ProposalView
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction


class Approvals:
    """Keeps what operators propose and decide, and does it when a proposal is confirmed."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        coordinator: str,
        acts: RegistryActs,
        now: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        """`acts` does what isn't about a cycle."""
        self._engine = engine
        self._coordinator = coordinator
        self._acts = acts
        self._now = now
        self._wake = wake

    async def proposals(self, cycle_id: str) -> Proposals:
        """Return a cycle's proposals, newest first. Raises Refusal."""
        async with transaction(self._engine) as conn:
            await cycles.find(conn, cycle_id)
            listed = await proposals.of_cycle(conn, cycle_id)
        return Proposals(proposals=tuple(proposal.view(self._now()) for proposal in listed))

    async def pending(self) -> Proposals:
        """Return all that wait for a second person, newest first."""
        now = self._now()
        async with transaction(self._engine) as conn:
            listed = await proposals.pending(conn, now)
        return Proposals(proposals=tuple(proposal.view(now) for proposal in listed))

    async def proposal(self, proposal_id: str) -> ProposalView:
        """Return one proposal. Raises Refusal `proposal_unknown`."""
        async with transaction(self._engine) as conn:
            stored = await proposals.find(conn, proposal_id)
        if stored is None:
            raise Refusal(CycleReason.PROPOSAL_UNKNOWN, f"no proposal {proposal_id}")
        return stored.view(self._now())

    # --- the maker

    async def propose(self, cycle_id: str, request: ProposalRequest, *, maker: str) -> ProposalView:
        """Keep a proposal on a cycle for somebody else to decide. Raises Refusal."""
        async with transaction(self._engine) as conn:
            cycle = await cycles.find(conn, cycle_id, lock=True)
            action = Action(request.action)
            _require_possible(action, cycle)
            participants = tuple(sorted(set(request.participants)))
            result = await results.find(conn, cycle_id) if participants else None
            require_participants(action, participants, () if result is None else result.currencies)
            act = cycle_act(action, cycle_id, result=cycle.result, participants=participants)
            proposal = await self._made(conn, act, request.signed, maker=maker, reason=request.reason)
            proposal = replace(
                proposal, cycle=cycle_id, action=action, participants=participants, subject_sha256=cycle.result
            )
            return await _keep(conn, proposal)

    async def propose_act(self, request: ActProposal, *, maker: str) -> ProposalView:
        """Keep a proposal to change the registry, once it has been tried. Raises Refusal."""
        async with transaction(self._engine) as conn:
            await self._acts.require_possible(conn, request.act)
            proposal = await self._made(conn, request.act, request.signed, maker=maker, reason=request.reason)
            return await _keep(conn, proposal)

    async def withdraw(self, proposal_id: str, *, maker: str) -> ProposalView:
        """Take a proposal back that nobody has decided; the same again is fine. Raises Refusal."""
        async with transaction(self._engine) as conn:
            proposal, _ = await _locked(conn, proposal_id)
            now = self._now()
            if proposal.made_by != maker:
                raise Refusal(CycleReason.NOT_THE_MAKER, f"{proposal.made_by} made the proposal")
            if proposal.withdrawn_at is not None:
                return proposal.view(now)
            if proposal.decision is not None:
                raise Refusal(CycleReason.PROPOSAL_DECIDED, f"{proposal.decided_by} decided: {proposal.decision}")
            await proposals.withdraw(conn, proposal_id, now)
            await events.append(
                conn, "proposal.withdrawn", {"proposal": proposal_id, "by": maker}, cycle=proposal.cycle
            )
            return replace(proposal, withdrawn_at=now).view(now)

    # --- the checker

    async def decide(self, proposal_id: str, decision: Decision, *, checker: str) -> ProposalView:
        """Confirm or reject another operator's proposal; what is confirmed is done. Raises Refusal.

        The same decision again by the same person is answered again.
        """
        async with transaction(self._engine) as conn:
            proposal, cycle = await _locked(conn, proposal_id)
            now = self._now()
            if (proposal.decision, proposal.decided_by) == (decision.decision, checker):
                return proposal.view(now)
            _require_decidable(proposal, cycle, checker=checker, now=now)
            confirmed = decision.decision == "confirm"
            if confirmed and cycle is not None and proposal.action is not None:
                _require_possible(proposal.action, cycle)
            answered = await self._answered(conn, proposal, decision, checker=checker)
            decided = replace(
                proposal,
                decision=decision.decision,
                decided_by=checker,
                decided_at=now,
                decision_reason=decision.reason,
                answered=decision.signed,
            )
            await proposals.decide(conn, decided)
            data = {
                "proposal": proposal.id,
                "action": proposal.action or proposal.kind,
                "decision": decision.decision,
                "by": checker,
                "reason": decision.reason,
                "signed": answered.sha256,
            }
            await events.append(conn, "proposal.decided", data, cycle=proposal.cycle)
            if confirmed:
                await self._carry_out(conn, decided, cycle)
        if confirmed:
            self._acts.done()
            self._wake()
        return decided.view(now)

    async def _carry_out(self, conn: AsyncConnection, proposal: Proposal, cycle: Cycle | None) -> None:
        if cycle is not None and proposal.action is not None:
            moved = {"proposal": proposal.id}
            if cycle.result is not None:
                moved["result"] = cycle.result
            await cycles.move(conn, cycle, TRIGGERS[proposal.action], data=moved)
        elif proposal.act is not None:
            by = Warrant(maker=proposal.made_by, checker=str(proposal.decided_by), reason=proposal.reason)
            await self._acts.carry_out(conn, proposal.act, by)

    # --- signatures

    async def _made(
        self, conn: AsyncConnection, act: Act, signed: Envelope | None, *, maker: str, reason: str
    ) -> Proposal:
        """Return the proposal that a maker's signature makes. Raises Refusal."""
        decision = await self._verified(conn, act, signed, operator=maker, action="propose", reason=reason)
        if await proposals.is_known(conn, decision.sha256):
            raise Refusal(CycleReason.DECISION_KNOWN, "this signature has proposed something before: sign a new one")
        now = self._now()
        return Proposal(
            id=str(uuid4()),
            reason=reason,
            subject_sha256=None,
            made_by=maker,
            made_at=now,
            expires_at=now + timedelta(seconds=PROPOSAL_LIFETIME_S),
            act=act,
            proposed=signed,
            proposed_sha256=decision.sha256,
        )

    async def _answered(
        self, conn: AsyncConnection, proposal: Proposal, decision: Decision, *, checker: str
    ) -> SignedDecision:
        """Return the checker's verified answer to a proposal, whose maker still operates. Raises Refusal."""
        if proposal.act is None or proposal.proposed is None:
            raise Refusal(CycleReason.DECISION_UNSIGNED, "the proposal is of a release before, and unsigned: renew it")
        answered = await self._verified(
            conn, proposal.act, decision.signed, operator=checker, action=decision.decision, reason=decision.reason
        )
        keys = await operators.keys(conn)
        try:
            proposed = valid_decision(
                proposal.proposed,
                keys,
                proposal.act,
                operator=proposal.made_by,
                action="propose",
                coordinator=self._coordinator,
            )
            require_other_eyes(proposed, answered)
        except DecisionError as error:
            raise _refused(error) from error
        return answered

    async def _verified(
        self,
        conn: AsyncConnection,
        act: Act,
        signed: Envelope | None,
        *,
        operator: str,
        action: str,
        reason: str | None,
    ) -> SignedDecision:
        """Return an operator's own, fresh word on an act. Raises Refusal."""
        if signed is None:
            raise Refusal(CycleReason.DECISION_UNSIGNED, "sign the decision by your own key", pointer="/signed")
        keys = await operators.keys(conn)
        try:
            decision = valid_decision(
                signed, keys, act, operator=operator, action=action, coordinator=self._coordinator
            )
        except DecisionError as error:
            raise _refused(error) from error
        if decision.document.reason != reason:
            raise Refusal(CycleReason.DECISION_REFUSED, "another reason was signed", pointer="/reason")
        if not is_fresh(decision.document, self._now()):
            raise Refusal(CycleReason.DECISION_TOO_OLD, f"signed at {decision.document.at}: sign it anew")
        return decision


async def _locked(conn: AsyncConnection, proposal_id: str) -> tuple[Proposal, Cycle | None]:
    """Return a proposal that nobody else decides meanwhile, and its cycle. Raises Refusal `proposal_unknown`."""
    named = await proposals.find(conn, proposal_id)
    if named is None:
        raise Refusal(CycleReason.PROPOSAL_UNKNOWN, f"no proposal {proposal_id}")
    # The cycle first, as everywhere, so that nobody waits for each other.
    cycle = None if named.cycle is None else await cycles.find(conn, named.cycle, lock=True)
    return await proposals.find(conn, proposal_id, lock=True) or named, cycle


async def _keep(conn: AsyncConnection, proposal: Proposal) -> ProposalView:
    """Store a proposal and tell of it."""
    await proposals.insert(conn, proposal)
    data: dict[str, Any] = {
        "proposal": proposal.id,
        "action": proposal.action or proposal.kind,
        "by": proposal.made_by,
        "reason": proposal.reason,
        "subject_sha256": proposal.subject_sha256,
        "signed": proposal.proposed_sha256,
    }
    if proposal.participants:
        data["participants"] = proposal.participants
    if proposal.cycle is None and proposal.act is not None:
        data |= {"subject": proposal.act.subject, "terms": proposal.act.terms}
        if proposal.act.before:
            data["before"] = proposal.act.before
    await events.append(conn, "proposal.made", data, cycle=proposal.cycle)
    return proposal.view(proposal.made_at)


def _refused(error: DecisionError) -> Refusal:
    if error.fault is DecisionFault.MAKER_IS_CHECKER:
        return Refusal(CycleReason.MAKER_IS_CHECKER, str(error))
    return Refusal(CycleReason.DECISION_REFUSED, f"{error.fault}: {error}", pointer="/signed")


def require_participants(action: Action, participants: Collection[str], results: Iterable[CurrencyResult]) -> None:
    """Refuse names that don't fit the action. Raises Refusal `participants_refused`.

    An unwinding names those who can't pay, each with a position in the result; nothing else names anybody.
    """
    if action is not Action.UNWIND:
        if participants:
            raise Refusal(CycleReason.PARTICIPANTS_REFUSED, f"to {action} concerns the whole cycle; name nobody")
        return
    if not participants:
        raise Refusal(CycleReason.PARTICIPANTS_REFUSED, "name those who can't pay")
    with_position = {position.participant for of_currency in results for position in of_currency.positions}
    for bank in sorted(set(participants) - with_position):
        raise Refusal(CycleReason.PARTICIPANTS_REFUSED, f"{bank} has no position in the result")


def _require_possible(action: Action, cycle: Cycle) -> None:
    """Refuse an action that the cycle's state doesn't allow. Raises Refusal `action_impossible`."""
    if action not in possible_actions(cycle.state):
        detail = f"cycle {cycle.id} is {cycle.state}; to {action} takes {' or '.join(possible_states(action))}"
        raise Refusal(CycleReason.ACTION_IMPOSSIBLE, detail)


def _require_decidable(proposal: Proposal, cycle: Cycle | None, *, checker: str, now: datetime) -> None:
    """Refuse a decision that comes too late, or from the maker. Raises Refusal."""
    if proposal.withdrawn_at is not None:
        raise Refusal(CycleReason.PROPOSAL_DECIDED, f"{proposal.made_by} took the proposal back")
    why = refusal_of_decision(
        decided=proposal.decision is not None,
        expires_at=proposal.expires_at,
        now=now,
        maker=proposal.made_by,
        checker=checker,
        subject_sha256=proposal.subject_sha256,
        result_sha256=None if cycle is None else cycle.result,
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
            detail = f"cycle {proposal.cycle} has another result than when this was proposed"
    raise Refusal(CycleReason[why.name], detail)
