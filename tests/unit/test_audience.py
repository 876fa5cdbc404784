"""Who may be told what: every event and every view of the coordinator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compliance.cycle.audience import (
    EVENTS,
    PARTICIPANT_SEES,
    Circle,
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
    assert readers(view)[:2] == ("operator", "auditor")
    assert ("participant" in readers(view)) is (sight is not Sight.NOTHING)
    assert part_of(view, role="operator", name="alice") is None
    if sight is not Sight.NOTHING:
        assert part_of(view, role="participant", name=A) == (A if sight is Sight.OWN else None)


def test_the_tables_are_whole() -> None:
    assert PARTICIPANT_SEES.keys() == set(View)
    assert set(EVENTS.values()) == set(Circle)
