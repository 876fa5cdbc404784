"""What members say to each other over HTTP: payments, acknowledgements, cycles, events.

Documents that are signed as evidence are in `compliance.statements`; here are the messages around them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from compliance.dsse import Envelope
from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Date,
    Document,
    PaymentAmount,
    Reason,
    Sequence,
    Sha256,
    Timestamp,
    TotalAmount,
    whole,
)

Uuid = Annotated[str, Meta(pattern=whole(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"))]
ACCOUNT_PATTERN = whole(r"[A-Za-z0-9._:/-]{1,64}")
AccountCode = Annotated[str, Meta(pattern=ACCOUNT_PATTERN)]
PartyName = Annotated[str, Meta(min_length=1, max_length=140, pattern=whole(r"[^\x00-\x1f\x7f]*"))]
Remittance = Annotated[str, Meta(max_length=140, pattern=whole(r"[^\x00-\x1f\x7f]*"))]

BATCH_ITEMS_MAX = 8_192


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of every message: closed schema."""


# --- bank to bank ---------------------------------------------------------------------------------------


class PaymentTerms(Document, frozen=True, kw_only=True):
    """One payment as the sender signs it. `returns` links a return to the payment it gives back."""

    id: Uuid
    amount_minor: PaymentAmount
    currency: CurrencyCode
    debtor_account: AccountCode
    debtor_name: PartyName
    creditor_account: AccountCode
    creditor_name: PartyName
    remittance: Remittance = ""
    returns: Uuid | None = None


class PaymentBatch(Document, frozen=True, kw_only=True):
    """Payments from one bank to another, signed once for all of them.

    Payload type `application/vnd.concordat.payment-batch.v1+json`. `root` is the RFC 6962 tree head over the
    canonical bytes of each payment's terms, so that one payment can later be shown under this signature.
    """

    sender: Bic
    receiver: Bic
    root: Sha256
    payments: Annotated[tuple[PaymentTerms, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


PAYMENT_BATCH_TYPE = "application/vnd.concordat.payment-batch.v1+json"
ACKNOWLEDGEMENT_TYPE = "application/vnd.concordat.acknowledgement.v1+json"


class PaymentOutcome(Document, frozen=True, kw_only=True):
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


# --- participant and coordinator -------------------------------------------------------------------------

CycleState = Literal[
    "open",
    "cut_off",
    "attesting",
    "matched",
    "netted",
    "held",
    "approved",
    "instructed",
    "deferred",
    "settled",
    "final",
    "abandoned",
]


class Cycle(Message, frozen=True, kw_only=True):
    """A clearing cycle as members and operators see it."""

    id: CycleId
    value_date: Date
    number: Count
    state: CycleState
    currencies: tuple[CurrencyCode, ...]
    rulebook: Sha256
    trust_list_version: Count
    opened_at: Timestamp
    cut_off_at: Timestamp | None = None
    """When the cycle is or was cut off."""
    deadline_at: Timestamp | None = None
    """When the present step ends by rule (cuts or attestations), if it has a deadline."""
    result: Sha256 | None = None


class StatementSubmission(Message, frozen=True, kw_only=True):
    """All that a bank attests in a cycle, in one request: its position statements and its screening.

    `complete` says that there is no further pair; a later submission (a new revision) may hold a few statements only.
    """

    statements: tuple[Envelope, ...]
    screening: Envelope | None = None
    complete: bool = True


class StatementVerdict(Message, frozen=True, kw_only=True):
    """What the coordinator did with one submitted statement."""

    counterparty: Bic
    currency: CurrencyCode
    revision: Count
    status: Literal["stored", "agreed", "break"]


class StatementVerdicts(Message, frozen=True, kw_only=True):
    """The answer to a StatementSubmission, one verdict per statement in its order."""

    verdicts: tuple[StatementVerdict, ...]


class SenderCuts(Message, frozen=True, kw_only=True):
    """The cuts of every receiver for one sender's lanes: `lanes[i]` says receiver, currency, last_sequence.

    `delivered` are the participants of the cycle whose cut is in; a bank states its positions with these, and pairs
    with anybody else are carried over. On a lane of one of them that isn't listed nothing was accepted.
    """

    cycle: CycleId
    complete: bool
    lanes: tuple[ReceiverCut, ...]
    delivered: tuple[Bic, ...]


class ReceiverCut(Message, frozen=True, kw_only=True):
    receiver: Bic
    currency: CurrencyCode
    last_sequence: Sequence


class Event(Message, frozen=True, kw_only=True):
    """One entry of the coordinator's event feed. `id` is the cursor; `data` depends on `type`.

    Types: cycle.opened, cycle.cut_off, cycle.attesting, cycle.break, cycle.equivocation, cycle.matched, cycle.netted,
    cycle.held, cycle.approved, cycle.instructed, cycle.deferred, cycle.settled, cycle.final, cycle.abandoned,
    participant.changed, trust_list.published, cap.changed, prefunding.changed, bilateral_limit.changed, proposal.made,
    proposal.decided.
    """

    id: Count
    type: str
    at: Timestamp
    cycle: CycleId | None = None
    data: dict[str, Any] = {}


class Events(Message, frozen=True, kw_only=True):
    """A page of the feed; `next` is the cursor to ask with."""

    events: tuple[Event, ...]
    next: Count


class BreakNotice(Message, frozen=True, kw_only=True):
    """A pair whose two statements differ, or of which one is missing."""

    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    revision: Count
    kind: Literal["different", "missing"]
    missing_from: Bic | None = None
    resolved: bool = False


class ProposalRequest(Message, frozen=True, kw_only=True):
    """An operator's proposal on a cycle (four eyes: somebody else decides).

    "unwind" names the `participants` who can't pay: the cycle is netted again without their pairs.
    """

    action: Literal["approve", "hold", "release", "abandon", "unwind"]
    reason: Reason
    participants: tuple[Bic, ...] = ()


class Decision(Message, frozen=True, kw_only=True):
    """The second person's word on a proposal."""

    decision: Literal["confirm", "reject"]
    reason: Reason | None = None


class CapChange(Message, frozen=True, kw_only=True):
    """A net debit cap in one currency."""

    cap_minor: TotalAmount
    reason: Reason


class PrefundingChange(Message, frozen=True, kw_only=True):
    """What a participant prefunded in one currency, and how much of it no cycle may use."""

    prefunded_minor: TotalAmount
    reserved_minor: TotalAmount = "0"
    reason: Reason


class BilateralLimitChange(Message, frozen=True, kw_only=True):
    """The most that a counterparty may owe a participant net in one currency; null lifts the limit."""

    limit_minor: TotalAmount | None
    reason: Reason
