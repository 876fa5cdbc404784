"""What the coordinator shows: read models of its HTTP API, for the console, members and auditors.

Each is a picture at the moment of asking, never signed. Money is a string of digits in minor units, as everywhere.
`gateway.federation.wire` has the messages that members exchange; here is what they and operators read.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from compliance.certificate import Certificate
from compliance.statements import (
    Bic,
    Count,
    CurrencyCode,
    CycleId,
    Date,
    NetAmount,
    Reason,
    Sha256,
    Timestamp,
    TotalAmount,
)
from gateway.federation.wire import BreakNotice, Cycle, Message, Uuid

ParticipantStatus = Literal["applied", "approved", "active", "suspended", "left"]
ProposalAction = Literal["approve", "hold", "release", "abandon", "unwind"]
ProposalStatus = Literal["pending", "confirmed", "rejected", "expired"]

# A limit may leave no room at all, and a later change of it may leave less than none.
SignedAmount = NetAmount


# --- cycles ---------------------------------------------------------------------------------------------


class PairCounts(Message, frozen=True, kw_only=True):
    """How many (pair, currency) of a cycle stand where. `missing`: one bank's statement is still to come."""

    agreed: Count = 0
    differing: Count = 0
    missing: Count = 0
    carried_over: Count = 0


class LiquidityView(Message, frozen=True, kw_only=True):
    """What settles now of what matched in one currency, and what at most could within the limits.

    `GET /cycles/{id}/certificates` has the proof of the bound.
    """

    mode: Literal["optimal", "fifo"]
    matched_minor: TotalAmount
    value_minor: TotalAmount
    upper_bound_minor: TotalAmount
    gap_minor: TotalAmount
    optimal: bool


class CurrencyTotal(Message, frozen=True, kw_only=True):
    """One currency of a cycle: gross of the agreed obligations, and what is left to settle (sum of net debits).

    `bilateral_minor` is what would move if each pair settled its difference. All but the gross is None until the
    cycle is netted; then the gross is of the obligations that settle.
    """

    currency: CurrencyCode
    gross_minor: TotalAmount
    bilateral_minor: TotalAmount | None = None
    settlement_minor: TotalAmount | None = None
    saving_minor: TotalAmount | None = None
    liquidity: LiquidityView | None = None


class CycleSummary(Message, frozen=True, kw_only=True):
    """One line of the list of cycles."""

    cycle: Cycle
    pairs: PairCounts
    totals: tuple[CurrencyTotal, ...] = ()


class CyclePage(Message, frozen=True, kw_only=True):
    """`GET /cycles`: newest first. `next` is the cursor of the following page, None at the end."""

    items: tuple[CycleSummary, ...]
    next: str | None = None


class ParticipantProgress(Message, frozen=True, kw_only=True):
    """How far one participant is in one cycle."""

    participant: Bic
    status: ParticipantStatus
    cut_at: Timestamp | None = None
    """When its CycleCut arrived."""
    attested_at: Timestamp | None = None
    """When its last complete StatementSubmission arrived."""
    statements: Count = 0
    pairs: PairCounts = PairCounts()
    instructions: Count = 0
    acknowledged: Count = 0


class CycleProgress(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/progress`: one cycle with its counts and its participants, ordered by BIC."""

    cycle: Cycle
    participants: tuple[ParticipantProgress, ...]
    pairs: PairCounts
    totals: tuple[CurrencyTotal, ...] = ()
    breaks: tuple[BreakNotice, ...] = ()
    instructions: Count = 0
    acknowledged: Count = 0
    settlement_attempts: Count = 0
    """Requests sent to the settlement agent so far."""


class PositionView(Message, frozen=True, kw_only=True):
    """One participant in one currency of a cycle.

    `limit_minor` is the most that it may owe net: its cap and what it prefunded, less what it reserved.
    `headroom_minor` = limit + net. All three are None where no cap is set.
    """

    participant: Bic
    currency: CurrencyCode
    receives_minor: TotalAmount
    pays_minor: TotalAmount
    net_minor: NetAmount
    cap_minor: TotalAmount | None = None
    limit_minor: TotalAmount | None = None
    headroom_minor: SignedAmount | None = None


class Positions(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/positions`, ordered by (currency, participant).

    `provisional` until the cycle is netted: the agreed statements so far, without the effect of limits.
    """

    cycle: CycleId
    provisional: bool
    positions: tuple[PositionView, ...]


class CheckView(Message, frozen=True, kw_only=True):
    """One named check before settlement. `evidence` is a line per finding, without any payment or customer."""

    name: str
    verdict: Literal["pass", "warn", "fail"]
    detail: str
    evidence: tuple[str, ...] = ()


class Checks(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/checks`, in the order they ran; empty until the cycle is netted."""

    cycle: CycleId
    checks: tuple[CheckView, ...]


class Certificates(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/certificates`, by currency: the proofs of the result's upper bounds."""

    cycle: CycleId
    certificates: tuple[Certificate, ...]


class Breaks(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/breaks`: every break of the cycle, or a participant's own."""

    cycle: CycleId
    breaks: tuple[BreakNotice, ...]


class InstructionView(Message, frozen=True, kw_only=True):
    """One settlement instruction as the operator follows it."""

    id: str
    cycle: CycleId
    participant: Bic
    currency: CurrencyCode
    net_minor: NetAmount
    sha256: Sha256
    acknowledged_at: Timestamp | None = None


# --- four eyes --------------------------------------------------------------------------------------------


class ProposalView(Message, frozen=True, kw_only=True):
    """One operator's proposal on a cycle and, once somebody else decided, the decision.

    `subject_sha256` is the digest of the NettingResult that the maker looked at, None before there is one: a
    confirmation of something that changed meanwhile is refused.
    """

    id: Uuid
    cycle: CycleId
    action: ProposalAction
    reason: Reason
    participants: tuple[Bic, ...] = ()
    status: ProposalStatus
    subject_sha256: Sha256 | None = None
    made_by: str
    made_at: Timestamp
    expires_at: Timestamp | None = None
    decided_by: str | None = None
    decided_at: Timestamp | None = None
    decision_reason: Reason | None = None


class Proposals(Message, frozen=True, kw_only=True):
    """`GET /cycles/{id}/proposals`: newest first."""

    proposals: tuple[ProposalView, ...]


# --- registry ---------------------------------------------------------------------------------------------


class CapView(Message, frozen=True, kw_only=True):
    """A net debit cap in force."""

    currency: CurrencyCode
    cap_minor: TotalAmount


class PrefundingView(Message, frozen=True, kw_only=True):
    """Money set aside for net debits, and how much of it no cycle may use."""

    currency: CurrencyCode
    prefunded_minor: TotalAmount
    reserved_minor: TotalAmount


class BilateralLimitView(Message, frozen=True, kw_only=True):
    """The most that a counterparty may owe this participant net."""

    counterparty: Bic
    currency: CurrencyCode
    limit_minor: TotalAmount


class KeyView(Message, frozen=True, kw_only=True):
    """A public key of a participant, with its age."""

    kid: str
    use: Literal["auth", "sign", "token"]
    status: Literal["active", "retired", "revoked"]
    since: Timestamp


class ParticipantView(Message, frozen=True, kw_only=True):
    """One participant of the scheme as operators see it."""

    bic: Bic
    name: Annotated[str, Meta(max_length=140)]
    status: ParticipantStatus
    url: str
    since: Timestamp
    """When it got its present status."""
    settlement_account: str | None = None
    caps: tuple[CapView, ...] = ()
    prefunding: tuple[PrefundingView, ...] = ()
    bilateral_limits: tuple[BilateralLimitView, ...] = ()
    """Those that it grants to others."""
    keys: tuple[KeyView, ...] = ()
    last_seen_at: Timestamp | None = None


class ParticipantPage(Message, frozen=True, kw_only=True):
    """`GET /participants`, ordered by BIC."""

    items: tuple[ParticipantView, ...]
    next: str | None = None


# --- requests ---------------------------------------------------------------------------------------------


class OpenCycle(Message, frozen=True, kw_only=True):
    """`POST /cycles`: open a cycle by hand; without a value date, the next business day of the calendar."""

    value_date: Date | None = None


class StatusChange(Message, frozen=True, kw_only=True):
    """`POST /participants/{bic}/{approve|activate|suspend|leave}`."""

    reason: Reason
