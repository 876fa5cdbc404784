"""Four eyes, rule by rule: when two persons are needed, for what, what follows, and whose word counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from compliance.cycle.approval import (
    Action,
    ApprovalRule,
    DecisionRefusal,
    FourEyesCause,
    after,
    four_eyes_causes,
    needed_decision,
    possible_actions,
    possible_states,
    refusal_of_decision,
)
from compliance.cycle.states import IllegalStepError, State
from gateway.coordinator.cycles.reasons import CycleReason

ALWAYS, NOT_PASSED, ABOVE = FourEyesCause
APPROVE, HOLD, RELEASE, ABANDON, UNWIND = Action


@pytest.mark.parametrize(
    ("mode", "thresholds", "settling", "passed", "causes"),
    [
        ("never", {}, {"EUR": 70}, True, ()),
        ("never", {}, {"EUR": 70}, False, ()),
        ("always", {}, {}, True, (ALWAYS,)),
        ("always", {}, {"EUR": 70}, False, (ALWAYS, NOT_PASSED)),
        ("above", {"EUR": "70"}, {"EUR": 70}, True, ()),
        ("above", {"EUR": "70"}, {"EUR": 70}, False, (NOT_PASSED,)),
        ("above", {"EUR": "69"}, {"EUR": 70}, True, (ABOVE,)),
        ("above", {"EUR": "69"}, {"EUR": 70}, False, (NOT_PASSED, ABOVE)),
        ("above", {"EUR": "70"}, {"EUR": 70, "USD": 1}, True, (ABOVE,)),
        ("above", {"EUR": "70"}, {"EUR": 70, "USD": 0}, True, ()),
        ("above", {}, {}, True, ()),
    ],
)
def test_why_two_persons_approve(
    mode: str, thresholds: dict[str, str], settling: dict[str, int], passed: bool, causes: tuple[FourEyesCause, ...]
) -> None:
    rule = ApprovalRule(mode=mode, thresholds_minor=thresholds)  # type: ignore[arg-type]
    assert four_eyes_causes(rule, settling, checks_passed=passed) == causes


# What can be proposed where, and the state that confirming it leads to.
TABLE = """
             approve   hold  release abandon   unwind
open         .         .     .       .         .
cut_off      .         .     .       abandoned .
attesting    .         .     .       abandoned .
matched      .         .     .       abandoned .
netted       approved  held  .       abandoned .
held         .         .     netted  abandoned .
approved     .         .     .       abandoned .
instructed   .         .     .       .         .
deferred     .         .     .       abandoned matched
settled      .         .     .       .         .
final        .         .     .       .         .
abandoned    .         .     .       .         .
"""


def cells() -> list[tuple[Action, State, State | None]]:
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    assert [Action(action) for action in header] == list(Action)
    assert [State(state) for state, *_ in rows] == list(State)
    return [
        (Action(action), State(state), None if target == "." else State(target))
        for state, *targets in rows
        for action, target in zip(header, targets, strict=True)
    ]


@pytest.mark.parametrize(("action", "state", "reached"), cells())
def test_what_confirming_does(action: Action, state: State, reached: State | None) -> None:
    assert (action in possible_actions(state)) is (state in possible_states(action)) is (reached is not None)
    if reached is None:
        with pytest.raises(IllegalStepError):
            after(action, state, ())
    else:
        assert after(action, state, ()).state is reached


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("causes", [(), (ALWAYS,), (NOT_PASSED,), (ABOVE,), tuple(FourEyesCause)])
def test_what_a_cycle_waits_for(state: State, causes: tuple[FourEyesCause, ...]) -> None:
    needed = needed_decision(state, causes)
    if state is State.HELD:
        assert needed is RELEASE, "whatever the rulebook says"
    elif state is State.NETTED:
        assert needed is (APPROVE if causes else None)
    else:
        assert needed is None
    assert needed is None or needed in possible_actions(state)


@pytest.mark.parametrize(
    ("action", "state", "causes", "then", "needed"),
    [
        (RELEASE, State.HELD, (ALWAYS,), State.NETTED, APPROVE),
        (RELEASE, State.HELD, (NOT_PASSED,), State.NETTED, APPROVE),
        (RELEASE, State.HELD, (), State.NETTED, None),
        (HOLD, State.NETTED, (), State.HELD, RELEASE),
        (APPROVE, State.NETTED, (ALWAYS,), State.APPROVED, None),
        (ABANDON, State.HELD, (ALWAYS,), State.ABANDONED, None),
        (UNWIND, State.DEFERRED, (ALWAYS,), State.MATCHED, None),
    ],
)
def test_a_release_is_no_approval(
    action: Action, state: State, causes: tuple[FourEyesCause, ...], then: State, needed: Action | None
) -> None:
    consequence = after(action, state, causes)
    assert (consequence.state, consequence.needed) == (then, needed)


NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
ONE, OTHER = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    ("decided", "expires_at", "checker", "result_sha256", "refusal"),
    [
        (False, LATER, "bob", ONE, None),
        (False, LATER, "bob", OTHER, DecisionRefusal.PROPOSAL_STALE),
        (False, LATER, "bob", None, DecisionRefusal.PROPOSAL_STALE),
        (False, LATER, "alice", OTHER, DecisionRefusal.MAKER_IS_CHECKER),
        (False, LATER, "Alice", ONE, DecisionRefusal.MAKER_IS_CHECKER),
        (False, LATER, " \uff21LICE", ONE, DecisionRefusal.MAKER_IS_CHECKER),
        (False, NOW, "alice", OTHER, DecisionRefusal.PROPOSAL_EXPIRED),
        (True, NOW, "alice", OTHER, DecisionRefusal.PROPOSAL_DECIDED),
    ],
)
def test_whose_word_counts(
    decided: bool, expires_at: datetime, checker: str, result_sha256: str | None, refusal: DecisionRefusal | None
) -> None:
    assert (
        refusal_of_decision(
            decided=decided,
            expires_at=expires_at,
            now=NOW,
            maker="alice",
            checker=checker,
            subject_sha256=ONE,
            result_sha256=result_sha256,
        )
        is refusal
    )


def test_every_refusal_of_a_decision_is_one_of_the_cycles() -> None:
    order = [list(CycleReason).index(CycleReason[refusal.name]) for refusal in DecisionRefusal]
    assert order == sorted(order)
