"""What shows that a ledger is restored, and what doesn't: a bank's own signature on what its ledger lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import CycleCut, Flow, LaneCut, PositionStatement
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentOutcome,
    PaymentTerms,
    leaf_of,
)
from participants.continuity.findings import Finding, cut_in, unknown_cut, unknown_number, unknown_payment
from participants.continuity.findings import unknown_statement as unknown
from participants.continuity.watermark import Watermark

OURS, OTHER = SigningKey.generate(), SigningKey.generate()
KEYS = {OURS.verifying_key.kid: OURS.verifying_key}
BANK, PEER, THIRD = "ALPHDEF0", "BRAVFRP0", "CARLITM0"
PAYMENT = "0198b1a0-0000-7000-8000-000000000057"
ANOTHER = "0198b1a0-0000-7000-8000-000000000058"


def acknowledgement(
    key: SigningKey = OURS, *, sender: str = PEER, receiver: str = BANK, status: str = "accepted", number: int = 57
) -> Envelope:
    outcome = PaymentOutcome(id=PAYMENT, status=status, sequence=number if status == "accepted" else None)
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
    assert cut_in(dsse.sign(cut, OTHER), bank=BANK, keys=KEYS) is None
    assert cut_in(shown, bank=THIRD, keys=KEYS) is None
    for known, loss in ((None, "cut_unknown"), (lower, "cut_unknown"), (cut, None)):
        assert_finding(unknown_cut(shown, cut, source=THIRD, known=known), loss, THIRD)


def test_a_statement() -> None:
    flows = tuple(
        Flow(
            sender=sender, receiver=receiver, first_sequence=1, last_sequence=0, count=0, amount_minor="0",
            root="0" * 64,
        )
        for sender, receiver in ((BANK, PEER), (PEER, BANK))
    )  # fmt: skip
    statement = PositionStatement(
        cycle="2026-10-02-01", currency="EUR", pair=(BANK, PEER), revision=1, flows=(flows[0], flows[1])
    )
    digest = canonical.digest(canonical.encode(statement))
    for shown, known, loss in (
        (dsse.sign(statement, OURS), (), "statement_unknown"),
        (dsse.sign(statement, OURS), (digest,), None),
        (dsse.sign(statement, OTHER), (), None),
    ):
        assert_finding(unknown([shown], bank=BANK, keys=KEYS, source=THIRD, known=known), loss, THIRD)


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
