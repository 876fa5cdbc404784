"""The decision on a held payment: two different people of the bank must be of one opinion.

                  release          reject
    open          first_release    first_reject
    first_release released         escalated
    first_reject  escalated        rejected
    escalated     released         rejected

Each opinion is a different person's, and none is of the person who entered the payment. So `released` and
`rejected` always rest on two concurring people; two who disagree escalate the hold to a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from compliance.person import same_person

REASON_CHARACTERS_MAX = 500


class HoldState(StrEnum):
    OPEN = "open"
    FIRST_RELEASE = "first_release"
    FIRST_REJECT = "first_reject"
    ESCALATED = "escalated"
    RELEASED = "released"
    REJECTED = "rejected"

    @property
    def decided(self) -> bool:
        """Tell whether nothing can follow."""
        return self in (HoldState.RELEASED, HoldState.REJECTED)


class Decision(StrEnum):
    RELEASE = "release"
    REJECT = "reject"


class HoldRefusal(StrEnum):
    """Why an opinion isn't taken, in order of precedence."""

    ALREADY_DECIDED = "hold_already_decided"
    MAKER_IS_CHECKER = "hold_maker_is_checker"
    SAME_PERSON = "hold_same_person"
    REASON_MISSING = "hold_reason_missing"
    REASON_TOO_LONG = "hold_reason_too_long"


@dataclass(frozen=True, slots=True)
class Opinion:
    """One person's word on a hold."""

    person: str
    decision: Decision
    reason: str


TRANSITIONS = MappingProxyType(
    {
        (HoldState.OPEN, Decision.RELEASE): HoldState.FIRST_RELEASE,
        (HoldState.OPEN, Decision.REJECT): HoldState.FIRST_REJECT,
        (HoldState.FIRST_RELEASE, Decision.RELEASE): HoldState.RELEASED,
        (HoldState.FIRST_RELEASE, Decision.REJECT): HoldState.ESCALATED,
        (HoldState.FIRST_REJECT, Decision.RELEASE): HoldState.ESCALATED,
        (HoldState.FIRST_REJECT, Decision.REJECT): HoldState.REJECTED,
        (HoldState.ESCALATED, Decision.RELEASE): HoldState.RELEASED,
        (HoldState.ESCALATED, Decision.REJECT): HoldState.REJECTED,
    }
)


def state(opinions: Sequence[Opinion]) -> HoldState:
    """Return the state of a hold after the opinions that were taken on it, in their order."""
    current = HoldState.OPEN
    for opinion in opinions:
        current = TRANSITIONS[current, opinion.decision]
    return current


def decide(opinions: Sequence[Opinion], opinion: Opinion, *, maker: str | None = None) -> HoldState | HoldRefusal:
    """Return the state that a further opinion leads to, or why it isn't taken.

    `opinions` are those taken before, in their order; `maker` is the person who entered the payment, if the bank
    knows one (a payment that came from another bank has none here). `compliance.person` says when two names mean
    one person.
    """
    current = state(opinions)
    if current.decided:
        return HoldRefusal.ALREADY_DECIDED
    if maker is not None and same_person(opinion.person, maker):
        return HoldRefusal.MAKER_IS_CHECKER
    if any(same_person(opinion.person, earlier.person) for earlier in opinions):
        return HoldRefusal.SAME_PERSON
    if not opinion.reason.strip():
        return HoldRefusal.REASON_MISSING
    if len(opinion.reason) > REASON_CHARACTERS_MAX:
        return HoldRefusal.REASON_TOO_LONG
    return TRANSITIONS[current, opinion.decision]
