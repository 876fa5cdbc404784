"""Every action of the console, once. The key bindings, the footer, the palette and the help are made from this list.

An action that changes something is there only for an operator who started the console with --operate: to anybody
else it's absent, not refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.federation.messages.cycles import CycleState
from tui.panes import PANES, Pane
from tui.snapshot import Snapshot, pending


class Grade(StrEnum):
    """What an action can do, and so how it is confirmed."""

    VIEW = "view"
    """Changes nothing: no confirmation."""
    PROPOSE = "propose"
    """Asks a second person: the reason is typed."""
    CYCLE = "cycle"
    """Moves a cycle: shows what will change, and the cycle's id is typed."""


@dataclass(frozen=True)
class Action:
    """One action. `panes` and `states` say where it applies; None is everywhere."""

    id: str
    key: str
    label: str
    help: str
    grade: Grade = Grade.VIEW
    panes: frozenset[Pane] | None = None
    states: frozenset[CycleState] | None = None
    footer: bool = True

    @property
    def locked(self) -> bool:
        """Whether it is for operators only."""
        return self.grade is not Grade.VIEW


def _panes(*panes: Pane) -> frozenset[Pane]:
    return frozenset(panes)


def _states(*states: CycleState) -> frozenset[CycleState]:
    return frozenset(states)


_ON_CYCLE = _panes("cycles", "cycle", "positions")
_INBOX = _panes("proposals")

ACTIONS: tuple[Action, ...] = (
    *(
        Action(f"pane_{pane}", str(number), title, f"Show the {title.lower()} pane", footer=False)
        for number, (pane, title) in enumerate(PANES, start=1)
    ),
    Action(
        "open_cycle", "O", "Open", "Open a cycle by hand, outside the schedule", Grade.CYCLE, panes=_panes("cycles")
    ),
    Action("cut_off", "C", "Cut off", "Cut the cycle off now", Grade.CYCLE, _ON_CYCLE, _states("open")),
    Action("approve", "A", "Approve", "Propose to approve settlement", Grade.PROPOSE, _ON_CYCLE, _states("netted")),
    Action("hold", "H", "Hold", "Propose to hold settlement", Grade.PROPOSE, _ON_CYCLE, _states("netted")),
    Action(
        "release",
        "R",
        "Release",
        "Propose to release a hold, which approves settlement",
        Grade.PROPOSE,
        _ON_CYCLE,
        _states("held"),
    ),
    Action(
        "abandon",
        "X",
        "Abandon",
        "Propose to abandon the cycle and carry everything over",
        Grade.PROPOSE,
        _ON_CYCLE,
        _states("cut_off", "attesting", "matched", "netted", "held", "deferred"),
    ),
    Action(
        "unwind",
        "U",
        "Unwind",
        "Propose to net the cycle again without those who can't pay",
        Grade.PROPOSE,
        _ON_CYCLE,
        _states("deferred"),
    ),
    Action("confirm", "Y", "Confirm", "Confirm the proposal of another operator", Grade.CYCLE, _INBOX),
    Action("reject", "N", "Reject", "Reject the proposal", Grade.PROPOSE, _INBOX),
    Action(
        "follow", "f", "Follow", "Follow the running cycle again, after one was picked", panes=_ON_CYCLE, footer=False
    ),
    Action("next_part", "right_square_bracket", "Part", "Show the next part of the cycle", panes=_panes("cycle")),
    Action(
        "previous_part",
        "left_square_bracket",
        "Part before",
        "Show the previous part of the cycle",
        panes=_panes("cycle"),
        footer=False,
    ),
    Action("freeze", "space", "Freeze", "Freeze the screen; space again resumes"),
    Action("filter", "slash", "Filter", "Show only the rows that hold a text; escape clears it"),
    Action("export_csv", "e", "Export", "Write the rows on screen to a CSV file"),
    Action("export_json", "E", "Export JSON", "Write the rows on screen to a JSON file", footer=False),
    Action("copy_call", "y", "Copy call", "Copy the API call behind this pane", footer=False),
    Action("help", "question_mark", "Help", "Show the keys"),
    Action("quit", "q", "Quit", "Leave the console"),
)
BY_ID = {action.id: action for action in ACTIONS}


def unlocked(action: Action, *, operate: bool) -> bool:
    """Tell whether the action exists at all for this operator."""
    return operate or not action.locked


def applies(action: Action, *, pane: Pane, view: Snapshot) -> bool:
    """Tell whether the action makes sense now. The coordinator decides; this only keeps the footer short."""
    if action.panes is not None and pane not in action.panes:
        return False
    if action.states is not None and view.state not in action.states:
        return False
    return action.panes != _INBOX or bool(pending(view.proposals))
