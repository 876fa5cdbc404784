"""What an operator can do, when, and what the console says will follow."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from compliance.crypto import canonical
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action, possible_actions
from compliance.cycle.states import State
from compliance.decisions import cycle_act, propose, shown
from compliance.statements import Act, ActKind
from gateway.federation.messages.cycles import CycleProgress
from gateway.federation.messages.proposals import ProposalView
from tests.console.examples import a_proposal, a_stuck_view, a_view
from tui.actions import ACTIONS, BY_ID, applies, unlocked
from tui.forms import Answer, consequence, form_for
from tui.panes import Pane
from tui.snapshot import Snapshot, decidable, proposal_to_decide
from tui.tables import proposals

CYCLE = "2026-03-02-01"


def an_inbox(*made_by: str, status: str = "pending") -> Snapshot:
    return replace(
        a_view(), proposals=tuple(msgspec.structs.replace(a_proposal(maker), status=status) for maker in made_by)
    )


def test_read_only_leaves_actions_that_change_nothing() -> None:
    readable = {action.id for action in ACTIONS if unlocked(action, operate=False)}
    assert readable.isdisjoint({"open_cycle", "cut_off", "retry", "confirm", "reject", *Action})
    assert {"help", "quit", "export_csv", "freeze", "filter"} <= readable


def test_the_form_to_try_a_stuck_cycle_again_says_why_it_is_stuck() -> None:
    form = form_for(BY_ID["retry"], a_stuck_view())
    assert form.lines[1].startswith("✗ STUCK since 09:05:00: agent_inactive")
    assert form.objection(Answer()) == "A reason is needed."
    assert form.objection(Answer(reason="it is back")) is None


def test_keys_are_unique() -> None:
    assert len({action.key for action in ACTIONS}) == len(ACTIONS)


@pytest.mark.parametrize(
    ("action", "pane", "view", "expected"),
    [
        ("cut_off", "cycles", a_view("open"), True),
        ("cut_off", "cycles", a_view("netted"), False),
        ("retry", "cycle", a_stuck_view(), True),
        ("retry", "cycle", a_view("approved"), False),
        ("retry", "proposals", a_stuck_view(), False),
        ("abandon", "cycle", a_stuck_view(), True),
        ("approve", "cycle", a_view("netted"), True),
        ("approve", "participants", a_view("netted"), False),
        ("unwind", "cycle", a_view("deferred"), True),
        ("unwind", "cycle", a_view("netted"), False),
        ("confirm", "proposals", a_view(), False),
        ("confirm", "proposals", an_inbox("bob"), True),
        ("confirm", "cycles", an_inbox("bob"), False),
        ("confirm", "proposals", an_inbox("alice", "bob"), True),
        ("confirm", "proposals", an_inbox("bob", status="expired"), False),
        ("confirm", "proposals", an_inbox("alice"), False),
        ("reject", "proposals", an_inbox("Alice"), False),
        ("reject", "proposals", an_inbox("ａｌｉｃｅ"), False),
    ],
)
def test_when_alice_is_offered_an_action(action: str, pane: Pane, view: Snapshot, expected: bool) -> None:
    assert applies(BY_ID[action], pane=pane, view=view, subject="alice") is expected


@pytest.mark.parametrize("state", State)
def test_what_can_be_proposed_is_the_schemes_rule(state: State) -> None:
    view = a_view(state.value)
    offered = {
        action.id for action in ACTIONS if action.proposes and applies(action, pane="cycle", view=view, subject="")
    }
    assert offered == set(possible_actions(state))


@pytest.mark.parametrize("maker", ["alice", "Alice", " ALICE ", "ａｌｉｃｅ"])
def test_ones_own_proposal_is_marked_and_not_ones_own_to_decide(maker: str) -> None:
    assert proposals([a_proposal(maker)], "alice").rows[0].cells[3].text == f"{maker} (you)"
    assert decidable([a_proposal(maker)], "alice") == ()
    assert decidable([a_proposal(maker)], "bob") == (a_proposal(maker),)


@pytest.mark.parametrize(
    ("makers", "cursor", "expected"),
    [
        (["bob"], None, 0),
        (["alice", "bob"], 0, 1),
        (["bob", "carol"], 1, 1),
        (["bob", "carol", "alice"], 2, None),
        (["bob", "carol"], None, None),
        (["alice"], 0, None),
        ([], None, None),
    ],
)
def test_alice_decides_what_is_under_the_cursor_or_all_that_waits(
    makers: list[str], cursor: int | None, expected: int | None
) -> None:
    waiting = [msgspec.structs.replace(a_proposal(maker), id=str(number)) for number, maker in enumerate(makers)]
    chosen = proposal_to_decide(waiting, "alice", cursor=None if cursor is None else str(cursor))
    assert chosen == (None if expected is None else waiting[expected])


# --- what follows -------------------------------------------------------------------------------------------

NEEDS_APPROVAL = "Settlement then waits for a confirmed approve where the rulebook asks for four eyes"


@pytest.mark.parametrize(
    ("action", "state", "parts"),
    [
        ("approve", "netted", ("instructions are signed", "settlement is requested")),
        ("hold", "netted", ("settlement waits", "Only a confirmed release lets the cycle go on")),
        ("release", "held", ("the hold is lifted", NEEDS_APPROVAL, "begins at once elsewhere")),
        ("abandon", "approved", ("nothing of this cycle settles",)),
        ("abandon", "held", ("nothing of this cycle settles",)),
        ("unwind", "deferred", ("netted again", "The new result is checked and approved like any other")),
        ("approve", "held", ("To approve isn't possible any more: the cycle is held",)),
        ("release", "final", ("To release isn't possible any more: the cycle is final",)),
        ("postpone", "netted", ("This console doesn't know what to postpone does",)),
        ("approve", "paused", ("to a cycle that is paused",)),
    ],
)
def test_what_a_confirmation_leads_to(action: str, state: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        assert part in consequence(action, progress_in(state))


@pytest.mark.parametrize(
    ("four_eyes", "part"),
    [
        (("check_not_passed",), "Only a confirmed approve lets the cycle go on."),
        (("of_a_newer_coordinator",), "Only a confirmed approve lets the cycle go on."),
        ((), "Instructions are signed and settlement begins at once"),
    ],
)
def test_a_release_says_whether_an_approval_follows(four_eyes: tuple[str, ...], part: str) -> None:
    progress = msgspec.structs.replace(progress_in("held"), four_eyes=four_eyes)
    assert part in consequence("release", progress)


def progress_in(state: str) -> CycleProgress:
    """Return the progress of a cycle in a state, as a coordinator tells it that says nothing of four eyes."""
    progress = a_view().progress
    assert progress is not None
    return msgspec.structs.replace(progress, cycle=msgspec.structs.replace(progress.cycle, state=state))


def test_a_release_is_never_said_to_sign_anything() -> None:
    form = form_for(BY_ID["release"], a_view("held"))
    assert "signed" not in " ".join((BY_ID["release"].help, *form.lines))


@pytest.mark.parametrize("state", State)
def test_there_are_words_for_whatever_can_follow(state: State) -> None:
    for action in possible_actions(state):
        assert consequence(action, progress_in(state)).startswith("Once confirmed: ")


# --- forms --------------------------------------------------------------------------------------------------


def test_a_form_tells_counts_totals_and_participants() -> None:
    lines = "\n".join(form_for(BY_ID["approve"], a_view()).lines)
    for part in ("2 active of 3", "3 agreed, 1 differing, 2 missing", "gross 1,234.56, to settle 23.45"):
        assert part in lines


@pytest.mark.parametrize(
    ("action", "view", "proposal", "answer", "objection"),
    [
        ("cut_off", a_view("open"), None, Answer(typed="2026-03-02-02"), f"Type {CYCLE} to go on."),
        ("cut_off", a_view("open"), None, Answer(typed=f" {CYCLE} "), None),
        ("hold", a_view(), None, Answer(reason="  "), "A reason is needed."),
        ("hold", a_view(), None, Answer(reason="a list is old"), None),
        ("hold", a_view(), None, Answer(reason="x" * 501), "The reason is too long (500 characters at most)."),
        ("unwind", a_view("deferred"), None, Answer(reason="insolvent"), "Name those who can't pay."),
        ("unwind", a_view("deferred"), None, Answer(participants="betafrpp"), "A reason is needed."),
        ("unwind", a_view("deferred"), None, Answer(participants="betafrpp", reason="insolvent"), None),
        ("confirm", a_view(), a_proposal("bob"), Answer(reason="seen"), f"Type {CYCLE} to go on."),
        ("confirm", a_view(), a_proposal("bob"), Answer(typed=CYCLE), None),
        ("reject", a_view(), a_proposal("bob"), Answer(), "A reason is needed."),
        ("open_cycle", Snapshot(), None, Answer(), None),
    ],
)
def test_confirmations_are_graded_by_consequence(
    action: str, view: Snapshot, proposal: ProposalView | None, answer: Answer, objection: str | None
) -> None:
    assert form_for(BY_ID[action], view, proposal).objection(answer) == objection


def test_names_of_those_who_cant_pay_are_read_leniently() -> None:
    assert Answer(participants=" betafrpp, ALFADEFF betafrpp ").banks == ("ALFADEFF", "BETAFRPP")


def test_a_decision_shows_who_proposed_what_and_why() -> None:
    unwinding = msgspec.structs.replace(a_proposal("bob"), action="unwind", participants=("ALFADEFF", "BETAFRPP"))
    unsigned = form_for(BY_ID["confirm"], a_view("deferred"), unwinding).lines
    assert unsigned[2] == "This can't be confirmed: the proposal is signed by nobody."
    act = cycle_act(Action.UNWIND, CYCLE, result="5" * 64, participants=unwinding.participants)
    key = SigningKey.generate()
    proposed = propose(act, key, operator="bob", coordinator="CNCDXXC0", reason="r", at="2026-03-02T10:00:00Z")
    unwinding = msgspec.structs.replace(
        unwinding, subject_sha256="5" * 64, shown=canonical.encode(act).decode(), proposed=proposed
    )
    lines = form_for(BY_ID["confirm"], a_view("deferred"), unwinding).lines
    assert lines[:2] == (f"bob proposes to unwind cycle {CYCLE} without ALFADEFF, BETAFRPP:", "“all checks pass”")
    assert form_for(BY_ID["reject"], a_view("deferred"), unwinding).lines == lines[:6]
    assert lines[2:6] == (
        f"Your key signs: cycle.unwind of {CYCLE}",
        "  participants: ALFADEFF BETAFRPP",
        f"  result: {'5' * 64}",
        f"  digest: {shown(act)}",
    )
    # What is shown beside the act must be the act.
    other = msgspec.structs.replace(unwinding, participants=("ALFADEFF",))
    assert form_for(BY_ID["confirm"], a_view("deferred"), other).lines[2].startswith("This can't be confirmed: ")


def test_a_decision_on_the_registry_shows_from_what_to_what() -> None:
    terms, before = {"currency": "EUR", "cap_minor": "9"}, {"cap_minor": "5"}
    act = Act(kind=ActKind.CAP, subject="ALFADEFF", terms=terms, before=before)
    proposed = propose(
        act, SigningKey.generate(), operator="bob", coordinator="CNCDXXC0", reason="r", at="2026-03-02T10:00:00Z"
    )
    made = msgspec.structs.replace(
        a_proposal("bob"),
        cycle=None,
        action="cap",
        subject="ALFADEFF",
        shown=canonical.encode(act).decode(),
        proposed=proposed,
    )
    lines = form_for(BY_ID["confirm"], a_view("deferred"), made).lines
    assert lines[2:6] == (
        "Your key signs: cap of ALFADEFF",
        "  cap_minor: from 5 to 9",
        "  currency: EUR",
        f"  digest: {shown(act)}",
    )
