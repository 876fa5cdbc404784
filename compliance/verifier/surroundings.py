"""What else the log tells of while a cycle goes on: other cycles, members, operators, and who was shown what.

Part of step 11 of `compliance.verifier.verify`. What has no document in the archive is held against the rules that the
coordinator keeps: one cycle at a time, a trust list for every change of a member, the circle of each event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from compliance.cycle.audience import EVENTS, audience, is_of_applicant
from compliance.cycle.states import ENDED, IN_PROGRESS, STUCK_EVENT, TRANSITIONS, State, Trigger, event_type
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord
from compliance.statements import Member, TrustList
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.log import KeyChanged, Log, Overtaken, StatusChanged, Stuck, facts_of, trigger_of

DONE_BY: Mapping[str, str] = {
    "cap": "cap.changed",
    "prefunding": "prefunding.changed",
    "bilateral_limit": "bilateral_limit.changed",
    "approve": "participant.changed",
    "activate": "participant.changed",
    "suspend": "participant.changed",
    "leave": "participant.changed",
    "revoke_key": "participant.changed",
    "enrol_key": "participant.changed",
}
"""What operators did to a member, and the event that tells of it right before."""
ACTS = frozenset({"operator.acted", "cap.changed", "prefunding.changed", "bilateral_limit.changed"})
"""Events of what operators did, of which no archive holds their signatures."""


def check_surroundings(record: CycleRecord, log: Log) -> None:
    """Check the events of a record that are no step of its cycle. Without a register they were told by other rules."""
    if not record.operators:
        return
    for event in record.events:
        _check_circle(event)
    _check_acts(record.events)
    _check_members(record.events, log)
    cycles = _Cycles(record.cycle)
    for event in record.events:
        cycles.hear(event)


def unproven_surroundings(record: CycleRecord, log: Log) -> Iterator[str]:
    """Say what happened around a cycle by the coordinator's word alone."""
    if not record.operators:
        return
    if log.first(Trigger.OVERTAKEN) is not None:
        yield "that the cycle was stuck when the next one overtook it, the log says; nobody signed it"
    if adopted := [event for event in record.events if event.type == "rulebook.adopted"]:
        digest = adopted[-1].data.get("sha256")
        yield f"another rulebook ({digest}) was adopted meanwhile; the cycle goes by the one that it opened under"
    changes = [event for event in record.events if event.type == "participant.changed"]
    if banks := sorted({str(event.data.get("bic")) for event in changes if event.data.get("change") == "key"}):
        yield f"keys changed while the cycle went on, by the coordinator's word: {', '.join(banks)}"
    if acts := sorted({_act(event) for event in record.events if event.cycle is None and event.type in ACTS}):
        yield f"what operators did besides, by the coordinator's word ({len(acts)}): {'; '.join(acts)}"


def _act(event: LoggedEvent) -> str:
    """Return an event that tells of an operator's act, or of a limit that one sets, in words."""
    if event.type == "operator.acted":
        return " ".join(str(event.data.get(name)) for name in ("action", "subject", "by"))
    return " ".join(str(part) for part in (event.type, *(event.data.get(name) for name in ("bic", "currency"))) if part)


def _check_circle(event: LoggedEvent) -> None:
    """Check that an event is one that there is, and was shown to those whom it is for."""
    if event.type not in EVENTS:
        raise RefutedError(Finding.LOG_CONTRADICTED, f"event {event.id}: there is no event {event.type}")
    of_cycle = event.type.startswith("cycle.")
    # A proposal is about a cycle, or about the registry.
    if (event.cycle is not None) is not of_cycle and not event.type.startswith("proposal."):
        raise RefutedError(Finding.LOG_CONTRADICTED, f"event {event.id}, {event.type}, of cycle {event.cycle}")
    try:
        circle = audience(event.type, event.data)
    except (KeyError, TypeError) as error:
        detail = f"event {event.id}, {event.type}, doesn't say whom it is about"
        raise RefutedError(Finding.LOG_CONTRADICTED, detail) from error
    if event.audience != circle:
        detail = f"event {event.id}, {event.type}, was shown to {_named(event.audience)}, and is for {_named(circle)}"
        raise RefutedError(Finding.AUDIENCE_DIFFERS, detail)


def _named(circle: Sequence[str] | None) -> str:
    return "everybody" if circle is None else ", ".join(circle) or "operators alone"


def _check_acts(events: Sequence[LoggedEvent]) -> None:
    """Check that what operators are said to have done to a member happened: the event before tells of it."""
    for before, event in pairwise(events):
        change = DONE_BY.get(str(event.data.get("action"))) if event.type == "operator.acted" else None
        if change is None:
            continue
        shared = before.data.keys() & event.data.keys()
        same = before.data.get("bic") == event.data.get("subject")
        if before.type != change or not same or any(before.data[name] != event.data[name] for name in shared):
            detail = f"event {event.id}: {event.data.get('action')} of {event.data.get('subject')}, which didn't happen"
            raise RefutedError(Finding.LOG_CONTRADICTED, detail)


# --- members --------------------------------------------------------------------------------------------------


def _check_members(events: Sequence[LoggedEvent], log: Log) -> None:
    """Check that each trust list differs from the one before by what the log tells, and by nothing else."""
    lists = iter(pairwise(log.lists))
    waiting: list[LoggedEvent] = []
    for event in events:
        if event.type == "participant.changed" and not is_of_applicant(event.type, event.data):
            waiting.append(event)
        elif event.type == "trust_list.published":
            before, then = next(lists)
            _check_list(event, before, then, waiting)
            waiting.clear()
    if waiting:
        detail = f"event {waiting[0].id}: {waiting[0].data.get('bic')} changed, and no trust list says so"
        raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)


def _check_list(event: LoggedEvent, before: TrustList, then: TrustList, changes: Sequence[LoggedEvent]) -> None:
    status, enrolled = _changes(changes)
    old = {member.bic: member for member in before.members}
    new = {member.bic: member for member in then.members}
    for bic in sorted(old.keys() | new.keys() | status.keys()):
        member, former = new.get(bic), old.get(bic)
        expected = status.get(bic, None if former is None else former.status)
        if (None if member is None else member.status) != expected:
            said = "nothing" if member is None else member.status
            detail = f"event {event.id}: list {then.version} says {said} of {bic}, the log {expected or 'nothing'}"
            raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)
        if member is not None and bic not in status and (added := _active(member) - _active(former) - enrolled):
            detail = f"event {event.id}: list {then.version} has the key {min(added)} of {bic}, of which no event tells"
            raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)


def _changes(changes: Sequence[LoggedEvent]) -> tuple[dict[str, str], set[str]]:
    """Return the status that members came into, and the keys that they were given."""
    status: dict[str, str] = {}
    enrolled: set[str] = set()
    for event in changes:
        if event.data.get("change") == "key":
            enrolled.add(facts_of(event, KeyChanged).kid)
        elif "status" in event.data:
            said = facts_of(event, StatusChanged)
            status[said.bic] = said.status
    return status, enrolled


def _active(member: Member | None) -> frozenset[str]:
    return frozenset(() if member is None else (key.kid for key in member.keys if key.status == "active"))


# --- other cycles ---------------------------------------------------------------------------------------------


class _Cycles:
    """Follows all cycles of a stretch of the log: one is open, and at most one is in progress.

    Of the one that was in progress at the opening, the stretch tells the rest only: it may be in any of several states.
    """

    def __init__(self, cycle: str) -> None:
        self._cycle = cycle
        self._states: dict[str, frozenset[State]] = {}

    def hear(self, event: LoggedEvent) -> None:
        """Take one event in. Raises RefutedError for one that can't be."""
        if event.type == STUCK_EVENT and event.cycle is not None:
            if facts_of(event, Stuck).state not in self._of(event.cycle):
                raise _impossible(event, "isn't in that state")
        elif event.type == event_type(State.OPEN) and event.cycle is not None:
            if event.cycle in self._states or self._open() is not None:
                raise _impossible(event, f"opened, and {self._open() or event.cycle} was open")
            self._states[event.cycle] = frozenset({State.OPEN})
        elif (trigger := trigger_of(event)) is not None and event.cycle is not None:
            self._step(event, event.cycle, trigger)

    def _step(self, event: LoggedEvent, cycle: str, trigger: Trigger) -> None:
        steps = {TRANSITIONS[state, trigger] for state in self._of(cycle) if (state, trigger) in TRANSITIONS}
        states = frozenset(state for state in steps if event_type(state) == event.type)
        if not states:
            raise _impossible(event, f"can't take the step {trigger}")
        if trigger is Trigger.CUT_OFF_REACHED and (others := [of for of in self._states if self._runs(of)]):
            raise _impossible(event, f"was cut off, and {others[0]} hadn't ended")
        if trigger is Trigger.OVERTAKEN and (said := facts_of(event, Overtaken).overtaken_by) != self._open():
            raise _impossible(event, f"was overtaken by {said}, and {self._open()} was open")
        self._states[cycle] = states

    def _of(self, cycle: str) -> frozenset[State]:
        """Return the states in which a cycle may be. One that never opened here began before: it is the only one."""
        if cycle in self._states:
            return self._states[cycle]
        alone = self._states.keys() == {self._cycle} and State.OPEN in self._states[self._cycle]
        return IN_PROGRESS if alone else frozenset()

    def _open(self) -> str | None:
        return next((cycle for cycle, states in self._states.items() if State.OPEN in states), None)

    def _runs(self, cycle: str) -> bool:
        return self._states[cycle] <= IN_PROGRESS and not self._states[cycle] & ENDED


def _impossible(event: LoggedEvent, detail: str) -> RefutedError:
    return RefutedError(Finding.LOG_CONTRADICTED, f"event {event.id}, {event.type}: cycle {event.cycle} {detail}")
