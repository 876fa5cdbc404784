"""Four eyes on a held payment: the whole table, and every refusal."""

from __future__ import annotations

import pytest

from compliance.screening.holds import (
    TRANSITIONS,
    Decision,
    HoldRefusal,
    HoldState,
    Opinion,
    decide,
    state,
)


def opinions(text: str) -> list[Opinion]:
    """ "+-" is a release by person 0, then a reject by person 1."""
    decisions = {"+": Decision.RELEASE, "-": Decision.REJECT}
    return [Opinion(f"person {number}", decisions[sign], "looked") for number, sign in enumerate(text)]


@pytest.mark.parametrize(
    ("before", "sign", "after"),
    [
        ("", "+", HoldState.FIRST_RELEASE),
        ("", "-", HoldState.FIRST_REJECT),
        ("+", "+", HoldState.RELEASED),
        ("+", "-", HoldState.ESCALATED),
        ("-", "+", HoldState.ESCALATED),
        ("-", "-", HoldState.REJECTED),
        ("+-", "+", HoldState.RELEASED),
        ("-+", "-", HoldState.REJECTED),
    ],
)
def test_table(before: str, sign: str, after: HoldState) -> None:
    every = opinions(before + sign)
    assert decide(every[:-1], every[-1], maker="maker") == after
    assert state(every) == after


def test_the_table_is_complete() -> None:
    undecided = {one for one in HoldState if not one.decided}
    assert set(TRANSITIONS) == {(one, decision) for one in undecided for decision in Decision}


@pytest.mark.parametrize(
    ("before", "person", "reason", "refusal"),
    [
        ("++", "person 0", "", HoldRefusal.ALREADY_DECIDED),
        ("--", "somebody", "x", HoldRefusal.ALREADY_DECIDED),
        ("", "Maker", "x", HoldRefusal.MAKER_IS_CHECKER),
        ("+", " maker ", "x", HoldRefusal.MAKER_IS_CHECKER),
        ("+", "person 0", "x", HoldRefusal.SAME_PERSON),
        ("+", "PERSON 0", "", HoldRefusal.SAME_PERSON),
        ("+-", "person 1", "x", HoldRefusal.SAME_PERSON),
        ("", "somebody", " ", HoldRefusal.REASON_MISSING),
        ("", "somebody", "x" * 501, HoldRefusal.REASON_TOO_LONG),
    ],
)
def test_refusals(before: str, person: str, reason: str, refusal: HoldRefusal) -> None:
    assert decide(opinions(before), Opinion(person, Decision.RELEASE, reason), maker="maker") is refusal


def test_nobody_settles_a_hold_alone() -> None:
    for first in Decision:
        for second in Decision:
            taken = [Opinion("alice", first, "looked")]
            assert decide(taken, Opinion("alice", second, "looked again")) is HoldRefusal.SAME_PERSON
