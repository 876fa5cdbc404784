"""The form that confirms an action: what the action will change, and what has to be typed before it is sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.federation.messages.proposals import ProposalView
from tui.actions import Action
from tui.progress import liquidity
from tui.snapshot import Snapshot
from tui.text import money

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
    return (*facts, _CONSEQUENCES[action])


_CONSEQUENCES = {
    "cut_off": "Every bank fixes what this cycle takes in and attests. Later payments go to the next cycle.",
    "approve": "Once confirmed: instructions are signed and settlement is requested from the agent.",
    "hold": "Once confirmed: settlement waits until the hold is released.",
    "release": "Once confirmed: the cycle is approved, instructions are signed and settlement is requested.",
    "abandon": "Once confirmed: nothing of this cycle settles; every pair is carried over.",
    "unwind": "Once confirmed: the cycle is netted again without these participants; their pairs are carried over.",
}


def proposal_effects(proposal: ProposalView, view: Snapshot) -> tuple[str, ...]:
    """Say what confirming a proposal will do: who proposed what and why, then the numbers, if its cycle is shown."""
    without = f" without {', '.join(proposal.participants)}" if proposal.participants else ""
    proposed = f"{proposal.made_by} proposes to {proposal.action} cycle {proposal.cycle}{without}:"
    lines = [proposed, f"“{proposal.reason}”"]
    if view.progress is not None and view.progress.cycle.id == proposal.cycle:
        lines += effects(proposal.action, view)
    else:
        lines.append(_CONSEQUENCES[proposal.action])
    return tuple(lines)


# --- what the operator has to type ------------------------------------------------------------------------


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

    def objection(self, answer: Answer) -> str | None:
        """Say what keeps the answer from being sent, None when it is complete."""
        if self.typed_id is not None and answer.typed.strip() != self.typed_id:
            return f"Type {self.typed_id} to go on."
        if self.ask_participants and not answer.banks:
            return "Name those who can't pay."
        if self.reason_required and not answer.reason.strip():
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
