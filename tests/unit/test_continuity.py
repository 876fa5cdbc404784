"""What shows that a ledger is restored, and what doesn't: a bank's own signature on what its ledger lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Attestation, CycleCut, Flow, LaneCut, PositionStatement
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentOutcome,
    PaymentTerms,
    leaf_of,
)
from participants.continuity.findings import (
    Finding,
    cut_in,
    unknown_cut,
    unknown_number,
    unknown_payment,
    unknown_word,
    words_in,
)
from participants.continuity.watermark import Watermark

OURS, OTHER = SigningKey.generate(), SigningKey.generate()
RETIRED = SigningKey.generate()
KEYS = {key.verifying_key.kid: key.verifying_key for key in (OURS, RETIRED)}
BANK, PEER, THIRD = "ALPHDEF0", "BRAVFRP0", "CARLITM0"
PAYMENT = "0198b1a0-0000-7000-8000-000000000057"
ANOTHER = "0198b1a0-0000-7000-8000-000000000058"


def acknowledgement(
    key: SigningKey = OURS,
    *,
    sender: str = PEER,
    receiver: str = BANK,
    status: str = "accepted",
    number: int = 57,
    payment: str = PAYMENT,
) -> Envelope:
    outcome = PaymentOutcome(id=payment, status=status, sequence=number if status == "accepted" else None)
    answer = Acknowledgement(sender=sender, receiver=receiver, batch="0" * 64, outcomes=(outcome,))
    return dsse.sign(answer, key, payload_type=ACKNOWLEDGEMENT_TYPE)


def batch(key: SigningKey = OURS, *, sender: str = BANK, receiver: str = PEER, payment: str = PAYMENT) -> Envelope:
    terms = PaymentTerms(
        id=payment, amount_minor="1", currency="EUR", debtor_account="a-1", debtor_name="Ada",
        creditor_account="b-1", creditor_name="Bo",
    )  # fmt: skip
    document = PaymentBatch(
        sender=sender, receiver=receiver, root=merkle.root([leaf_of(terms)]).hex(), payments=(terms,)
    )
    return dsse.sign(document, key, payload_type=PAYMENT_BATCH_TYPE)


@pytest.mark.parametrize(
    ("shown", "known", "lost"),
    [
        pytest.param(acknowledgement(), None, True, id="signed and unknown"),
        pytest.param(acknowledgement(), 41, True, id="signed, and given another number here"),
        pytest.param(acknowledgement(), 57, False, id="signed and known"),
        pytest.param(acknowledgement(RETIRED), None, True, id="signed with a key of before, and unknown"),
        pytest.param(acknowledgement(RETIRED), 57, False, id="signed with a key of before, and known"),
        pytest.param(acknowledgement(payment=ANOTHER), None, False, id="of another payment"),
        pytest.param(acknowledgement(OTHER), None, False, id="signed by somebody else"),
        pytest.param(acknowledgement(sender=THIRD), None, False, id="of another sender"),
        pytest.param(acknowledgement(receiver=THIRD), None, False, id="of another receiver"),
        pytest.param(acknowledgement(status="held"), None, False, id="held, so no number"),
        pytest.param(acknowledgement(status="refused"), None, False, id="refused"),
        pytest.param(batch(), None, False, id="another kind of document"),
    ],
)
def test_a_number(shown: Envelope, known: int | None, lost: bool) -> None:
    finding = unknown_number(shown, bank=BANK, sender=PEER, payment_id=PAYMENT, keys=KEYS, known=known)
    assert_finding(finding, "number_unknown" if lost else None, PEER)


@pytest.mark.parametrize(
    ("shown", "known", "lost"),
    [
        pytest.param(batch(), False, True, id="signed and unknown"),
        pytest.param(batch(), True, False, id="signed and known"),
        pytest.param(batch(RETIRED), False, True, id="signed with a key of before, and unknown"),
        pytest.param(batch(RETIRED), True, False, id="signed with a key of before, and known"),
        pytest.param(batch(OTHER), False, False, id="signed by somebody else"),
        pytest.param(batch(sender=THIRD), False, False, id="of another sender"),
        pytest.param(batch(receiver=THIRD), False, False, id="to another receiver"),
        pytest.param(batch(payment=ANOTHER), False, False, id="with another payment"),
        pytest.param(acknowledgement(), False, False, id="another kind of document"),
    ],
)
def test_a_payment(shown: Envelope, known: bool, lost: bool) -> None:
    finding = unknown_payment(shown, bank=BANK, receiver=PEER, payment_id=PAYMENT, keys=KEYS, known=known)
    assert_finding(finding, "payment_unknown" if lost else None, PEER)


def test_a_cut() -> None:
    lane = LaneCut(sender=PEER, currency="EUR", last_sequence=57)
    cut = CycleCut(cycle="2026-10-02-01", receiver=BANK, lanes=(lane,))
    lower = CycleCut(cycle="2026-10-02-01", receiver=BANK, lanes=())
    shown = dsse.sign(cut, OURS)
    assert cut_in(shown, bank=BANK, keys=KEYS) == cut
    assert cut_in(dsse.sign(cut, RETIRED), bank=BANK, keys=KEYS) == cut
    assert cut_in(dsse.sign(cut, OTHER), bank=BANK, keys=KEYS) is None
    assert cut_in(shown, bank=THIRD, keys=KEYS) is None
    for known, loss in ((None, "cut_unknown"), (lower, "cut_unknown"), (cut, None)):
        assert_finding(unknown_cut(shown, cut, source=THIRD, known=known), loss, THIRD)


FIRST, SECOND = "2026-10-02-01", "2026-10-02-02"


def statement(
    key: SigningKey = OURS, *, cycle: str = FIRST, revision: int = 1, banks: tuple[str, str] = (BANK, PEER)
) -> Envelope:
    flows = tuple(
        Flow(
            sender=sender, receiver=receiver, first_sequence=1, last_sequence=0, count=0, amount_minor="0",
            root="0" * 64,
        )
        for sender, receiver in (banks, banks[::-1])
    )  # fmt: skip
    document = PositionStatement(cycle=cycle, currency="EUR", pair=banks, revision=revision, flows=(flows[0], flows[1]))
    return dsse.sign(document, key)


def digests(*envelopes: Envelope) -> set[str]:
    return {canonical.digest(envelope.payload_bytes()) for envelope in envelopes}


def attestation(key: SigningKey = OURS, *, cycle: str = FIRST, bank: str = BANK, statements: int = 1) -> Envelope:
    document = Attestation(cycle=cycle, participant=bank, statements=statements, root="0" * 64, complete=True)
    return dsse.sign(document, key)


HELD = {FIRST: digests(statement(), statement(revision=2)), SECOND: digests(statement(cycle=SECOND))}


@pytest.mark.parametrize(
    ("shown", "known", "lost"),
    [
        pytest.param([statement()], {}, True, id="signed and unknown"),
        pytest.param([statement()], HELD, False, id="signed and known"),
        pytest.param([statement(), statement(cycle=SECOND)], HELD, False, id="of two cycles, each known in its own"),
        pytest.param([statement(cycle=SECOND)], {SECOND: HELD[FIRST]}, True, id="known only as of another cycle"),
        pytest.param([statement(), statement(revision=2)], HELD, False, id="an old revision and the newest"),
        pytest.param([statement(revision=3)], HELD, True, id="a revision that isn't known"),
        pytest.param([statement(RETIRED)], HELD, False, id="signed with a key of before, and known"),
        pytest.param([statement(RETIRED, revision=3)], HELD, True, id="signed with a key of before, and unknown"),
        pytest.param([statement(OTHER)], {}, False, id="signed by somebody else"),
        pytest.param([statement(OTHER), statement()], {}, True, id="signed, after one of somebody else"),
        pytest.param([statement(banks=(PEER, THIRD))], {}, False, id="of another pair"),
        pytest.param([acknowledgement()], {}, False, id="another kind of document"),
    ],
)
def test_a_statement(shown: list[Envelope], known: dict[str, set[str]], lost: bool) -> None:
    finding = unknown_word(words_in(shown, bank=BANK, keys=KEYS), source=THIRD, known=known)
    assert_finding(finding, "statement_unknown" if lost else None, THIRD)


ATTESTED = {FIRST: digests(attestation(), attestation(statements=2)), SECOND: digests(attestation(cycle=SECOND))}


@pytest.mark.parametrize(
    ("shown", "known", "lost"),
    [
        pytest.param([attestation()], {}, True, id="signed and unknown"),
        pytest.param([attestation()], ATTESTED, False, id="signed and known"),
        pytest.param([attestation(), attestation(cycle=SECOND)], ATTESTED, False, id="each known in its own cycle"),
        pytest.param([attestation(cycle=SECOND)], {SECOND: ATTESTED[FIRST]}, True, id="known only as of another cycle"),
        pytest.param([attestation(), attestation(statements=2)], ATTESTED, False, id="the first and a later word"),
        pytest.param([attestation(statements=3)], ATTESTED, True, id="a later word that isn't known"),
        pytest.param([attestation(RETIRED)], ATTESTED, False, id="signed with a key of before, and known"),
        pytest.param([attestation(RETIRED)], {}, True, id="signed with a key of before, and unknown"),
        pytest.param([attestation(OTHER)], {}, False, id="signed by somebody else"),
        pytest.param([attestation(bank=PEER)], {}, False, id="of another bank"),
        pytest.param([acknowledgement()], {}, False, id="another kind of document"),
    ],
)
def test_an_attestation(shown: list[Envelope], known: dict[str, set[str]], lost: bool) -> None:
    finding = unknown_word(words_in(shown, bank=BANK, keys=KEYS), source=THIRD, known=known)
    assert_finding(finding, "attestation_unknown" if lost else None, THIRD)


def assert_finding(finding: Finding | None, loss: str | None, source: str) -> None:
    if loss is None:
        assert finding is None
        return
    assert finding is not None
    assert (finding.loss, finding.source) == (loss, source)
    assert finding.proof is not None


def test_the_watermark_outlives_the_process_and_a_broken_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger-seen.json"
    assert Watermark(path).read() == 0
    Watermark(path).keep(57)
    assert Watermark(path).read() == 57
    path.write_bytes(b"\0\0\0")
    assert Watermark(path).read() == 0
