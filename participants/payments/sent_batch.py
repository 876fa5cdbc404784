"""A batch as it is sent to another bank, and the bank's answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto

import msgspec
from msgspec import Struct

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer, VerifyingKey
from gateway.federation.http.answers import read_answer
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    leaf_of,
)
from gateway.federation.signers.signing import sign_document
from participants.ledger.payment import Payment
from participants.payments.answers import UNANSWERED, SentPayment
from participants.payments.failures import AnswerRefusedError


class Kind(Enum):
    """What a batch is made of. They take turns, so that none keeps another waiting, and aren't mixed."""

    WITHDRAWN = auto()
    """What the sender wants paid no more."""
    NEW = auto()
    ASKED = auto()
    """What the other bank held when it was asked. What both keep as evidence is in proportion to what is new in it."""
    REFUSED = auto()
    """What the other bank refused for what it is, in smaller batches."""


class SentBatch(Struct, frozen=True):
    """Payments from one bank to another that wait in this state, the hashes of their terms, and what is signed."""

    kind: Kind
    payments: Sequence[Payment]
    leaves: list[bytes]
    envelope: Envelope
    state: str
    document: PaymentBatch

    @classmethod
    async def signed(
        cls, kind: Kind, payments: Sequence[Payment], signer: Signer, *, sender: str, withdrawn: bool
    ) -> SentBatch:
        """Sign a batch of payments that all wait in one state, and go to one bank."""
        terms = tuple(payment.terms for payment in payments)
        leaves = [leaf_of(t) for t in terms]
        document = PaymentBatch(
            sender=sender,
            receiver=payments[0].counterparty,
            root=merkle.root(leaves).hex(),
            payments=terms,
            withdrawn=withdrawn,
        )
        envelope = await sign_document(document, signer, payload_type=PAYMENT_BATCH_TYPE)
        return cls(kind, payments, leaves, envelope, UNANSWERED[payments[0].status], document)

    def answered(self, body: bytes, keys: Mapping[str, VerifyingKey]) -> tuple[Envelope, list[SentPayment]]:
        """Return what the receiver signed, and what it says of each payment.

        Raises AnswerRefusedError, EvidenceError, RemoteError.
        """
        sender, receiver = self.document.sender, self.document.receiver
        try:
            envelope = read_answer(body, Envelope, peer=receiver)
        except msgspec.DecodeError as error:
            raise AnswerRefusedError(f"answer isn't an envelope: {error}") from error
        answer = dsse.verify_submitted(envelope, Acknowledgement, keys, payload_type=ACKNOWLEDGEMENT_TYPE)
        if (answer.sender, answer.receiver) != (sender, receiver):
            raise AnswerRefusedError("answer is between other banks")
        if answer.batch != canonical.digest(self.envelope.payload_bytes()):
            raise AnswerRefusedError("answer is to another batch")
        if [outcome.id for outcome in answer.outcomes] != [payment.id for payment in self.payments]:
            raise AnswerRefusedError("answer isn't on these payments in this order")
        return envelope, [
            SentPayment(payment, leaf, outcome)
            for payment, leaf, outcome in zip(self.payments, self.leaves, answer.outcomes, strict=True)
        ]
