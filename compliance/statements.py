"""The documents that members sign: closed schemas, canonical JSON, DSSE payload types.

Money is an integer number of minor units, written as a string of digits, beside its ISO 4217 code. Every
document is encoded by `compliance.crypto.canonical` (RFC 8785), so that two members who mean the same sign the same
bytes. A member is named by its BIC (ISO 9362).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct


def whole(pattern: str) -> str:
    """Return the regular expression that a whole text matches, in Python's dialect and in JSON Schema's.

    By `$` alone Python would let a line break follow.
    """
    return rf"^{pattern}(?!\n)$"


def inside(kind: Any) -> str:
    """Return the regular expression of a type of texts (`Bic`) without its ends, to be part of a longer one."""
    (meta,) = [meta for meta in get_args(kind) if isinstance(meta, Meta) and meta.pattern is not None]
    pattern = str(meta.pattern)
    begin, end = whole("\0").split("\0")
    if not (pattern.startswith(begin) and pattern.endswith(end)):
        raise ValueError(f"{pattern!r} isn't of a whole text")
    return f"(?:{pattern.removeprefix(begin).removesuffix(end)})"


BIC_PATTERN = whole(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")
CURRENCY_PATTERN = whole(r"[A-Z]{3}")
CYCLE_PATTERN = whole(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2,5}")


def form(pattern: str, description: str, *examples: str) -> Meta:
    """Return what a text must be, for those who check it and, in words, for those who write it.

    The words follow "it takes": an answer that refuses a text says so.
    """
    return Meta(pattern=pattern, description=description, examples=list(examples))


Bic = Annotated[str, form(BIC_PATTERN, "a BIC in capitals: 8 or 11 letters and digits (ISO 9362)", "BRCHXXB0")]
CurrencyCode = Annotated[str, form(CURRENCY_PATTERN, "a currency's three capital letters (ISO 4217)", "EUR")]
CycleId = Annotated[str, form(CYCLE_PATTERN, "a cycle: its value date and number", "2026-11-27-01")]
Date = Annotated[str, form(whole(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "a date", "2026-11-27")]
Timestamp = Annotated[
    str,
    form(
        whole(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z"),
        "an instant in UTC (RFC 3339)",
        "2026-11-27T15:30:00Z",
    ),
]
Sha256 = Annotated[str, form(whole(r"[0-9a-f]{64}"), "a SHA-256 as 64 hexadecimal digits in small letters")]
# One payment: positive, below 10^15 minor units, so that sums of thousands stay inside a BIGINT.
PaymentAmount = Annotated[
    str,
    form(
        whole(r"[1-9][0-9]{0,14}"),
        "a positive whole number of minor units, as a text of at most 15 digits without leading zeros",
        "123450",
    ),
]
# A total: zero or more, up to 38 digits.
TotalAmount = Annotated[
    str,
    form(whole(r"(0|[1-9][0-9]{0,37})"), "a whole number of minor units, zero or more, as a text", "123450"),
]
KeyId = Annotated[str, form(whole(r"[A-Za-z0-9_-]{43}"), "the thumbprint of a key (RFC 7638): 43 letters of base64url")]
"""The JWK thumbprint of a public key (RFC 7638), base64url."""
# A net: signed, up to 38 digits; positive is owed to the participant, negative is owed by it.
NetAmount = Annotated[
    str, form(whole(r"(0|-?[1-9][0-9]{0,37})"), "a whole number of minor units with its sign, as a text", "-123450")
]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Sequence = Annotated[int, Meta(ge=0, le=2**53 - 1)]
# Text for people: no control characters, which no bank prints and no database keeps.
REASON_PATTERN = r"^[^\x00-\x08\x0b-\x1f\x7f]*$"
Reason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=REASON_PATTERN,
        description="a reason of 1 to 500 characters, none a control",
    ),
]


KeyUse = Literal["auth", "sign", "token"]

SCREENINGS_MAX = 32
"""Different screening statements of one bank that are taken in in one cycle, the first ones that it attests."""

# Every edition of a cycle's result leaves out one participant more at least.
EDITIONS_MAX = 99


class Document(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """Base of every signed document. Nothing in one refers back to it, so the garbage collector has nothing to find."""


class LaneCut(Document, frozen=True, kw_only=True):
    """The last payment of one lane that a cycle takes in. A lane is (sender, receiver, currency)."""

    sender: Bic
    currency: CurrencyCode
    last_sequence: Sequence


class CycleCut(Document, frozen=True, kw_only=True):
    """What one receiver has accepted when a cycle is cut off: the numbers that decide membership.

    Payload type `application/vnd.concordat.cycle-cut.v1+json`. Lanes are ordered by (sender, currency); a lane
    on which nothing was ever accepted is left out.
    """

    cycle: CycleId
    receiver: Bic
    lanes: tuple[LaneCut, ...]


class Flow(Document, frozen=True, kw_only=True):
    """One direction of a pair in one cycle: the payments first_sequence..last_sequence of a lane.

    `root` is the RFC 6962 tree head over the whole lane (payments 1..last_sequence), so every statement also
    commits to all that went before it. first_sequence is the first payment not yet settled; an empty flow has
    first_sequence = last_sequence + 1. `count` and `amount_minor` leave out payments under dispute.
    """

    sender: Bic
    receiver: Bic
    first_sequence: Sequence
    last_sequence: Sequence
    count: Count
    amount_minor: TotalAmount
    root: Sha256


class PositionStatement(Document, frozen=True, kw_only=True):
    """What two banks owe each other in one cycle and currency. Both attest the same bytes, each by a tree of its own.

    Payload type `application/vnd.concordat.position.v1+json`, where it is signed by itself, as before there were
    attestations. `pair` is sorted; `flows` holds pair[0]→pair[1],
    then pair[1]→pair[0]. `revision` starts at 1 and grows by one when a break is mended and attested again.
    """

    cycle: CycleId
    currency: CurrencyCode
    pair: tuple[Bic, Bic]
    revision: Annotated[int, Meta(ge=1, le=99)]
    flows: tuple[Flow, Flow]


class Attestation(Document, frozen=True, kw_only=True):
    """A bank's one signature over all that it states in a cycle, and over each later word of its.

    Payload type `application/vnd.concordat.attestation.v1+json`. `root` is the RFC 6962 tree head over the digests
    (SHA-256 of the canonical bytes, 32 bytes a leaf) of `statements` position statements, in ascending order of
    (currency, pair), each pair once. An attestation covers what it adds: the first one all pairs, one that answers a
    break or brings a pair that was contested only those. `screening` is the digest of the ScreeningStatement that
    counts from here on; without it the one before does. `contested` is the digest of the lanes whose cuts the bank
    contests with this word (`compliance.cycle.contests`), absent where it contests none. `complete` says that no
    further pair of the bank has anything new in the cycle, but those that it contests.
    """

    cycle: CycleId
    participant: Bic
    statements: Count
    root: Sha256
    screening: Sha256 | None = None
    contested: Sha256 | None = None
    complete: bool = False


class ScreeningStatement(Document, frozen=True, kw_only=True):
    """A bank's word that it screened what it sent and accepted in a cycle, and against which lists.

    Payload type `application/vnd.concordat.screening.v1+json`. Counts only: no name, no payment.
    """

    cycle: CycleId
    participant: Bic
    lists: Annotated[tuple[ScreeningList, ...], Meta(max_length=64)]
    matcher: Annotated[str, Meta(max_length=256)]
    screened: Count
    hits: Count
    released: Count
    rejected: Count
    pending: Count


class ScreeningList(Document, frozen=True, kw_only=True):
    """One imported sanctions list: name, digest of its bytes, entries, when the bank imported it."""

    name: Annotated[str, Meta(max_length=128)]
    sha256: Sha256
    entries: Count
    imported_at: Timestamp


class NetPosition(Document, frozen=True, kw_only=True):
    """One participant in one currency: what it receives and pays gross, and the difference."""

    participant: Bic
    receives_minor: TotalAmount
    pays_minor: TotalAmount
    net_minor: NetAmount


class CarryReason(StrEnum):
    """Why a pair is carried over, in order of precedence: what its attestation ended with, then what netting found."""

    PARTICIPANT_SUSPENDED = "participant_suspended"
    """One of its banks is suspended."""
    CUT_MISSING = "cut_missing"
    """One of its banks delivered no cut in time."""
    CUT_CONTESTED = "cut_contested"
    """The cut of one of its lanes names payments that the lane's sender doesn't know, and nobody is convicted of it."""
    NOT_ATTESTED = "not_attested"
    """One of its banks, or both, didn't sign in time, and no two statements of theirs differ."""
    BREAK = "break"
    """Its banks signed different statements and didn't mend it in time."""
    PARTICIPANT_DEFAULT = "participant_default"
    """One of its banks is in default, and the cycle was netted again without it."""
    BILATERAL_LIMIT = "bilateral_limit"
    """One of its banks would owe the other more than that one lets it."""
    NET_DEBIT_CAP = "net_debit_cap"
    """With it a bank would owe more than its cap and prefunding let it."""


class CarriedOver(Document, frozen=True, kw_only=True):
    """A pair that this cycle leaves for a later one, and why."""

    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    reason: CarryReason


class CurrencyResult(Document, frozen=True, kw_only=True):
    """The netting of one currency: what would move payment by payment, pair by pair and net, and each position.

    `gross_minor` is the sum of the obligations that settle, `bilateral_minor` the sum of the pairs' differences,
    `settlement_minor` what moves: the sum of the positive nets. `saving_minor` is gross less settlement. Results of
    release 0.1 say nothing of `bilateral_minor` and `saving_minor`.
    """

    currency: CurrencyCode
    obligations: Count
    gross_minor: TotalAmount
    bilateral_minor: TotalAmount | None = None
    saving_minor: TotalAmount | None = None
    settlement_minor: TotalAmount
    positions: tuple[NetPosition, ...]


class LiquidityResult(Document, frozen=True, kw_only=True):
    """What settles now of what matched in one currency, and what at most could within the limits.

    `matched_minor` is the gross value of all matched pairs, `value_minor` that of those that settle. No selection
    within the limits is worth more than `upper_bound_minor`, which the certificate with this digest proves;
    `gap_minor` is the difference of the two. In mode "fifo" the bound is for any order of the queues. `optimal`
    tells whether the selection is proven to be the best of its mode; `work` is how many steps it took.
    """

    currency: CurrencyCode
    mode: Literal["optimal", "fifo"]
    matched_minor: TotalAmount
    value_minor: TotalAmount
    upper_bound_minor: TotalAmount
    gap_minor: TotalAmount
    optimal: bool
    work: Count
    certificate: Sha256


class IncludedStatement(Document, frozen=True, kw_only=True):
    """A matched statement that the result rests on, named by the SHA-256 of its canonical bytes."""

    pair: tuple[Bic, Bic]
    currency: CurrencyCode
    sha256: Sha256


class NettingResult(Document, frozen=True, kw_only=True):
    """The outcome of a cycle: a deterministic function of the agreed statements, the limits and the rulebook.

    Payload type `application/vnd.concordat.netting-result.v1+json`. No time and no random value is in it.

    After a default a cycle is netted again without the `defaulted`: `edition` counts its results from 1, and
    `supersedes` is the digest of the one before.
    """

    cycle: CycleId
    value_date: Date
    rulebook: Sha256
    edition: Annotated[int, Meta(ge=1, le=EDITIONS_MAX)] = 1
    supersedes: Sha256 | None = None
    defaulted: tuple[Bic, ...] = ()
    statements: tuple[IncludedStatement, ...]
    results: tuple[CurrencyResult, ...]
    liquidity: tuple[LiquidityResult, ...] = ()
    carried_over: tuple[CarriedOver, ...]


class ResultCommitment(Document, frozen=True, kw_only=True):
    """One hash over all that a result says, the same for every bank: each checks its own part by it.

    Payload type `application/vnd.concordat.result-commitment.v1+json`. `result` is the digest of the NettingResult,
    `root` the RFC 6962 tree head over the `leaves` that `compliance.cycle.commitment` makes of it.
    """

    cycle: CycleId
    edition: Annotated[int, Meta(ge=1, le=EDITIONS_MAX)] = 1
    result: Sha256
    leaves: Count
    root: Sha256


class InstructionLine(Document, frozen=True, kw_only=True):
    """One matched pair behind an instruction, seen from the instructed participant."""

    counterparty: Bic
    statement: Sha256
    receives_minor: TotalAmount
    pays_minor: TotalAmount


class SettlementInstruction(Document, frozen=True, kw_only=True):
    """One net amount for one bank and currency, signed by the coordinator.

    Payload type `application/vnd.concordat.instruction.v1+json`. `id` is "<cycle>/<participant>/<currency>", from
    the second edition of the result on with "/<edition>" after it.
    """

    id: str
    cycle: CycleId
    participant: Bic
    currency: CurrencyCode
    net_minor: NetAmount
    lines: tuple[InstructionLine, ...]
    result: Sha256
    settlement_agent: Bic


class SettlementFinality(Document, frozen=True, kw_only=True):
    """The settlement agent settled a cycle: recorded once, signed by the coordinator.

    Payload type `application/vnd.concordat.finality.v1+json`. `result` is the digest of the NettingResult;
    `agent_reference` is the agent's own reference from its pacs.002.
    """

    cycle: CycleId
    result: Sha256
    settlement_agent: Bic
    agent_reference: str
    settled_at: Timestamp


class Receipt(Document, frozen=True, kw_only=True):
    """A bank's signed word that it verified an instruction and will post it.

    Payload type `application/vnd.concordat.receipt.v1+json`.
    """

    instruction: str
    participant: Bic
    sha256: Sha256


class TrustKey(Document, frozen=True, kw_only=True):
    """A public key of a member. `use`: auth (client assertions), sign (documents), token (access tokens).

    It counts from `not_before` until `not_after`, and for nothing from `revoked_at` on.
    """

    kid: str
    alg: Literal["Ed25519"]
    x: str
    use: KeyUse
    status: Literal["active", "retired", "revoked"]
    not_before: Timestamp | None = None
    not_after: Timestamp | None = None
    revoked_at: Timestamp | None = None


class Member(Document, frozen=True, kw_only=True):
    """An institution of the scheme as everybody may know it."""

    bic: Bic
    name: str
    kind: Literal["coordinator", "participant", "agent"]
    status: Literal["applied", "approved", "active", "suspended", "left"]
    url: str
    keys: tuple[TrustKey, ...]


class TrustList(Document, frozen=True, kw_only=True):
    """The members and their keys, one version after another, signed by the coordinator's `sign` key.

    Payload type `DATED_TRUST_LIST_TYPE`; without the times of keys `application/vnd.concordat.trust-list.v1+json`, in
    the form of 0.1. `issuer` is the `iss` of access tokens.
    """

    version: Count
    issuer: str
    members: tuple[Member, ...]


class ActKind(StrEnum):
    """What two operators decide together."""

    CYCLE_APPROVE = "cycle.approve"
    CYCLE_HOLD = "cycle.hold"
    CYCLE_RELEASE = "cycle.release"
    CYCLE_ABANDON = "cycle.abandon"
    CYCLE_UNWIND = "cycle.unwind"
    MEMBER_APPROVE = "member.approve"
    MEMBER_ACTIVATE = "member.activate"
    MEMBER_SUSPEND = "member.suspend"
    MEMBER_LEAVE = "member.leave"
    KEY_REVOKE = "key.revoke"
    KEY_ENROL = "key.enrol"
    CAP = "cap"
    PREFUNDING = "prefunding"
    BILATERAL_LIMIT = "bilateral_limit"
    SETTLEMENT_ACCOUNT = "settlement_account"
    RULEBOOK_ADOPT = "rulebook.adopt"
    CLIENT_LET_IN = "client.let_in"
    CLIENT_REMOVE = "client.remove"
    DAY_CLOSE = "day.close"
    DAY_REOPEN = "day.reopen"


class Act(Document, frozen=True, kw_only=True):
    """What is to be done: all that operators are shown of it, and sign by its digest.

    `subject` is the cycle, the member's BIC, the client's name or the currency. `terms` says the rest in the words of
    the request: the digest of the result that is approved, the currency and the cap that is set. `before` says what
    stands in the registry in the place of what is to come, in the same words: the cap that there is. What nothing
    stands for says nothing, and neither do acts of releases before.
    """

    kind: ActKind
    subject: Annotated[str, Meta(min_length=1, max_length=64)]
    terms: Annotated[dict[str, Annotated[str, Meta(max_length=2_000)]], Meta(max_length=16)] = {}
    before: Annotated[dict[str, Annotated[str, Meta(max_length=2_000)]], Meta(max_length=16)] = {}


class OperatorDecision(Document, frozen=True, kw_only=True):
    """One operator's word on an act, signed by the operator's own key.

    Payload type `application/vnd.concordat.decision.v1+json`. `shown` is the SHA-256 of the canonical JSON of the
    `Act`, whose kind and subject are repeated for whoever reads this alone. Who confirms or rejects names the decision
    that proposed it by its digest (`proposal`), so that one word decides one proposal. `coordinator` is the clearing
    house that it is for.
    """

    coordinator: Bic
    operator: Annotated[str, Meta(min_length=1, max_length=64)]
    action: Literal["propose", "confirm", "reject"]
    kind: ActKind
    subject: Annotated[str, Meta(min_length=1, max_length=64)]
    shown: Sha256
    proposal: Sha256 | None = None
    reason: Reason | None = None
    at: Timestamp


class OperatorKey(Document, frozen=True, kw_only=True):
    """A key by which an operator or auditor signs in, and an operator decides. A removed one decides nothing more."""

    name: str
    role: Literal["operator", "auditor"]
    kid: str
    alg: Literal["Ed25519"]
    x: str
    status: Literal["active", "removed"]


class OperatorRegister(Document, frozen=True, kw_only=True):
    """Who operates the clearing house, by which keys: one version after another.

    Payload type `application/vnd.concordat.operators.v1+json`, signed by the coordinator's `sign` key. Keys are ordered
    by (name, kid), removed ones included. `supersedes` is the digest of the version before: there is one history only.
    """

    coordinator: Bic
    version: Count
    supersedes: Sha256 | None = None
    operators: tuple[OperatorKey, ...]


DATED_TRUST_LIST_TYPE = "application/vnd.concordat.trust-list.v2+json"


class TrustListConfirmation(Document, frozen=True, kw_only=True):
    """The coordinator's word that a trust list was the newest at `confirmed_at`. It counts until `expires_at`.

    Payload type `application/vnd.concordat.trust-list-confirmation.v1+json`. `sha256` is of the list's payload.
    """

    version: Count
    sha256: Sha256
    confirmed_at: Timestamp
    expires_at: Timestamp


PAYLOAD_TYPES: dict[type[Document], str] = {
    CycleCut: "application/vnd.concordat.cycle-cut.v1+json",
    PositionStatement: "application/vnd.concordat.position.v1+json",
    ScreeningStatement: "application/vnd.concordat.screening.v1+json",
    Attestation: "application/vnd.concordat.attestation.v1+json",
    NettingResult: "application/vnd.concordat.netting-result.v1+json",
    ResultCommitment: "application/vnd.concordat.result-commitment.v1+json",
    SettlementInstruction: "application/vnd.concordat.instruction.v1+json",
    SettlementFinality: "application/vnd.concordat.finality.v1+json",
    Receipt: "application/vnd.concordat.receipt.v1+json",
    TrustList: "application/vnd.concordat.trust-list.v1+json",
    OperatorDecision: "application/vnd.concordat.decision.v1+json",
    OperatorRegister: "application/vnd.concordat.operators.v1+json",
    TrustListConfirmation: "application/vnd.concordat.trust-list-confirmation.v1+json",
}
