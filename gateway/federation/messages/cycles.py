"""A cycle as the coordinator shows it: state, progress, totals, positions, checks, instructions. Never signed."""

from __future__ import annotations

from typing import Annotated

import msgspec

from compliance.crypto.dsse import Envelope
from compliance.cycle.certificate import Certificate
from compliance.cycle.commitment import ProvenLeaf
from compliance.cycle.states import State
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
from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.base import Answer, Request, open_words
from gateway.federation.messages.participants import ParticipantStatus

CycleState = Annotated[str, open_words(*State)]


class StuckView(Answer, frozen=True, kw_only=True):
    """Why a cycle can't go on: its next step has failed twice or more in a row. It is tried again by itself."""

    reason: str
    """A stable code; operators find the detail in the cycle's progress."""
    since: Timestamp
    """When the step failed for the first time."""
    failures: Count
    retry_at: Timestamp | None = None
    """When it is tried again, if not at once."""


class Cycle(Answer, frozen=True, kw_only=True):
    """A clearing cycle as members and operators see it."""

    id: CycleId
    value_date: Date
    number: Count
    state: CycleState
    currencies: tuple[CurrencyCode, ...]
    """What the cycle takes in; until it is cut off, what it would take in now."""
    closed: dict[CurrencyCode, str] = msgspec.field(default_factory=dict)
    """The other currencies, each with why it doesn't settle on the value date. A later cycle takes them in."""
    rulebook: Sha256
    trust_list_version: Count
    opened_at: Timestamp
    cut_off_at: Timestamp | None = None
    """When the cycle is or was cut off."""
    deadline_at: Timestamp | None = None
    """When the present step ends by rule (cuts or attestations), if it has a deadline."""
    result: Sha256 | None = None
    stuck: StuckView | None = None
    """Why it can't go on, if it can't."""


# A limit may leave no room at all, and a later change of it may leave less than none.
SignedAmount = NetAmount


class PairCounts(Answer, frozen=True, kw_only=True):
    """How many (pair, currency) of a cycle stand where. `missing`: one bank's statement is still to come."""

    agreed: Count = 0
    differing: Count = 0
    missing: Count = 0
    carried_over: Count = 0


class LiquidityView(Answer, frozen=True, kw_only=True):
    """What settles now of what matched in one currency, and what at most could within the limits.

    `GET /cycles/{id}/certificates` has the proof of the bound.
    """

    mode: Annotated[str, open_words("optimal", "fifo")]
    matched_minor: TotalAmount
    value_minor: TotalAmount
    upper_bound_minor: TotalAmount
    gap_minor: TotalAmount
    optimal: bool


class CurrencyTotal(Answer, frozen=True, kw_only=True):
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


class CycleSummary(Answer, frozen=True, kw_only=True):
    """One line of the list of cycles."""

    cycle: Cycle
    pairs: PairCounts
    totals: tuple[CurrencyTotal, ...] = ()


class CyclePage(Answer, frozen=True, kw_only=True):
    """`GET /cycles`: newest first. `next` is the cursor of the following page, None at the end."""

    items: tuple[CycleSummary, ...]
    next: str | None = None


class ParticipantProgress(Answer, frozen=True, kw_only=True):
    """How far one participant is in one cycle."""

    participant: Bic
    status: ParticipantStatus
    cut_at: Timestamp | None = None
    """When its CycleCut arrived."""
    attested_at: Timestamp | None = None
    """When the first Attestation arrived by which it had said all."""
    statements: Count = 0
    pairs: PairCounts = PairCounts()
    instructions: Count = 0
    acknowledged: Count = 0


class CycleProgress(Answer, frozen=True, kw_only=True):
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
    four_eyes: tuple[str, ...] | None = None
    """Why two persons must approve the result (`FourEyesCause`, empty if nobody must), while it is netted or held."""
    stuck_detail: str | None = None
    """What the next step fails of, in words, while the cycle is stuck."""
    agent_says: str | None = None
    """The settlement agent's last answer in its own words, while the cycle is held or deferred for it."""


class PositionView(Answer, frozen=True, kw_only=True):
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


class Positions(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/positions`, ordered by (currency, participant).

    `provisional` until the cycle is netted: the agreed statements so far, without the effect of limits.
    """

    cycle: CycleId
    provisional: bool
    positions: tuple[PositionView, ...]


class CheckView(Answer, frozen=True, kw_only=True):
    """One named check before settlement. `evidence` is a line per finding, without any payment or customer."""

    name: str
    verdict: Annotated[str, open_words("pass", "warn", "fail")]
    detail: str
    evidence: tuple[str, ...] = ()


class Checks(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/checks`, in the order they ran; empty until the cycle is netted."""

    cycle: CycleId
    checks: tuple[CheckView, ...]


class Certificates(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/certificates`, by currency: the proofs of the result's upper bounds."""

    cycle: CycleId
    certificates: tuple[Certificate, ...]


class ResultProof(Answer, frozen=True, kw_only=True):
    """`GET /cycles/{id}/proof`: a signed `ResultCommitment`, and lines of the result with their ways up to its root."""

    cycle: CycleId
    commitment: Envelope
    leaves: tuple[ProvenLeaf, ...] = ()


class InstructionView(Answer, frozen=True, kw_only=True):
    """One settlement instruction as the operator follows it."""

    id: str
    cycle: CycleId
    participant: Bic
    currency: CurrencyCode
    net_minor: NetAmount
    sha256: Sha256
    acknowledged_at: Timestamp | None = None


class RetryCycle(Request, frozen=True, kw_only=True):
    """`POST /cycles/{id}/retry`: take a stuck cycle's next step at once."""

    reason: Reason


class OpenCycle(Request, frozen=True, kw_only=True):
    """`POST /cycles`: open a cycle by hand; without a value date, the next business day of the calendar."""

    value_date: Date | None = None
