"""What the log tells of a cycle, held against the documents: each event against the file that it is about.

Step 11 of `compliance.verifier.verify`. The log is told again from the cycle's opening, with the state, the result and
the proposals that there were at each event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from compliance.counting import counted
from compliance.cycle.approval import (
    PROPOSAL_LIFETIME_S,
    TRIGGERS,
    Action,
    four_eyes_causes,
    possible_actions,
)
from compliance.cycle.carry_over import BY_NETTING
from compliance.cycle.checks import worst
from compliance.cycle.contests import contests_in, unsupported
from compliance.cycle.cuts import bounds_of
from compliance.cycle.matching import Match, PairKey
from compliance.cycle.result import settling_minor
from compliance.cycle.states import State, Trigger, follow
from compliance.decisions import DECISION_AGE_MAX
from compliance.event_log import LoggedEvent
from compliance.export.record import FORMAT, FORMAT_2, Attendance, CycleRecord, Proposal
from compliance.statements import NettingResult
from compliance.verifier.attestations import BankWord
from compliance.verifier.documents import Documents
from compliance.verifier.editions import Edition
from compliance.verifier.findings import Finding, RefutedError, instant
from compliance.verifier.log import (
    CLOCK_SLACK,
    Approved,
    Asked,
    AttestationClosed,
    BreakNoticed,
    CutsClosed,
    Decided,
    EquivocationNoticed,
    Final,
    Instructed,
    Log,
    Netted,
    ProposalDecided,
    ProposalMade,
    ProposalWithdrawn,
    Settled,
    UsedUp,
    active_in,
    facts_of,
    trigger_of,
)
from compliance.verifier.matching import Matched
from compliance.verifier.rules import Rules

AGENT_CLOCK_SLACK = timedelta(minutes=15)
"""How far the settlement agent's clock and the coordinator's may be apart."""

DECIDED = {trigger: action for action, trigger in TRIGGERS.items()}


def check_account(editions: Sequence[Edition], matched: Matched, log: Log, rules: Rules) -> str:
    """Check everything that the log says of a cycle; return how many events that was."""
    record, documents = editions[-1].record, editions[-1].documents
    _check_attendance(record, documents, log, rules)
    _check_breaks(log, documents, matched.matches)
    _check_equivocations(log, documents)
    for contest in contests_in(log.own, record.cycle):
        if (detail := unsupported(contest, bounds_of(documents.cuts.values()).cuts)) is not None:
            raise RefutedError(Finding.CUT_CONTRADICTED, f"{contest.sender} contests what isn't so: {detail}")
    account = _Account(editions, matched, log, rules)
    for event in log.own:
        account.hear(event)
    account.end()
    return counted(len(log.own), "event")


# --- who handed in what ---------------------------------------------------------------------------------------


def _check_attendance(record: CycleRecord, documents: Documents, log: Log, rules: Rules) -> None:
    """Check that cuts and absent make up the participants, and that nothing was taken in out of its time."""
    delivered = set(documents.cuts)
    if log.cuts_closed is not None:
        absent = set(log.cuts_closed.absent)
        if absent & delivered:
            detail = f"{min(absent & delivered)} is called absent, and its cut is in the archive"
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)
        if missing := log.participants - absent - delivered:
            detail = f"{min(missing)} is neither called absent, nor is its cut in the archive"
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)
    elif documents.attested.stated or documents.attested.banks or documents.screenings:
        raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, "statements of a cycle that never attested")
    for screening in documents.screenings:
        if screening.signer not in delivered:
            detail = f"a screening of {screening.signer}, which delivered no cut"
            raise RefutedError(Finding.DOCUMENT_OUT_OF_PLACE, detail)
    if record.format == FORMAT_2:
        return
    if {of.participant for of in record.participants} != log.participants:
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, "participants.json names others than the log of the cut-off")
    _check_times(record, documents, log, rules)


def _check_times(record: CycleRecord, documents: Documents, log: Log, rules: Rules) -> None:
    # What waited for a lock is stored late, but never after the step that closes.
    closed_at = {"cut": log.cuts_closed_at(rules), "attestation": log.attestation_closed_at}
    deadlines = {
        "cut": None if log.cut_off is None else instant(log.cut_off.deadline_at, "the deadline for cuts"),
        "attestation": None if log.cuts_closed is None else instant(log.cuts_closed.deadline_at, "the deadline"),
    }
    opens_at = {"cut": log.cut_off_at(rules), "attestation": log.cuts_closed_at(rules)}
    handed_in = {bank for of in documents.attested.stated for bank in of.signers} | documents.attested.banks.keys()
    digests = {(signed.signer, signed.sha256) for signed in documents.screenings}
    screened = {signed.signer for signed in documents.screenings}
    for of in record.participants:
        if (of.cut_at is not None) is not (of.participant in documents.cuts):
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"participants.json: the cut of {of.participant}")
        if of.screening is None and of.participant in screened:
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"participants.json: no screening of {of.participant}")
        if of.screening is not None and (of.participant, of.screening) not in digests:
            detail = f"participants.json: the screening {of.screening} of {of.participant} isn't in the archive"
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)
        if record.format == FORMAT:
            _check_word(of, documents.attested.banks.get(of.participant))
        if (of.attested_at is not None or of.participant in handed_in) and of.cut_at is None:
            raise RefutedError(Finding.PARTICIPANTS_DIFFER, f"{of.participant} attested without a cut")
        for what, text in (("cut", of.cut_at), ("attestation", of.attested_at)):
            if text is None:
                continue
            at, deadline, opening = instant(text, f"the {what} of {of.participant}"), deadlines[what], opens_at[what]
            closed = closed_at[what]
            if deadline is None or opening is None or at > max(deadline, closed or deadline) + CLOCK_SLACK:
                detail = f"the {what} of {of.participant} came at {text}, and the deadline was {deadline}"
                raise RefutedError(Finding.SUBMITTED_LATE, detail)
            if at < opening - CLOCK_SLACK:
                raise RefutedError(Finding.TIME_REVERSED, f"the {what} of {of.participant} came at {text}, too early")


def _check_word(of: Attendance, word: BankWord | None) -> None:
    """Check that participants.json says of a bank what it signed: that it stated all, and what it screened."""
    if of.attested_at is not None and (word is None or not word.complete):
        detail = f"participants.json: {of.participant} attested all at {of.attested_at}, and signed no such thing"
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)
    counting = None if word is None else word.screening
    if of.screening != counting:
        detail = f"participants.json: the screening {of.screening} of {of.participant}, which attested {counting} last"
        raise RefutedError(Finding.PARTICIPANTS_DIFFER, detail)


def _check_breaks(log: Log, documents: Documents, matches: Mapping[PairKey, Match]) -> None:
    """Check that each break of the log is one of the documents, and that the log tells of each that stayed."""
    notices = [(event.id, facts_of(event, BreakNoticed)) for event in log.own if event.type == "cycle.break"]
    keys = {notice.key for _, notice in notices}
    # The newest that either bank signed: one may have gone on before the other agreed to what it said earlier.
    newest: defaultdict[PairKey, int] = defaultdict(int)
    for p, *_ in documents.attested.stated if keys else ():
        if p.key in keys:
            newest[p.key] = max(newest[p.key], p.revision)
    for number, notice in notices:
        if not 0 < notice.revision <= newest[notice.key]:
            raise RefutedError(Finding.BREAK_DIFFERS, f"event {number}: nobody signed revision {notice.revision}")
        if notice.resolved and matches[notice.key].status != "agreed":
            raise RefutedError(Finding.BREAK_DIFFERS, f"event {number} calls the break of {_pair(notice.key)} resolved")
    different = {notice.key for _, notice in notices if notice.kind == "different"}
    for key, outcome in matches.items():
        if outcome.status == "different" and key not in different:
            raise RefutedError(Finding.BREAK_DIFFERS, f"the log tells of no break of {_pair(key)}")


def _check_equivocations(log: Log, documents: Documents) -> None:
    events = [facts_of(event, EquivocationNoticed) for event in log.own if event.type == "cycle.equivocation"]
    said = {(notice.participant, notice.first, notice.second) for notice in events}
    proven = {tuple(proof) for proof in documents.equivocations}
    if said != proven or len(events) != len(documents.equivocations):
        who = ", ".join(sorted({accusation[0] for accusation in said ^ proven})) or "one, twice"
        raise RefutedError(Finding.EQUIVOCATION_DIFFERS, f"log and archive tell of different equivocations: {who}")


def _pair(key: PairKey) -> str:
    return f"{key[0]} {'/'.join(key[1:])}"


# --- what was done --------------------------------------------------------------------------------------------


class _Account:
    """Goes through the events of a cycle with what there was at each: state, result, attempt, proposals."""

    def __init__(self, editions: Sequence[Edition], matched: Matched, log: Log, rules: Rules) -> None:
        self._log = log
        self._cuts_closed_at = log.cuts_closed_at(rules)
        self._editions = editions
        self._results = [of.documents.result for of in editions if of.documents.result is not None]
        self._finality = editions[-1].documents.finality
        self._proposals = {proposal.id: proposal for proposal in editions[-1].record.proposals}
        self._made: dict[str, LoggedEvent] = {}
        self._decided: set[str] = set()
        self._withdrawn: set[str] = set()
        self._matched = matched
        self._rules = rules
        self._state = State.OPEN
        self._netted = 0
        self._attempt = 0
        self._asked_at: str | None = None
        self._asked = 0
        """How often the agent was asked to settle the result in force."""
        self._confirmed: Proposal | None = None
        self._settled: Settled | None = None
        self._steps: Mapping[Trigger, Callable[[LoggedEvent], None]] = {
            Trigger.CUTS_CLOSED: self._cuts_closed,
            Trigger.ATTESTATION_CLOSED: self._attestation_closed,
            Trigger.NETTED: self._net,
            Trigger.CHECK_FAILED: self._net,
            Trigger.INSTRUCTIONS_SIGNED: self._instructed,
            Trigger.REQUEST_REPEATED: self._asked_again,
            Trigger.AGENT_SHORT_OF_FUNDS: self._answered,
            Trigger.AGENT_REJECTED: self._answered,
            Trigger.AGENT_SETTLED: self._agent_settled,
            Trigger.RETRIES_USED_UP: self._used_up,
            Trigger.FINALITY_SIGNED: self._final,
        }

    @property
    def _edition(self) -> Edition:
        return self._editions[self._netted - 1]

    @property
    def _result(self) -> str | None:
        return self._results[self._netted - 1].sha256 if self._netted else None

    def hear(self, event: LoggedEvent) -> None:
        """Check one event against what there is, and go on from it."""
        if event.type == "proposal.made":
            self._proposal_made(event)
        elif event.type == "proposal.decided":
            self._proposal_decided(event)
        elif event.type == "proposal.withdrawn":
            self._proposal_withdrawn(event)
        trigger = trigger_of(event)
        if trigger is None:
            return
        self._require_decision(event, trigger)
        if (step := self._steps.get(trigger)) is not None:
            step(event)
        self._state = follow(self._state, trigger)
        if event.data.get("state") != self._state:
            raise _contradicted(event, f"says that the cycle is {event.data.get('state')}")

    def end(self) -> None:
        """Check that nothing is left over that the log didn't tell of."""
        if self._netted != len(self._results):
            raise RefutedError(
                Finding.LOG_CONTRADICTED, f"{len(self._results)} results, and the log tells of {self._netted}"
            )
        if unknown := self._proposals.keys() - self._made.keys():
            detail = f"the log doesn't tell of proposal {min(unknown)}, which proposals.json holds"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        for proposal in self._proposals.values():
            if proposal.decision is not None and proposal.id not in self._decided:
                detail = f"the log doesn't tell of the decision on proposal {proposal.id}"
                raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        if self._confirmed is not None:
            detail = f"proposal {self._confirmed.id} was confirmed, and the cycle didn't move"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)

    # --- decisions

    def _proposal_made(self, event: LoggedEvent) -> None:
        said = facts_of(event, ProposalMade)
        proposal = self._proposals.get(said.proposal)
        if proposal is None or said.proposal in self._made:
            detail = f"event {event.id}: proposal {said.proposal} isn't in proposals.json, or was made twice"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        kept = (proposal.action, proposal.made_by, proposal.reason, proposal.subject_sha256, proposal.participants)
        if kept != (said.action, said.by, said.reason, said.subject_sha256, said.participants):
            detail = f"event {event.id} and proposals.json say different things of proposal {proposal.id}"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        self._require_possible(event, proposal)
        self._require_close(event, proposal.made_at, f"proposal {proposal.id} was made")
        self._made[proposal.id] = event

    def _proposal_decided(self, event: LoggedEvent) -> None:
        said = facts_of(event, ProposalDecided)
        proposal, made = self._proposals.get(said.proposal), self._made.get(said.proposal)
        if proposal is None or made is None or said.proposal in self._decided:
            detail = f"event {event.id}: proposal {said.proposal} was never made, or is decided twice"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        kept = (proposal.action, proposal.decision, proposal.decided_by, proposal.decision_reason)
        if kept != (said.action, said.decision, said.by, said.reason) or proposal.decided_at is None:
            detail = f"event {event.id} and proposals.json say different things of proposal {proposal.id}"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        lifetime = timedelta(seconds=PROPOSAL_LIFETIME_S)
        made_at, decided_at = instant(proposal.made_at, proposal.id), instant(proposal.decided_at, proposal.id)
        logged_after = instant(event.at, proposal.id) - instant(made.at, proposal.id)
        if decided_at >= made_at + lifetime or logged_after > lifetime + CLOCK_SLACK:
            detail = f"proposal {proposal.id} of {proposal.made_at} was decided at {proposal.decided_at}, too late"
            raise RefutedError(Finding.PROPOSAL_EXPIRED, detail)
        if decided_at < made_at - CLOCK_SLACK:
            raise RefutedError(Finding.TIME_REVERSED, f"proposal {proposal.id} was decided before it was made")
        self._require_close(event, proposal.decided_at, f"proposal {proposal.id} was decided")
        if proposal.id in self._withdrawn:
            detail = f"event {event.id}: proposal {proposal.id} was decided, and its maker had taken it back"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        self._require_possible(event, proposal, to_decide=True)
        self._decided.add(proposal.id)
        if proposal.decision == "confirm":
            self._confirmed = proposal

    def _proposal_withdrawn(self, event: LoggedEvent) -> None:
        said = facts_of(event, ProposalWithdrawn)
        made = self._made.get(said.proposal)
        if made is None or said.proposal in self._decided or said.by != self._proposals[said.proposal].made_by:
            detail = f"event {event.id}: {said.by} takes back proposal {said.proposal}, which wasn't his to take"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        self._withdrawn.add(said.proposal)

    def _require_close(self, event: LoggedEvent, at: str, what: str) -> None:
        """Check that something signed happened about when its event was written: nobody kept it for a better moment."""
        apart = instant(at, what) - instant(event.at, f"event {event.id}") - self._log.clocks_apart(self._rules)
        if "signed" in event.data and abs(apart) > DECISION_AGE_MAX:
            raise RefutedError(Finding.PROPOSAL_DIFFERS, f"{what} at {at}, and event {event.id} is of {event.at}")

    def _require_possible(self, event: LoggedEvent, proposal: Proposal, *, to_decide: bool = False) -> None:
        """Check that a proposal is of the result that there is, and fits the state, unless it is rejected."""
        if proposal.subject_sha256 != self._result:
            detail = f"event {event.id}: proposal {proposal.id} is of another result than the cycle has"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        rejected = to_decide and proposal.decision == "reject"
        if not rejected and proposal.action not in possible_actions(self._state):
            detail = f"event {event.id}: to {proposal.action} isn't possible in state {self._state}"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        if (proposal.action is Action.UNWIND) is not bool(proposal.participants):
            raise RefutedError(Finding.PROPOSAL_DIFFERS, f"proposal {proposal.id} names the wrong participants")

    def _require_decision(self, event: LoggedEvent, trigger: Trigger) -> None:
        """Check that a confirmed proposal moves the cycle at once, and that nothing else moves it as one would."""
        confirmed, self._confirmed = self._confirmed, None
        action = DECIDED.get(trigger)
        if trigger is Trigger.APPROVED and "proposal" not in event.data:
            self._approved_by_rulebook(event)
            return
        if action is None and confirmed is None:
            return
        if confirmed is None or action is not confirmed.action:
            detail = f"event {event.id}, {event.type}, doesn't follow from the proposal decided before it"
            raise RefutedError(Finding.PROPOSAL_DIFFERS, detail)
        said = facts_of(event, Decided)
        if (said.proposal, said.result) != (confirmed.id, self._result):
            raise _contradicted(event, f"names the proposal {said.proposal} and the result {said.result}")

    def _approved_by_rulebook(self, event: LoggedEvent) -> None:
        said, result = facts_of(event, Approved), self._current(event)
        passed = worst(self._edition.record.checks) == "pass"
        causes = four_eyes_causes(self._rules.approval, settling_minor(result.results), checks_passed=passed)
        if said.by is None or causes or said.result != self._result:
            why = ", ".join(cause.words for cause in causes) or f"the result was {self._result}"
            raise RefutedError(Finding.APPROVAL_MISSING, f"event {event.id}: approved by the rulebook, yet {why}")

    def _current(self, event: LoggedEvent) -> NettingResult:
        result = self._edition.documents.result if self._netted else None
        if result is None:
            raise _contradicted(event, "comes before any result")
        return result.document

    # --- steps

    def _cuts_closed(self, event: LoggedEvent) -> None:
        absent = facts_of(event, CutsClosed).absent
        if list(absent) != sorted(set(absent)):
            raise _contradicted(event, "names somebody twice, or out of order")

    def _attestation_closed(self, event: LoggedEvent) -> None:
        said = facts_of(event, AttestationClosed)
        if not self._results:
            if said.agreed > len(self._matched.agreed):
                raise _contradicted(event, f"tells of {said.agreed} pairs that agree")
            return
        result = self._results[0].document
        unmatched = sum(carried.reason not in BY_NETTING for carried in result.carried_over)
        agreed = len(result.statements) + len(result.carried_over) - unmatched
        if (said.agreed, said.carried_over) != (agreed, unmatched):
            detail = f"tells of {said.agreed} pairs agreed and {said.carried_over} not; they are {agreed}, {unmatched}"
            raise _contradicted(event, detail)

    def _net(self, event: LoggedEvent) -> None:
        said = facts_of(event, Netted)
        if self._netted == len(self._results):
            raise _contradicted(event, f"tells of the result {said.result}, which isn't in the archive")
        self._netted += 1
        self._asked = 0
        if said.result != self._result:
            raise _contradicted(event, f"tells of the result {said.result}, the archive holds {self._result}")
        verdicts = {check.name: check.verdict for check in self._edition.record.checks}
        failed = tuple(name for name, verdict in verdicts.items() if verdict == "fail")
        warned = tuple(name for name, verdict in verdicts.items() if verdict == "warn")
        if (said.failed, said.warned) != (failed, warned):
            detail = f"failed {', '.join(said.failed) or 'none'}; warned {', '.join(said.warned) or 'none'}"
            raise _contradicted(event, f"tells of other checks than checks.json: {detail}")
        if bool(failed) is not (trigger_of(event) is Trigger.CHECK_FAILED):
            raise _contradicted(event, "moves the cycle on although a check failed, or holds it although none did")
        figures = [
            {
                "currency": of.currency,
                "mode": of.mode,
                "value_minor": of.value_minor,
                "upper_bound_minor": of.upper_bound_minor,
                "gap_minor": of.gap_minor,
                "optimal": of.optimal,
            }
            for of in self._current(event).liquidity
        ]
        if said.liquidity != figures:
            raise _contradicted(event, "tells of other amounts than the result")

    def _instructed(self, event: LoggedEvent) -> None:
        said, count = facts_of(event, Instructed), len(self._edition.documents.instructions)
        if (said.result, said.instructions) != (self._result, count):
            raise _contradicted(event, f"tells of {said.instructions} instructions for {said.result}; they are {count}")
        agents = {instruction.settlement_agent for instruction in self._edition.documents.instructions}
        active = frozenset[str]().union(*(active_in(of, "agent") for of in self._log.in_force(event)))
        if gone := agents - active:
            detail = f"event {event.id}: instructed with {min(gone)}, which isn't an active settlement agent"
            raise RefutedError(Finding.INSTRUCTIONS_DIFFER, detail)
        self._next_attempt(event, said.attempt)

    def _asked_again(self, event: LoggedEvent) -> None:
        self._next_attempt(event, facts_of(event, Asked).attempt)

    def _next_attempt(self, event: LoggedEvent, attempt: int) -> None:
        self._asked += 1
        self._attempt += 1
        self._asked_at = event.at
        if attempt != self._attempt:
            raise _contradicted(event, f"tells of attempt {attempt}, which is number {self._attempt}")

    def _answered(self, event: LoggedEvent) -> None:
        if facts_of(event, Asked).attempt != self._attempt:
            raise _contradicted(event, f"answers another attempt than {self._attempt}")

    def _agent_settled(self, event: LoggedEvent) -> None:
        self._settled = facts_of(event, Settled)
        if self._settled.attempt != self._attempt:
            raise _contradicted(event, f"answers another attempt than {self._attempt}")
        settled_at = instant(self._settled.settled_at, f"event {event.id}")
        if self._cuts_closed_at is not None and settled_at < self._cuts_closed_at - AGENT_CLOCK_SLACK:
            detail = f"settled at {settled_at}, and cuts were taken in until {self._cuts_closed_at}"
            raise RefutedError(Finding.TIME_REVERSED, detail)

        apart = self._log.clocks_apart(self._rules)
        asked, logged = instant(self._asked_at or event.at, "the request"), instant(event.at, f"event {event.id}")
        earliest, latest = min(asked, asked + apart), max(logged, logged + apart)
        if not earliest - AGENT_CLOCK_SLACK <= settled_at <= latest + AGENT_CLOCK_SLACK:
            detail = f"settled at {settled_at}, yet asked at {asked}, and event {event.id} told of it at {logged}"
            raise RefutedError(Finding.TIME_REVERSED, detail)

    def _used_up(self, event: LoggedEvent) -> None:
        attempts = facts_of(event, UsedUp).attempts
        if attempts != self._asked or attempts < self._rules.settlement.attempts_max:
            raise _contradicted(event, f"gives up after {attempts} attempts; they were {self._asked}")

    def _final(self, event: LoggedEvent) -> None:
        said, finality = facts_of(event, Final), None if self._finality is None else self._finality.document
        if finality is None or self._settled is None or said.result != self._result:
            raise RefutedError(Finding.FINALITY_DIFFERS, f"event {event.id}: final, and the archive doesn't say so")
        settled = (self._settled.reference, self._settled.settled_at)
        if said.reference != settled[0] or (finality.agent_reference, finality.settled_at) != settled:
            detail = f"finality of {finality.agent_reference} at {finality.settled_at}, the agent answered {settled}"
            raise RefutedError(Finding.FINALITY_DIFFERS, detail)


def _contradicted(event: LoggedEvent, detail: str) -> RefutedError:
    return RefutedError(Finding.LOG_CONTRADICTED, f"event {event.id}, {event.type}: {detail}")
