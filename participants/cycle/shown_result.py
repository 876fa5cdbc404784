"""What a bank was shown of a cycle's result, and what follows from it. Pure decisions.

A bank sees its own lines and a root over all. That its own net is the sum of its own pairs, that it signed each of
them, and that each is one line for both banks, it finds out here; that no other line contradicts one of its own, by
comparing with its counterparties. What is the sum of such lines adds up to zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope, EvidenceError, EvidenceReason
from compliance.crypto.keys import VerifyingKey
from compliance.cycle.commitment import CommittedPosition, Leaf, ProvenLeaf, is_proven
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position
from compliance.statements import ResultCommitment, SettlementInstruction
from participants.cycle.statements import InstructionReason


@dataclass(frozen=True)
class ShownResult:
    """A signed commitment and lines that stand in its tree; `read` alone makes it. `lines` are what the leaves say."""

    commitment: ResultCommitment
    envelope: Envelope
    leaves: tuple[ProvenLeaf, ...]
    lines: tuple[Leaf, ...]

    @cached_property
    def lanes(self) -> Mapping[PairKey, Leaf]:
        """The lines about pairs, by pair and currency."""
        return {line.lane: line for line in self.lines if line.lane is not None}

    @cached_property
    def _places(self) -> Mapping[frozenset[str], Sequence[int]]:
        places: dict[frozenset[str], list[int]] = {}
        for place, line in enumerate(self.lines):
            if line.lane is not None:
                places.setdefault(frozenset(line.lane[1:]), []).append(place)
        return places

    def of_pair(self, pair: Collection[str]) -> tuple[ProvenLeaf, ...]:
        """Return the lines of one pair of banks with what proves them."""
        return tuple(self.leaves[place] for place in self._places.get(frozenset(pair), ()))

    def lines_of_pair(self, pair: Collection[str]) -> list[Leaf]:
        """Return the lines of one pair of banks."""
        return [self.lines[place] for place in self._places.get(frozenset(pair), ())]

    def counterparties(self, bank: str) -> set[str]:
        """Return with whom a bank has lines."""
        return {other for pair in self._places for other in pair} - {bank}

    def positions(self, bank: str) -> list[CommittedPosition]:
        """Return what a bank receives and pays, as the result says it."""
        said = (line.position for line in self.lines)
        return [position for position in said if position is not None and position.participant == bank]

    @cached_property
    def contradicts_itself(self) -> bool:
        """Whether there are two different lines about one pair and currency."""
        return _contradictory(self.lines)


def read(envelope: Envelope, leaves: Iterable[ProvenLeaf], keys: Mapping[str, VerifyingKey]) -> ShownResult:
    """Verify what somebody was shown; the keys are the coordinator's. Raises EvidenceError."""
    commitment = dsse.verify_submitted(envelope, ResultCommitment, keys)
    proven, lines = tuple(leaves), []
    for leaf in proven:
        try:
            line = leaf.line
        except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
            raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, f"line {leaf.index}: {error}") from error
        if not (is_proven(leaf, commitment) and line.whole):
            detail = f"line {leaf.index} doesn't stand in the result's tree"
            raise EvidenceError(EvidenceReason.SCHEMA_VIOLATION, detail)
        lines.append(line)
    return ShownResult(commitment, envelope, proven, tuple(lines))


def check_shown(
    instruction: SettlementInstruction, shown: ShownResult, *, bank: str, own: Mapping[str, Position]
) -> InstructionReason | None:
    """Return why an instruction doesn't follow from the result that its bank was shown, or None if it does.

    `own` is what this bank signed in the cycle, by the SHA-256 of each statement's canonical bytes. The instruction
    follows from that (`check_instruction`).
    """
    if (shown.commitment.cycle, shown.commitment.result) != (instruction.cycle, instruction.result):
        return InstructionReason.RESULT_DIFFERS
    currency = instruction.currency
    settles = {
        lane: line.settles.sha256
        for lane, line in shown.lanes.items()
        if line.settles is not None and lane[0] == currency and bank in lane[1:]
    }
    lines = {(currency, *sorted((bank, line.counterparty))): line.statement for line in instruction.lines}
    if settles != lines or shown.contradicts_itself:
        return InstructionReason.NOT_IN_RESULT
    receives = sum(int(line.receives_minor) for line in instruction.lines)
    pays = sum(int(line.pays_minor) for line in instruction.lines)
    positions = [
        (position.receives_minor, position.pays_minor, position.net_minor)
        for position in shown.positions(bank)
        if position.currency == currency
    ]
    if positions != [(str(receives), str(pays), instruction.net_minor)]:
        return InstructionReason.POSITION_DIFFERS
    if any(lane[0] == currency for lane in left_out(shown, own.values())):
        return InstructionReason.PAIR_LEFT_OUT
    return None


def left_out(shown: ShownResult, own: Iterable[Position]) -> set[PairKey]:
    """Return the pairs and currencies that a bank signed for and that are neither settled nor carried over."""
    return {position.key for position in own} - shown.lanes.keys()


def missing(
    shown: ShownResult, *, bank: str, own: Iterable[Position], instructed: Collection[str]
) -> dict[str, InstructionReason]:
    """Return, by currency without an instruction, why there should be one, or a word of the pairs in it."""
    reasons = {lane[0]: InstructionReason.PAIR_LEFT_OUT for lane in left_out(shown, own)}
    reasons |= {position.currency: InstructionReason.NOT_INSTRUCTED for position in shown.positions(bank)}
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
    mine_of, theirs_of = ours.lines_of_pair(pair), theirs.lines_of_pair(pair)
    if _contradictory([*mine_of, *theirs_of]):
        return Comparison.CONTRADICTORY
    return Comparison.ALIKE if set(mine_of) == set(theirs_of) else Comparison.LACKING


def _contradictory(lines: Iterable[Leaf]) -> bool:
    """Tell whether there are different lines about one pair and currency."""
    first: dict[PairKey, Leaf] = {}
    return any(line.lane is not None and first.setdefault(line.lane, line) != line for line in lines)
