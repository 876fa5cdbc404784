"""Lies that rest on what was truly signed: replayed, out of its time, under another edition, in an older format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest
from attesting import Word, attested
from clearing import (
    AGENT,
    AT,
    BANKS,
    BY_RULEBOOK,
    COORDINATOR,
    CYCLE,
    LIQUIDITY,
    OTHER_CYCLE,
    REFERENCE,
    ROOT,
    SHORT,
    TO_FINAL,
    A,
    Step,
    approved,
    chained,
    honest,
    in_format_2,
    refused,
    rulebook,
    scheme,
    signed_by_operators,
)
from lying import decoded, finality, index_of, not_settled_before, numbered, retold, signed_by, told, with_event
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.crypto.keys import SigningKey
from compliance.cycle.result import net_cycle
from compliance.cycle.states import Trigger
from compliance.decisions import DECISION_AGE_MAX
from compliance.event_log import LoggedEvent
from compliance.export.record import FORMAT_2, CycleRecord, Proposal
from compliance.statements import CycleCut, NettingResult, OperatorKey
from compliance.verifier.findings import Finding
from compliance.verifier.verify import verify_bytes

LATE = "2026-03-02T09:12:00.000000Z"


def result() -> NettingResult:
    document: NettingResult = decoded(honest().result, NettingResult)
    return document


def sha256() -> str:
    return canonical.digest(canonical.encode(result()))


def decided(proposal: Proposal) -> CycleRecord:
    return retold(replace(honest(), proposals=(proposal,)))


# --- decisions ------------------------------------------------------------------------------------------------


def signed_at(made_at: str = AT, decided_at: str = AT) -> CycleRecord:
    """The operators signed at other times than the record says."""
    return decided(signed_by_operators(honest().proposals[0], made_at=made_at, decided_at=decided_at))


def told_elsewhen(at: str) -> CycleRecord:
    """Operators signed and proposals.json tells of another time than the log does."""
    return decided(signed_by_operators(replace(honest().proposals[0], made_at=at, decided_at=at)))


def withdrawn_and_confirmed() -> CycleRecord:
    """The maker takes the proposal back, and the coordinator has it confirmed all the same."""
    return with_event("proposal.withdrawn", {"proposal": "0190", "by": "alice"}, at=index_of("proposal.decided"))


def decided_by_the_house() -> CycleRecord:
    """An operator of the register has the coordinator's own key."""
    key = scheme().keys[COORDINATOR]
    register = scheme().operators()
    bob = OperatorKey(name="bob", role="operator", kid=key.kid, alg="Ed25519", x=key.x, status="active")
    operators = tuple(bob if entry.name == "bob" else entry for entry in register.operators)
    return replace(honest(), operators=(signed_by(COORDINATOR, replace(register, operators=operators)),))


def opened_under(**said: str) -> CycleRecord:
    return told("cycle.opened", **said)


def register_published_in_between(version: int) -> CycleRecord:
    return with_event("operators.published", {"version": version, "sha256": ROOT}, cycle=None)


# --- settlement -----------------------------------------------------------------------------------------------


def asked_again(outcome: Trigger = Trigger.AGENT_SHORT_OF_FUNDS) -> CycleRecord:
    """Return the record of a cycle that settled at the second attempt, as it is."""
    short = scheme().settlement(result(), answered=SHORT)
    record = replace(honest(), settlements=(short, scheme().settlement(result(), attempt=2)))
    again: tuple[Step, ...] = (TO_FINAL[0], (outcome, {}), (Trigger.REQUEST_REPEATED, {}), *TO_FINAL[1:])
    return replace(record, events=scheme().events(record, approved(sha256()), again))


def answer_of_another_cycle() -> CycleRecord:
    """The agent settled the cycle before. Its answer to that is shown as the one to this cycle, under that one's id."""
    replayed = scheme().settlement(result(), message_id=f"{OTHER_CYCLE}-1")
    return replace(honest(), settlements=(replayed,))


def settled_unsaid() -> CycleRecord:
    """Not final yet: the log names another reference than the agent signed."""
    events = honest().events[:-1]
    place = next(n for n, event in enumerate(events) if event.type == "cycle.settled")
    other = replace(events[place], data={**events[place].data, "reference": "RTGS-9"})
    events = chained((*events[:place], other, *events[place + 1 :]))
    return replace(honest(), state="settled", finality=None, events=events)


def agent_suspended() -> CycleRecord:
    """Two operators suspended the settlement agent, and the coordinator instructs with it."""
    lists = []
    for version in (1, 2):
        members = scheme().trust_list(version).members
        suspended = tuple(replace(m, status="suspended") if m.bic == AGENT else m for m in members)
        lists.append(signed_by(COORDINATOR, replace(scheme().trust_list(version), members=suspended)))
    return retold(replace(honest(), trust_lists=tuple(lists)))


# --- a cycle in which nothing moves ---------------------------------------------------------------------------


def empty(reference: str = "NO-MOVEMENT", agent: str = AGENT) -> CycleRecord:
    """Return the record of a cycle to which nobody brought a payment, final."""
    rules = rulebook("never")
    cuts = tuple(signed_by(bank, CycleCut(cycle=CYCLE, receiver=bank, lanes=())) for bank in BANKS)
    netting = net_cycle(
        cycle=CYCLE,
        value_date="2026-03-02",
        rulebook_sha256=canonical.digest(rules),
        statements=[],
        limits=honest().limits,
        liquidity=LIQUIDITY,
        carried_over=[],
    )
    screenings = {bank: scheme().screening(bank) for bank in BANKS}
    digest = canonical.digest(canonical.encode(netting.result))
    record = replace(
        finality(result=digest, agent_reference=reference, settlement_agent=agent),
        rulebook=rules,
        cuts=cuts,
        **attested(scheme().sign, CYCLE, [Word(bank, (), screenings[bank]) for bank in BANKS]),
        equivocations=(),
        settled=(),
        proposals=(),
        instructions=(),
        receipts=(),
        settlements=(),
        certificates=netting.certificates,
        result=signed_by(COORDINATOR, netting.result),
        checks=scheme().checks(netting.result, [], screenings),
    )
    events = scheme().events(record, BY_RULEBOOK)
    said = {
        "cycle.matched": {"agreed": 0},
        "cycle.settled": {"reference": reference},
        "cycle.final": {"reference": reference},
    }
    return replace(record, events=chained(replace(e, data={**e.data, **said.get(e.type, {})}) for e in events))


# --- what others signed, from elsewhere -----------------------------------------------------------------------


def settled_in_a_later_cycle() -> CycleRecord:
    """A pair is left out in silence, and shown as settled by what its banks signed in the cycle after."""
    record = not_settled_before(cycle=OTHER_CYCLE)
    opening = next(event for event in record.events if event.cycle == OTHER_CYCLE)
    others = tuple(event for event in record.events if event != opening)
    return replace(record, events=numbered((*others[:8], opening, *others[8:])))


def limit_changed_later() -> CycleRecord:
    changed = replace(scheme().cap_changed(), at="2026-03-02T10:00:00.000000Z")
    return replace(honest(), limit_events=(changed,))


def older_format(change: Callable[[LoggedEvent], LoggedEvent]) -> CycleRecord:
    """Return the record in the format of before, with what the log would have to hide."""
    plain = in_format_2(honest())
    return replace(plain, events=chained(map(change, plain.events)))


def said_signed(event: LoggedEvent) -> LoggedEvent:
    return replace(event, data={**event.data, "signed": ROOT}) if event.type == "proposal.made" else event


def said_operators(event: LoggedEvent) -> LoggedEvent:
    own = event.type == "cycle.opened" and event.cycle == CYCLE
    return replace(event, data={**event.data, "operators": ROOT}) if own else event


def said_published(event: LoggedEvent) -> LoggedEvent:
    data = {"version": 4, "sha256": ROOT}
    return replace(event, type="operators.published", data=data) if event.cycle == OTHER_CYCLE else event


LIES: dict[str, tuple[Callable[[], CycleRecord], Finding]] = {
    "a proposal that was signed long before": (
        lambda: signed_at(made_at="2026-03-02T06:00:00.000000Z"),
        Finding.DECISION_REFUSED,
    ),
    "a confirmation that was signed long after": (lambda: signed_at(decided_at=LATE), Finding.DECISION_REFUSED),
    "a decision at another time than the log's": (
        lambda: told_elsewhen("2026-03-02T06:00:00.000000Z"),
        Finding.PROPOSAL_DIFFERS,
    ),
    "a proposal that was taken back is confirmed": (withdrawn_and_confirmed, Finding.PROPOSAL_DIFFERS),
    "somebody else takes a proposal back": (
        lambda: with_event("proposal.withdrawn", {"proposal": "0190", "by": "carol"}, at=index_of("proposal.decided")),
        Finding.PROPOSAL_DIFFERS,
    ),
    "an operator decides by the coordinator's key": (decided_by_the_house, Finding.DECISION_REFUSED),
    "opened under another register of operators": (lambda: opened_under(operators=ROOT), Finding.DECISION_REFUSED),
    "opened under another trust list": (lambda: opened_under(trust_list=ROOT), Finding.TRUST_LIST_REFUSED),
    "the only register was published in mid-cycle": (
        lambda: register_published_in_between(1),
        Finding.DECISION_REFUSED,
    ),
    "the agent's answer to another cycle": (answer_of_another_cycle, Finding.SETTLEMENT_DIFFERS),
    "a request for another value date": (
        lambda: replace(
            honest(),
            settlements=(scheme().settlement(result(), value_date=date(2026, 3, 2) + timedelta(days=30)),),
        ),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "an attempt is hidden with the agent's answer": (
        lambda: replace(asked_again(), settlements=asked_again().settlements[1:]),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "a shortfall that the agent never told": (
        lambda: replace(
            asked_again(),
            settlements=(replace(asked_again().settlements[0], answer=None), asked_again().settlements[1]),
        ),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "a request for an edition that wasn't in force": (
        lambda: replace(honest(), settlements=(replace(honest().settlements[0], edition=2),)),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "settled by another reference, and not final yet": (settled_unsaid, Finding.FINALITY_DIFFERS),
    "instructed with a suspended settlement agent": (agent_suspended, Finding.INSTRUCTIONS_DIFFER),
    "nothing to settle, settled by the agent": (lambda: empty(reference=REFERENCE), Finding.SETTLEMENT_DIFFERS),
    "nothing to settle, settled by a bank": (lambda: empty(agent=A), Finding.FINALITY_DIFFERS),
    "a pair that settled in a later cycle": (settled_in_a_later_cycle, Finding.DOCUMENT_OUT_OF_PLACE),
    "a limit from before that was set later": (limit_changed_later, Finding.LIMITS_DIFFER),
    "the older format, and decisions were signed": (lambda: older_format(said_signed), Finding.FORMAT_VIOLATION),
    "the older format, opened under a register": (lambda: older_format(said_operators), Finding.FORMAT_VIOLATION),
    "the older format, and a later register": (lambda: older_format(said_published), Finding.FORMAT_VIOLATION),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(lie: str) -> None:
    forged, finding = LIES[lie]
    error = refused(scheme().export(forged()))
    assert error.finding is finding, error
    assert len(error.detail) > 20


def test_what_resembles_the_lies_and_is_honest() -> None:
    within = DECISION_AGE_MAX.total_seconds() // 60
    records = [
        signed_at(made_at=f"2026-03-02T08:{60 - within:.0f}:00.000000Z", decided_at="2026-03-02T09:10:00.000000Z"),
        asked_again(),
        asked_again(),
        empty(),
        opened_under(
            operators=canonical.digest(honest().operators[0].payload_bytes()),
            trust_list=canonical.digest(honest().trust_lists[0].payload_bytes()),
        ),
        in_format_2(honest()),
    ]
    for record in records:
        assert verify_bytes(scheme().export(record), scheme().anchor).state == "final"


def test_a_proposal_that_was_taken_back_stays_undecided() -> None:
    undecided = {"decision": None, "decided_by": None, "decided_at": None, "answered": None}
    added = signed_by_operators(replace(honest().proposals[0], id="0199", reason="on second thought", **undecided))
    assert added.proposed is not None
    said = {
        "proposal": "0199",
        "action": added.action,
        "by": added.made_by,
        "reason": added.reason,
        "subject_sha256": added.subject_sha256,
        "signed": canonical.digest(added.proposed.payload_bytes()),
    }
    place = index_of("proposal.made")
    record = replace(with_event("proposal.made", said, at=place), proposals=(*honest().proposals, added))
    events = record.events
    taken_back = replace(events[place], type="proposal.withdrawn", data={"proposal": "0199", "by": "alice"})
    record = replace(record, events=numbered((*events[: place + 1], taken_back, *events[place + 1 :])))
    assert verify_bytes(scheme().export(record), scheme().anchor).state == "final"


# --- the chain of registers -----------------------------------------------------------------------------------


def test_the_registers_are_a_chain_from_the_first_one() -> None:
    first = signed_by(COORDINATOR, replace(scheme().operators(), operators=()))
    digest = canonical.digest(first.payload_bytes())
    second = signed_by(COORDINATOR, replace(scheme().operators(), version=2, supersedes=digest))
    report = verify_bytes(scheme().export(replace(honest(), operators=(first, second))), scheme().anchor)
    assert any(f"from the first one (sha256 {digest})" in sentence for sentence in report.unproven)
    alone = verify_bytes(scheme().export(replace(honest(), operators=(second,))), scheme().anchor)
    assert any("before version 2" in sentence for sentence in alone.unproven)
    stranger = SigningKey.generate()
    mallory = OperatorKey(
        name="mallory", role="operator", kid=stranger.kid, alg="Ed25519", x=stranger.x, status="active"
    )
    other = signed_by(COORDINATOR, replace(scheme().operators(), operators=(mallory,)))
    for operators in (
        (other, second),
        (signed_by(COORDINATOR, replace(scheme().operators(), version=2)),),
        (signed_by(COORDINATOR, replace(scheme().operators(), supersedes=digest)),),
    ):
        error = refused(scheme().export(replace(honest(), operators=operators)))
        assert error.finding is Finding.DECISION_REFUSED


def test_a_cycle_that_was_under_way_when_operators_began_to_sign() -> None:
    """It stays in the format of before: who was an operator when it opened, nobody can say."""
    plain = in_format_2(honest())
    first = {"version": 1, "sha256": ROOT}
    events = chained(
        replace(event, type="operators.published", cycle=None, data=first) if event.cycle == OTHER_CYCLE else event
        for event in plain.events
    )
    report = verify_bytes(scheme().export(replace(plain, events=events)), scheme().anchor)
    assert (report.format, report.state) == (FORMAT_2, "final")


def test_deadlines_by_another_clock_than_the_log_s_are_named() -> None:
    """Banks are shut out early: every deadline is told as if it had been four minutes before."""

    def earlier(event: LoggedEvent) -> LoggedEvent:
        moved = {
            name: (datetime.fromisoformat(at) - timedelta(minutes=4)).isoformat().replace("+00:00", "Z")
            for name, at in event.data.items()
            if name in ("deadline_at", "closed_at")
        }
        return replace(event, data={**event.data, **moved})

    times = {"cut_at": "2026-03-02T08:56:30Z", "attested_at": "2026-03-02T09:00:00Z"}
    attended = tuple(replace(of, **times) for of in honest().participants)
    record = replace(honest(), participants=attended, events=chained(map(earlier, honest().events)))
    report = verify_bytes(scheme().export(record), scheme().anchor)
    assert any("a clock that differs from the log's by 240 s" in sentence for sentence in report.unproven)
    as_it_is = verify_bytes(scheme().export(honest()), scheme().anchor)
    assert not any("clock" in sentence for sentence in as_it_is.unproven)
