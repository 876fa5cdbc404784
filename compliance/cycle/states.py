"""The state machine of a cycle: a table of (state, trigger) -> state.

Every step is kept as a `cycle.*` event that names its trigger, so a cycle's state is a projection of its events, and
`replay` of them gives it. The page `docs/concepts/cycle-life-cycle.md` tells the same story in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """`CycleState` of the messages, in the order of a cycle without incident."""

    OPEN = "open"
    CUT_OFF = "cut_off"
    ATTESTING = "attesting"
    MATCHED = "matched"
    NETTED = "netted"
    HELD = "held"
    APPROVED = "approved"
    INSTRUCTED = "instructed"
    DEFERRED = "deferred"
    SETTLED = "settled"
    FINAL = "final"
    ABANDONED = "abandoned"


class Trigger(StrEnum):
    """What moves a cycle on."""

    CUT_OFF_REACHED = "cut_off_reached"
    CUTS_CLOSED = "cuts_closed"
    ATTESTATION_CLOSED = "attestation_closed"
    NETTED = "netted"
    CHECK_FAILED = "check_failed"
    HELD = "held"
    APPROVED = "approved"
    RELEASED = "released"
    INSTRUCTIONS_SIGNED = "instructions_signed"
    REQUEST_REPEATED = "request_repeated"
    AGENT_SETTLED = "agent_settled"
    AGENT_SHORT_OF_FUNDS = "agent_short_of_funds"
    AGENT_REJECTED = "agent_rejected"
    RETRIES_USED_UP = "retries_used_up"
    DEFAULT_UNWOUND = "default_unwound"
    FINALITY_SIGNED = "finality_signed"
    ABANDONED = "abandoned"
    OVERTAKEN = "overtaken"
    """The next cycle's cut-off came while this one was stuck."""


# A cycle can't be abandoned while a request may be on its way to the settlement agent (instructed), nor once the
# agent settled it. A held cycle waits for people and takes no step, so it is never stuck.
TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.OPEN, Trigger.CUT_OFF_REACHED): State.CUT_OFF,
    (State.CUT_OFF, Trigger.CUTS_CLOSED): State.ATTESTING,
    (State.CUT_OFF, Trigger.ABANDONED): State.ABANDONED,
    (State.CUT_OFF, Trigger.OVERTAKEN): State.ABANDONED,
    (State.ATTESTING, Trigger.ATTESTATION_CLOSED): State.MATCHED,
    (State.ATTESTING, Trigger.ABANDONED): State.ABANDONED,
    (State.ATTESTING, Trigger.OVERTAKEN): State.ABANDONED,
    (State.MATCHED, Trigger.NETTED): State.NETTED,
    (State.MATCHED, Trigger.CHECK_FAILED): State.HELD,
    (State.MATCHED, Trigger.ABANDONED): State.ABANDONED,
    (State.MATCHED, Trigger.OVERTAKEN): State.ABANDONED,
    (State.NETTED, Trigger.APPROVED): State.APPROVED,
    (State.NETTED, Trigger.HELD): State.HELD,
    (State.NETTED, Trigger.ABANDONED): State.ABANDONED,
    (State.NETTED, Trigger.OVERTAKEN): State.ABANDONED,
    (State.HELD, Trigger.RELEASED): State.NETTED,
    (State.HELD, Trigger.ABANDONED): State.ABANDONED,
    (State.APPROVED, Trigger.INSTRUCTIONS_SIGNED): State.INSTRUCTED,
    (State.APPROVED, Trigger.ABANDONED): State.ABANDONED,
    (State.APPROVED, Trigger.OVERTAKEN): State.ABANDONED,
    (State.INSTRUCTED, Trigger.AGENT_SETTLED): State.SETTLED,
    (State.INSTRUCTED, Trigger.AGENT_SHORT_OF_FUNDS): State.DEFERRED,
    (State.INSTRUCTED, Trigger.AGENT_REJECTED): State.HELD,
    (State.DEFERRED, Trigger.REQUEST_REPEATED): State.INSTRUCTED,
    (State.DEFERRED, Trigger.RETRIES_USED_UP): State.ABANDONED,
    (State.DEFERRED, Trigger.DEFAULT_UNWOUND): State.MATCHED,
    (State.DEFERRED, Trigger.ABANDONED): State.ABANDONED,
    (State.DEFERRED, Trigger.OVERTAKEN): State.ABANDONED,
    (State.SETTLED, Trigger.FINALITY_SIGNED): State.FINAL,
}

ENDED = frozenset({State.FINAL, State.ABANDONED})
IN_PROGRESS = frozenset(State) - ENDED - {State.OPEN}
"""Between cut-off and its end: at most one cycle at a time."""

STUCK_EVENT = "cycle.stuck"
"""Tells that the step that is due has failed twice. The cycle stays in its state, and the step is tried again."""

TRIGGER_MEMBER = "happening"
"""The member of an event's data that names what moved the cycle."""


class IllegalStepError(Exception):
    """A step that the table doesn't have."""


def follow(state: State, trigger: Trigger) -> State:
    """Return the next state. Raises IllegalStepError."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise IllegalStepError(f"{trigger} isn't possible in state {state}") from None


def event_type(state: State) -> str:
    """Return the type of the event that tells of a cycle's coming into a state."""
    return "cycle.opened" if state is State.OPEN else f"cycle.{state}"


_STATE_OF = {event_type(state): state for state in State}


def replay(events: Iterable[tuple[str, Mapping[str, Any]]]) -> State:
    """Return the state that a cycle's events (type, data) lead to, step by step through the table.

    Events that move no cycle are passed over. Raises IllegalStepError at the first step that the table doesn't have,
    or that doesn't lead where its event says. Only a cycle that was stuck in its state is overtaken.
    """
    state: State | None = None
    stuck = False
    for kind, data in events:
        stuck = stuck or kind == STUCK_EVENT
        then = _STATE_OF.get(kind)
        if then is None:
            continue
        if state is None or then is State.OPEN:
            if state is not None or then is not State.OPEN:
                raise IllegalStepError(f"{kind} doesn't follow {'nothing' if state is None else state}")
            state = then
            continue
        try:
            trigger = Trigger(str(data.get(TRIGGER_MEMBER)))
        except ValueError:
            raise IllegalStepError(f"{kind} names no trigger, but {data.get(TRIGGER_MEMBER)!r}") from None
        state = follow(state, trigger)
        if state is not then:
            raise IllegalStepError(f"{trigger} leads to {state}, not to {then}")
        if trigger is Trigger.OVERTAKEN and not stuck:
            raise IllegalStepError("overtaken, yet it wasn't stuck")
        stuck = False
    if state is None:
        raise IllegalStepError("the cycle was never opened")
    return state
