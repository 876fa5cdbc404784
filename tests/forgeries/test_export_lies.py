"""A coordinator that lies in an export it signs itself: each lie is found by the step that looks for it."""

from __future__ import annotations

from typing import Any

import pytest
from attesting import Word, proven, silent
from clearing import (
    BY_RULEBOOK,
    COORDINATOR,
    CYCLE,
    LIMITS,
    OTHER_CYCLE,
    ROOT,
    TO_FINAL,
    A,
    B,
    C,
    D,
    approved,
    chained,
    export,
    honest,
    in_format_3,
    refused,
    repacked,
    rulebook,
    scheme,
    signed_by_operators,
)
from lying import stating, unstated
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.approval import Action
from compliance.cycle.certificate import Certificate, CertificateNode
from compliance.cycle.checks import worst
from compliance.cycle.limits import BilateralLimit, Cap, Limits
from compliance.cycle.states import Trigger
from compliance.event_log import GENESIS, LoggedEvent
from compliance.export.archive import pack, unpack
from compliance.export.record import Equivocation
from compliance.statements import (
    CarriedOver,
    CarryReason,
    CycleCut,
    Document,
    NettingResult,
    Receipt,
    SettlementFinality,
    SettlementInstruction,
)
from compliance.verifier.findings import Finding
from compliance.verifier.verify import VerificationError, verify_bytes


def lied(**changes: object) -> VerificationError:
    return refused(scheme().export(replace(honest(), **changes)))


def resigned(envelope: Envelope, bic: str, kind: type[Document], **changes: object) -> Envelope:
    document = canonical.decode(envelope.payload_bytes(), kind)
    return scheme().sign(bic, replace(document, **changes))


def result() -> NettingResult:
    assert honest().result is not None
    return canonical.decode(honest().result.payload_bytes(), NettingResult)  # type: ignore[union-attr]


def sha256_of(envelope: Envelope) -> str:
    return canonical.digest(envelope.payload_bytes())


def with_result(document: NettingResult) -> VerificationError:
    return lied(result=scheme().sign(COORDINATOR, document))


def test_trust_lists() -> None:
    s = scheme()
    stranger = dsse.sign(s.trust_list(3), SigningKey.generate())
    by_bank = s.sign(A, s.trust_list(3))
    stolen = replace(s.trust_list(3).members[0], bic="EEEEITRR")
    twice = s.sign(COORDINATOR, replace(s.trust_list(3), members=(*s.trust_list(3).members, stolen)))
    fork = s.sign(COORDINATOR, replace(s.trust_list(2), issuer="http://elsewhere"))
    for lists in ((stranger,), (by_bank,), (twice,), ()):
        error = lied(trust_lists=lists)
        assert (error.step, error.finding) == (3, Finding.TRUST_LIST_REFUSED)
    error = lied(trust_lists=(*honest().trust_lists, fork))
    assert (error.step, error.finding) == (2, Finding.FORMAT_VIOLATION)


def test_a_key_that_changes_hands_between_trust_lists() -> None:
    s = scheme()
    members = s.trust_list(3).members
    keys = {member.bic: member.keys for member in members}
    swapped = tuple(replace(m, keys=keys[{A: B, B: A}.get(m.bic, m.bic)]) for m in members)
    newest = s.sign(COORDINATOR, replace(s.trust_list(3), members=swapped))
    error = lied(trust_lists=(*honest().trust_lists, newest))
    assert (error.step, error.finding) == (3, Finding.TRUST_LIST_REFUSED)


def test_events() -> None:
    events = honest().events
    changed = replace(events[3], data={"n": "another"})
    cases = [
        (*events[:3], *events[4:]),
        (*events[:3], changed, *events[4:]),
        events[1:],
        (),
        (replace(events[0], id=1), *(replace(e, id=n) for n, e in enumerate(events[1:], 2))),
    ]
    for case in cases:
        error = lied(events=case)
        assert (error.step, error.finding) == (4, Finding.CHAIN_BROKEN)
    assert lied(events=events[:-1]).finding is Finding.STATE_CONTRADICTED
    assert events[0].prev_hash != GENESIS


def test_a_log_with_steps_that_no_cycle_takes() -> None:
    events = honest().events
    at = {event.type: place for place, event in enumerate(events) if event.cycle == CYCLE}

    def told(kind: str, **data: object) -> tuple[LoggedEvent, ...]:
        place = at[kind]
        changed = replace(events[place], data={**events[place].data, **data})
        return (*events[:place], changed, *events[place + 1 :])

    def without(kind: str) -> tuple[LoggedEvent, ...]:
        rest = (*events[: at[kind]], *events[at[kind] + 1 :])
        return tuple(replace(event, id=events[0].id + place) for place, event in enumerate(rest))

    for forged in (
        without("cycle.netted"),
        without("cycle.approved"),
        told("cycle.approved", happening="released"),
        told("cycle.approved", happening="retries_used_up"),
        told("cycle.approved", happening="approved_by_nobody"),
        told("cycle.approved", happening=None),
        (*events, replace(events[-1], id=events[-1].id + 1)),
        (*events, replace(events[0], id=events[-1].id + 1)),
    ):
        error = lied(events=chained(forged))
        assert (error.step, error.finding) == (4, Finding.STATE_CONTRADICTED), error


@pytest.mark.parametrize("name", ["cuts", "attestations", "receipts", "statements", "signed_screenings"])
def test_a_document_that_its_bank_did_not_sign(name: str) -> None:
    record = in_format_3(honest()) if name in ("statements", "signed_screenings") else honest()
    documents: tuple[Any, ...] = getattr(record, name)
    first: Envelope = documents[0].envelope if name == "attestations" else documents[0]
    by_coordinator = dsse.seal(first.payload_bytes(), first.document_type, scheme().keys[COORDINATOR])
    by_other = dsse.seal(first.payload_bytes(), first.document_type, scheme().keys[D])
    by_nobody = dsse.seal(first.payload_bytes(), first.document_type, SigningKey.generate())
    unsigned = replace(first, signatures=())
    for forged in (by_coordinator, by_other, by_nobody, unsigned):
        changed = replace(documents[0], envelope=forged) if name == "attestations" else forged
        error = refused(scheme().export(replace(record, **{name: (changed, *documents[1:])})))
        assert (error.step, error.finding) == (5, Finding.SIGNATURE_REFUSED)


def test_coordinator_documents_signed_by_a_bank() -> None:
    record = honest()
    assert record.result is not None
    assert record.finality is not None
    by_bank = dsse.seal(record.result.payload_bytes(), record.result.document_type, scheme().keys[A])
    assert (lied(result=by_bank).step, lied(result=by_bank).finding) == (5, Finding.SIGNATURE_REFUSED)
    by_bank = dsse.seal(record.finality.payload_bytes(), record.finality.document_type, scheme().keys[A])
    assert lied(finality=by_bank).step == 5


@pytest.mark.parametrize("name", ["cuts", "attestations", "screenings", "instructions"])
def test_documents_of_another_cycle(name: str) -> None:
    other = scheme().record(OTHER_CYCLE)
    error = lied(**{name: (*getattr(honest(), name)[1:], getattr(other, name)[0])})
    assert (error.step, error.finding) == (5, Finding.WRONG_CYCLE)


@pytest.mark.parametrize("name", ["statements", "signed_screenings"])
def test_documents_of_another_cycle_that_are_signed_alone(name: str) -> None:
    record, other = in_format_3(honest()), in_format_3(scheme().record(OTHER_CYCLE))
    changed = {name: (*getattr(record, name)[1:], getattr(other, name)[0])}
    error = refused(scheme().export(replace(record, **changed)))
    assert (error.step, error.finding) == (5, Finding.WRONG_CYCLE)


def test_result_and_finality_of_another_cycle() -> None:
    other = scheme().record(OTHER_CYCLE)
    assert lied(result=other.result).finding is Finding.WRONG_CYCLE
    assert lied(finality=other.finality).finding is Finding.WRONG_CYCLE
    error = lied(attestations=other.attestations, positions=other.positions, screenings=other.screenings)
    assert (error.step, error.finding) == (5, Finding.WRONG_CYCLE)


def test_two_statements_of_one_bank_for_one_place() -> None:
    """Under an attestation, B states what A does too; alone, A states something else once more."""
    other = replace(scheme().agreed()[0], flows=scheme().statement(A, B, 5, 5).flows)
    both = [*scheme().words(), Word(A, (other,)), Word(B, (other,))]
    error = refused(scheme().export(stating(both)))
    assert (error.step, error.finding) == (6, Finding.DOCUMENT_OUT_OF_PLACE)
    first = silent(scheme().words(), scheme().agreed()[0], of=(B,))
    error = refused(scheme().export(stating([*first, Word(A, (other,)), Word(B, (other,))])))
    assert (error.step, error.finding) == (6, Finding.SIGNED_TWICE)
    record = in_format_3(honest())
    error = refused(scheme().export(replace(record, statements=(*record.statements, scheme().sign(A, other)))))
    assert (error.step, error.finding) == (5, Finding.SIGNED_TWICE)


def test_a_false_accusation() -> None:
    ab, ac, bc, _ = scheme().agreed()
    ours, theirs = Word(A, (ab, ac)), Word(B, (ab, bc))
    other = replace(ab, flows=scheme().statement(A, B, 5, 5).flows)
    for bank, first, second in (
        (A, (ours, ab), (ours, ab)),
        (A, (ours, ab), (ours, ac)),
        (A, (ours, ab), (theirs, ab)),
        (B, (ours, ab), (Word(A, (other,)), other)),
        (A, (ours, ab), (Word(B, (other,)), other)),
    ):
        proofs = (proven(scheme().sign, CYCLE, *first), proven(scheme().sign, CYCLE, *second))
        error = lied(equivocations=(Equivocation(participant=bank, proven=proofs),))
        assert (error.step, error.finding) == (5, Finding.FALSE_ACCUSATION)
        alone = (scheme().sign(first[0].bank, first[1]), scheme().sign(second[0].bank, second[1]))
        error = lied(equivocations=(Equivocation(participant=bank, first=alone[0], second=alone[1]),))
        assert (error.step, error.finding) == (5, Finding.FALSE_ACCUSATION)
    attestations = honest().attestations[0].envelope, honest().attestations[5].envelope
    error = lied(equivocations=(Equivocation(participant=A, first=attestations[0], second=attestations[1]),))
    assert (error.step, error.finding) == (5, Finding.FALSE_ACCUSATION)


def test_an_accusation_that_proves_nothing() -> None:
    genuine = honest().equivocations[0]
    assert genuine.proven is not None
    first, second = genuine.proven
    alone = scheme().sign(D, scheme().statement(C, D, 6, 6))
    for proofs in (
        (first, replace(second, statement=first.statement)),
        (first, replace(second, index=1)),
        (first, replace(second, path=(ROOT,))),
        (first, replace(second, attestation=first.attestation)),
        (first, replace(second, statement=second.statement.replace(',"pair"', ', "pair"'))),
        (replace(first, attestation=honest().attestations[2].envelope), second),
    ):
        error = lied(equivocations=(replace(genuine, proven=proofs),))
        assert (error.step, error.finding) == (5, Finding.SIGNATURE_REFUSED), error
    for forged in (
        replace(genuine, first=alone, second=alone),
        replace(genuine, proven=None),
        replace(genuine, proven=None, first=alone),
    ):
        error = lied(equivocations=(forged,))
        assert (error.step, error.finding) == (5, Finding.FORMAT_VIOLATION), error


def test_a_pair_that_one_bank_did_not_sign() -> None:
    error = refused(scheme().export(unstated(scheme().agreed()[0], of=(A,))))
    assert (error.step, error.finding) == (6, Finding.PAIR_NOT_MATCHED)
    record = in_format_3(honest())
    error = refused(scheme().export(replace(record, statements=record.statements[1:])))
    assert (error.step, error.finding) == (6, Finding.PAIR_NOT_MATCHED)


def test_a_pair_left_out_in_silence() -> None:
    document = result()
    error = with_result(replace(document, statements=document.statements[1:]))
    assert (error.step, error.finding) == (6, Finding.PAIR_LEFT_OUT)
    error = with_result(replace(document, carried_over=()))
    assert (error.step, error.finding) == (6, Finding.PAIR_LEFT_OUT)


@pytest.mark.parametrize("reason", sorted(set(CarryReason) - {CarryReason.BREAK}))
def test_a_broken_pair_carried_over_for_another_reason(reason: CarryReason) -> None:
    document = result()
    assert [one.pair for one in document.carried_over if one.reason is CarryReason.BREAK] == [(C, D)]
    carried = tuple(replace(one, reason=reason) if one.pair == (C, D) else one for one in document.carried_over)
    error = with_result(replace(document, carried_over=carried))
    assert error.step == 6
    assert error.finding in (Finding.PAIR_LEFT_OUT, Finding.PAIR_NOT_MATCHED)


def test_a_pair_of_a_suspended_bank() -> None:
    s, document = scheme(), result()
    carried = tuple(
        replace(one, reason=CarryReason.PARTICIPANT_SUSPENDED) if one.pair == (C, D) else one
        for one in document.carried_over
    )
    told = s.sign(COORDINATOR, replace(document, carried_over=carried))
    error = lied(result=told)
    assert (error.step, error.finding) == (6, Finding.PAIR_LEFT_OUT)
    assert "as participant_suspended, yet it is break" in error.detail
    members = tuple(replace(m, status="suspended") if m.bic == D else m for m in s.trust_list(3).members)
    lists = (*honest().trust_lists, s.sign(COORDINATOR, replace(s.trust_list(3), members=members)))
    # With the list that says so it is believed; what rests on the other result is refuted later.
    suspended = replace(honest(), result=told, trust_lists=lists)
    assert refused(s.export(replace(suspended, events=s.events(suspended, approved(sha256_of(told)))))).step == 8


def test_a_reason_that_there_is_not() -> None:
    document = result()
    carried = tuple(replace(one, reason="inconvenient") for one in document.carried_over)
    error = with_result(replace(document, carried_over=carried))
    assert (error.step, error.finding) == (5, Finding.SIGNATURE_REFUSED)
    assert "schema_violation" in error.detail


@pytest.mark.parametrize("reason", ["break", "not_attested", "cut_missing", "cut_contested"])
def test_a_matched_pair_carried_over_for_a_false_reason(reason: str) -> None:
    document = result()
    first = document.statements[0]
    carried = (*document.carried_over, CarriedOver(pair=first.pair, currency=first.currency, reason=reason))
    error = with_result(replace(document, statements=document.statements[1:], carried_over=carried))
    assert (error.step, error.finding) == (6, Finding.PAIR_LEFT_OUT)


def test_a_broken_pair_excused_by_a_cap() -> None:
    document = result()
    carried = tuple(replace(one, reason="net_debit_cap") for one in document.carried_over)
    assert (with_result(replace(document, carried_over=carried)).step) == 6


def test_a_statement_beyond_the_receivers_cut() -> None:
    short = replace(canonical.decode(honest().cuts[1].payload_bytes(), CycleCut), lanes=())
    error = lied(cuts=(honest().cuts[0], scheme().sign(B, short), *honest().cuts[2:]))
    assert (error.step, error.finding) == (6, Finding.CUT_CONTRADICTED)


def test_an_altered_net() -> None:
    document = result()
    positions = document.results[0].positions
    altered = (replace(positions[0], net_minor="-7499"), replace(positions[1], net_minor="6799"), *positions[2:])
    error = with_result(
        replace(document, results=(replace(document.results[0], positions=altered), *document.results[1:]))
    )
    assert (error.step, error.finding) == (7, Finding.RESULT_DIFFERS)
    assert "results[0].positions[0].net_minor is '-7499' signed, '-7500' computed" in error.detail


def test_an_altered_net_with_the_old_manifest() -> None:
    """The brief forgery: alter a net and sign the manifest with whatever key is at hand."""
    document = result()
    positions = tuple(replace(p, net_minor="0") for p in document.results[0].positions)
    forged = replace(document, results=(replace(document.results[0], positions=positions), *document.results[1:]))
    files = {**unpack(export()), "result.jsonl": canonical.encode(scheme().sign(COORDINATOR, forged)) + b"\n"}
    assert refused(pack(files)).finding is Finding.FILE_CHANGED
    assert refused(repacked(files, SigningKey.generate())).finding is Finding.MANIFEST_UNSIGNED
    assert refused(repacked(files)).finding is Finding.RESULT_DIFFERS


def test_another_rulebook_or_limit() -> None:
    other = replace(honest(), rulebook=rulebook("never"))
    assert (refused(scheme().export(other)).step, refused(scheme().export(other)).finding) == (
        4,
        Finding.LOG_CONTRADICTED,
    )
    error = refused(scheme().export(replace(other, events=scheme().events(other, approved(ROOT)))))
    assert (error.step, error.finding) == (7, Finding.RESULT_DIFFERS)
    assert error.detail.startswith("the result: rulebook")
    twice = (*LIMITS.caps, replace(LIMITS.caps[0], cap_minor="1"))
    granted = BilateralLimit(participant=B, counterparty=A, currency="EUR", limit_minor="7499")
    tighter = Cap(participant=A, currency="EUR", cap_minor="0")
    for limits in (
        Limits(),
        replace(LIMITS, caps=twice),
        replace(LIMITS, bilateral=(granted,)),
        replace(LIMITS, caps=(*LIMITS.caps, tighter)),
    ):
        assert lied(limits=limits).step == 7
    assert lied(value_date="2026-03-03").finding is Finding.VALUE_DATE_DIFFERS
    assert lied(result=None).step == 7


@pytest.mark.parametrize(
    "forged",
    [
        {"value_minor": "102541"},
        {"upper_bound_minor": "13201"},
        {"gap_minor": "1"},
        {"optimal": False},
        {"mode": "fifo"},
        {"work": 0},
        {"matched_minor": "13200"},
        {"certificate": "0" * 64},
    ],
)
def test_a_forged_bound(forged: dict[str, object]) -> None:
    eur, usd = result().liquidity
    error = with_result(replace(result(), liquidity=(replace(eur, **forged), usd)))
    assert (error.step, error.finding) == (7, Finding.RESULT_DIFFERS)
    assert error.detail.startswith(f"the result: liquidity[0].{next(iter(forged))}")


@pytest.mark.parametrize(
    "forged",
    [
        (),
        honest().certificates[:1],
        (replace(honest().certificates[0], upper_bound_minor="13201"), honest().certificates[1]),
        (replace(honest().certificates[0], proof="everything_settles"), honest().certificates[1]),
        (replace(honest().certificates[0], nodes=(CertificateNode(parent=-1),)), honest().certificates[1]),
    ],
)
def test_a_forged_certificate(forged: tuple[Certificate, ...]) -> None:
    error = lied(certificates=forged)
    assert (error.step, error.finding) == (7, Finding.CERTIFICATE_DIFFERS)


def test_a_forged_certificate_that_the_result_names() -> None:
    """Whoever signs the result can name any certificate, but not one that proves what isn't so."""
    eur, usd = honest().certificates
    lower = replace(eur, upper_bound_minor="13199")
    signed = replace(result().liquidity[0], certificate=canonical.digest(canonical.encode(lower)))
    forged = scheme().sign(COORDINATOR, replace(result(), liquidity=(signed, result().liquidity[1])))
    assert lied(result=forged, certificates=(lower, usd)).finding is Finding.RESULT_DIFFERS


def test_instructions() -> None:
    made = honest().instructions
    more = resigned(made[0], COORDINATOR, SettlementInstruction, net_minor="-1")
    agentless = tuple(resigned(one, COORDINATOR, SettlementInstruction, settlement_agent=A) for one in made)
    elsewhere = resigned(made[0], COORDINATOR, SettlementInstruction, id=f"{CYCLE}/{D}/EUR", participant=D)
    for case in ((more, *made[1:]), made[1:], agentless, (*made, elsewhere), ()):
        error = lied(instructions=case)
        assert (error.step, error.finding) == (8, Finding.INSTRUCTIONS_DIFFER)


def test_receipts() -> None:
    receipt = canonical.decode(honest().receipts[0].payload_bytes(), Receipt)
    for changes in ({"sha256": ROOT}, {"instruction": f"{CYCLE}/{B}/EUR"}):
        error = lied(receipts=(scheme().sign(A, replace(receipt, **changes)),))
        assert (error.step, error.finding) == (8, Finding.RECEIPT_DIFFERS)
    assert verify_bytes(scheme().export(replace(honest(), receipts=())), scheme().anchor).state == "final"


def test_the_maker_is_the_checker() -> None:
    proposal = honest().proposals[0]
    for person in ("alice", " Alice ", "\uff41lice", "al\u00adice"):
        error = lied(proposals=(replace(proposal, decided_by=person),))
        assert (error.step, error.finding) == (9, Finding.MAKER_IS_CHECKER)
    assert lied(proposals=(replace(proposal, decided_by=None),)).finding is Finding.MAKER_IS_CHECKER


@pytest.mark.parametrize(
    "changes",
    [
        None,
        {"decision": "reject"},
        {"decision": None, "decided_by": None},
        {"action": Action.HOLD},
        {"action": Action.RELEASE},
        {"subject_sha256": ROOT},
        {"subject_sha256": None},
        {"id": "0191"},
    ],
)
def test_an_approval_that_nobody_gave(changes: dict[str, object] | None) -> None:
    proposals = () if changes is None else (replace(honest().proposals[0], **changes),)
    error = lied(proposals=proposals)
    assert (error.step, error.finding) == (9, Finding.APPROVAL_MISSING)
    assert "cycle.approved without" in error.detail
    # Nor is it the rulebook's to give, whatever the log says.
    by_rulebook = scheme().events(honest(), BY_RULEBOOK)
    if changes != {"id": "0191"}:
        error = lied(proposals=proposals, events=by_rulebook)
        assert (error.step, error.finding) == (9, Finding.APPROVAL_MISSING)
        assert "the rulebook always asks for it" in error.detail


def test_one_confirmation_moves_a_cycle_once() -> None:
    document, result_digest = result(), honest().proposals[0].subject_sha256 or ""
    twice = (*approved(result_digest), *TO_FINAL[:1], (Trigger.AGENT_REJECTED, {}))
    release = {"proposal": "0192", "result": result_digest}
    steps = (*twice, (Trigger.RELEASED, release), approved(result_digest)[1])
    released = replace(honest().proposals[0], id="0192", action=Action.RELEASE)
    proposals = (*honest().proposals, signed_by_operators(released))
    record = replace(honest(), proposals=proposals)
    error = refused(scheme().export(replace(record, events=scheme().events(record, steps))))
    assert (error.step, error.finding) == (9, Finding.APPROVAL_MISSING)
    again = (*steps[:-1], approved(result_digest, "0193")[1])
    approved_again = signed_by_operators(replace(honest().proposals[0], id="0193", reason="checked again"))
    rejected = scheme().settlement(document, answered={"status": "RJCT", "reason_code": "AC04"})
    settlements = (rejected, scheme().settlement(document, attempt=2))
    record = replace(record, proposals=(*proposals, approved_again), settlements=settlements)
    data = scheme().export(replace(record, events=scheme().events(record, again)))
    assert verify_bytes(data, scheme().anchor).state == "final"


@pytest.mark.parametrize(
    ("mode", "confirmed", "lacks"),
    [
        ("always", ("release", "approve"), None),
        ("above", ("release", "approve"), None),
        ("never", ("release",), None),
        ("always", ("release",), "approve: the rulebook always asks for it, a check didn't pass"),
        ("above", ("release",), "approve: a check didn't pass"),
        ("always", ("approve",), "release: a check failed"),
        ("never", (), "release: a check failed"),
        ("never", ("approve",), "release: a check failed"),
    ],
)
def test_a_failed_check_needs_a_release_and_a_release_is_no_approval(
    mode: str, confirmed: tuple[str, ...], lacks: str | None
) -> None:
    record = scheme().record(rulebook=rulebook(mode, {"EUR": "7500", "USD": "40"}), screened=0)
    assert worst(record.checks) == "fail"
    proposal = record.proposals[0]
    proposals = tuple(signed_by_operators(replace(proposal, id=action, action=Action(action))) for action in confirmed)

    def decision(trigger: Trigger, action: str) -> tuple[Trigger, dict[str, str]]:
        return trigger, {"proposal": action, "result": proposal.subject_sha256 or ""}

    held = ((Trigger.CHECK_FAILED, {}), decision(Trigger.RELEASED, "release"))
    approval = decision(Trigger.APPROVED, "approve") if "approve" in confirmed else BY_RULEBOOK[1]
    steps = (*(held if "release" in confirmed else BY_RULEBOOK[:1]), approval)
    record = replace(record, proposals=proposals)
    data = scheme().export(replace(record, events=scheme().events(record, steps)))
    if lacks is None:
        detail = verify_bytes(data, scheme().anchor).steps[8].detail
        assert all(f"{action}: alice proposed, bob confirmed" in detail for action in confirmed)
    else:
        error = refused(data)
        assert (error.step, error.finding) == (9, Finding.APPROVAL_MISSING)
        assert error.detail.endswith(f"without a second person's {lacks}")


@pytest.mark.parametrize(
    ("mode", "thresholds", "verdict", "asked"),
    [
        ("never", {}, "warn", False),
        ("never", {}, "fail", True),
        ("above", {"EUR": "7500", "USD": "40"}, "pass", False),
        ("above", {"EUR": "7500", "USD": "40"}, "warn", True),
        ("above", {"EUR": "7499", "USD": "40"}, "pass", True),
        ("above", {"EUR": "7500"}, "pass", True),
        ("always", {}, "pass", True),
    ],
)
def test_when_four_eyes_are_asked_for(mode: str, thresholds: dict[str, str], verdict: str, asked: bool) -> None:
    record = scheme().record(
        rulebook=rulebook(mode, thresholds), screened=0 if verdict == "fail" else 12, broken=verdict == "warn"
    )
    assert worst(record.checks) == verdict
    record = replace(record, proposals=())
    unapproved = scheme().export(replace(record, events=scheme().events(record, BY_RULEBOOK)))
    if asked:
        assert refused(unapproved).finding is Finding.APPROVAL_MISSING
    else:
        assert verify_bytes(unapproved, scheme().anchor).steps[8].detail.startswith("not asked for by the rulebook")


def test_finality() -> None:
    record = honest()
    assert record.finality is not None
    for changes in ({"result": ROOT}, {"settlement_agent": A}):
        error = lied(finality=resigned(record.finality, COORDINATOR, SettlementFinality, **changes))
        assert (error.step, error.finding) == (10, Finding.FINALITY_DIFFERS)
    assert (lied(finality=None).step, lied(finality=None).finding) == (10, Finding.FINALITY_DIFFERS)
    settled = lied(state="settled", events=record.events[:-1])
    assert (settled.step, settled.finding) == (10, Finding.FINALITY_DIFFERS)
