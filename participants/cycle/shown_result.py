"""What a bank was shown of a cycle's result, and what follows from it. Pure decisions.

A bank sees its own lines and a root over all. That its own net is the sum of its own pairs, that it signed each of
them, and that each is one line for both banks, it finds out here; that no other line contradicts one of its own, by
comparing with its counterparties. What is the sum of such lines adds up to zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum

import msgspec
from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError, EvidenceReason
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.commitment import Leaf, ProvenLeaf, is_proven
from compliance.cycle.matching import PairKey
from compliance.statements import PositionStatement, ResultCommitment, SettlementInstruction
from participants.cycle.statements import InstructionReason


class ShownResult(Struct, frozen=True):
    """A signed commitment and lines that stand in its tree; `read` alone makes it."""

    commitment: ResultCommitment
    envelope: Envelope
    leaves: tuple[ProvenLeaf, ...]

    def of_pair(self, pair: Collection[str]) -> tuple[ProvenLeaf, ...]:
        """Return the lines of one pair of banks."""
        members = set(pair)
        return tuple(leaf for leaf in self.leaves if (lane := leaf.line.lane) is not None and set(lane[1:]) == members)

    def counterparties(self, bank: str) -> set[str]:
        """Return with whom a bank has lines."""
        return {other for leaf in self.leaves if leaf.line.lane is not None for other in leaf.line.about} - {bank}


def read(envelope: Envelope, leaves: Iterable[ProvenLeaf], keys: Mapping[str, VerifyingKey]) -> ShownResult:
    """Verify what somebody was shown; the keys are the coordinator's. Raises EvidenceError."""
    commitment = dsse.verify_submitted(envelope, ResultCommitment, keys)
    lines = tuple(leaves)
    for leaf in lines:
        try:
            stands = is_proven(leaf, commitment) and leaf.line.whole
        except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
            raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, f"line {leaf.index}: {error}") from error
        if not stands:
            detail = f"line {leaf.index} doesn't stand in the result's tree"
            raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, detail)
    return ShownResult(commitment, envelope, lines)


def check_shown(
    instruction: SettlementInstruction, shown: ShownResult, *, bank: str, own: Mapping[str, PositionStatement]
) -> InstructionReason | None:
    """Return why an instruction doesn't follow from the result that its bank was shown, or None if it does.

    `own` are this bank's statements of the cycle by the SHA-256 of their canonical bytes. The instruction follows from
    those (`check_instruction`).
    """
    if (shown.commitment.cycle, shown.commitment.result) != (instruction.cycle, instruction.result):
        return InstructionReason.RESULT_DIFFERS
    currency = instruction.currency
    leaves = [line for leaf in shown.leaves if bank in (line := leaf.line).about]
    lanes = by_lane(leaf for leaf in leaves if leaf.lane is not None and leaf.lane[0] == currency)
    settles = {lane: leaf.settles.sha256 for lane, leaf in lanes.items() if leaf.settles is not None}
    lines = {(currency, *sorted((bank, line.counterparty))): line.statement for line in instruction.lines}
    if settles != lines or any(len(same) > 1 for same in _same_lane(leaves)):
        return InstructionReason.NOT_IN_RESULT
    receives = sum(int(line.receives_minor) for line in instruction.lines)
    pays = sum(int(line.pays_minor) for line in instruction.lines)
    positions = [
        (leaf.position.receives_minor, leaf.position.pays_minor, leaf.position.net_minor)
        for leaf in leaves
        if leaf.position is not None and leaf.position.currency == currency
    ]
    if positions != [(str(receives), str(pays), instruction.net_minor)]:
        return InstructionReason.POSITION_DIFFERS
    if any(lane[0] == currency for lane in left_out(shown, own.values())):
        return InstructionReason.PAIR_LEFT_OUT
    return None


def left_out(shown: ShownResult, own: Iterable[PositionStatement]) -> set[PairKey]:
    """Return the pairs and currencies that a bank signed for and that are neither settled nor carried over."""
    shown_lanes = by_lane(leaf.line for leaf in shown.leaves)
    return {(statement.currency, *statement.pair) for statement in own} - shown_lanes.keys()


def missing(
    shown: ShownResult, *, bank: str, own: Iterable[PositionStatement], instructed: Collection[str]
) -> dict[str, InstructionReason]:
    """Return, by currency without an instruction, why there should be one, or a word of the pairs in it."""
    positions = (position for leaf in shown.leaves if (position := leaf.line.position) is not None)
    reasons = {lane[0]: InstructionReason.PAIR_LEFT_OUT for lane in left_out(shown, own)}
    reasons |= {leaf.currency: InstructionReason.NOT_INSTRUCTED for leaf in positions if leaf.participant == bank}
    return {currency: reason for currency, reason in reasons.items() if currency not in instructed}


class Comparison(Enum):
    """How what two banks were shown of their pairs goes together."""

    ALIKE = "alike"
    UNRELATED = "unrelated"
    """They were shown different editions: one of them is behind."""
    LACKING = "lacking"
    """One wasn't shown, or doesn't tell of, a line that the other was: a reason to ask, and proof against nobody."""
    CONTRADICTORY = "contradictory"
    """The coordinator signed two results, or one that says two things of one pair: proof against it, by itself."""


def compare(ours: ShownResult, theirs: ShownResult, pair: Sequence[str]) -> Comparison:
    """Compare what the two banks of a pair were shown of their lines."""
    mine, other = ours.commitment, theirs.commitment
    if (mine.cycle, mine.edition) != (other.cycle, other.edition):
        return Comparison.UNRELATED
    if mine != other:
        return Comparison.CONTRADICTORY
    both = [leaf.line for leaf in (*ours.of_pair(pair), *theirs.of_pair(pair))]
    if any(len(same) > 1 for same in _same_lane(both)):
        return Comparison.CONTRADICTORY
    alike = {leaf.line for leaf in ours.of_pair(pair)} == {leaf.line for leaf in theirs.of_pair(pair)}
    return Comparison.ALIKE if alike else Comparison.LACKING


def by_lane(leaves: Iterable[Leaf]) -> dict[PairKey, Leaf]:
    """Return the lines about pairs, by pair and currency."""
    return {leaf.lane: leaf for leaf in leaves if leaf.lane is not None}


def _same_lane(leaves: Iterable[Leaf]) -> Collection[set[bytes]]:
    """Return, for each pair and currency, the different lines about it."""
    same: dict[PairKey, set[bytes]] = {}
    for leaf in leaves:
        if leaf.lane is not None:
            same.setdefault(leaf.lane, set()).add(canonical.encode(leaf))
    return same.values()
