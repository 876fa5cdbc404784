"""The coordinator's event feed."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import field

from compliance.statements import Count, CycleId, Timestamp
from gateway.federation.messages.base import Answer, open_words

EventType = Annotated[
    str,
    open_words(
        "cycle.opened",
        "cycle.cut_off",
        "cycle.attesting",
        "cycle.break",
        "cycle.cut_contested",
        "cycle.equivocation",
        "cycle.stuck",
        "cycle.matched",
        "cycle.netted",
        "cycle.held",
        "cycle.approved",
        "cycle.instructed",
        "cycle.deferred",
        "cycle.settled",
        "cycle.final",
        "cycle.abandoned",
        "proposal.made",
        "proposal.decided",
        "proposal.withdrawn",
        "operators.published",
        "participant.changed",
        "cap.changed",
        "prefunding.changed",
        "bilateral_limit.changed",
        "trust_list.published",
        "rulebook.adopted",
        "operator.acted",
    ),
]


class Event(Answer, frozen=True, kw_only=True):
    """One entry of the coordinator's event feed. `id` is the cursor; `data` depends on `type`.

    A reader passes over an event of a type that it doesn't know.
    """

    id: Count
    type: EventType
    at: Timestamp
    cycle: CycleId | None = None
    data: dict[str, Any] = field(default_factory=dict)


class Events(Answer, frozen=True, kw_only=True):
    """A page of the feed; `next` is the cursor to ask with."""

    events: tuple[Event, ...]
    next: Count
