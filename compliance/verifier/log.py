"""The event log of a cycle: what each of its events says, and which trust list was in force when.

Step 4 of `compliance.verifier.verify`. Whether what the log says is so is for the later steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from compliance.calendars import SATURDAY
from compliance.crypto import canonical
from compliance.cycle.approval import Action
from compliance.cycle.matching import PairKey
from compliance.cycle.states import TRIGGER_MEMBER, IllegalStepError, State, Trigger, event_type, replay
from compliance.event_log import LoggedEvent, check_chain
from compliance.export.record import CycleRecord
from compliance.iso20022 import NO_MOVEMENT
from compliance.statements import Bic, Count, CurrencyCode, Date, Sha256, Timestamp, TrustList
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.rules import Rules

CLOCK_SLACK = timedelta(seconds=60)
"""How far clocks, and what waits for a lock, may part two times that belong together."""

D = TypeVar("D")


class EventFacts(Struct, frozen=True, kw_only=True):
    """What the data of an event says. Members that aren't named here are passed over."""


class Opened(EventFacts, frozen=True, kw_only=True):
    value_date: Date
    currencies: tuple[CurrencyCode, ...]
    rulebook: Sha256 | None = None
    trust_list_version: Count | None = None
    trust_list: Sha256 | None = None


class CutOff(EventFacts, frozen=True, kw_only=True):
    participants: tuple[Bic, ...]
    deadline_at: Timestamp
    trust_list_version: Count | None = None
    closed: dict[CurrencyCode, str] = msgspec.field(default_factory=dict)


class CutsClosed(EventFacts, frozen=True, kw_only=True):
    absent: tuple[Bic, ...]
    deadline_at: Timestamp


class AttestationClosed(EventFacts, frozen=True, kw_only=True):
    agreed: Count
    carried_over: Count
    closed_at: Timestamp | None = None


class Netted(EventFacts, frozen=True, kw_only=True):
    result: Sha256
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    liquidity: list[dict[str, Any]]
    limits_as_of: Count | None = None


class Decided(EventFacts, frozen=True, kw_only=True):
    """A step that two persons decided."""

    proposal: str
    result: Sha256 | None = None


class Approved(EventFacts, frozen=True, kw_only=True):
    result: Sha256
    by: Literal["rulebook"] | None = None


class Instructed(EventFacts, frozen=True, kw_only=True):
    attempt: Count
    instructions: Count
    result: Sha256


class Asked(EventFacts, frozen=True, kw_only=True):
    """The settlement agent was asked again, or it answered without settling."""

    attempt: Count


class Settled(EventFacts, frozen=True, kw_only=True):
    attempt: Count
    reference: str
    settled_at: Timestamp


class Final(EventFacts, frozen=True, kw_only=True):
    result: Sha256
    reference: str


class UsedUp(EventFacts, frozen=True, kw_only=True):
    attempts: Count


class ProposalMade(EventFacts, frozen=True, kw_only=True):
    proposal: str
    action: Action
    by: str
    reason: str
    subject_sha256: Sha256 | None = None
    participants: tuple[Bic, ...] = ()


class ProposalDecided(EventFacts, frozen=True, kw_only=True):
    proposal: str
    action: Action
    decision: Literal["confirm", "reject"]
    by: str
    reason: str | None = None


class ProposalWithdrawn(EventFacts, frozen=True, kw_only=True):
    proposal: str
    by: str


class BreakNoticed(EventFacts, frozen=True, kw_only=True):
    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    revision: Count
    kind: str
    missing_from: Bic | None = None
    resolved: bool = False

    @property
    def key(self) -> PairKey:
        return (self.currency, *self.pair)


class EquivocationNoticed(EventFacts, frozen=True, kw_only=True):
    participant: Bic
    first: Sha256
    second: Sha256


class StatusChanged(EventFacts, frozen=True, kw_only=True):
    bic: Bic
    status: str


class KeyChanged(EventFacts, frozen=True, kw_only=True):
    bic: Bic
    kid: str


class Stuck(EventFacts, frozen=True, kw_only=True):
    state: str
    reason: str
    failures: Count


class Overtaken(EventFacts, frozen=True, kw_only=True):
    overtaken_by: str


class Published(EventFacts, frozen=True, kw_only=True):
    version: Count
    sha256: Sha256


_STEPS = frozenset(event_type(state) for state in State)


def facts_of(event: LoggedEvent, kind: type[D]) -> D:
    """Read what an event says. Raises RefutedError where that isn't what such an event says."""
    try:
        return msgspec.convert(event.data, kind)
    except msgspec.ValidationError as error:
        raise RefutedError(Finding.LOG_CONTRADICTED, f"event {event.id}, {event.type}: {error}") from error


def trigger_of(event: LoggedEvent) -> Trigger | None:
    """Return what moved the cycle; None for an event that moved nothing."""
    if event.type not in _STEPS or event.type == event_type(State.OPEN):
        return None
    try:
        return Trigger(str(event.data.get(TRIGGER_MEMBER)))
    except ValueError as error:
        detail = f"event {event.id}, {event.type}, names no trigger"
        raise RefutedError(Finding.LOG_CONTRADICTED, detail) from error


@dataclass(frozen=True)
class Log:
    """The log of one cycle: `own` are its events, `lists` the trust lists from its opening on, `since` where each but
    the first was published.
    """

    own: tuple[LoggedEvent, ...]
    lists: tuple[TrustList, ...]
    since: tuple[LoggedEvent, ...]

    def first(self, trigger: Trigger) -> LoggedEvent | None:
        """Return the first event of a trigger."""
        return next((event for event in self.own if trigger_of(event) is trigger), None)

    @cached_property
    def cut_off(self) -> CutOff | None:
        """What was said when the cycle was cut off."""
        event = self.first(Trigger.CUT_OFF_REACHED)
        return None if event is None else facts_of(event, CutOff)

    @cached_property
    def cuts_closed(self) -> CutsClosed | None:
        event = self.first(Trigger.CUTS_CLOSED)
        return None if event is None else facts_of(event, CutsClosed)

    @cached_property
    def attestation_closed(self) -> AttestationClosed | None:
        event = self.first(Trigger.ATTESTATION_CLOSED)
        return None if event is None else facts_of(event, AttestationClosed)

    @property
    def attestation_closed_at(self) -> datetime | None:
        """Return when no statement was taken in any more. Cycles of earlier releases tell it by their event alone."""
        event, said = self.first(Trigger.ATTESTATION_CLOSED), self.attestation_closed
        return None if event is None or said is None else instant(said.closed_at or event.at, f"event {event.id}")

    def taken_in(self, rules: Rules) -> frozenset[str]:
        """Return the currencies of the cycle: those of the rulebook, but for the ones closed at the cut-off."""
        return frozenset(rules.currencies) - (frozenset() if self.cut_off is None else self.cut_off.closed.keys())

    @property
    def participants(self) -> frozenset[str]:
        """Who takes part; nobody before the cut-off."""
        return frozenset(() if self.cut_off is None else self.cut_off.participants)

    def cut_off_at(self, rules: Rules) -> datetime | None:
        """Return when the cycle was cut off, by the clock that its deadlines go by."""
        if self.cut_off is None:
            return None
        return instant(self.cut_off.deadline_at, "the cut-off") - timedelta(seconds=rules.cut_deadline_s)

    def clocks_apart(self, rules: Rules) -> timedelta:
        """Return how far the clock that deadlines go by was ahead of the log's at the cut-off."""
        event, cut_off_at = self.first(Trigger.CUT_OFF_REACHED), self.cut_off_at(rules)
        return timedelta() if event is None or cut_off_at is None else cut_off_at - instant(event.at, "the cut-off")

    def deadlines_apart(self, rules: Rules) -> timedelta:
        """Return how far the clock that deadlines go by was from the log's at most, where somebody was shut out."""
        moments = (
            (Trigger.CUT_OFF_REACHED, self.cut_off_at(rules)),
            (Trigger.CUTS_CLOSED, self.cuts_closed_at(rules)),
            (Trigger.ATTESTATION_CLOSED, self.attestation_closed_at),
        )
        return max(
            (
                abs(at - instant(event.at, f"event {event.id}"))
                for trigger, at in moments
                if at is not None and (event := self.first(trigger)) is not None
            ),
            default=timedelta(),
        )

    def cuts_closed_at(self, rules: Rules) -> datetime | None:
        """Return when no cut was taken in any more, by the clock that deadlines go by."""
        if self.cuts_closed is None:
            return None
        return instant(self.cuts_closed.deadline_at, "cuts") - timedelta(seconds=rules.attestation_deadline_s)

    def lists_between(self, first: LoggedEvent, last: LoggedEvent) -> range:
        """Return the places of the trust lists that were in force from one event to another, by the log's order."""
        begin, end = (sum(published.id < event.id for published in self.since) for event in (first, last))
        return range(begin, end + 1)

    def in_force(self, event: LoggedEvent) -> tuple[TrustList, ...]:
        """Return the trust list in force at an event, and those that were until shortly before.

        A step may have begun under the list before, while the change of that was being written.
        """
        place = sum(published.id < event.id for published in self.since)
        earliest = place
        at = instant(event.at, f"event {event.id}")
        while earliest and instant(self.since[earliest - 1].at, "a trust list") > at - CLOCK_SLACK:
            earliest -= 1
        return self.lists[earliest : place + 1]


def active_in(trust_list: TrustList, kind: str = "participant") -> frozenset[str]:
    """Return the members of a kind that a trust list calls active."""
    return frozenset(m.bic for m in trust_list.members if m.kind == kind and m.status == "active")


def read_log(record: CycleRecord, lists: Sequence[tuple[TrustList, str]], rules: Rules) -> Log:
    """Step 4: check that the log has no gap and tells of this cycle from its opening to its state, step by step.

    `lists` are the trust lists with their digests. Raises ChainError and RefutedError.
    """
    check_chain(record.events)
    own = tuple(event for event in record.events if event.cycle == record.cycle)
    if not own or own[0] != record.events[0] or own[0].type != event_type(State.OPEN):
        raise RefutedError(Finding.CHAIN_BROKEN, f"the log doesn't begin with the opening of cycle {record.cycle}")
    try:
        state = replay((event.type, event.data) for event in own)
    except IllegalStepError as error:
        raise RefutedError(Finding.STATE_CONTRADICTED, f"the log of cycle {record.cycle}: {error}") from error
    if state != record.state:
        raise RefutedError(Finding.STATE_CONTRADICTED, f"the cycle is called {record.state}, the log says {state}")
    if own[-1] != record.events[-1]:
        raise RefutedError(Finding.CHAIN_BROKEN, f"the log goes on behind the last event of cycle {record.cycle}")
    _check_times(record.events)
    log = Log(own, tuple(trust_list for trust_list, _ in lists), _publications(record, lists))
    _check_opening(record, log, rules, lists[0][1])
    _check_participants(log)
    _check_deadlines(log, rules)
    _check_value_date(record, log, rules)
    return log


def _check_times(events: Sequence[LoggedEvent]) -> None:
    """Check that no event is of a time before an earlier one."""
    latest: datetime | None = None
    for event in events:
        at = instant(event.at, f"event {event.id}")
        if latest is not None and at < latest - CLOCK_SLACK:
            raise RefutedError(Finding.TIME_REVERSED, f"event {event.id} is of {event.at}, and follows a later one")
        latest = at if latest is None else max(latest, at)


def _publications(record: CycleRecord, lists: Sequence[tuple[TrustList, str]]) -> tuple[LoggedEvent, ...]:
    """Check that the trust lists are those of the log, all of them; return where each but the first was published."""
    events = tuple(event for event in record.events if event.type == "trust_list.published")
    published = [facts_of(event, Published) for event in events]
    if [(entry.version, entry.sha256) for entry in published] != [(of.version, sha256) for of, sha256 in lists[1:]]:
        versions = ", ".join(str(of.version) for of, _ in lists)
        said = ", ".join(str(entry.version) for entry in published) or "none"
        detail = f"the archive holds versions {versions}, of which the log says that it published {said} meanwhile"
        raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)
    if [of.version for of, _ in lists] != list(range(lists[0][0].version, lists[0][0].version + len(lists))):
        raise RefutedError(Finding.TRUST_LIST_REFUSED, "a version of the trust list is missing")
    return events


def _check_opening(record: CycleRecord, log: Log, rules: Rules, first_list: str) -> None:
    opened = facts_of(log.own[0], Opened)
    if not record.cycle.startswith(record.value_date + "-") or opened.value_date != record.value_date:
        detail = f"cycle {record.cycle} of {record.value_date}, opened for {opened.value_date}"
        raise RefutedError(Finding.VALUE_DATE_DIFFERS, detail)
    instant(f"{record.value_date}T00:00:00Z", "the value date")
    if opened.currencies != tuple(sorted(rules.currencies)):
        raise RefutedError(Finding.LOG_CONTRADICTED, f"opened for {', '.join(opened.currencies)}, not the rulebook's")
    if opened.rulebook not in (None, canonical.digest(record.rulebook)):
        raise RefutedError(Finding.LOG_CONTRADICTED, f"opened under the rulebook {opened.rulebook}")
    if opened.trust_list_version not in (None, log.lists[0].version):
        detail = f"opened under version {opened.trust_list_version}, the archive begins with {log.lists[0].version}"
        raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)
    if opened.trust_list not in (None, first_list):
        detail = f"opened under the trust list {opened.trust_list}, the archive begins with {first_list}"
        raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)


def _check_value_date(record: CycleRecord, log: Log, rules: Rules) -> None:
    """Check that the cycle settled no earlier than on its value date, and nothing whose system has a weekend then.

    Holidays aren't held against a cycle: a later calendar may know one that nobody knew on that day.
    """
    if log.cut_off is not None and (strangers := log.cut_off.closed.keys() - set(rules.currencies)):
        raise RefutedError(Finding.LOG_CONTRADICTED, f"{min(strangers)} is called closed, and isn't cleared")
    if (days := rules.days) is None:
        return
    day = date.fromisoformat(record.value_date)
    settled = log.first(Trigger.AGENT_SETTLED)
    if settled is None:
        return
    said = facts_of(settled, Settled)
    settled_at = instant(said.settled_at, f"event {settled.id}")
    if said.reference != NO_MOVEMENT and settled_at < days.begins_at(day) - CLOCK_SLACK:
        raise RefutedError(Finding.VALUE_DATE_DIFFERS, f"settled at {said.settled_at}, before {record.value_date}")
    if day.weekday() >= SATURDAY and days.calendar != "every_day":
        for currency in sorted(log.taken_in(rules) & days.settlement_systems.keys()):
            detail = f"{currency} settled on {record.value_date}, a weekend of {days.settlement_systems[currency]}"
            raise RefutedError(Finding.VALUE_DATE_DIFFERS, detail)


def _check_participants(log: Log) -> None:
    """Check that all active participants take part, and nobody else."""
    event = log.first(Trigger.CUT_OFF_REACHED)
    if event is None or log.cut_off is None:
        return
    in_force = log.in_force(event)
    if log.cut_off.trust_list_version not in (None, *(of.version for of in in_force)):
        detail = f"cut off under version {log.cut_off.trust_list_version}, which wasn't in force"
        raise RefutedError(Finding.TRUST_LIST_REFUSED, detail)
    always = frozenset.intersection(*map(active_in, in_force))
    ever = frozenset.union(*map(active_in, in_force))
    if left_out := always - log.participants:
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"{min(left_out)} was active at the cut-off, and is left out")
    if added := log.participants - ever:
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"{min(added)} takes part, and wasn't active at the cut-off")
    if list(log.cut_off.participants) != sorted(log.participants):
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, "the participants are out of order, or one is named twice")


def _check_deadlines(log: Log, rules: Rules) -> None:
    """Check that nobody was shut out before the time that the rulebook gives it for its cut."""
    event, closed_at = log.first(Trigger.CUTS_CLOSED), log.cuts_closed_at(rules)
    if event is None or log.cuts_closed is None or log.cut_off is None or closed_at is None:
        return
    if strangers := set(log.cuts_closed.absent) - log.participants:
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"{min(strangers)} is called absent, and doesn't take part")
    cut_off_at = log.cut_off_at(rules)
    if cut_off_at is not None and closed_at < cut_off_at - CLOCK_SLACK:
        raise RefutedError(Finding.TIME_REVERSED, f"cuts closed at {closed_at}, before the cut-off at {cut_off_at}")
    waited_for = set(log.cuts_closed.absent) & frozenset.intersection(*map(active_in, log.in_force(event)))
    if waited_for and closed_at < instant(log.cut_off.deadline_at, "the deadline for cuts"):
        detail = f"{min(waited_for)} had until {log.cut_off.deadline_at} for its cut, and was shut out at {closed_at}"
        raise RefutedError(Finding.CLOSED_EARLY, detail)
