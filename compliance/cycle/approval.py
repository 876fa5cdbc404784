"""Four eyes: when a cycle needs a second person, for what, and whose word counts. Pure, over plain values.

Two rules decide when a cycle waits for people:

- A failed check holds a cycle, whatever the rulebook's mode, and only a confirmed `release` lets a held one go on.
- Where the rulebook asks for four eyes on the result, a confirmed `approve` of this very result is needed. A release
  is never the approval: it only lets the cycle come back to where it is approved.

The coordinator moves cycles by these functions, the verifier looks with them whether an export kept to them, and the
console says with them what confirming will do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from compliance.cycle.states import TRANSITIONS, State, Trigger, follow
from compliance.person import same_person
from compliance.statements import CurrencyCode, TotalAmount

PROPOSAL_LIFETIME_S = 3_600


class Action(StrEnum):
    """What one operator proposes on a cycle and another confirms."""

    APPROVE = "approve"
    HOLD = "hold"
    RELEASE = "release"
    ABANDON = "abandon"
    UNWIND = "unwind"


TRIGGERS: Mapping[Action, Trigger] = {
    Action.APPROVE: Trigger.APPROVED,
    Action.HOLD: Trigger.HELD,
    Action.RELEASE: Trigger.RELEASED,
    Action.ABANDON: Trigger.ABANDONED,
    Action.UNWIND: Trigger.DEFAULT_UNWOUND,
}
"""What confirming an action does to its cycle."""


# --- when a second person is needed ---------------------------------------------------------------------------


class ApprovalRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When a netted cycle needs four eyes: always, never, or above a settlement value in any one currency.

    With mode "above", a currency without a threshold needs four eyes for any value, and so does a result of which a
    check didn't pass.
    """

    mode: Literal["always", "above", "never"]
    thresholds_minor: dict[CurrencyCode, TotalAmount]


class FourEyesCause(StrEnum):
    """Why two persons must approve a result: a code, and in words."""

    ALWAYS = "always", "the rulebook always asks for it"
    CHECK_NOT_PASSED = "check_not_passed", "a check didn't pass"
    ABOVE_THRESHOLD = "above_threshold", "what settles is above the threshold of a currency, or that has none"

    words: str

    def __new__(cls, code: str, words: str) -> FourEyesCause:
        cause = str.__new__(cls, code)
        cause._value_ = code
        cause.words = words
        return cause


def four_eyes_causes(
    rule: ApprovalRule, settling_minor: Mapping[str, int], *, checks_passed: bool
) -> tuple[FourEyesCause, ...]:
    """Return why two persons must approve a result, in order; nothing where the rulebook approves it.

    `settling_minor` is what the result moves in each currency: the sum of its positive nets.
    """
    if rule.mode == "never":
        return ()
    above = any(minor > int(rule.thresholds_minor.get(currency, "0")) for currency, minor in settling_minor.items())
    causes = {
        FourEyesCause.ALWAYS: rule.mode == "always",
        FourEyesCause.CHECK_NOT_PASSED: not checks_passed,
        FourEyesCause.ABOVE_THRESHOLD: rule.mode == "above" and above,
    }
    return tuple(cause for cause, holds in causes.items() if holds)


# --- what can and must be decided -----------------------------------------------------------------------------


def possible_actions(state: State) -> tuple[Action, ...]:
    """Return what can be proposed on a cycle in a state."""
    return tuple(action for action, trigger in TRIGGERS.items() if (state, trigger) in TRANSITIONS)


def possible_states(action: Action) -> tuple[State, ...]:
    """Return the states in which an action can be proposed, in the order of a cycle."""
    return tuple(state for state in State if action in possible_actions(state))


def needed_decision(state: State, causes: Collection[FourEyesCause]) -> Action | None:
    """Return what must be confirmed before a cycle goes on from a state; None if it goes on without people.

    `causes` are those of its result.
    """
    if state is State.HELD:
        return Action.RELEASE
    return Action.APPROVE if state is State.NETTED and causes else None


@dataclass(frozen=True, slots=True)
class Consequence:
    """Where confirming an action leads, and what must be confirmed there before the cycle goes on."""

    state: State
    needed: Action | None


def after(action: Action, state: State, causes: Collection[FourEyesCause]) -> Consequence:
    """Return what confirming an action in a state leads to. Raises IllegalStepError where it isn't possible.

    `causes` are those of the cycle's result. An unwound cycle gets another result, with causes of its own, which
    nobody knows yet.
    """
    reached = follow(state, TRIGGERS[action])
    return Consequence(reached, needed_decision(reached, causes))


# --- who decides ----------------------------------------------------------------------------------------------


class DecisionRefusal(StrEnum):
    """Why a decision on a proposal isn't taken, in order of precedence."""

    PROPOSAL_DECIDED = "proposal_decided"
    PROPOSAL_EXPIRED = "proposal_expired"
    MAKER_IS_CHECKER = "maker_is_checker"
    PROPOSAL_STALE = "proposal_stale"
    """The cycle has another result than when this was proposed."""


def refusal_of_decision(
    *,
    decided: bool,
    expires_at: datetime,
    now: datetime,
    maker: str,
    checker: str,
    subject_sha256: str | None,
    result_sha256: str | None,
) -> DecisionRefusal | None:
    """Return why `checker` can't decide on a proposal now, or None.

    `subject_sha256` is the result that the maker looked at, `result_sha256` the one that the cycle has now.
    """
    if decided:
        return DecisionRefusal.PROPOSAL_DECIDED
    if now >= expires_at:
        return DecisionRefusal.PROPOSAL_EXPIRED
    if same_person(checker, maker):
        return DecisionRefusal.MAKER_IS_CHECKER
    return DecisionRefusal.PROPOSAL_STALE if subject_sha256 != result_sha256 else None
