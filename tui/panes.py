"""The panes of the console: their titles, the API call behind each, and the tables in them. No screen in here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from tui import tables
from tui.snapshot import EVENTS_KEPT, Snapshot
from tui.table import Table

Pane = Literal["cycles", "cycle", "positions", "participants", "proposals", "events"]
PANES: tuple[tuple[Pane, str], ...] = (
    ("cycles", "Cycles"),
    ("cycle", "Cycle"),
    ("positions", "Positions"),
    ("participants", "Participants"),
    ("proposals", "Proposals"),
    ("events", "Events"),
)
PARTS = (("banks", "Participants"), ("breaks", "Breaks"), ("checks", "Checks"), ("approvals", "Approvals"))
"""The parts of the pane of one cycle: table and title."""

_CALLS: Mapping[Pane, str] = {
    "cycles": "/cycles",
    "cycle": "/cycles/{cycle}/progress",
    "positions": "/cycles/{cycle}/positions",
    "participants": "/participants",
    "proposals": "/cycles/{cycle}/proposals",
    "events": f"/events?after=-{EVENTS_KEPT}&limit={EVENTS_KEPT}",
}


def call_behind(pane: Pane, cycle: str | None) -> str:
    """Return the path that a pane is read from."""
    return _CALLS[pane].format(cycle=cycle or "{id}")


def tables_of(view: Snapshot, *, subject: str, now: datetime) -> Mapping[str, Table]:
    """Return every table of a snapshot by its name on screen; `subject` is the operator who looks."""
    cycle = view.selected or ""
    own = [proposal for proposal in view.proposals if proposal.cycle == cycle]
    drawn = {
        "cycles": tables.cycles(view.cycles),
        "totals": tables.totals(cycle, view.progress.totals if view.progress is not None else ()),
        "participants": tables.participants(view.participants, now),
        "proposals": tables.proposals(view.proposals, subject),
        "approvals": tables.proposals(own, subject, f"approvals-{cycle}"),
        "events": tables.events(view.events),
    }
    if view.progress is not None:
        drawn["banks"] = tables.progress(view.progress)
        drawn["breaks"] = tables.breaks(cycle, view.progress.breaks)
    if view.checks is not None:
        drawn["checks"] = tables.checks(view.checks)
    if view.positions is not None:
        drawn["positions"] = tables.positions(view.positions)
    return drawn
