"""When the log took in what was signed, and which keys counted then.

A document has no event of its own, but a stretch of the log in which it can only have come: a cut between the cut-off
and the closing of cuts, a statement while the cycle attests. A key counts for it that a trust list in force in that
stretch calls active. So a key that was revoked before signs nothing in it, nor does one that was enrolled after.
"""

from __future__ import annotations

from datetime import datetime

from compliance.cycle.states import Trigger
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord
from compliance.trust import Signers
from compliance.verifier.findings import instant
from compliance.verifier.log import CLOCK_SLACK, EquivocationNoticed, Log, facts_of, trigger_of
from compliance.verifier.rules import Rules

ASKED = frozenset({Trigger.INSTRUCTIONS_SIGNED, Trigger.REQUEST_REPEATED})
ANSWERED = frozenset({Trigger.AGENT_SETTLED, Trigger.AGENT_SHORT_OF_FUNDS, Trigger.AGENT_REJECTED})


class Moments:
    """Tells who may have signed each kind of a cycle's documents. `members` are all whom a list of the record names."""

    def __init__(self, record: CycleRecord, log: Log, rules: Rules, members: Signers, *, scheme: str) -> None:
        self.members = members
        self._log = log
        self._scheme = scheme
        self._clocks_apart = log.clocks_apart(rules)
        self._opened, self._ended = log.own[0], log.own[-1]
        self._cut_at = {of.participant: of.cut_at for of in record.participants}
        self._known: dict[tuple[range, int, int], Signers] = {}

    def cut(self, bank: str) -> Signers:
        """A cut came between cut-off and the closing of cuts, when participants.json says."""
        first, last = self._stage(Trigger.CUT_OFF_REACHED, Trigger.CUTS_CLOSED)
        if (said := self._cut_at.get(bank)) is None:
            return self._between(first, last)
        return self._between(first, last, at=instant(said, f"the cut of {bank}") - self._clocks_apart)

    def statements(self) -> Signers:
        """Attestations, and statements and screenings that are signed alone, came while the cycle attested."""
        return self._between(*self._stage(Trigger.CUTS_CLOSED, Trigger.ATTESTATION_CLOSED))

    def settled(self) -> Signers:
        """Statements of earlier cycles were signed by keys that counted at any time before the cut-off."""
        cut_off = self._log.first(Trigger.CUT_OFF_REACHED) or self._ended
        places = self._log.lists_between(self._opened, cut_off)
        until = instant(cut_off.at, "the cut-off") + CLOCK_SLACK
        return Signers((self._log.lists[at] for at in places), scheme=self._scheme, until=until, former=True)

    def accusation(self, digests: set[str]) -> Signers:
        """The second of two documents that exclude each other came right before the event that tells of both."""
        first = self._log.first(Trigger.CUT_OFF_REACHED) or self._opened
        for event in self._log.own:
            if event.type == "cycle.equivocation":
                notice = facts_of(event, EquivocationNoticed)
                if {notice.first, notice.second} == digests:
                    return self._between(first, event)
        return self._between(first, self._ended)

    def receipts(self, edition: int) -> Signers:
        """A receipt came after the instructions of its edition were signed."""
        netted = 0
        for event in self._log.own:
            trigger = trigger_of(event)
            netted += trigger in (Trigger.NETTED, Trigger.CHECK_FAILED)
            if trigger is Trigger.INSTRUCTIONS_SIGNED and netted == edition:
                return self._between(event, self._ended)
        return self._between(self._ended, self._ended)

    def answer(self, attempt: int) -> Signers:
        """The agent answered between being asked and the event that tells of its answer."""
        asked = self._of_attempt(attempt, ASKED) or self._opened
        return self._between(asked, self._of_attempt(attempt, ANSWERED) or self._ended)

    def _of_attempt(self, attempt: int, triggers: frozenset[Trigger]) -> LoggedEvent | None:
        return next((e for e in self._log.own if trigger_of(e) in triggers and e.data.get("attempt") == attempt), None)

    def _stage(self, opening: Trigger, closing: Trigger) -> tuple[LoggedEvent, LoggedEvent]:
        return self._log.first(opening) or self._ended, self._log.first(closing) or self._ended

    def _between(self, first: LoggedEvent, last: LoggedEvent, *, at: datetime | None = None) -> Signers:
        places = self._log.lists_between(first, last)
        if at is not None:
            places = self._narrowed(places, at)
        stretch = (places, first.id, last.id)
        if (known := self._known.get(stretch)) is None:
            known = self._known[stretch] = Signers(
                (self._log.lists[place] for place in places),
                scheme=self._scheme,
                since=instant(first.at, f"event {first.id}") - CLOCK_SLACK,
                until=instant(last.at, f"event {last.id}") + CLOCK_SLACK,
            )
        return known

    def _narrowed(self, places: range, at: datetime) -> range:
        """Return which of some lists were in force at a time, as far as clocks tell."""
        published = [instant(event.at, "a trust list") for event in self._log.since]
        begin, end = places[0], places[-1]
        while begin < end and published[begin] <= at - CLOCK_SLACK:
            begin += 1
        while begin < end and published[end - 1] > at + CLOCK_SLACK:
            end -= 1
        return range(begin, end + 1)
