"""Lies of a coordinator that holds its own key, and signs whatever it likes: a table, one line for each.

Every lie starts from the same honest export, changes what the coordinator alone says, keeps the rest consistent as far
as a liar would (the log is chained anew, digests follow), and is signed by the right key. Each is refused with its
reason.
"""

from __future__ import annotations

import pytest
from clearing import (
    BANKS,
    COORDINATOR,
    CYCLE,
    LIMITS,
    OTHER_CYCLE,
    ROOT,
    A,
    B,
    C,
    D,
    chained,
    export,
    honest,
    in_format_2,
    in_format_3,
    refused,
    scheme,
)
from lying import (
    Lie,
    accusation_without_event,
    approval,
    at_time,
    attended,
    capped,
    carried,
    carried_without_payments,
    checks_say,
    decoded,
    failed_without_release,
    finality,
    free_bytes,
    hidden_lane,
    honest_liquidity,
    index_of,
    instructed_twice,
    non_canonical_rulebook,
    not_settled_before,
    numbered,
    of_a_stranger,
    other_result,
    proposed_of_another_result,
    retold,
    retold_settled,
    retries,
    revision_out_of_the_blue,
    screened_twice,
    second_receipt,
    signed_by,
    stale_lists,
    suspended_from_the_start,
    told,
    told_of,
    unstated,
    with_event,
    without_bank,
    without_cut,
    without_event,
)
from msgspec.structs import replace

from compliance.cycle.approval import Action
from compliance.cycle.checks import Check
from compliance.cycle.limits import BilateralLimit, Cap, Prefunding
from compliance.export.record import FORMAT_2
from compliance.statements import (
    CarryReason,
    Receipt,
)
from compliance.verifier.findings import Finding
from compliance.verifier.verify import verify_bytes

LIES: dict[str, tuple[Lie, Finding]] = {
    # Who takes part, and when.
    "an active bank is left out": (without_bank, Finding.PARTICIPANTS_DIFFER),
    "a bank that delivered is called absent": (
        lambda: told_of(
            {
                "cycle.attesting": {"absent": [D], "deadline_at": "2026-03-02T09:06:00.500000Z"},
                "cycle.matched": {"closed_at": "2026-03-02T09:06:00.600000Z"},
            }
        ),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "a cut is hidden, and its bank isn't absent": (lambda: without_cut(D), Finding.DOCUMENT_OUT_OF_PLACE),
    "a bank is shut out before its deadline": (lambda: told("cycle.attesting", absent=[D]), Finding.CLOSED_EARLY),
    "attestation ends early, and a pair is given up": (
        lambda: told("cycle.matched", closed_at="2026-03-02T09:02:00Z"),
        Finding.CLOSED_EARLY,
    ),
    "a participant is named twice": (
        lambda: told("cycle.cut_off", participants=[A, B, C, D, D]),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "somebody takes part who isn't a member": (
        lambda: told("cycle.cut_off", participants=[*BANKS, "ZZZZITRR"]),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "participants.json leaves a bank out": (
        lambda: replace(honest(), participants=honest().participants[1:]),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "participants.json holds no cut of a bank": (lambda: attended(A, cut_at=None), Finding.PARTICIPANTS_DIFFER),
    "a late cut": (lambda: attended(A, cut_at="2026-03-02T10:00:00Z"), Finding.SUBMITTED_LATE),
    "a late statement": (lambda: attended(A, attested_at="2026-03-02T10:00:00Z"), Finding.SUBMITTED_LATE),
    "a cut from before the cut-off": (lambda: attended(A, cut_at="2026-03-02T08:00:00Z"), Finding.TIME_REVERSED),
    "a bank didn't attest, which the check doesn't say": (
        lambda: attended(B, attested_at=None),
        Finding.CHECKS_DIFFER,
    ),
    "a screening counts that nobody handed in": (lambda: attended(A, screening=ROOT), Finding.PARTICIPANTS_DIFFER),
    "a suspended bank settles": (suspended_from_the_start, Finding.PARTICIPANTS_DIFFER),
    # Trust lists.
    "an older trust list than the one in force": (
        lambda: replace(honest(), trust_lists=honest().trust_lists[:1]),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a trust list that the log doesn't tell of": (
        lambda: without_event("trust_list.published"),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a trust list of another content than the log's": (
        lambda: told("trust_list.published", sha256=ROOT),
        Finding.TRUST_LIST_REFUSED,
    ),
    "opened under another version of the trust list": (
        lambda: told("cycle.opened", trust_list_version=7),
        Finding.TRUST_LIST_REFUSED,
    ),
    "cut off under a version that wasn't in force": (
        lambda: told("cycle.cut_off", trust_list_version=2),
        Finding.TRUST_LIST_REFUSED,
    ),
    # The log by itself.
    "times run backwards": (lambda: at_time("cycle.netted", "2026-03-01T09:00:00Z"), Finding.TIME_REVERSED),
    "a time that there isn't": (lambda: at_time("cycle.netted", "2026-13-99T25:00:00Z"), Finding.FORMAT_VIOLATION),
    "a step is left out": (lambda: without_event("cycle.netted"), Finding.STATE_CONTRADICTED),
    "the log goes on": (
        lambda: replace(
            honest(),
            events=numbered((*honest().events, replace(honest().events[-1], type="operator.acted", cycle=None))),
        ),
        Finding.CHAIN_BROKEN,
    ),
    "an event says another state": (lambda: told("cycle.netted", state="held"), Finding.LOG_CONTRADICTED),
    "another value date in the log": (
        lambda: told("cycle.opened", value_date="2026-03-03"),
        Finding.VALUE_DATE_DIFFERS,
    ),
    "another value date in the record": (
        lambda: other_result(replace(honest(), value_date="2026-03-04"), value_date="2026-03-04"),
        Finding.VALUE_DATE_DIFFERS,
    ),
    "opened for other currencies": (lambda: told("cycle.opened", currencies=["EUR"]), Finding.LOG_CONTRADICTED),
    "opened under another rulebook": (lambda: told("cycle.opened", rulebook=ROOT), Finding.LOG_CONTRADICTED),
    "a rulebook that isn't canonical": (non_canonical_rulebook, Finding.FORMAT_VIOLATION),
    # Counts, digests and amounts in the log.
    "more pairs agreed than did": (lambda: told("cycle.matched", agreed=5), Finding.LOG_CONTRADICTED),
    "fewer carried over than were": (lambda: told("cycle.matched", carried_over=0), Finding.LOG_CONTRADICTED),
    "another result in the log": (lambda: told("cycle.netted", result=ROOT), Finding.LOG_CONTRADICTED),
    "a failed check that there wasn't": (
        lambda: told("cycle.netted", failed=["net_debit_caps"]),
        Finding.LOG_CONTRADICTED,
    ),
    "a warning left out of the log": (lambda: told("cycle.netted", warned=[]), Finding.LOG_CONTRADICTED),
    "another amount in the log": (
        lambda: told("cycle.netted", liquidity=[{**honest_liquidity()[0], "value_minor": "1"}, honest_liquidity()[1]]),
        Finding.LOG_CONTRADICTED,
    ),
    "fewer instructions in the log": (lambda: told("cycle.instructed", instructions=4), Finding.LOG_CONTRADICTED),
    "instructions for another result": (lambda: told("cycle.instructed", result=ROOT), Finding.LOG_CONTRADICTED),
    "an attempt is skipped": (instructed_twice, Finding.SETTLEMENT_DIFFERS),
    "an answer to another attempt": (lambda: told("cycle.settled", attempt=2), Finding.SETTLEMENT_DIFFERS),
    "given up before all attempts were made": (retries, Finding.LOG_CONTRADICTED),
    # What banks signed, hidden or out of place.
    "both statements of a pair and its lane are hidden": (hidden_lane, Finding.PAIR_LEFT_OUT),
    "one statement is hidden": (
        lambda: unstated(scheme().agreed()[0], of=(A,)),
        Finding.PAIR_NOT_MATCHED,
    ),
    "a revision is hidden of which the log tells": (
        lambda: unstated(*(of for word in scheme().words() for of in word.statements if of.pair == (C, D))),
        Finding.PAIR_LEFT_OUT,
    ),
    "a screening is hidden": (
        lambda: replace(honest(), screenings=honest().screenings[1:]),
        Finding.PARTICIPANTS_DIFFER,
    ),
    "a revision that follows none": (revision_out_of_the_blue, Finding.DOCUMENT_OUT_OF_PLACE),
    "a statement of a pair with a stranger": (of_a_stranger, Finding.DOCUMENT_OUT_OF_PLACE),
    "a screening of another cycle": (
        lambda: replace(honest(), screenings=(scheme().screening(A, OTHER_CYCLE), *honest().screenings[1:])),
        Finding.WRONG_CYCLE,
    ),
    "a signature that nobody looks at, on a cut": (lambda: free_bytes("cuts"), Finding.SIGNATURE_REFUSED),
    "a signature that nobody looks at, on an instruction": (
        lambda: free_bytes("instructions"),
        Finding.SIGNATURE_REFUSED,
    ),
    "a signature that nobody looks at, on a trust list": (
        lambda: free_bytes("trust_lists"),
        Finding.TRUST_LIST_REFUSED,
    ),
    "a second receipt": (second_receipt, Finding.SIGNED_TWICE),
    "an idle pair that wasn't settled before": (lambda: replace(honest(), settled=()), Finding.PAIR_LEFT_OUT),
    "an idle pair settled through less than its cut": (
        lambda: not_settled_before(flows=scheme().statement(A, D, 0, 30).flows),
        Finding.CUT_CONTRADICTED,
    ),
    "an idle pair settled in this very cycle": (lambda: not_settled_before(cycle=CYCLE), Finding.WRONG_CYCLE),
    "an idle pair that one bank signed for": (
        lambda: replace(honest(), settled=honest().settled[:1]),
        Finding.PAIR_NOT_MATCHED,
    ),
    # Pairs carried over.
    "a broken pair was suspended": (lambda: carried(CarryReason.PARTICIPANT_SUSPENDED), Finding.PAIR_LEFT_OUT),
    "a broken pair delivered no cut": (lambda: carried(CarryReason.CUT_MISSING), Finding.PAIR_LEFT_OUT),
    "a broken pair wasn't attested": (lambda: carried(CarryReason.NOT_ATTESTED), Finding.PAIR_LEFT_OUT),
    "a broken pair is in default": (lambda: carried(CarryReason.PARTICIPANT_DEFAULT), Finding.PAIR_NOT_MATCHED),
    "a matched pair broke": (lambda: carried(CarryReason.BREAK, A, B), Finding.PAIR_LEFT_OUT),
    "a matched pair is beyond a limit": (lambda: carried(CarryReason.BILATERAL_LIMIT, A, B), Finding.RESULT_DIFFERS),
    "a pair is carried over that has no payments": (carried_without_payments, Finding.PAIR_LEFT_OUT),
    # Breaks and equivocations.
    "the log tells of no break": (lambda: without_event("cycle.break", 2), Finding.BREAK_DIFFERS),
    "a break that nobody signed": (
        lambda: with_event("cycle.break", {"pair": [B, D], "currency": "EUR", "revision": 1, "kind": "different"}),
        Finding.BREAK_DIFFERS,
    ),
    "a break of a revision that neither bank signed": (
        lambda: told("cycle.break", 1, revision=3),
        Finding.BREAK_DIFFERS,
    ),
    "a break of no revision": (lambda: told("cycle.break", 1, revision=0), Finding.BREAK_DIFFERS),
    "a break that stayed is resolved": (lambda: told("cycle.break", 2, resolved=True), Finding.BREAK_DIFFERS),
    "an equivocation that the log doesn't tell of": (accusation_without_event, Finding.EQUIVOCATION_DIFFERS),
    "an equivocation that the archive doesn't prove": (
        lambda: replace(honest(), equivocations=()),
        Finding.EQUIVOCATION_DIFFERS,
    ),
    "an equivocation of other documents": (
        lambda: told("cycle.equivocation", second=ROOT),
        Finding.EQUIVOCATION_DIFFERS,
    ),
    "who screened again is called an equivocator": (screened_twice, Finding.FALSE_ACCUSATION),
    # Proposals and decisions.
    "a proposal that the log doesn't tell of": (lambda: without_event("proposal.made"), Finding.DECISION_REFUSED),
    "a decision that the log doesn't tell of": (lambda: without_event("proposal.decided"), Finding.DECISION_REFUSED),
    "another maker in the log": (lambda: told("proposal.made", by="mallory"), Finding.PROPOSAL_DIFFERS),
    "another checker in the log": (lambda: told("proposal.decided", by="mallory"), Finding.PROPOSAL_DIFFERS),
    "another reason in the log": (lambda: told("proposal.made", reason="none"), Finding.PROPOSAL_DIFFERS),
    "rejected in the log": (lambda: told("proposal.decided", decision="reject"), Finding.PROPOSAL_DIFFERS),
    "decided after it expired": (
        lambda: approval(decided_at="2026-03-02T10:00:00.000000Z"),
        Finding.PROPOSAL_EXPIRED,
    ),
    "decided before it was made": (lambda: approval(decided_at="2026-03-02T08:00:00.000000Z"), Finding.TIME_REVERSED),
    "a proposal that lay for two hours in the log": (
        lambda: replace(
            honest(),
            events=chained(
                replace(e, at="2026-03-02T11:00:00Z") if place >= index_of("proposal.decided") else e
                for place, e in enumerate(honest().events)
            ),
        ),
        Finding.PROPOSAL_EXPIRED,
    ),
    "a proposal of another result": (proposed_of_another_result, Finding.PROPOSAL_DIFFERS),
    "a proposal that only the log knows": (
        lambda: replace(proposed_of_another_result(), proposals=honest().proposals),
        Finding.DECISION_REFUSED,
    ),
    "a proposal that only the archive knows": (
        lambda: replace(
            honest(),
            proposals=(
                *honest().proposals,
                replace(honest().proposals[0], id="0199", decision=None, decided_by=None, decided_at=None),
            ),
        ),
        Finding.DECISION_REFUSED,
    ),
    "a proposal twice": (lambda: replace(honest(), proposals=honest().proposals * 2), Finding.FORMAT_VIOLATION),
    "a participant twice": (
        lambda: replace(honest(), participants=(*honest().participants, honest().participants[0])),
        Finding.FORMAT_VIOLATION,
    ),
    "an operator's key twice": (
        lambda: replace(
            honest(),
            operators=(
                signed_by(
                    COORDINATOR,
                    replace(scheme().operators(), operators=scheme().operators().operators * 2),
                ),
            ),
        ),
        Finding.DECISION_REFUSED,
    ),
    "the maker is the checker": (lambda: approval(decided_by="ALICE"), Finding.MAKER_IS_CHECKER),
    "an approval that was a hold": (lambda: approval(action=Action.HOLD), Finding.APPROVAL_MISSING),
    "approved by the rulebook, which asks for two": (
        lambda: told("cycle.approved", proposal=None, by="rulebook"),
        Finding.APPROVAL_MISSING,
    ),
    "approved another result": (lambda: told("cycle.approved", result=ROOT), Finding.APPROVAL_MISSING),
    "a failed check, and no release": (failed_without_release, Finding.APPROVAL_MISSING),
    # Checks.
    "a check that warned passed": (
        lambda: checks_say("completeness", verdict="pass", detail="All 4 participants attested.", evidence=()),
        Finding.CHECKS_DIFFER,
    ),
    "a check says another sentence": (lambda: checks_say("conservation", detail="fine"), Finding.CHECKS_DIFFER),
    "evidence is left out": (lambda: checks_say("completeness", evidence=()), Finding.CHECKS_DIFFER),
    "no checks at all": (lambda: retold(replace(honest(), checks=())), Finding.CHECKS_DIFFER),
    "a check is left out": (lambda: retold(replace(honest(), checks=honest().checks[1:])), Finding.CHECKS_DIFFER),
    "a check that there is not": (
        lambda: retold(
            replace(honest(), checks=(*honest().checks, Check(name="vibes", verdict="pass", detail="good")))
        ),
        Finding.CHECKS_DIFFER,
    ),
    "a check twice": (
        lambda: retold(replace(honest(), checks=(*honest().checks, honest().checks[0]))),
        Finding.CHECKS_DIFFER,
    ),
    "stale lists passed": (stale_lists, Finding.CHECKS_DIFFER),
    "more pairs have a past than there are": (
        lambda: checks_say("aggregate_flow", detail="No total stands out; 9 of 3 pairs have enough history."),
        Finding.CHECKS_DIFFER,
    ),
    "a total stands out that isn't one of this result": (
        lambda: checks_say(
            "aggregate_flow",
            verdict="warn",
            detail="The total of a pair stands out against its own past.",
            evidence=(f"EUR {A} {B}: 1, above 500 % of the median of 5 cycles",),
        ),
        Finding.CHECKS_DIFFER,
    ),
    # Limits.
    "a cap that nobody set": (
        lambda: capped(Cap(participant=D, currency="EUR", cap_minor="1")),
        Finding.LIMITS_DIFFER,
    ),
    "a cap of another amount than the log's": (
        lambda: replace(honest(), limit_events=(scheme().cap_changed("60000"),)),
        Finding.LIMITS_DIFFER,
    ),
    "a cap that the log doesn't know": (lambda: replace(honest(), limit_events=()), Finding.LIMITS_DIFFER),
    "a cap that was changed before the netting": (
        lambda: with_event("cap.changed", {"bic": C, "currency": "EUR", "cap_minor": "1"}, at=2, cycle=None),
        Finding.LIMITS_DIFFER,
    ),
    "a bilateral limit that was granted and isn't kept": (
        lambda: with_event(
            "bilateral_limit.changed",
            {"bic": A, "counterparty": B, "currency": "EUR", "limit_minor": "0"},
            at=2,
            cycle=None,
        ),
        Finding.LIMITS_DIFFER,
    ),
    "prefunding that nobody paid in": (
        lambda: retold(
            replace(
                honest(),
                limits=replace(
                    LIMITS,
                    prefunding=(Prefunding(participant=D, currency="EUR", prefunded_minor="9", reserved_minor="0"),),
                ),
            )
        ),
        Finding.LIMITS_DIFFER,
    ),
    "a bilateral limit that nobody granted": (
        lambda: retold(
            replace(
                honest(),
                limits=replace(
                    LIMITS,
                    bilateral=(BilateralLimit(participant=A, counterparty=D, currency="EUR", limit_minor="9"),),
                ),
            )
        ),
        Finding.LIMITS_DIFFER,
    ),
    "a limit's change that is none": (
        lambda: replace(honest(), limit_events=(replace(scheme().cap_changed(), type="operator.acted"),)),
        Finding.LIMITS_DIFFER,
    ),
    # Settlement.
    "finality with another reference": (lambda: finality(agent_reference="RTGS-2"), Finding.FINALITY_DIFFERS),
    "finality before the agent's answer": (
        lambda: finality(settled_at="2026-03-02T09:04:00Z"),
        Finding.FINALITY_DIFFERS,
    ),
    "the agent's answer of another time": (
        lambda: told("cycle.settled", settled_at="2026-03-02T09:04:00Z"),
        Finding.FINALITY_DIFFERS,
    ),
    "final with another reference in the log": (lambda: told("cycle.final", reference="x"), Finding.FINALITY_DIFFERS),
    "settled before anybody was asked": (
        lambda: retold_settled("2026-03-02T08:00:00Z"),
        Finding.TIME_REVERSED,
    ),
    "a receipt of another content": (
        lambda: replace(
            honest(),
            receipts=(signed_by(A, replace(decoded(honest().receipts[0], Receipt), sha256=ROOT)),),
        ),
        Finding.RECEIPT_DIFFERS,
    ),
}


def test_the_honest_export_verifies_as_it_is_and_told_again() -> None:
    assert verify_bytes(export(), scheme().anchor).state == "final"
    assert verify_bytes(scheme().export(retold(honest())), scheme().anchor).state == "final"


def test_there_are_lies_enough() -> None:
    assert len(LIES) >= 100


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused(name: str) -> None:
    lie, finding = LIES[name]
    error = refused(scheme().export(lie()))
    assert error.finding is finding, error
    assert len(error.detail) > 20


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_statements_that_are_signed_alone_is_refused_too(name: str) -> None:
    lie, finding = LIES[name]
    assert refused(scheme().export(in_format_3(lie()))).finding in (finding, Finding.PAIR_NOT_MATCHED)


IN_THE_THIRD_FORMAT_ONLY = {
    "a participant twice",
    "an operator's key twice",
    "participants.json leaves a bank out",
    "participants.json holds no cut of a bank",
    "a late cut",
    "a late statement",
    "a cut from before the cut-off",
    "a bank didn't attest, which the check doesn't say",
    "a screening counts that nobody handed in",
    "both statements of a pair and its lane are hidden",
    "an idle pair that wasn't settled before",
    "an idle pair settled through less than its cut",
    "an idle pair settled in this very cycle",
    "an idle pair that one bank signed for",
    "a cap that nobody set",
    "a cap of another amount than the log's",
    "a cap that the log doesn't know",
    "prefunding that nobody paid in",
    "a bilateral limit that nobody granted",
    "a limit's change that is none",
}
"""What the files show that the second format hasn't; there the report says that it is unproven."""


@pytest.mark.parametrize("name", sorted(LIES.keys() - IN_THE_THIRD_FORMAT_ONLY))
def test_a_lie_in_the_format_before_is_refused_too(name: str) -> None:
    """Nobody gets away with a lie by writing the older format."""
    lie, _ = LIES[name]
    refused(scheme().export(in_format_2(lie())))


def test_the_format_before_verifies_and_says_what_it_cannot_prove() -> None:
    report = verify_bytes(scheme().export(in_format_2(honest())), scheme().anchor)
    assert (report.format, len(report.unproven)) == (FORMAT_2, 3)
    assert f"as EUR/{A}/{D}" in report.unproven[-1]
    newer = verify_bytes(export(), scheme().anchor)
    assert (len(newer.unproven), newer.unproven[0].split()[2]) == (4, "aggregate_flow")
