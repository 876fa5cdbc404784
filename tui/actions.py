"""Every action of the console, once. The key bindings, the footer, the palette and the help are made from this list.

An action that changes something is there only for an operator who started the console with --operate: to anybody
else it's absent, not refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from gateway.federation.messages.cycles import CycleState
from gateway.federation.messages.proposals import ProposalView
from tui.model import Snapshot, liquidity, money, pending

Pane = Literal["cycles", "cycle", "positions", "participants", "proposals", "events"]
PANES: tuple[tuple[Pane, str], ...] = (
    ("cycles", "Cycles"),
    ("cycle", "Cycle"),
    ("positions", "Positions"),
    ("participants", "Participants"),
    ("proposals", "Proposals"),
    ("events", "Events"),
)


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


# --- what an action will change ---------------------------------------------------------------------------


def effects(action: str, view: Snapshot) -> tuple[str, ...]:
    """Say in lines what the action will do to the selected cycle, with the numbers that it rests on."""
    progress = view.progress
    if progress is None:
        return ("No cycle is selected.",)
    cycle, pairs = progress.cycle, progress.pairs
    # An open cycle has no participants of its own yet: whoever is active at the cut-off takes part.
    banks = progress.participants or view.participants
    active = sum(bank.status == "active" for bank in banks)
    facts = [
        f"Cycle {cycle.id}, value date {cycle.value_date}, is {cycle.state}.",
        f"Participants: {active} active of {len(banks)}.",
    ]
    if cycle.state != "open":
        facts.append(f"Pairs: {pairs.agreed} agreed, {pairs.differing} differing, {pairs.missing} missing.")
        facts += liquidity(progress)
        for total in progress.totals:
            settle = money(total.settlement_minor, total.currency)
            facts.append(f"{total.currency}: gross {money(total.gross_minor, total.currency)}, to settle {settle}.")
    return (*facts, _CONSEQUENCES.get(action, _UNKNOWN))


_CONSEQUENCES = {
    "cut_off": "Every bank fixes what this cycle takes in and attests. Later payments go to the next cycle.",
    "approve": "Once confirmed: instructions are signed and settlement is requested from the agent.",
    "hold": "Once confirmed: settlement waits until the hold is released.",
    "release": "Once confirmed: the cycle is approved, instructions are signed and settlement is requested.",
    "abandon": "Once confirmed: nothing of this cycle settles; every pair is carried over.",
    "unwind": "Once confirmed: the cycle is netted again without these participants; their pairs are carried over.",
}
_UNKNOWN = "This console doesn't know what that does: a newer one can say it."


def proposal_effects(proposal: ProposalView, view: Snapshot) -> tuple[str, ...]:
    """Say what confirming a proposal will do: who proposed what and why, then the numbers, if its cycle is shown."""
    without = f" without {', '.join(proposal.participants)}" if proposal.participants else ""
    proposed = f"{proposal.made_by} proposes to {proposal.action} cycle {proposal.cycle}{without}:"
    lines = [proposed, f"“{proposal.reason}”"]
    if view.progress is not None and view.progress.cycle.id == proposal.cycle:
        lines += effects(proposal.action, view)
    else:
        lines.append(_CONSEQUENCES.get(proposal.action, _UNKNOWN))
    return tuple(lines)


# --- what the operator has to type ------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A confirmation: what it says, and what it asks for before its button works."""

    title: str
    lines: tuple[str, ...]
    button: str
    typed_id: str | None = None
    ask_reason: bool = False
    reason_required: bool = False
    ask_value_date: bool = False
    ask_participants: bool = False


@dataclass(frozen=True)
class Answer:
    """What was typed into a form."""

    typed: str = ""
    reason: str = ""
    value_date: str = ""
    participants: str = ""

    @property
    def banks(self) -> tuple[str, ...]:
        """The participants that were typed, in order, each once."""
        return tuple(sorted(set(self.participants.replace(",", " ").upper().split())))


def missing(form: Form, answer: Answer) -> str | None:
    """Say what the form still lacks, None when it is complete."""
    if form.typed_id is not None and answer.typed.strip() != form.typed_id:
        return f"Type {form.typed_id} to go on."
    if form.ask_participants and not answer.banks:
        return "Name those who can't pay."
    if form.reason_required and not answer.reason.strip():
        return "A reason is needed."
    if len(answer.reason.strip()) > 500:
        return "The reason is too long (500 characters at most)."
    return None


def form_for(action: Action, view: Snapshot, proposal: ProposalView | None = None) -> Form:
    """Make the confirmation of an action, graded by its consequence."""
    if action.id == "open_cycle":
        opens = "A new cycle opens at once, for the value date below."
        return Form("Open a cycle", (opens,), "Open", ask_value_date=True)
    if proposal is not None:
        title = f"{action.label} the proposal to {proposal.action} {proposal.cycle}"
        lines = proposal_effects(proposal, view)
        if action.id == "confirm":
            return Form(title, lines, "Confirm", typed_id=proposal.cycle, ask_reason=True)
        return Form(title, lines[:2], "Reject", ask_reason=True, reason_required=True)
    cycle = view.progress.cycle.id if view.progress is not None else ""
    lines = effects(action.id, view)
    if action.id == "cut_off":
        return Form(f"Cut off {cycle}", lines, "Cut off", typed_id=cycle)
    lines += ("Another operator has to confirm.",)
    return Form(
        f"Propose to {action.id} {cycle}",
        lines,
        "Propose",
        ask_reason=True,
        reason_required=True,
        ask_participants=action.id == "unwind",
    )
