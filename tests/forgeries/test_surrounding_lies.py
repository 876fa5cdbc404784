"""Lies about what went on around a cycle: other cycles, members, operators, and who was shown what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import pytest
from clearing import (
    AGENT,
    BY_RULEBOOK,
    COORDINATOR,
    OTHER_CYCLE,
    ROOT,
    SHORT,
    TO_FINAL,
    A,
    B,
    D,
    approved,
    honest,
    published,
    refused,
    rulebook,
    scheme,
    signed_by_operators,
)
from lying import (
    Lie,
    changed_event,
    decoded,
    index_of,
    numbered,
    retold,
    retold_settled,
    signed_by,
    with_event,
)
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action
from compliance.cycle.audience import audience
from compliance.cycle.states import Trigger
from compliance.event_log import LoggedEvent
from compliance.export.record import CycleRecord, SignedSettlement
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE
from compliance.statements import Member, NettingResult, OperatorRegister, TrustKey
from compliance.verifier.findings import Finding
from compliance.verifier.verify import Report, verify_bytes


def verified(record: CycleRecord) -> Report:
    return verify_bytes(scheme().export(record), scheme().anchor)


def result() -> NettingResult:
    document: NettingResult = decoded(honest().result, NettingResult)
    return document


def sha256() -> str:
    return canonical.digest(canonical.encode(result()))


def short(attempt: int = 1, **answered: str) -> SignedSettlement:
    return scheme().settlement(result(), attempt=attempt, answered={**SHORT, **answered})


# --- the settlement agent -------------------------------------------------------------------------------------


def given_up(*settlements: SignedSettlement) -> CycleRecord:
    """The agent was short of funds twice, as the log says."""
    record = replace(honest(), state="abandoned", finality=None, settlements=settlements)
    after = (
        TO_FINAL[0],
        (Trigger.AGENT_SHORT_OF_FUNDS, {}),
        (Trigger.REQUEST_REPEATED, {}),
        (Trigger.AGENT_SHORT_OF_FUNDS, {}),
        (Trigger.RETRIES_USED_UP, {"attempts": 2}),
    )
    return replace(record, events=scheme().events(record, approved(sha256()), after))


def rejected(settlement: SignedSettlement) -> CycleRecord:
    """The agent refused to settle, as the log says, and two operators abandoned the cycle."""
    abandon = signed_by_operators(
        replace(honest().proposals[0], id="0191", action=Action.ABANDON, made_by="carol", decided_by="alice")
    )
    record = replace(
        honest(),
        state="abandoned",
        finality=None,
        settlements=(settlement,),
        proposals=(*honest().proposals, abandon),
    )
    decided = {"proposal": "0191", "result": sha256()}
    after = (TO_FINAL[0], (Trigger.AGENT_REJECTED, {}), (Trigger.ABANDONED, decided))
    return replace(record, events=scheme().events(record, approved(sha256()), after))


def test_what_the_agent_signed_is_believed() -> None:
    assert "2 requests to the agent, none settled" in verified(given_up(short(), short(2))).steps[9].detail
    assert verified(rejected(short(reason_code="AC04"))).state == "abandoned"


# --- other cycles ---------------------------------------------------------------------------------------------


def overtaken(by: str) -> CycleRecord:
    """The cycle was stuck once it was netted, and the next one overtook it."""
    record = replace(
        honest(), state="abandoned", finality=None, settlements=(), instructions=(), receipts=(), proposals=()
    )
    events = scheme().events(record, ((Trigger.NETTED, {}), (Trigger.OVERTAKEN, {"overtaken_by": by})), ())
    data = {"state": "netted", "reason": "agent_inactive", "detail": "none", "failures": 2}
    stuck = replace(events[-1], type="cycle.stuck", data=data, audience=())
    return replace(record, events=numbered((*events[:-1], stuck, events[-1])))


def with_events(*told: tuple[str, str | None, dict[str, Any]], at: int) -> CycleRecord:
    """Return the record with more events in its log, shown to whom they are for."""
    events = honest().events
    added = [
        replace(events[at], type=kind, cycle=cycle, data=data, audience=audience(kind, data))
        for kind, cycle, data in told
    ]
    return replace(honest(), events=numbered((*events[:at], *added, *events[at:])))


def test_the_cycle_before_may_end_until_this_one_is_cut_off() -> None:
    before = "2026-03-01-01"
    ending: Iterable[tuple[str, str | None, dict[str, Any]]] = (
        ("cycle.settled", before, {"happening": "agent_settled", "state": "settled"}),
        ("cycle.final", before, {"happening": "finality_signed", "state": "final"}),
    )
    assert verified(with_events(*ending, at=1)).state == "final"
    for late in (2, 8):
        assert refused(scheme().export(with_events(*ending, at=late))).finding is Finding.LOG_CONTRADICTED
    unfinished = with_events(("cycle.held", before, {"happening": "held", "state": "held"}), at=1)
    assert refused(scheme().export(unfinished)).finding is Finding.LOG_CONTRADICTED


def test_an_overtaken_cycle_is_believed_and_named() -> None:
    assert any("was stuck when the next one overtook it" in said for said in verified(overtaken(OTHER_CYCLE)).unproven)


# --- members and operators ------------------------------------------------------------------------------------


def listed(change: Callable[[Member], Member | None], *, told: bool = True) -> CycleRecord:
    """Return the record whose second list, published in mid-cycle, has other members; untold, the log is silent."""
    second = scheme().trust_list(2)
    members = tuple(changed for member in second.members if (changed := change(member)) is not None)
    lists = (honest().trust_lists[0], signed_by(COORDINATOR, replace(second, members=members)))
    record = retold(replace(honest(), trust_lists=lists))
    return record if told else without_changes(record)


def of(bic: str, **changes: Any) -> Callable[[Member], Member]:
    return lambda member: replace(member, **changes) if member.bic == bic else member


AGENT_KEY = SigningKey.generate()


def agent_by_other_key(*, told: bool) -> CycleRecord:
    """The agent has another key in the second list, and its answer is signed by that."""
    key = TrustKey(kid=AGENT_KEY.kid, alg="Ed25519", x=AGENT_KEY.x, use="sign", status="active")
    settlement = honest().settlements[0]
    assert settlement.answer is not None
    answer = dsse.seal(settlement.answer.payload_bytes(), SETTLEMENT_ANSWER_TYPE, AGENT_KEY)
    return replace(listed(of(AGENT, keys=(key,)), told=told), settlements=(replace(settlement, answer=answer),))


def maker_removed() -> CycleRecord:
    """Alice proposed, a register took her out, and then bob confirmed."""
    first = honest().operators[0]
    register = decoded(first, OperatorRegister)
    without = tuple(replace(one, status="removed") if one.name == "alice" else one for one in register.operators)
    second = signed_by(
        COORDINATOR,
        replace(register, version=2, supersedes=canonical.digest(first.payload_bytes()), operators=without),
    )
    data = {"version": 2, "sha256": canonical.digest(second.payload_bytes())}
    record = with_event("operators.published", data, at=index_of("proposal.decided"), cycle=None)
    return replace(record, operators=(first, second))


CAP = {"bic": D, "currency": "USD", "cap_minor": "9000"}
SUSPENDED = {"bic": B, "change": "status", "previous": "active", "status": "suspended"}


def acted(subject: str, **changes: Any) -> dict[str, Any]:
    terms = {name: value for name, value in CAP.items() if name != "bic"}
    return {"by": "alice, bob", "action": "cap", "subject": subject, "reason": "agreed", **terms, **changes}


def test_what_operators_did_is_counted_and_named() -> None:
    """After the netting another cap changes nothing in this cycle."""
    told = (("cap.changed", None, CAP), ("operator.acted", None, acted(D)))
    unproven = verified(with_events(*told, at=index_of("cycle.instructed"))).unproven
    assert any("what operators did besides" in said and f"cap {D} alice, bob" in said for said in unproven)


def test_a_member_suspended_after_matching_settles() -> None:
    """It owes what it signed. So it is with a list that the log tells of, and a suspension that a list tells of."""
    assert verified(suspended_late()).state == "final"


def dropped_in_silence() -> CycleRecord:
    """A's receipts are left out, which it could sign no more."""
    record = late(lambda member: None if member.bic == A else member)
    return without_changes(replace(record, receipts=()))


def without_changes(record: CycleRecord) -> CycleRecord:
    return replace(record, events=numbered(tuple(e for e in record.events if e.type != "participant.changed")))


def suspended_late() -> CycleRecord:
    return late(of(B, status="suspended"))


def late(change: Callable[[Member], Member | None]) -> CycleRecord:
    """Return the record whose second list has other members, and is published right before the netting."""
    second = scheme().trust_list(2)
    members = tuple(changed for member in second.members if (changed := change(member)) is not None)
    lists = (honest().trust_lists[0], signed_by(COORDINATOR, replace(second, members=members)))
    kept = tuple(event for event in honest().events if event.type != "trust_list.published")
    place = next(number for number, event in enumerate(kept) if event.type == "cycle.netted")
    told = [replace(kept[place], type=kind, cycle=cycle, data=data) for kind, cycle, data in published(lists)]
    return replace(honest(), trust_lists=lists, events=numbered((*kept[:place], *told, *kept[place:])))


def test_keys_that_changed_are_named() -> None:
    """A new key of the agent that the log tells of is what every member does now and then; whose it is, isn't shown."""
    unproven = verified(agent_by_other_key(told=True)).unproven
    assert any("keys changed" in said and AGENT in said for said in unproven)


def test_the_rulebook_is_named() -> None:
    """Whoever knows the scheme's compares: a rulebook of the coordinator's own making is as consistent."""
    record = scheme().record(rulebook=rulebook("never", version="lax"))
    record = replace(record, proposals=())
    report = verified(replace(record, events=scheme().events(record, BY_RULEBOOK)))
    assert f"rulebook lax ({canonical.digest(record.rulebook)})" in report.steps[1].detail
    adopted = with_event("rulebook.adopted", {"sha256": ROOT, "version": "lax"}, at=1, cycle=None)
    assert any(f"another rulebook ({ROOT}) was adopted" in said for said in verified(adopted).unproven)


# --- lies -----------------------------------------------------------------------------------------------------


def shown(kind: str, circle: tuple[str, ...] | None) -> CycleRecord:
    def change(event: LoggedEvent) -> LoggedEvent:
        return replace(event, audience=circle)

    return changed_event(kind, change)


LIES: dict[str, tuple[Lie, Finding]] = {
    "given up, and the agent was never asked": (given_up, Finding.SETTLEMENT_DIFFERS),
    "given up, and the second answer is missing": (
        lambda: given_up(short(), replace(short(2), answer=None)),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "rejected, and the agent signed no such answer": (
        lambda: rejected(replace(honest().settlements[0], answer=None)),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "rejected, and the agent settled": (lambda: rejected(honest().settlements[0]), Finding.SETTLEMENT_DIFFERS),
    "rejected, and the agent was short of funds": (lambda: rejected(short()), Finding.SETTLEMENT_DIFFERS),
    "short of funds, and the agent rejected": (
        lambda: given_up(short(reason_code="AC04"), short(2)),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "a request of another value date": (
        lambda: replace(honest(), settlements=(scheme().settlement(result(), value_date=date(2031, 1, 1)),)),
        Finding.SETTLEMENT_DIFFERS,
    ),
    "settled in 2099": (lambda: retold_settled("2099-01-01T00:00:00.000000Z"), Finding.TIME_REVERSED),
    "settled before it was asked for": (lambda: retold_settled("2026-03-02T08:46:30.000000Z"), Finding.TIME_REVERSED),
    "a maker who operated no more when somebody confirmed": (maker_removed, Finding.DECISION_REFUSED),
    "a bank suspended that the lists call active": (
        lambda: with_event("participant.changed", SUSPENDED, at=2, cycle=None),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a bank suspended, and no list follows": (
        lambda: with_event("participant.changed", SUSPENDED, at=index_of("cycle.instructed"), cycle=None),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a list that drops a bank in silence": (
        dropped_in_silence,
        Finding.TRUST_LIST_REFUSED,
    ),
    "a list that calls a bank suspended, in silence": (
        lambda: without_changes(suspended_late()),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a list with another key of the agent, in silence": (
        lambda: agent_by_other_key(told=False),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a break told to a stranger": (lambda: shown("cycle.break", ("ZZZZITRR",)), Finding.AUDIENCE_DIFFERS),
    "a break told to everybody": (lambda: shown("cycle.break", None), Finding.AUDIENCE_DIFFERS),
    "finality told to nobody": (lambda: shown("cycle.final", ()), Finding.AUDIENCE_DIFFERS),
    "an event that there isn't": (lambda: with_event("cycle.note", {"x": "anything"}), Finding.LOG_CONTRADICTED),
    "a second cycle opened beside the next one": (
        lambda: with_event("cycle.opened", {}, at=5, cycle="2026-03-02-09"),
        Finding.LOG_CONTRADICTED,
    ),
    "the next cycle opened twice": (
        lambda: with_event("cycle.opened", {}, at=5, cycle=OTHER_CYCLE),
        Finding.LOG_CONTRADICTED,
    ),
    "a cycle final that never opened": (
        lambda: with_event(
            "cycle.final", {"happening": "finality_signed", "state": "final"}, at=7, cycle="2026-03-01-01"
        ),
        Finding.LOG_CONTRADICTED,
    ),
    "a step of another cycle by nothing": (
        lambda: with_event("cycle.final", {"state": "final", "result": ROOT}, at=7, cycle="2026-03-01-01"),
        Finding.LOG_CONTRADICTED,
    ),
    "the next cycle cut off while this one goes on": (
        lambda: with_event(
            "cycle.cut_off", {"happening": "cut_off_reached", "state": "cut_off"}, at=7, cycle=OTHER_CYCLE
        ),
        Finding.LOG_CONTRADICTED,
    ),
    "overtaken by a cycle of another year": (lambda: overtaken("2031-01-01-01"), Finding.LOG_CONTRADICTED),
    "stuck in a state that the cycle wasn't in": (
        lambda: with_event("cycle.stuck", {"state": "held", "reason": "x", "failures": 2}, at=index_of("cycle.final")),
        Finding.LOG_CONTRADICTED,
    ),
    "operators set a cap that didn't change": (
        lambda: with_event("operator.acted", acted(D), at=3, cycle=None),
        Finding.LOG_CONTRADICTED,
    ),
    "operators set another cap than changed": (
        lambda: with_events(
            ("cap.changed", None, CAP), ("operator.acted", None, acted(D, cap_minor="1")), at=index_of("cycle.final")
        ),
        Finding.LOG_CONTRADICTED,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_what_went_on_is_refused(lie: str) -> None:
    tell, finding = LIES[lie]
    error = refused(scheme().export(tell()))
    assert error.finding is finding, str(error)
