"""Approval under four eyes: when it is needed, and what a proposal may do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from compliance.cycle.checks import Check, worst
from compliance.cycle.states import TRANSITIONS, Trigger
from compliance.statements import NettingResult
from gateway.coordinator.cycles.reasons import CycleReason, refusal
from gateway.coordinator.cycles.tables.cycles import Cycle
from gateway.coordinator.cycles.tables.proposals import Proposal
from gateway.coordinator.rulebook import ApprovalRule
from gateway.federation.messages.proposals import ProposalAction

PROPOSAL_LIFETIME_S = 3_600

TRIGGERS: dict[ProposalAction, Trigger] = {
    "approve": Trigger.APPROVED,
    "hold": Trigger.HELD,
    "release": Trigger.RELEASED,
    "abandon": Trigger.ABANDONED,
    "unwind": Trigger.DEFAULT_UNWOUND,
}
"""What confirming a proposal does to its cycle."""


def needs_four_eyes(result: NettingResult, checks: Iterable[Check], rule: ApprovalRule) -> bool:
    """Tell whether two persons must approve a result.

    Never with mode "never"; otherwise with mode "always", after a check that didn't pass, and when the settlement
    value of a currency exceeds its threshold or has none.
    """
    if rule.mode == "never":
        return False
    if rule.mode == "always" or worst(checks) != "pass":
        return True
    return any(
        one.currency not in rule.thresholds_minor
        or int(one.settlement_minor) > int(rule.thresholds_minor[one.currency])
        for one in result.results
        if one.settlement_minor != "0"
    )


def require_possible(action: ProposalAction, cycle: Cycle) -> None:
    """Refuse an action that the cycle's state doesn't allow. Raises Refusal `action_impossible`."""
    if (cycle.state, TRIGGERS[action]) not in TRANSITIONS:
        states = [state.value for state, trigger in TRANSITIONS if trigger is TRIGGERS[action]]
        detail = f"cycle {cycle.id} is {cycle.state}; to {action} takes {' or '.join(states)}"
        raise refusal(CycleReason.ACTION_IMPOSSIBLE, detail)


def require_participants(action: ProposalAction, participants: Collection[str], result: NettingResult | None) -> None:
    """Refuse names that don't fit the action. Raises Refusal `participants_refused`.

    An unwinding names those who can't pay, each with a position in the result; nothing else names anybody.
    """
    if action != "unwind":
        if participants:
            raise refusal(CycleReason.PARTICIPANTS_REFUSED, f"to {action} concerns the whole cycle; name nobody")
        return
    if not participants:
        raise refusal(CycleReason.PARTICIPANTS_REFUSED, "name those who can't pay")
    taking_part = {one.participant for of in (() if result is None else result.results) for one in of.positions}
    for bank in sorted(set(participants) - taking_part):
        raise refusal(CycleReason.PARTICIPANTS_REFUSED, f"{bank} has no position in the result")


def require_decidable(proposal: Proposal, cycle: Cycle, *, checker: str, now: datetime) -> None:
    """Refuse a decision that comes too late, or from the maker. Raises Refusal."""
    if proposal.decision is not None:
        raise refusal(CycleReason.PROPOSAL_DECIDED, f"{proposal.decided_by} decided already: {proposal.decision}")
    if now >= proposal.expires_at:
        raise refusal(CycleReason.PROPOSAL_EXPIRED, "the proposal was valid for an hour; make a new one")
    if checker == proposal.made_by:
        raise refusal(CycleReason.MAKER_IS_CHECKER, f"{checker} made the proposal; somebody else decides")
    if proposal.subject_sha256 != cycle.result:
        raise refusal(CycleReason.PROPOSAL_STALE, f"cycle {cycle.id} has another result than when this was proposed")
