"""Reading what a bank submits: cuts and attestations, verified and held against the cycle. Pure.

Each reader refuses with the first reason in the order of `CycleReason`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import VerifyingKey
from compliance.cycle import contests
from compliance.cycle import positions as stated
from compliance.cycle.contests import ContestedLane
from compliance.cycle.cuts import Lane, behind
from compliance.cycle.positions import Position, PositionError, inconsistency
from compliance.statements import Attestation, CycleCut, ScreeningStatement
from gateway.coordinator.cycles.reasons import CycleReason, evidence_refusal
from gateway.federation.messages.attestation import AttestationSubmission
from gateway.federation.problems import Refusal

# With at most 10^15 minor units a payment, no sum of what passes here needs more than 38 digits.
PAYMENT_MAX = 10**15 - 1


Stated = tuple[Sequence[Position], list[bytes]]
"""Positions with the digests of the statements that they are."""


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
class ReadAttestation:
    """A verified attestation of one bank with all that its signature covers.

    `digests` are those of the statements that its positions are, in their order, `screening` is the document that it
    names, `contested` the lanes. Whether each position belongs to the cycle is another question.
    """

    document: Attestation
    envelope: Envelope
    sha256: str
    positions: Sequence[Position]
    digests: Sequence[bytes]
    screening: ScreeningStatement | None
    contested: Sequence[ContestedLane]


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


def read_attestation(
    submission: AttestationSubmission,
    bank: str,
    terms: CycleTerms,
    keys: Mapping[str, VerifyingKey],
    known: Stated | None = None,
) -> ReadAttestation:
    """Verify a bank's attestation and that it is of this cycle and bank, and of what is beside it. Raises Refusal.

    What it states is `known`, or stands in the submission.
    """
    try:
        attestation = dsse.verify_submitted(submission.attestation, Attestation, keys)
    except EvidenceError as error:
        raise evidence_refusal(error, pointer="/attestation") from error
    if attestation.cycle != terms.id:
        detail = f"the attestation is of cycle {attestation.cycle}"
        raise Refusal(CycleReason.WRONG_CYCLE, detail, pointer="/attestation")
    if attestation.participant != bank:
        detail = f"the attestation is of {attestation.participant}"
        raise Refusal(CycleReason.WRONG_PAIR, detail, pointer="/attestation")
    positions = submission.positions if known is None else known[0]
    for index, p in enumerate(positions):
        if bank not in (p.low, p.high):
            detail = f"{p.low} and {p.high} aren't a pair of the caller, which has nothing to say of it"
            raise Refusal(CycleReason.WRONG_PAIR, detail, pointer=f"/positions/{index}")
    digests = _attested(attestation, positions, terms.id, None if known is None else known[1])
    screening = submission.screening
    _require_attested(attestation, screening)
    _require_contested(attestation, submission.contested, positions)
    if screening is not None and screening.cycle != terms.id:
        raise Refusal(CycleReason.WRONG_CYCLE, f"the screening is of cycle {screening.cycle}", pointer="/screening")
    if screening is not None and screening.participant != bank:
        raise Refusal(CycleReason.WRONG_PAIR, f"the screening is of {screening.participant}", pointer="/screening")
    return ReadAttestation(
        document=attestation,
        envelope=submission.attestation,
        sha256=canonical.digest(submission.attestation.payload_bytes()),
        positions=positions,
        digests=digests,
        screening=screening,
        contested=submission.contested,
    )


def _attested(
    attestation: Attestation, positions: Sequence[Position], cycle: str, known: list[bytes] | None
) -> list[bytes]:
    """Return the digests of the statements that positions are, which are those that were signed. Raises Refusal."""
    try:
        digests = stated.digests(cycle, positions) if known is None else known
    except PositionError as error:
        pointer = f"/positions/{error.index}"
        raise Refusal(CycleReason.SCHEMA_VIOLATION, str(error), pointer=pointer) from error
    if attestation.statements != len(positions):
        detail = f"{attestation.statements} statements are signed, and {len(positions)} stand here"
        raise Refusal(CycleReason.NOT_ATTESTED, detail, pointer="/positions")
    if attestation.root != stated.root_over(digests):
        detail = "the root that is signed isn't of these statements in this order"
        raise Refusal(CycleReason.NOT_ATTESTED, detail, pointer="/positions")
    if (index := stated.first_out_of_order(positions)) is not None:
        detail = "statements are ordered by currency and pair, each once"
        raise Refusal(CycleReason.INCONSISTENT, detail, pointer=f"/positions/{index}")
    return digests


def _require_attested(attestation: Attestation, screening: ScreeningStatement | None) -> None:
    """Check that a screening statement is the one that is signed. Raises Refusal."""
    digest = None if screening is None else canonical.digest(canonical.encode(screening))
    if digest != attestation.screening:
        signed = "none is signed" if attestation.screening is None else f"{attestation.screening} is signed"
        detail = f"the screening statement here has the digest {digest}, and {signed}"
        raise Refusal(CycleReason.NOT_ATTESTED, detail, pointer="/screening")


def _require_contested(attestation: Attestation, lanes: Sequence[ContestedLane], positions: Sequence[Position]) -> None:
    """Check that the contested lanes are those that are signed, and none is attested with them. Raises Refusal."""
    bank = attestation.participant
    if contests.digest_of(lanes) != attestation.contested:
        detail = f"the contested lanes here, {len(lanes)}, aren't those that are signed"
        raise Refusal(CycleReason.NOT_ATTESTED, detail, pointer="/contested")
    if (index := contests.first_out_of_order(lanes)) is not None:
        detail = "contested lanes are ordered by receiver and currency, each once"
        raise Refusal(CycleReason.INCONSISTENT, detail, pointer=f"/contested/{index}")
    keys = {p.key for p in positions} if lanes else set()
    for index, lane in enumerate(lanes):
        if (contest := lane.by(bank)).key in keys:
            detail = f"{' '.join(contest.lane)}: contested and attested at once"
            raise Refusal(CycleReason.INCONSISTENT, detail, pointer=f"/contested/{index}")


def unfit(p: Position, bank: str, terms: CycleTerms) -> Refusal | None:
    """Return why a position isn't a bank's to state in a cycle, whatever its numbers, or None."""
    if not (p.low in terms.participants and p.high in terms.participants):
        other = p.high if p.low == bank else p.low
        detail = f"{other} isn't in cycle {terms.id}"
        return Refusal(CycleReason.WRONG_PAIR, detail)
    if p.currency not in terms.currencies:
        return Refusal(CycleReason.WRONG_CURRENCY, f"{p.currency} isn't cleared in this cycle")
    if (contradiction := inconsistency(p)) is not None:
        return Refusal(CycleReason.INCONSISTENT, contradiction)
    for minor, count in ((p.forth_minor, p.forth_count), (p.back_minor, p.back_count)):
        if int(minor) > count * PAYMENT_MAX:
            return Refusal(CycleReason.INCONSISTENT, f"{minor} is more than {count} payments can amount to")
    return None


def to_json(document: object) -> str:
    """Return the JSON text of an envelope or other document, as it is stored."""
    return msgspec.json.encode(document).decode()
