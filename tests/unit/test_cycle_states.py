"""The state machine of a cycle, state by state and happening by happening."""

from __future__ import annotations

import pytest

from compliance.cycle.states import ENDED, IN_PROGRESS, TRANSITIONS, Happening, IllegalStepError, State, follow, replay

# Rows are states, columns happenings; a dot is refused.
TABLE = """
             cut_off_reached cuts_closed attestation_closed netted check_failed held approved released abandoned
open         cut_off         .           .                  .      .            .    .        .        .
cut_off      .               attesting   .                  .      .            .    .        .        abandoned
attesting    .               .           matched            .      .            .    .        .        abandoned
matched      .               .           .                  netted held         .    .        .        abandoned
netted       .               .           .                  .      .            held approved .        abandoned
held         .               .           .                  .      .            .    .        netted   abandoned
approved     .               .           .                  .      .            .    .        .        abandoned
instructed   .               .           .                  .      .            .    .        .        .
deferred     .               .           .                  .      .            .    .        .        abandoned
settled      .               .           .                  .      .            .    .        .        .
final        .               .           .                  .      .            .    .        .        .
abandoned    .               .           .                  .      .            .    .        .        .
"""
SETTLEMENT = """
           instructions_signed request_repeated agent_settled agent_short_of_funds agent_rejected retries_used_up default_unwound finality_signed
approved   instructed          .                .             .                    .              .               .               .
instructed .                   .                settled       deferred             held           .               .               .
deferred   .                   instructed       .             .                    .              abandoned       matched         .
settled    .                   .                .             .                    .              .               .               final
"""  # noqa: E501


def cells() -> list[tuple[State, Happening, State | None]]:
    found = []
    for table in (TABLE, SETTLEMENT):
        header, *rows = (line.split() for line in table.strip().splitlines())
        for state, *targets in rows:
            assert len(targets) == len(header)
            found += [
                (State(state), Happening(happening), None if target == "." else State(target))
                for happening, target in zip(header, targets, strict=True)
            ]
    return found


@pytest.mark.parametrize(("state", "happening", "expected"), cells())
def test_every_cell_of_the_table(state: State, happening: Happening, expected: State | None) -> None:
    if expected is None:
        with pytest.raises(IllegalStepError):
            follow(state, happening)
    else:
        assert follow(state, happening) is expected


def test_the_tables_above_say_everything() -> None:
    assert {(s, h): to for s, h, to in cells() if to is not None} == TRANSITIONS


def test_every_state_can_be_reached_and_left() -> None:
    assert set(TRANSITIONS.values()) | {State.OPEN} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State) - ENDED
    assert {State.OPEN} | IN_PROGRESS | ENDED == set(State)


def test_replay_of_a_deferred_cycle() -> None:
    h = Happening
    happened = [h.CUT_OFF_REACHED, h.CUTS_CLOSED, h.ATTESTATION_CLOSED, h.NETTED, h.APPROVED, h.INSTRUCTIONS_SIGNED]
    happened += [h.AGENT_SHORT_OF_FUNDS, h.REQUEST_REPEATED, h.AGENT_SETTLED, h.FINALITY_SIGNED]
    assert replay(happened) is State.FINAL
    with pytest.raises(IllegalStepError):
        replay([*happened, h.ABANDONED])
