"""Bank to bank: a batch of payments and its acknowledgement, both signed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from compliance.crypto import canonical, merkle
from compliance.return_reasons import ReturnReason
from compliance.statements import Bic, CurrencyCode, Document, PaymentAmount, Sequence, Sha256
from gateway.federation.messages.base import AccountCode, Instant, OwnReference, PartyName, Remittance, Uetr, Uuid

BATCH_ITEMS_MAX = 8_192


# Thousands of these are held at once while a group is written. They hold texts only, so no circle can go through them,
# and the garbage collector needn't look.
class PaymentDetails(Document, frozen=True, kw_only=True, gc=False):
    """What is said of a payment at either bank. `returns` links a return to the payment it gives back.

    What a payment may say besides is left out of the canonical bytes where it isn't said.
    """

    id: Uuid
    amount_minor: PaymentAmount
    currency: CurrencyCode
    debtor_account: AccountCode
    debtor_name: PartyName
    creditor_account: AccountCode
    creditor_name: PartyName
    remittance: Remittance = ""
    returns: Uuid | None = None
    return_reason: ReturnReason | None = None
    """Why a return gives back, as ISO 20022 has it; only together with `returns`."""
    end_to_end_id: OwnReference | None = None
    """The debtor's own reference, which goes with the payment to the creditor."""
    instruction_id: OwnReference | None = None
    """The reference that the order has between the debtor and its bank. The creditor's bank sees it too."""
    uetr: Uetr | None = None
    """The unique end-to-end transaction reference: a UUID of version 4 in lower case."""
    expires_at: Instant | None = None
    """From when on the payment isn't accepted any more (RFC 3339, UTC), by the clock of the bank that decides on it."""


class PaymentTerms(PaymentDetails, frozen=True, kw_only=True, gc=False):
    """One payment as the sender signs it. `returns` links a return to the payment it gives back."""


def is_expired(details: PaymentDetails, now: datetime) -> bool:
    """Tell whether a payment isn't to be accepted any more."""
    return details.expires_at is not None and datetime.fromisoformat(details.expires_at) <= now


def leaf_of(terms: PaymentTerms) -> bytes:
    """Return the Merkle leaf hash of a payment: both banks compute it from the same canonical bytes."""
    return merkle.leaf_hash(canonical.encode(terms))


class PaymentBatch(Document, frozen=True, kw_only=True):
    """Payments from one bank to another, signed once for all of them.

    Payload type `application/vnd.concordat.payment-batch.v1+json`. `root` is the RFC 6962 tree head over the
    canonical bytes of each payment's terms, so that one payment can later be shown under this signature.

    `withdrawn` says that the sender wants these paid no more: of those that the receiver knows it says what became of
    them, as ever, and the others it declines for good.
    """

    sender: Bic
    receiver: Bic
    root: Sha256
    payments: Annotated[tuple[PaymentTerms, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]
    withdrawn: bool = False


PAYMENT_BATCH_TYPE = "application/vnd.concordat.payment-batch.v1+json"
ACKNOWLEDGEMENT_TYPE = "application/vnd.concordat.acknowledgement.v1+json"


class PaymentOutcome(Document, frozen=True, kw_only=True, gc=False):
    """The receiver's answer on one payment: accepted with its number, refused with a reason, or held."""

    id: Uuid
    status: Literal["accepted", "refused", "held"]
    sequence: Sequence | None = None
    reason: str | None = None


class Acknowledgement(Document, frozen=True, kw_only=True):
    """The receiver's signed answer to a PaymentBatch, one outcome per payment in the batch's order.

    Payload type `application/vnd.concordat.acknowledgement.v1+json`.
    """

    sender: Bic
    receiver: Bic
    batch: Sha256
    outcomes: tuple[PaymentOutcome, ...]
