"""Bank to bank: a payment is asked for back, and what the other bank's people say to that; both signed."""

from __future__ import annotations

from typing import Literal

from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.statements import Bic, Document, Sha256
from gateway.federation.messages.base import FreeText, Uuid

RECALL_TYPE = "application/vnd.concordat.recall.v1+json"
RECALL_ANSWER_TYPE = "application/vnd.concordat.recall-answer.v1+json"


class Recall(Document, frozen=True, kw_only=True):
    """The sender of a payment asks its receiver to give it back.

    Payload type `application/vnd.concordat.recall.v1+json`. `payment` is one that the sender signed and the receiver
    accepted. In spirit it is camt.056.
    """

    id: Uuid
    sender: Bic
    receiver: Bic
    payment: Uuid
    reason: RecallReason
    text: FreeText = ""


class RecallAnswer(Document, frozen=True, kw_only=True):
    """What the receiver's people say to a recall, whose digest it names: nothing yet, or for good.

    Payload type `application/vnd.concordat.recall-answer.v1+json`. One that is `returned` is given back, whole or in
    part, by the payment `returned_by`; one that is `refused` has a reason. In spirit it is camt.029.
    """

    sender: Bic
    receiver: Bic
    recall: Sha256
    status: Literal["open", "returned", "refused"]
    returned_by: Uuid | None = None
    reason: RecallRefusal | None = None
    text: FreeText = ""
