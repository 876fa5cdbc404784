"""The form that confirms an action: what the action will change, and what has to be typed before it is sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from compliance.cycle import approval
from compliance.cycle.states import State
from compliance.decisions import cycle_act, shown
from compliance.statements import Act
from gateway.federation.identity.deciding import NotShownError, act_of
from gateway.federation.membership.before import described
from gateway.federation.messages.cycles import CycleProgress
from gateway.federation.messages.proposals import ProposalView
from tui.actions import Action
from tui.progress import liquidity, trouble
from tui.snapshot import Snapshot
from tui.text import money

REASON_CHARACTERS_MAX = 500


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
        if len(answer.reason.strip()) > REASON_CHARACTERS_MAX:
            return f"The reason is too long ({REASON_CHARACTERS_MAX} characters at most)."
        return None


def form_for(action: Action, view: Snapshot, proposal: ProposalView | None = None) -> Form:
    """Make the form of an action on the selected cycle, graded by its consequence.

    What moves a cycle shows what will change and has the cycle's id typed; what asks a second person has its reason
    typed. What will change stands before the numbers, of which a small screen may not show all. `view` has the
    progress of the cycle; a decision is on a `proposal`.
    """
    if action.id == "open_cycle":
        effect = "A new cycle opens at once, for the value date below."
        return Form("Open a cycle", (effect,), "Open", ask_value_date=True)
    if proposal is not None and proposal.cycle is None:
        return _registry_form(action, proposal)
    progress = view.progress
    if progress is None:
        raise ValueError(f"{action.id} needs the progress of a cycle")
    if proposal is not None:
        title = f"{action.label} the proposal to {proposal.action} {proposal.cycle}"
        if action.id == "confirm":
            effect = consequence(proposal.action, progress)
            lines = (*_words_of(proposal), *_signs_of(proposal), effect, *_facts(view, progress))
            return Form(title, lines, "Confirm", typed_id=proposal.cycle, ask_reason=True)
        return Form(
            title, (*_words_of(proposal), *_signs_of(proposal)), "Reject", ask_reason=True, reason_required=True
        )
    cycle = progress.cycle
    if action.id == "retry":
        effect = "Its next step is taken at once, and not only when it is tried again by itself."
        lines = (effect, *([words] if (words := trouble(progress)) is not None else []), *_facts(view, progress))
        return Form(f"Try {cycle.id} again", lines, "Try again", ask_reason=True, reason_required=True)
    if action.proposes is None:
        effect = "Every bank fixes what this cycle takes in and attests. Later payments go to the next cycle."
        return Form(f"Cut off {cycle.id}", (effect, *_facts(view, progress)), "Cut off", typed_id=cycle.id)
    effect = consequence(action.proposes, progress)
    act = cycle_act(action.proposes, cycle.id, result=cycle.result)
    naming = action.proposes is approval.Action.UNWIND
    return Form(
        f"Propose to {action.proposes} {cycle.id}",
        (effect, "Another operator has to confirm.", *_signs(act, naming=naming), *_facts(view, progress)),
        "Propose",
        ask_reason=True,
        reason_required=True,
        ask_participants=naming,
    )


def _registry_form(action: Action, proposal: ProposalView) -> Form:
    """Make the form of a decision on a change of the registry, whose act says all there is to say."""
    title = f"{action.label} the proposal {proposal.action} of {proposal.subject}"
    words = (f"{proposal.made_by} proposes {proposal.action} of {proposal.subject}:", f"“{proposal.reason}”")
    lines = (*words, *_signs_of(proposal))
    if action.id == "confirm":
        return Form(title, (*lines, "Once confirmed it is done at once."), "Confirm", proposal.subject, ask_reason=True)
    return Form(title, lines, "Reject", ask_reason=True, reason_required=True)


def _signs_of(proposal: ProposalView) -> tuple[str, ...]:
    """Say what a decision on a proposal signs."""
    try:
        return _signs(act_of(proposal))
    except NotShownError as error:
        return (f"This can't be confirmed: {error}.",)


def _signs(act: Act, *, naming: bool = False) -> tuple[str, ...]:
    """Say all of an act that an operator's key puts its name to, and the digest of it."""
    terms = [f"  {line}" for line in described(act)]
    last = "  participants: those whom you name" if naming else f"  digest: {shown(act)}"
    return (f"Your key signs: {act.kind} of {act.subject}", *terms, last)


def _words_of(proposal: ProposalView) -> tuple[str, ...]:
    """Say who proposed what and why."""
    without = f" without {', '.join(proposal.participants)}" if proposal.participants else ""
    return (
        f"{proposal.made_by} proposes to {proposal.action} cycle {proposal.cycle}{without}:",
        f"“{proposal.reason}”",
    )


def _facts(view: Snapshot, progress: CycleProgress) -> tuple[str, ...]:
    """Say in lines how the cycle stands, with the numbers that a decision rests on."""
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
    return tuple(facts)


# --- what follows from a confirmation ---------------------------------------------------------------------

_REACHED = {
    State.NETTED: "the hold is lifted.",
    State.HELD: "settlement waits.",
    State.APPROVED: "instructions are signed and settlement is requested from the agent.",
    State.ABANDONED: "nothing of this cycle settles; every pair is carried over.",
    State.MATCHED: "the cycle is netted again without these participants; their pairs are carried over."
    " The new result is checked and approved like any other.",
}
_ACTIONS, _STATES = frozenset(approval.Action), frozenset(State)


def consequence(proposed: str, progress: CycleProgress) -> str:
    """Say what confirming an action does to a cycle, and which decision must follow before it goes on.

    An older coordinator doesn't say whether the rulebook asks for four eyes on the result: where the next step hangs on
    that, both are said. So is that a newer coordinator's words mean nothing to this console.
    """
    state = progress.cycle.state
    if proposed not in _ACTIONS or state not in _STATES:
        return f"This console doesn't know what to {proposed} does to a cycle that is {state}: a newer one can say it."
    action, now = approval.Action(proposed), State(state)
    if action not in approval.possible_actions(now):
        return f"To {action} isn't possible any more: the cycle is {now}."
    by_rulebook, by_people = (approval.after(action, now, causes) for causes in ((), tuple(approval.FourEyesCause)))
    words = f"Once confirmed: {_REACHED[by_people.state]}"
    if by_people.needed is None:
        return words
    if by_rulebook.needed is not None or progress.four_eyes:
        return f"{words} Only a confirmed {by_people.needed} lets the cycle go on."
    if progress.four_eyes is not None:
        return f"{words} Instructions are signed and settlement begins at once: the rulebook asks for no approval."
    condition = f"waits for a confirmed {by_people.needed} where the rulebook asks for four eyes"
    return f"{words} Settlement then {condition}, and begins at once elsewhere."
