"""Reading what a bank submits: cuts and statements, verified and held against the cycle. Pure.

Each reader refuses with the first reason in the order of `CycleReason`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.contests import Contest
from compliance.cycle.cuts import Bounds, Lane, behind, misfit
from compliance.cycle.matching import PairKey
from compliance.cycle.result import inconsistency
from compliance.statements import CycleCut, PositionStatement, ScreeningStatement
from gateway.coordinator.cycles.reasons import CycleReason, evidence_refusal
from gateway.federation.messages.attestation import ContestedLane
from gateway.federation.problems import Refusal

# With at most 10^15 minor units a payment, no sum of what passes here needs more than 38 digits.
PAYMENT_MAX = 10**15 - 1


@dataclass(frozen=True, kw_only=True)
class CycleTerms:
    """What a cycle fixes for all its participants."""

    id: str
    currencies: Collection[str]
    participants: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCut:
    """A verified cut with its envelope and the SHA-256 of its payload."""

    document: CycleCut
    envelope: Envelope
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStatement:
    """A verified statement of one bank. `pointer` is where it stands in the submission."""

    document: PositionStatement
    envelope: Envelope
    sha256: str
    pointer: str

    @property
    def key(self) -> PairKey:
        return (self.document.currency, *self.document.pair)

    @property
    def amounts(self) -> tuple[int, int]:
        """What pair[0] pays pair[1], and back, in minor units."""
        forth, back = self.document.flows
        return int(forth.amount_minor), int(back.amount_minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadScreening:
    """A verified screening statement with its envelope."""

    document: ScreeningStatement
    envelope: Envelope
    sha256: str


def read_cut(envelope: Envelope, bank: str, terms: CycleTerms, keys: Mapping[str, VerifyingKey]) -> ReadCut:
    """Verify a bank's cut and check that it is of this cycle and of this bank. Raises Refusal."""
    try:
        cut = dsse.verify_submitted(envelope, CycleCut, keys)
    except EvidenceError as error:
        raise evidence_refusal(error) from error
    if cut.cycle != terms.id:
        raise Refusal(CycleReason.WRONG_CYCLE, f"the cut is of cycle {cut.cycle}")
    if cut.receiver != bank:
        raise Refusal(CycleReason.WRONG_RECEIVER, f"the cut is of {cut.receiver}")
    for lane in cut.lanes:
        if lane.currency not in terms.currencies:
            raise Refusal(CycleReason.WRONG_CURRENCY, f"{lane.currency} isn't cleared in this cycle")
    order = [(lane.sender, lane.currency) for lane in cut.lanes]
    if order != sorted(set(order)) or any(lane.sender == bank for lane in cut.lanes):
        raise Refusal(CycleReason.INCONSISTENT, "lanes are ordered by sender and currency, each once, none from itself")
    return ReadCut(document=cut, envelope=envelope, sha256=canonical.digest(envelope.payload_bytes()))


def check_cut(cut: CycleCut, settled: Mapping[Lane, int], strangers: Collection[str]) -> None:
    """Check that a cut names no stranger, and doesn't go back behind what is settled. Raises Refusal."""
    invented = next((lane.sender for lane in cut.lanes if lane.sender in strangers), None)
    if invented is not None:
        # A pair with nobody could only be carried over, in every cycle, and no verifier would understand why.
        raise Refusal(CycleReason.WRONG_PAIR, f"the cut names {invented}, which isn't a participant of the scheme")
    if (detail := behind(cut, settled)) is not None:
        raise Refusal(CycleReason.SEQUENCE_MISMATCH, detail)


def read_statement(
    envelope: Envelope, bank: str, terms: CycleTerms, keys: Mapping[str, VerifyingKey], *, pointer: str
) -> ReadStatement:
    """Verify one of a bank's statements and check that it belongs to this cycle and bank. Raises Refusal."""
    try:
        statement = dsse.verify_submitted(envelope, PositionStatement, keys)
    except EvidenceError as error:
        raise evidence_refusal(error, pointer=pointer) from error
    if statement.cycle != terms.id:
        raise Refusal(CycleReason.WRONG_CYCLE, f"the statement is of cycle {statement.cycle}", pointer=pointer)
    if bank not in statement.pair or not all(member in terms.participants for member in statement.pair):
        detail = f"{statement.pair[0]} and {statement.pair[1]} aren't a pair of this cycle with the caller"
        raise Refusal(CycleReason.WRONG_PAIR, detail, pointer=pointer)
    if statement.currency not in terms.currencies:
        raise Refusal(CycleReason.WRONG_CURRENCY, f"{statement.currency} isn't cleared in this cycle", pointer=pointer)
    if (contradiction := inconsistency(statement)) is not None:
        raise Refusal(CycleReason.INCONSISTENT, contradiction, pointer=pointer)
    for flow in statement.flows:
        if int(flow.amount_minor) > flow.count * PAYMENT_MAX:
            detail = f"{flow.amount_minor} is more than {flow.count} payments can amount to"
            raise Refusal(CycleReason.INCONSISTENT, detail, pointer=pointer)
    digest = canonical.digest(envelope.payload_bytes())
    return ReadStatement(document=statement, envelope=envelope, sha256=digest, pointer=pointer)


def pair_in(envelope: Envelope) -> PairKey | None:
    """Return which pair a statement says that it is of, unverified: to name it to whom it came from, for no more."""
    try:
        statement = msgspec.json.decode(envelope.payload_bytes(), type=PositionStatement)
    except (EvidenceError, ValueError, RecursionError):
        return None
    return (statement.currency, *statement.pair)


def read_screening(envelope: Envelope, bank: str, terms: CycleTerms, keys: Mapping[str, VerifyingKey]) -> ReadScreening:
    """Verify a bank's screening statement. Raises Refusal."""
    try:
        screening = dsse.verify_submitted(envelope, ScreeningStatement, keys)
    except EvidenceError as error:
        raise evidence_refusal(error, pointer="/screening") from error
    if screening.cycle != terms.id:
        raise Refusal(CycleReason.WRONG_CYCLE, f"the screening is of cycle {screening.cycle}", pointer="/screening")
    if screening.participant != bank:
        raise Refusal(CycleReason.WRONG_PAIR, f"the screening is of {screening.participant}", pointer="/screening")
    return ReadScreening(document=screening, envelope=envelope, sha256=canonical.digest(envelope.payload_bytes()))


def read_contests(lanes: Iterable[ContestedLane], bank: str) -> list[Contest]:
    """Return what a bank contests in a submission."""
    return [
        Contest(
            sender=bank,
            receiver=lane.receiver,
            currency=lane.currency,
            cut_at=lane.cut_at,
            known_through=lane.known_through,
        )
        for lane in lanes
    ]


def check_sequences(statement: ReadStatement, bounds: Bounds) -> None:
    """Check a statement's numbers against the cuts and what is settled. Raises Refusal `sequence_mismatch`."""
    if (detail := misfit(statement.document, bounds)) is not None:
        raise Refusal(CycleReason.SEQUENCE_MISMATCH, detail, pointer=statement.pointer)


def to_json(document: object) -> str:
    """Return the JSON text of an envelope or other document, as it is stored."""
    return msgspec.json.encode(document).decode()
