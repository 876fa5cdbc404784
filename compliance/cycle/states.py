"""The state machine of a cycle: a table of (state, happening) -> state.

Every row of the `cycles` table is a projection of its happenings, which are kept as `cycle.*` events: `replay` of
them gives its state. The page `docs/concepts/cycle-life-cycle.md` tells the same story in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


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


class Happening(StrEnum):
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


# A cycle can't be abandoned while a request may be on its way to the settlement agent (instructed), nor once the
# agent settled it.
TRANSITIONS: dict[tuple[State, Happening], State] = {
    (State.OPEN, Happening.CUT_OFF_REACHED): State.CUT_OFF,
    (State.CUT_OFF, Happening.CUTS_CLOSED): State.ATTESTING,
    (State.CUT_OFF, Happening.ABANDONED): State.ABANDONED,
    (State.ATTESTING, Happening.ATTESTATION_CLOSED): State.MATCHED,
    (State.ATTESTING, Happening.ABANDONED): State.ABANDONED,
    (State.MATCHED, Happening.NETTED): State.NETTED,
    (State.MATCHED, Happening.CHECK_FAILED): State.HELD,
    (State.MATCHED, Happening.ABANDONED): State.ABANDONED,
    (State.NETTED, Happening.APPROVED): State.APPROVED,
    (State.NETTED, Happening.HELD): State.HELD,
    (State.NETTED, Happening.ABANDONED): State.ABANDONED,
    (State.HELD, Happening.RELEASED): State.NETTED,
    (State.HELD, Happening.ABANDONED): State.ABANDONED,
    (State.APPROVED, Happening.INSTRUCTIONS_SIGNED): State.INSTRUCTED,
    (State.APPROVED, Happening.ABANDONED): State.ABANDONED,
    (State.INSTRUCTED, Happening.AGENT_SETTLED): State.SETTLED,
    (State.INSTRUCTED, Happening.AGENT_SHORT_OF_FUNDS): State.DEFERRED,
    (State.INSTRUCTED, Happening.AGENT_REJECTED): State.HELD,
    (State.DEFERRED, Happening.REQUEST_REPEATED): State.INSTRUCTED,
    (State.DEFERRED, Happening.RETRIES_USED_UP): State.ABANDONED,
    (State.DEFERRED, Happening.DEFAULT_UNWOUND): State.MATCHED,
    (State.DEFERRED, Happening.ABANDONED): State.ABANDONED,
    (State.SETTLED, Happening.FINALITY_SIGNED): State.FINAL,
}

ENDED = frozenset({State.FINAL, State.ABANDONED})
IN_PROGRESS = frozenset(State) - ENDED - {State.OPEN}
"""Between cut-off and its end: at most one cycle at a time."""


class IllegalStepError(Exception):
    """A happening that the table doesn't allow in a state."""

    def __init__(self, state: State, happening: Happening) -> None:
        super().__init__(f"{happening} isn't possible in state {state}")
        self.state = state
        self.happening = happening


def follow(state: State, happening: Happening) -> State:
    """Return the next state. Raises IllegalStepError."""
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise IllegalStepError(state, happening) from None


def replay(happenings: Iterable[Happening]) -> State:
    """Return the state that happenings lead to from a cycle's opening. Raises IllegalStepError."""
    state = State.OPEN
    for happening in happenings:
        state = follow(state, happening)
    return state
