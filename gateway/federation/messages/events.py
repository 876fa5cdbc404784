"""The coordinator's event feed."""

from __future__ import annotations

from typing import Any

from msgspec import field

from compliance.statements import Count, CycleId, Timestamp
from gateway.federation.messages.base import Message


class Event(Message, frozen=True, kw_only=True):
    """One entry of the coordinator's event feed. `id` is the cursor; `data` depends on `type`.

    Types: cycle.opened, cycle.cut_off, cycle.attesting, cycle.break, cycle.equivocation, cycle.matched, cycle.netted,
    cycle.held, cycle.approved, cycle.instructed, cycle.deferred, cycle.settled, cycle.final, cycle.abandoned,
    participant.changed, trust_list.published, cap.changed, prefunding.changed, bilateral_limit.changed, proposal.made,
    proposal.decided.
    """

    id: Count
    type: str
    at: Timestamp
    cycle: CycleId | None = None
    data: dict[str, Any] = field(default_factory=dict)


class Events(Message, frozen=True, kw_only=True):
    """A page of the feed; `next` is the cursor to ask with."""

    events: tuple[Event, ...]
    next: Count
