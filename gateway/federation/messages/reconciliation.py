"""Bank to bank: where the books of a pair differ. What one says of its payments the other needn't believe."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Document,
    PaymentAmount,
    Sequence,
    Sha256,
    Timestamp,
    form,
    whole,
)
from gateway.federation.messages.base import Answer, OwnReference, Request, Uetr, Uuid, open_words

SHARE_TYPE = "application/vnd.concordat.reconciliation-share.v1+json"
NODES_MAX = 1024
RECORDS_MAX = 1000
"""Payments that are told of at once."""
STATUSES = (
    "reserved", "cancelling", "held", "posted", "accepted", "declined", "refused", "disputed", "returned", "cancelled",
    "archived",
)  # fmt: skip
"""How a payment may stand at a bank; `archived` is one whose events are in a file."""
SETTLED_MAX = 32
"""Cycles of a lane, the newest ones."""

KeyShare = Annotated[str, form(whole(r"[A-Za-z0-9_-]{43}"), "a public key of X25519: 43 letters of base64url")]
Base64 = Annotated[str, Meta(max_length=64 * 1024, description="bytes in base64")]
AgreementName = Annotated[
    str,
    form(
        whole(r"[0-9a-f]{64}"),
        "the SHA-256 of the half of a secret that was answered, as 64 hexadecimal digits in small letters",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
]
IdOfPayment = Annotated[
    str, form(whole(r"[0-9a-f]{32}"), "a keyed id: 32 hexadecimal digits in small letters", "0f" * 16)
]


class ReconciliationShare(Document, frozen=True, kw_only=True):
    """One bank's half of the secret that the ids of a pair are made with (decision 24).

    Payload type `application/vnd.concordat.reconciliation-share.v1+json`. Who answers names the digest of what it
    answers.
    """

    sender: Bic
    receiver: Bic
    made_at: Timestamp
    key: KeyShare
    answers: Sha256 | None = None


class LaneQuestion(Request, frozen=True, kw_only=True):
    """What a bank asks of a lane of its own and the other one's.

    Without `nodes`: how far it goes, and the root over its first payments, `size` of them or as many as there are. With
    them: the digests of subtrees over payments at * 2^level + 1 to (at + 1) * 2^level of the first `size`.
    """

    sender: Bic
    currency: CurrencyCode
    size: Sequence
    nodes: Annotated[
        tuple[tuple[Annotated[int, Meta(ge=0, le=53)], Annotated[int, Meta(ge=0, le=2**53 - 1)]], ...],
        Meta(max_length=NODES_MAX),
    ] = ()


class SettledThrough(Answer, frozen=True, kw_only=True):
    """The last payment of a lane that a cycle settled."""

    cycle: CycleId
    sequence: Sequence


class LaneAnswer(Answer, frozen=True, kw_only=True):
    """`size` payments are numbered without a gap. `digests` are of 32 bytes each, in the order of the question.

    `settled` and `disputed` are told without `nodes` only: cycles, the newest first, and the numbers that the receiver
    contests.
    """

    size: Sequence
    digests: Base64
    settled: tuple[SettledThrough, ...] = ()
    disputed: tuple[Sequence, ...] = ()


class LaneRange(Request, frozen=True, kw_only=True):
    """The payments after a number and through another of the lane of a sender."""

    sender: Bic
    through: Sequence
    after: Sequence = 0


class SetQuestion(Request, frozen=True, kw_only=True):
    """Which payments of a lane of the two banks are compared as a set of ids, under which agreed secret."""

    agreement: AgreementName
    currency: CurrencyCode
    lane: LaneRange


class SetAnswer(Answer, frozen=True, kw_only=True):
    """What a bank says of its set before it knows anything of the other's.

    `lane` is as far as it has it. `root` is the RFC 6962 root over 4,096 parts of the sorted ids, `bits` 64 numbers
    of 32 bits: in how many ids each bit of the second half is set, less half of `count`.
    """

    session: Uuid
    count: Count
    root: Sha256
    bits: Base64
    lane: LaneRange


class RecordQuestion(Request, frozen=True, kw_only=True):
    """Payments between the two banks that more is to be told of: by id, by number in a lane, by keyed id of a set."""

    payments: Annotated[tuple[Uuid, ...], Meta(max_length=RECORDS_MAX)] = ()
    sender: Bic | None = None
    currency: CurrencyCode | None = None
    numbers: Annotated[tuple[Sequence, ...], Meta(max_length=RECORDS_MAX)] = ()
    session: Uuid | None = None
    ids: Annotated[tuple[IdOfPayment, ...], Meta(max_length=RECORDS_MAX)] = ()


class SharedRecord(Answer, frozen=True, kw_only=True):
    """A payment as the bank that answers has it; what the other signed of it is at `…/payments/{id}/evidence`.

    `leaf` is its hash in the lane's tree. One that was archived is told of by its number, amount and leaf alone.
    """

    payment: Uuid
    sender: Bic
    currency: CurrencyCode
    amount_minor: PaymentAmount
    leaf: Sha256
    status: Annotated[str, open_words(*STATUSES)]
    sequence: Sequence | None = None
    end_to_end_id: OwnReference | None = None
    uetr: Uetr | None = None


class SharedRecords(Answer, frozen=True, kw_only=True):
    """The payments that the bank has, of those that it was asked for."""

    records: tuple[SharedRecord, ...]
