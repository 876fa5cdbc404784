"""Lies about the settlement in an export: what the agent was asked and what it answered, against the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from clearing import (
    AGENT,
    COORDINATOR,
    CYCLE,
    SHORT,
    TO_FINAL,
    A,
    B,
    C,
    Scheme,
    approved,
    honest,
    in_format_2,
    refused,
    scheme,
)
from lying import finality, other_answer
from msgspec.structs import replace

from compliance.crypto import canonical, dsse
from compliance.cycle.states import Trigger
from compliance.export.files import from_files, to_files
from compliance.export.record import CycleRecord, SignedSettlement
from compliance.iso20022 import (
    SETTLEMENT_ANSWER_TYPE,
    SETTLEMENT_REQUEST_TYPE,
    MessageError,
    read_answer,
    read_request,
)
from compliance.statements import NettingResult, SettlementFinality, TrustList
from compliance.trust import Signers
from compliance.verifier.documents import read_documents
from compliance.verifier.editions import read_editions
from compliance.verifier.findings import Finding, RefutedError
from compliance.verifier.log import read_log
from compliance.verifier.moments import Moments
from compliance.verifier.rules import read_rules
from compliance.verifier.settlement import check_settlements
from compliance.verifier.verify import verify_bytes
from gateway.federation.iso20022 import Movement


def checked(record: CycleRecord) -> str:
    """Check the settlement of a record as the verifier does once it has read all documents."""
    keys = scheme().anchor.verifying_keys()
    lists = [(dsse.verify(one, TrustList, keys), canonical.digest(one.payload_bytes())) for one in record.trust_lists]
    members = Signers((of for of, _ in lists), scheme=scheme().anchor.scheme)
    rules = read_rules(record)
    moments = Moments(record, read_log(record, lists, rules), rules, members, scheme=scheme().anchor.scheme)
    documents = read_documents(record, moments, COORDINATOR)
    return check_settlements(record, read_editions(record, documents, moments, COORDINATOR), moments, COORDINATOR)


def signed() -> CycleRecord:
    return replace(honest(), settlements=(settlement(),))


def result() -> NettingResult:
    envelope = honest().result
    assert envelope is not None
    return dsse.verify(envelope, NettingResult, scheme().anchor.verifying_keys())


def settlement(**changes: Any) -> SignedSettlement:
    return scheme().settlement(result(), **changes)


def by(signer: str, what: str) -> SignedSettlement:
    """Sign the request or the answer by another member's key."""
    genuine, key = settlement(), scheme().keys[signer]
    kind = SETTLEMENT_REQUEST_TYPE if what == "request" else SETTLEMENT_ANSWER_TYPE
    payload = getattr(genuine, what).payload_bytes()
    return replace(genuine, **{what: dsse.seal(payload, kind, key)})


def test_an_honest_settlement_is_believed() -> None:
    assert checked(signed()) == f"1 request to the agent, its answer signed by {AGENT}"
    assert checked(in_format_2(honest())) == "settlement messages of before were not signed"


def test_an_agent_that_was_asked_again_is_believed() -> None:
    """The archive holds the requests in the order of their attempts, whatever the answers begin with."""
    short = settlement(answered=SHORT)
    second = settlement(attempt=2)
    record = replace(honest(), settlements=(second, short))
    assert from_files(to_files(record)).settlements == (short, second)
    again = (TO_FINAL[0], (Trigger.AGENT_SHORT_OF_FUNDS, {}), (Trigger.REQUEST_REPEATED, {}), *TO_FINAL[1:])
    record = replace(record, events=scheme().events(record, approved(_digest()), again))
    report = verify_bytes(scheme().export(record), scheme().anchor)
    assert "2 requests to the agent" in report.steps[9].detail
    # Which attempt it was that settled, the log says too.
    error = refused(scheme().export(replace(record, settlements=(settlement(),))))
    assert (error.step, error.finding) == (10, Finding.SETTLEMENT_DIFFERS)


def test_no_signature_beside_the_one_that_counts() -> None:
    genuine = settlement()
    assert genuine.answer is not None
    noisy = replace(genuine.answer, signatures=genuine.answer.signatures * 2)
    with pytest.raises(RefutedError) as refuted:
        checked(replace(honest(), settlements=(replace(genuine, answer=noisy),)))
    assert refuted.value.finding is Finding.SIGNATURE_REFUSED


def test_a_settlement_at_no_time() -> None:
    """A time that looks like one is refused with its reason, whoever signs it."""
    error = refused(scheme().export(finality(settled_at="2026-13-99T25:00:00Z")))
    assert (error.step, error.finding) == (10, Finding.FORMAT_VIOLATION)
    assert "isn't a time" in error.detail


@dataclass
class Lie:
    settlements: Callable[[], tuple[SignedSettlement, ...]]
    finding: Finding


MORE = (Movement(A, "EUR", -1), Movement(B, "EUR", 1))
LIES = {
    "no answer of the agent": Lie(lambda: (replace(settlement(), answer=None),), Finding.SETTLEMENT_DIFFERS),
    "nothing at all": Lie(lambda: (), Finding.SETTLEMENT_DIFFERS),
    "the answer signed by the coordinator": Lie(lambda: (by(COORDINATOR, "answer"),), Finding.SIGNATURE_REFUSED),
    "the answer signed by a bank": Lie(lambda: (by(C, "answer"),), Finding.SIGNATURE_REFUSED),
    "the request signed by the agent": Lie(lambda: (by(AGENT, "request"),), Finding.SIGNATURE_REFUSED),
    "other movements": Lie(lambda: (settlement(movements=MORE),), Finding.SETTLEMENT_DIFFERS),
    "another cycle": Lie(lambda: (settlement(cycle="2026-03-02-07"),), Finding.SETTLEMENT_DIFFERS),
    "another agent": Lie(lambda: (settlement(receiver=C),), Finding.SETTLEMENT_DIFFERS),
    "another edition": Lie(lambda: (replace(settlement(), edition=2),), Finding.SETTLEMENT_DIFFERS),
    "an answer to another request": Lie(
        lambda: (other_answer(f"<OrgnlMsgId>{CYCLE}-1<", f"<OrgnlMsgId>{CYCLE}-2<"),), Finding.SETTLEMENT_DIFFERS
    ),
    "another reference": Lie(lambda: (other_answer("RTGS-1", "RTGS-2"),), Finding.FINALITY_DIFFERS),
    "settled twice": Lie(lambda: (settlement(), settlement(attempt=2)), Finding.SETTLEMENT_DIFFERS),
    "an attempt that the log doesn't know": Lie(
        lambda: (replace(settlement(), attempt=7),), Finding.SETTLEMENT_DIFFERS
    ),
    "no message": Lie(lambda: (other_answer("<Document", "<!DOCTYPE x><Document"),), Finding.SETTLEMENT_DIFFERS),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_settlement_is_found(lie: str) -> None:
    with pytest.raises(RefutedError) as refuted:
        checked(replace(signed(), settlements=LIES[lie].settlements()))
    assert refuted.value.finding is LIES[lie].finding, str(refuted.value)


def test_finality_is_what_the_agent_said() -> None:
    at = "2026-03-02T10:00:00.000000Z"
    other = SettlementFinality(
        cycle=CYCLE, result=_digest(), settlement_agent=AGENT, agent_reference="RTGS-1", settled_at=at
    )
    with pytest.raises(RefutedError) as refuted:
        checked(replace(signed(), finality=scheme().sign(COORDINATOR, other)))
    assert refuted.value.finding is Finding.FINALITY_DIFFERS


def _digest() -> str:
    envelope = honest().finality
    assert envelope is not None
    return dsse.verify(envelope, SettlementFinality, scheme().anchor.verifying_keys()).result


@pytest.mark.parametrize("data", [b"", b"<x/>", b"\xff", b"<!DOCTYPE x><x/>", b"<x>" * 300, b" " * 5_000_000])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    for read in (read_request, read_answer):
        with pytest.raises(MessageError):
            read(data)


def test_the_schemes_of_two_tests_differ() -> None:
    """A signature counts by the trust list of this scheme only."""
    with pytest.raises(RefutedError):
        checked(replace(signed(), settlements=(Scheme().settlement(result()),)))
