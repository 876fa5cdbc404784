"""What shows that a ledger was restored to before something that its bank has signed. Pure decisions.

A word of the coordinator or of another bank shows nothing: either could stop a bank with it. What counts is this
bank's own signature on what its ledger doesn't hold, for it signs nothing that isn't committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.statements import PAYLOAD_TYPES, Attestation, CycleCut, PositionStatement
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
)

Keys = Mapping[str, VerifyingKey]


class Loss(StrEnum):
    """What a ledger lacks."""

    EVENTS = "events_lost"
    """The database holds fewer events than this node has seen in it."""
    CUT = "cut_unknown"
    """The coordinator has a cut that this bank signed, and the ledger holds another one or none."""
    ATTESTATION = "attestation_unknown"
    """The coordinator has an attestation that this bank signed and the ledger doesn't hold."""
    STATEMENT = "statement_unknown"
    """The coordinator has a position statement that this bank signed by itself, before there were attestations, and the
    ledger doesn't hold."""
    NUMBER = "number_unknown"
    """Another bank has an acknowledgement with a number that the ledger hasn't given to this payment."""
    PAYMENT = "payment_unknown"
    """Another bank has a batch that this bank signed, with a payment that the ledger doesn't hold."""


class Finding(Struct, frozen=True, kw_only=True):
    """That something is lost, by whom it was shown, and what this bank signed of it."""

    loss: Loss
    source: str
    detail: str
    proof: Envelope | None = None

    def __str__(self) -> str:
        return f"{self.loss}: {self.detail} (shown by {self.source})"


def cut_in(envelope: Envelope, *, bank: str, keys: Keys) -> CycleCut | None:
    """Return the cut that this bank signed; None if it didn't."""
    try:
        cut = dsse.verify(envelope, CycleCut, keys)
    except EvidenceError:
        return None
    return cut if cut.receiver == bank else None


def unknown_cut(envelope: Envelope, signed: CycleCut, *, source: str, known: CycleCut | None) -> Finding | None:
    """Judge a cut that this bank signed by the one that its ledger holds for the cycle."""
    if known == signed:
        return None
    holds = "none" if known is None else "another one"
    detail = f"the ledger holds {holds} of cycle {signed.cycle}"
    return Finding(loss=Loss.CUT, source=source, detail=detail, proof=envelope)


class Word(Struct, frozen=True):
    """What this bank signed of its positions in a cycle, by its digest, and what a ledger without it lacks."""

    envelope: Envelope
    cycle: str
    sha256: str
    loss: Loss
    detail: str


def words_in(envelopes: Iterable[Envelope], *, bank: str, keys: Keys) -> list[Word]:
    """Return the attestations that this bank signed, and statements of before those; leave out what it didn't sign."""
    words = []
    for envelope in envelopes:
        try:
            if envelope.document_type == PAYLOAD_TYPES[PositionStatement]:
                statement = dsse.verify(envelope, PositionStatement, keys)
                ours, cycle, loss = bank in statement.pair, statement.cycle, Loss.STATEMENT
                detail = f"{cycle} {statement.currency} {' '.join(statement.pair)}"
            else:
                attestation = dsse.verify(envelope, Attestation, keys)
                ours, cycle, loss = bank == attestation.participant, attestation.cycle, Loss.ATTESTATION
                detail = f"{cycle}, {attestation.statements} statements under {attestation.root}"
        except EvidenceError:
            continue
        if ours:
            words.append(Word(envelope, cycle, canonical.digest(envelope.payload_bytes()), loss, detail))
    return words


def unknown_word(words: Iterable[Word], *, source: str, known: Mapping[str, Collection[str]]) -> Finding | None:
    """Judge what this bank signed by what its ledger holds: for each cycle, the digests of what was signed."""
    for word in words:
        # Of the cycle that the document itself names: whatever stands beside it, nobody has signed.
        if word.sha256 not in known.get(word.cycle, ()):
            return Finding(loss=word.loss, source=source, detail=word.detail, proof=word.envelope)
    return None


def number_signed(envelope: Envelope, *, bank: str, sender: str, payment_id: str, keys: Keys) -> int | None:
    """Return the number under which this bank acknowledged a sender's payment; None if it didn't sign that."""
    try:
        answer = dsse.verify(envelope, Acknowledgement, keys, payload_type=ACKNOWLEDGEMENT_TYPE)
    except EvidenceError:
        return None
    if (answer.sender, answer.receiver) != (sender, bank):
        return None
    accepted = (o for o in answer.outcomes if o.id == payment_id and o.status == "accepted")
    return next((outcome.sequence for outcome in accepted), None)


def unknown_number(
    envelope: Envelope, *, bank: str, sender: str, payment_id: str, keys: Keys, known: int | None
) -> Finding | None:
    """Judge what a sender shows for a payment by the number that the ledger holds for it."""
    number = number_signed(envelope, bank=bank, sender=sender, payment_id=payment_id, keys=keys)
    if number is None or number == known:
        return None
    detail = f"number {number} of {sender} was given to payment {payment_id}"
    return Finding(loss=Loss.NUMBER, source=sender, detail=detail, proof=envelope)


def unknown_payment(
    envelope: Envelope, *, bank: str, receiver: str, payment_id: str, keys: Keys, known: bool
) -> Finding | None:
    """Judge what a receiver shows for a payment by whether the ledger holds it."""
    if known:
        return None
    try:
        batch = dsse.verify(envelope, PaymentBatch, keys, payload_type=PAYMENT_BATCH_TYPE)
    except EvidenceError:
        return None
    if (batch.sender, batch.receiver) != (bank, receiver) or payment_id not in {terms.id for terms in batch.payments}:
        return None
    detail = f"payment {payment_id} was sent to {receiver}"
    return Finding(loss=Loss.PAYMENT, source=receiver, detail=detail, proof=envelope)
