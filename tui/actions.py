"""Every action of the console, once. The key bindings, the footer, the palette and the help are made from this list.

An action that changes something is there only for an operator who started the console with --operate: to anybody
else it's absent, not refused. What can be proposed in which state of a cycle is the scheme's rule, not the console's.
"""

from __future__ import annotations

from dataclasses import dataclass

from compliance.cycle import approval
from compliance.cycle.states import State
from tui.panes import PANES, Pane
from tui.snapshot import Snapshot, decidable


@dataclass(frozen=True)
class Action:
    """One action.

    `panes` and `states` say where it applies (None is everywhere), `only_stuck` that it is for a cycle that can't go
    on, `proposes` what others confirm.
    """

    id: str
    key: str
    label: str
    help: str
    panes: frozenset[Pane] | None = None
    states: frozenset[State] | None = None
    proposes: approval.Action | None = None
    operators_only: bool = False
    only_stuck: bool = False
    footer: bool = True


_CYCLES = frozenset[Pane]({"cycles"})
_CYCLE = frozenset[Pane]({"cycle"})
_ON_CYCLE = frozenset[Pane]({"cycles", "cycle", "positions"})
_INBOX = frozenset[Pane]({"proposals"})
_OPEN = frozenset({State.OPEN})


def _proposal(proposes: approval.Action, key: str, help_: str) -> Action:
    return Action(
        proposes.value,
        key,
        proposes.value.capitalize(),
        help_,
        panes=_ON_CYCLE,
        states=frozenset(approval.possible_states(proposes)),
        proposes=proposes,
        operators_only=True,
    )


ACTIONS: tuple[Action, ...] = (
    *(
        Action(f"pane_{pane}", str(number), title, f"Show the {title.lower()} pane", footer=False)
        for number, (pane, title) in enumerate(PANES, start=1)
    ),
    Action("open_cycle", "O", "Open", "Open a cycle by hand, outside the schedule", _CYCLES, operators_only=True),
    Action("cut_off", "C", "Cut off", "Cut the cycle off now", _ON_CYCLE, _OPEN, operators_only=True),
    Action(
        "retry",
        "T",
        "Try again",
        "Take the next step of a stuck cycle now",
        _ON_CYCLE,
        operators_only=True,
        only_stuck=True,
    ),
    _proposal(approval.Action.APPROVE, "A", "Propose to approve settlement"),
    _proposal(approval.Action.HOLD, "H", "Propose to hold settlement"),
    _proposal(approval.Action.RELEASE, "R", "Propose to lift a hold; that approves nothing yet"),
    _proposal(approval.Action.ABANDON, "X", "Propose to abandon the cycle and carry everything over"),
    _proposal(approval.Action.UNWIND, "U", "Propose to net the cycle again without those who can't pay"),
    Action("confirm", "Y", "Confirm", "Confirm the proposal of another operator", _INBOX, operators_only=True),
    Action("reject", "N", "Reject", "Reject the proposal of another operator", _INBOX, operators_only=True),
    Action("follow", "f", "Follow", "Follow the running cycle again, after one was chosen", _ON_CYCLE, footer=False),
    Action("next_part", "right_square_bracket", "Part", "Show the next part of the cycle", _CYCLE),
    Action(
        "previous_part",
        "left_square_bracket",
        "Part before",
        "Show the previous part of the cycle",
        _CYCLE,
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
    return operate or not action.operators_only


def applies(action: Action, *, pane: Pane, view: Snapshot, subject: str) -> bool:
    """Tell whether the action makes sense now. The coordinator decides; this only keeps the footer short."""
    if action.panes is not None and pane not in action.panes:
        return False
    if action.states is not None and view.state not in action.states:
        return False
    if action.only_stuck and (view.progress is None or view.progress.cycle.stuck is None):
        return False
    return action.panes != _INBOX or bool(decidable(view.proposals, subject))
