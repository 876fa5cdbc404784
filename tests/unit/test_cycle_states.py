"""The state machine of a cycle, state by state and trigger by trigger."""

from __future__ import annotations

import pytest

from compliance.cycle.states import (
    ENDED,
    IN_PROGRESS,
    STUCK_EVENT,
    TRANSITIONS,
    IllegalStepError,
    State,
    Trigger,
    follow,
    replay,
)

# Rows are states, columns triggers; a dot is refused.
TABLE = """
             cut_off_reached cuts_closed attestation_closed netted check_failed held approved released abandoned overtaken
open         cut_off         .           .                  .      .            .    .        .        .         .
cut_off      .               attesting   .                  .      .            .    .        .        abandoned abandoned
attesting    .               .           matched            .      .            .    .        .        abandoned abandoned
matched      .               .           .                  netted held         .    .        .        abandoned abandoned
netted       .               .           .                  .      .            held approved .        abandoned abandoned
held         .               .           .                  .      .            .    .        netted   abandoned .
approved     .               .           .                  .      .            .    .        .        abandoned abandoned
instructed   .               .           .                  .      .            .    .        .        .         .
deferred     .               .           .                  .      .            .    .        .        abandoned abandoned
settled      .               .           .                  .      .            .    .        .        .         .
final        .               .           .                  .      .            .    .        .        .         .
abandoned    .               .           .                  .      .            .    .        .        .         .
"""  # noqa: E501
SETTLEMENT = """
           instructions_signed request_repeated agent_settled agent_short_of_funds agent_rejected retries_used_up default_unwound finality_signed
approved   instructed          .                .             .                    .              .               .               .
instructed .                   .                settled       deferred             held           .               .               .
deferred   .                   instructed       .             .                    .              abandoned       matched         .
settled    .                   .                .             .                    .              .               .               final
"""  # noqa: E501


def cells() -> list[tuple[State, Trigger, State | None]]:
    found = []
    for table in (TABLE, SETTLEMENT):
        header, *rows = (line.split() for line in table.strip().splitlines())
        for state, *targets in rows:
            assert len(targets) == len(header)
            found += [
                (State(state), Trigger(trigger), None if target == "." else State(target))
                for trigger, target in zip(header, targets, strict=True)
            ]
    return found


@pytest.mark.parametrize(("state", "trigger", "expected"), cells())
def test_every_cell_of_the_table(state: State, trigger: Trigger, expected: State | None) -> None:
    if expected is None:
        with pytest.raises(IllegalStepError):
            follow(state, trigger)
    else:
        assert follow(state, trigger) is expected


def test_the_tables_above_say_everything() -> None:
    assert {(s, h): to for s, h, to in cells() if to is not None} == TRANSITIONS


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) | {State.OPEN} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State) - ENDED
    assert {State.OPEN} | IN_PROGRESS | ENDED == set(State)


def log(*triggers: Trigger) -> list[tuple[str, dict[str, object]]]:
    """Return the events of a cycle that was moved by these, as the coordinator tells of them."""
    state = State.OPEN
    events: list[tuple[str, dict[str, object]]] = [("cycle.opened", {"state": "open"})]
    for trigger in triggers:
        state = TRANSITIONS[state, trigger]
        events.append((f"cycle.{state}", {"state": state, "happening": trigger}))
    return events


t = Trigger
DEFERRED = log(
    *(t.CUT_OFF_REACHED, t.CUTS_CLOSED, t.ATTESTATION_CLOSED, t.NETTED, t.APPROVED, t.INSTRUCTIONS_SIGNED),
    *(t.AGENT_SHORT_OF_FUNDS, t.REQUEST_REPEATED, t.AGENT_SETTLED, t.FINALITY_SIGNED),
)


STUCK: tuple[str, dict[str, object]] = (STUCK_EVENT, {"reason": "step_failed"})
OVERTAKEN: tuple[str, dict[str, object]] = ("cycle.abandoned", {"happening": "overtaken"})


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6, 8])
def test_a_cycle_that_is_stuck_can_be_overtaken(length: int) -> None:
    assert replay([*DEFERRED[:length], STUCK, STUCK, OVERTAKEN]) is State.ABANDONED


def test_replay_of_a_deferred_cycle() -> None:
    for length in range(1, len(DEFERRED) + 1):
        told = DEFERRED[:length]
        assert replay(told) == told[-1][1]["state"]
    among_others = [("trust_list.published", {}), *DEFERRED, ("cycle.break", {}), ("proposal.made", {})]
    assert replay(among_others) is State.FINAL


@pytest.mark.parametrize(
    ("events", "detail"),
    [
        ([], "never opened"),
        (DEFERRED[1:], "doesn't follow nothing"),
        ([*DEFERRED, DEFERRED[0]], "doesn't follow final"),
        ([*DEFERRED, ("cycle.abandoned", {"happening": "abandoned"})], "isn't possible in state final"),
        (DEFERRED[:4] + DEFERRED[5:], "isn't possible in state matched"),
        ([*DEFERRED[:4], ("cycle.held", {"happening": "netted"})], "leads to netted, not to held"),
        ([*DEFERRED[:4], ("cycle.netted", {})], "names no trigger"),
        ([*DEFERRED[:4], ("cycle.netted", {"happening": "by_magic"})], "by_magic"),
        ([*DEFERRED[:4], OVERTAKEN], "wasn't stuck"),
        ([*DEFERRED[:3], STUCK, DEFERRED[3], OVERTAKEN], "wasn't stuck"),
        ([*DEFERRED[:7], STUCK, OVERTAKEN], "isn't possible in state instructed"),
    ],
)
def test_replay_of_what_no_cycle_does(events: list[tuple[str, dict[str, object]]], detail: str) -> None:
    with pytest.raises(IllegalStepError, match=detail):
        replay(events)
