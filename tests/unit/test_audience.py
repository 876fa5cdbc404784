"""Who may be told what: every event and every view of the coordinator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from compliance.cycle.audience import (
    EVENTS,
    PARTICIPANT_READS,
    PARTICIPANT_SEES,
    STANDING_SEES,
    Circle,
    Reader,
    Sight,
    View,
    audience,
    concerns,
    part_of,
    readers,
)

A, B, C = "ALFADEFF", "BETAFRPP", "GAMAITRR"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("event", "data", "seen_by"),
    [
        ("cycle.opened", {}, {A, B, C}),
        ("cycle.final", {}, {A, B, C}),
        ("cycle.break", {"pair": (B, A)}, {A, B}),
        ("cycle.equivocation", {"participant": A}, set()),
        ("cycle.stuck", {"reason": "step_failed"}, set()),
        ("proposal.made", {"by": A}, set()),
        ("participant.changed", {"bic": A, "status": "suspended"}, {A, B, C}),
        ("participant.changed", {"bic": A, "change": "key"}, {A, B, C}),
        ("participant.changed", {"bic": A, "status": "applied"}, set()),
        ("participant.changed", {"bic": A, "previous": "applied", "status": "left"}, set()),
        ("participant.changed", {"bic": A, "previous": "applied", "status": "approved"}, {A, B, C}),
        ("participant.changed", {"bic": A, "previous": "approved", "status": "left"}, {A, B, C}),
        ("cap.changed", {"bic": A}, {A}),
        ("bilateral_limit.changed", {"bic": A, "counterparty": B}, {A}),
        ("operator.acted", {"subject": A}, set()),
    ],
)
def test_an_event_is_for(event: str, data: dict[str, object], seen_by: set[str]) -> None:
    of = audience(event, data)
    assert {bank for bank in (A, B, C) if concerns(bank, of)} == seen_by
    assert concerns(None, of), "operators and auditors see all"


def test_an_event_that_nobody_thought_of_is_not_told() -> None:
    with pytest.raises(KeyError):
        audience("cycle.whispered", {})


def test_the_page_of_events_says_who_sees_each() -> None:
    page = (ROOT / "docs/reference/events.md").read_text()
    seen_by = dict(re.findall(r"^\| `([a-z_.]+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE))
    assert seen_by.keys() == EVENTS.keys()
    for event, circle in EVENTS.items():
        assert seen_by[event].startswith(circle.value), event


@pytest.mark.parametrize("view", View)
def test_a_view_is_for(view: View) -> None:
    sight = PARTICIPANT_SEES[view]
    assert readers(view)[:1] == ("operator",)
    assert ("auditor" in readers(view)) is (view is not View.APPLICANTS), "operators alone see who has applied"
    assert ("participant" in readers(view)) is (sight is not Sight.NOTHING)
    assert part_of(view, role="operator", name="alice") is None
    if sight is not Sight.NOTHING:
        assert part_of(view, role="participant", name=A) == (A if sight is Sight.OWN else None)


@pytest.mark.parametrize(
    ("status", "views"),
    [
        (None, set()),
        ("applied", set()),
        ("approved", {View.PARTICIPANTS, View.APPLICANTS, View.LIMITS, View.EVENTS}),
        ("active", {view for view in View if PARTICIPANT_SEES[view] is not Sight.NOTHING}),
        (
            "suspended",
            {
                View.POSITIONS,
                View.PROOF,
                View.INSTRUCTIONS,
                View.FINALITY,
                View.PARTICIPANTS,
                View.APPLICANTS,
                View.LIMITS,
                View.EVENTS,
            },
        ),
        ("left", set()),
        ("expelled", set()),
    ],
)
def test_a_participant_sees_by_its_standing(status: str | None, views: set[View]) -> None:
    assert {view for view in View if Reader("participant", A, status).sees(view)} == views
    assert Reader("operator", "alice", status).sees(View.CHECKS)


def test_nobody_of_another_role_sees_anything() -> None:
    for role in ("agent", "coordinator", "staff", ""):
        assert not any(Reader(role, A, "active").sees(view) for view in View), role


NETTED = {
    "state": "netted",
    "happening": "netted",
    "result": "ab" * 32,
    "failed": ["net_debit_caps"],
    "warned": ["aggregate_flow"],
    "liquidity": [{"currency": "EUR", "value_minor": "90"}],
}


@pytest.mark.parametrize(
    ("event", "data", "shown"),
    [
        ("cycle.attesting", {"state": "attesting", "absent": [B], "deadline_at": "x"}, {"state", "deadline_at"}),
        ("cycle.matched", {"state": "matched", "agreed": 3, "carried_over": 1}, {"state"}),
        ("cycle.netted", NETTED, {"state", "happening", "result"}),
        ("cycle.approved", {"result": "x", "by": "rulebook", "proposal": "y"}, {"result"}),
        ("cycle.instructed", {"result": "x", "instructions": 12, "attempt": 1}, {"result", "attempt"}),
        ("cycle.final", {"result": "x", "reference": "R", "of_a_later_release": 1}, {"result", "reference"}),
        ("cycle.break", {"pair": [A, B], "currency": "EUR"}, {"pair", "currency"}),
        ("cap.changed", {"bic": A, "cap_minor": "5"}, {"bic", "cap_minor"}),
        ("proposal.made", {"by": "alice"}, None),
        ("operator.acted", {"by": "alice"}, None),
        ("of.a_later_release", {"all": "banks"}, None),
    ],
)
def test_of_an_event_a_participant_reads(event: str, data: dict[str, Any], shown: set[str] | None) -> None:
    read = Reader("participant", A, "active").reads(event, data)
    assert (None if read is None else set(read)) == shown
    assert Reader("operator", "alice").reads(event, data) == data
    assert Reader("auditor", "otto").reads(event, data) == data
    for status in ("applied", "left", None):
        assert Reader("participant", A, status).reads(event, data) is None


def test_a_suspended_participant_reads_what_it_settles_by() -> None:
    suspended = Reader("participant", A, "suspended")
    read = {event for event in EVENTS if suspended.reads(event, {}) is not None}
    assert {"cycle.instructed", "cycle.final", "cycle.abandoned", "trust_list.published"} <= read
    assert read.isdisjoint({"cycle.opened", "cycle.cut_off", "cycle.netted", "rulebook.adopted", "cycle.break"})


def test_operators_alone_read_who_has_applied() -> None:
    applied = {"bic": B, "change": "status", "previous": None, "status": "applied"}
    assert Reader("operator", "alice").reads("participant.changed", applied) == applied
    assert Reader("auditor", "otto").reads("participant.changed", applied) is None


def test_the_tables_are_whole() -> None:
    assert PARTICIPANT_SEES.keys() == set(View)
    assert set(EVENTS.values()) == set(Circle)
    assert PARTICIPANT_READS.keys() == {event for event, circle in EVENTS.items() if circle is not Circle.OPERATORS}
    for standing in STANDING_SEES.values():
        assert set(standing.views or ()) <= set(View)
        assert set(standing.events or ()) <= PARTICIPANT_READS.keys()
