"""Who may be told what: which member sees which event, and which role how much of each view. Pure.

Operators and auditors see everything, but applicants, whom operators alone see. A participant sees what concerns
everybody and what concerns itself, of events no more than their members in `PARTICIPANT_READS`, and only as long as its
standing lets it (`STANDING_SEES`); nobody else sees anything. An event, a member of one or a view that isn't in these
tables is shown to no participant: whoever adds one says here whom it is for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Literal

from compliance.cycle.contests import CONTEST_EVENT
from compliance.cycle.states import STUCK_EVENT, TRIGGER_MEMBER, State, event_type

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
    match Circle.OPERATORS if is_of_applicant(event, data) else EVENTS[event]:
        case Circle.EVERYBODY:
            return None
        case Circle.PAIR:
            return tuple(sorted(data["pair"]))
        case Circle.PARTICIPANT:
            return (data["bic"],)
        case Circle.OPERATORS:
            return ()


def is_of_applicant(event: str, data: Mapping[str, Any]) -> bool:
    """Tell whether an event is about an applicant, who isn't in the trust list: one that applies or is turned away."""
    if event != "participant.changed":
        return False
    return data.get("status") == "applied" or (data.get("previous"), data.get("status")) == ("applied", "left")


def concerns(viewer: str | None, of: Audience) -> bool:
    """Tell whether an event with an audience is for a viewer; None is an operator or auditor, who sees all."""
    return viewer is None or of is None or viewer in of


_OF_A_CYCLE = frozenset(
    {
        "state",
        TRIGGER_MEMBER,
        "value_date",
        "currencies",
        "closed",
        "cut_off_at",
        "deadline_at",
        "result",
        "attempt",
        "reference",
        "settled_at",
        "reason",
        "overtaken_by",
    }
)
"""Not who is absent or what warned, no count and no total of all banks: where few take part, they tell of each."""

PARTICIPANT_READS: Mapping[str, Collection[str] | None] = {
    **{event_type(state): _OF_A_CYCLE for state in State},
    "cycle.break": None,
    CONTEST_EVENT: None,
    "participant.changed": None,
    "cap.changed": None,
    "prefunding.changed": None,
    "bilateral_limit.changed": None,
    "trust_list.published": None,
    "rulebook.adopted": None,
    "operators.published": None,
}
"""The members of each event's data that a participant is shown; None is all of them."""


# --- views ------------------------------------------------------------------------------------------------


class Sight(Enum):
    """How much of a view a participant sees."""

    NOTHING = "nothing"
    OWN = "what concerns itself"
    ALL = "all"


class View(StrEnum):
    """What the coordinator shows."""

    CYCLES = "cycles"
    """The list of cycles, and the facts of each; pairs and totals are of all banks, or of one's own."""
    CUTS = "cuts"
    """What every receiver accepted from a participant."""
    BREAKS = "breaks"
    PROGRESS = "progress"
    POSITIONS = "positions"
    CHECKS = "checks"
    RESULT = "result"
    PROOF = "proof"
    """What a result says of a participant, with the way of each line up to the signed root."""
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
    """The members of the scheme, as the trust list has them."""
    APPLICANTS = "applicants"
    LIMITS = "limits"
    """A participant's limits, its settlement account, and when it was last seen."""
    EVENTS = "events"


PARTICIPANT_SEES: Mapping[View, Sight] = {
    View.CYCLES: Sight.OWN,
    View.CUTS: Sight.OWN,
    View.BREAKS: Sight.OWN,
    View.PROGRESS: Sight.NOTHING,
    View.POSITIONS: Sight.OWN,
    View.CHECKS: Sight.NOTHING,
    View.RESULT: Sight.NOTHING,
    View.PROOF: Sight.OWN,
    View.CERTIFICATES: Sight.NOTHING,
    View.FINALITY: Sight.ALL,
    View.EXPORT: Sight.NOTHING,
    View.PROPOSALS: Sight.NOTHING,
    View.OPERATORS: Sight.NOTHING,
    View.DEFAULT: Sight.NOTHING,
    View.INSTRUCTIONS: Sight.OWN,
    View.DELIVERIES: Sight.NOTHING,
    View.PARTICIPANTS: Sight.ALL,
    View.APPLICANTS: Sight.OWN,
    View.LIMITS: Sight.OWN,
    View.EVENTS: Sight.OWN,
}


@dataclass(frozen=True)
class Standing:
    """What a participant in some standing sees of what is its own. None is every view, or every event."""

    views: Collection[View] | None = None
    events: Collection[str] | None = None


_NOTHING = Standing(views=frozenset(), events=frozenset())

STANDING_SEES: Mapping[str, Standing] = {
    # Its application has been accepted: it waits to hear that it is active.
    "approved": Standing(
        views=frozenset({View.PARTICIPANTS, View.APPLICANTS, View.LIMITS, View.EVENTS}),
        events=frozenset({"participant.changed", "trust_list.published"}),
    ),
    "active": Standing(),
    # What it needs to settle what it owes.
    "suspended": Standing(
        views=frozenset(
            {
                View.POSITIONS,
                View.PROOF,
                View.INSTRUCTIONS,
                View.FINALITY,
                View.PARTICIPANTS,
                View.APPLICANTS,
                View.LIMITS,
                View.EVENTS,
            }
        ),
        events=frozenset(
            {
                event_type(State.MATCHED),
                event_type(State.INSTRUCTED),
                event_type(State.SETTLED),
                event_type(State.FINAL),
                event_type(State.ABANDONED),
                "participant.changed",
                "trust_list.published",
            }
        ),
    ),
}
"""Who has applied only, has left or isn't known sees nothing."""


@dataclass(frozen=True)
class Reader:
    """Who reads: an operator or auditor by name, or a participant by its BIC and its standing at this moment."""

    role: str
    name: str
    status: str | None = None

    @property
    def _standing(self) -> Standing:
        return STANDING_SEES.get(self.status or "", _NOTHING)

    def sees(self, view: View) -> bool:
        """Tell whether it sees a view, or a part of it."""
        if self.role not in readers(view):
            return False
        views = self._standing.views
        return self.role != "participant" or views is None or view in views

    def reads(self, event: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return as much of an event's data as it is shown; None if that event isn't for it.

        Of events that concern it, by `concerns`.
        """
        if self.role != "participant":
            return None if self.role != "operator" and is_of_applicant(event, data) else data
        events = self._standing.events
        if event not in PARTICIPANT_READS or (events is not None and event not in events):
            return None
        members = PARTICIPANT_READS[event]
        return data if members is None else {name: value for name, value in data.items() if name in members}


def readers(view: View) -> tuple[ReaderRole, ...]:
    """Return the roles that see a view, or a part of it."""
    overseers: tuple[ReaderRole, ...] = ("operator",) if view is View.APPLICANTS else OVERSEERS
    return overseers if PARTICIPANT_SEES[view] is Sight.NOTHING else (*overseers, "participant")


def part_of(view: View, *, role: str, name: str) -> str | None:
    """Return the participant whose part of a view its reader sees; None for the whole.

    For readers of the view only. `name` is who reads: a BIC in the role of a participant.
    """
    assert role in readers(view), f"{role} doesn't see {view}"
    return name if role == "participant" and PARTICIPANT_SEES[view] is Sight.OWN else None
