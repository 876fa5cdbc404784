"""Who may be told what: which member sees which event, and which role how much of each view. Pure.

Operators and auditors see everything. A participant sees what concerns everybody and what concerns itself; nobody
else sees anything. An event or view that isn't in these tables is shown to nobody: whoever adds one says here whom it
is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Literal

from compliance.cycle.contests import CONTEST_EVENT
from compliance.cycle.states import STUCK_EVENT, State, event_type

Audience = tuple[str, ...] | None
"""The members that an event is for, besides operators and auditors; None is everybody."""

ReaderRole = Literal["operator", "auditor", "participant"]
OVERSEERS: tuple[ReaderRole, ...] = ("operator", "auditor")


# --- events -----------------------------------------------------------------------------------------------


class Circle(Enum):
    """Whom an event is for, besides operators and auditors."""

    EVERYBODY = "everybody"
    PAIR = "the pair"
    PARTICIPANT = "the participant"
    OPERATORS = "operators"
    """And nobody besides."""


EVENTS: Mapping[str, Circle] = {
    **{event_type(state): Circle.EVERYBODY for state in State},
    "cycle.break": Circle.PAIR,
    CONTEST_EVENT: Circle.PAIR,
    "cycle.equivocation": Circle.OPERATORS,
    STUCK_EVENT: Circle.OPERATORS,
    "proposal.made": Circle.OPERATORS,
    "proposal.decided": Circle.OPERATORS,
    "proposal.withdrawn": Circle.OPERATORS,
    "operators.published": Circle.EVERYBODY,
    "participant.changed": Circle.EVERYBODY,
    "cap.changed": Circle.PARTICIPANT,
    "prefunding.changed": Circle.PARTICIPANT,
    "bilateral_limit.changed": Circle.PARTICIPANT,
    "trust_list.published": Circle.EVERYBODY,
    "rulebook.adopted": Circle.EVERYBODY,
    "operator.acted": Circle.OPERATORS,
}


def audience(event: str, data: Mapping[str, Any]) -> Audience:
    """Return whom an event is for, by its type and data. Raises KeyError for a type that the table doesn't have."""
    circle = EVENTS[event]
    # An applicant isn't in the trust list yet, and its word is nobody's business but the operators'.
    if event == "participant.changed" and data.get("status") == "applied":
        circle = Circle.OPERATORS
    match circle:
        case Circle.EVERYBODY:
            return None
        case Circle.PAIR:
            return tuple(sorted(data["pair"]))
        case Circle.PARTICIPANT:
            return (data["bic"],)
        case Circle.OPERATORS:
            return ()


def concerns(viewer: str | None, of: Audience) -> bool:
    """Tell whether an event with an audience is for a viewer; None is an operator or auditor, who sees all."""
    return viewer is None or of is None or viewer in of


# --- views ------------------------------------------------------------------------------------------------


class Sight(Enum):
    """How much of a view a participant sees."""

    NOTHING = "nothing"
    OWN = "what concerns itself"
    ALL = "all"


class View(StrEnum):
    """What the coordinator shows."""

    CYCLES = "cycles"
    """The list of cycles, and the facts of each."""
    BREAKS = "breaks"
    PROGRESS = "progress"
    POSITIONS = "positions"
    CHECKS = "checks"
    RESULT = "result"
    CERTIFICATES = "certificates"
    FINALITY = "finality"
    EXPORT = "export"
    PROPOSALS = "proposals"
    OPERATORS = "operators"
    """Who operates the clearing house, by which keys."""
    DEFAULT = "default"
    INSTRUCTIONS = "instructions"
    DELIVERIES = "deliveries"
    PARTICIPANTS = "participants"
    LIMITS = "limits"
    """A participant's limits, its settlement account, and when it was last seen."""
    EVENTS = "events"


PARTICIPANT_SEES: Mapping[View, Sight] = {
    View.CYCLES: Sight.ALL,
    View.BREAKS: Sight.OWN,
    View.PROGRESS: Sight.NOTHING,
    View.POSITIONS: Sight.OWN,
    View.CHECKS: Sight.NOTHING,
    View.RESULT: Sight.ALL,
    View.CERTIFICATES: Sight.NOTHING,
    View.FINALITY: Sight.ALL,
    View.EXPORT: Sight.NOTHING,
    View.PROPOSALS: Sight.NOTHING,
    View.OPERATORS: Sight.NOTHING,
    View.DEFAULT: Sight.NOTHING,
    View.INSTRUCTIONS: Sight.OWN,
    View.DELIVERIES: Sight.NOTHING,
    View.PARTICIPANTS: Sight.ALL,
    View.LIMITS: Sight.OWN,
    View.EVENTS: Sight.OWN,
}


def readers(view: View) -> tuple[ReaderRole, ...]:
    """Return the roles that see a view, or a part of it."""
    return OVERSEERS if PARTICIPANT_SEES[view] is Sight.NOTHING else (*OVERSEERS, "participant")


def part_of(view: View, *, role: str, name: str) -> str | None:
    """Return the participant whose part of a view its reader sees; None for the whole.

    For readers of the view only. `name` is who reads: a BIC in the role of a participant.
    """
    assert role in readers(view), f"{role} doesn't see {view}"
    return name if role == "participant" and PARTICIPANT_SEES[view] is Sight.OWN else None
