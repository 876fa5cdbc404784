"""What a bank says of its lanes in a cycle, and which instructions follow from that. Pure decisions.

The numbers decide: a cycle takes in of each lane what the receiver had accepted when it fixed its cut. Both banks
of a pair therefore derive the same statement from their own books, whenever they get to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from msgspec import Struct

from compliance.crypto.merkle import EMPTY_ROOT
from compliance.cycle.cuts import taken_in
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position
from compliance.statements import SettlementInstruction
from participants.ledger.lanes import LaneKey


class InstructionReason(StrEnum):
    """Why a bank doesn't believe an instruction, in order of precedence."""

    NOT_OURS = "instruction_not_ours"
    LINE_REPEATED = "instruction_line_repeated"
    STATEMENT_NOT_SIGNED = "instruction_statement_not_signed"
    AMOUNTS_DIFFER = "instruction_amounts_differ"
    NET_DIFFERS = "instruction_net_differs"
    VALUE_DATE_REFUSED = "instruction_value_date_refused"
    """The currency doesn't settle on the cycle's value date, or that is before the cut, or beyond the next such day."""
    RESULT_DIFFERS = "instruction_result_differs"
    """The finality, or what this bank was shown of the result, is of another one."""
    RESULT_UNPROVEN = "result_unproven"
    """The coordinator, which proved results before, doesn't prove this one."""
    NOT_IN_RESULT = "instruction_not_in_result"
    """The pairs that the result settles for this bank aren't the lines of its instruction."""
    POSITION_DIFFERS = "result_position_differs"
    """What the result says that this bank receives and pays isn't the sum of its pairs."""
    PAIR_LEFT_OUT = "result_pair_left_out"
    """A pair that this bank signed for is neither settled nor carried over."""
    NOT_INSTRUCTED = "not_instructed"
    """This bank has a position in the result, and no instruction."""
    SHOWN_OTHERWISE = "result_shown_otherwise"
    """A counterparty was shown another result of the same cycle, or another line about the pair."""


class LanePoint(Struct, frozen=True):
    """A lane at one of its numbers: the tree head and total over payments 1..sequence, and what is disputed of it."""

    lane: LaneKey
    sequence: int
    total: int
    root: bytes
    settled_sequence: int
    settled_total: int
    disputed_count: int = 0
    disputed_amount: int = 0

    def flow(self) -> tuple[int, int, int, str, str]:
        """Return this direction of a position: everything after what is settled, up to here.

        That is first and last number, count, amount and root.
        """
        first, last = taken_in(settled=self.settled_sequence, cut=self.sequence)
        return (
            first,
            last,
            self.sequence - self.settled_sequence - self.disputed_count,
            str(self.total - self.settled_total - self.disputed_amount),
            self.root.hex(),
        )


def empty_point(lane: LaneKey) -> LanePoint:
    """Return a lane on which nothing was ever accepted."""
    return LanePoint(lane, 0, 0, EMPTY_ROOT, 0, 0)


def positions(points: Mapping[LaneKey, LanePoint], *, unknown: Collection[LaneKey] = ()) -> list[Position]:
    """Return the position of each pair and currency with anything unsettled, in the order of an attestation.

    `points` holds lanes of one bank at their cuts, both of each pair, but for the `unknown` ones, on whose pairs
    nothing can be said yet. A pair whose both directions are settled through the cut has nothing to state.
    """
    unsettled = {pair_of(lane) for lane, point in points.items() if point.sequence > point.settled_sequence}
    stated = []
    for currency, low, high in sorted(unsettled - set(map(pair_of, unknown))):
        lanes = (LaneKey(low, high, currency), LaneKey(high, low, currency))
        forth, back = ((points.get(lane) or empty_point(lane)).flow() for lane in lanes)
        stated.append(Position(currency, low, high, 1, *forth, *back))
    return stated


def pair_of(lane: LaneKey) -> PairKey:
    """Return the pair and currency that a lane is one direction of."""
    sender, receiver, currency = lane
    return (currency, sender, receiver) if sender < receiver else (currency, receiver, sender)


def lanes_of(position: Position) -> dict[LaneKey, int]:
    """Return the lanes on which a position takes anything in, each with the last number."""
    lanes = {}
    if position.forth_last >= position.forth_first:
        lanes[LaneKey(position.low, position.high, position.currency)] = position.forth_last
    if position.back_last >= position.back_first:
        lanes[LaneKey(position.high, position.low, position.currency)] = position.back_last
    return lanes


def check_instruction(
    instruction: SettlementInstruction, *, bank: str, cycle: str, own: Mapping[str, Position]
) -> InstructionReason | None:
    """Return why an instruction doesn't follow from what this bank signed, or None if it does.

    `own` is what this bank signed in the cycle, by the SHA-256 of each statement's canonical bytes.
    """
    if (instruction.participant, instruction.cycle) != (bank, cycle):
        return InstructionReason.NOT_OURS
    net = 0
    counterparties: set[str] = set()
    for line in instruction.lines:
        if line.counterparty in counterparties:
            return InstructionReason.LINE_REPEATED
        counterparties.add(line.counterparty)
        position = own.get(line.statement)
        if position is None or position.key != pair_of(LaneKey(bank, line.counterparty, instruction.currency)):
            return InstructionReason.STATEMENT_NOT_SIGNED
        pays, receives = position.forth_minor, position.back_minor
        if position.high == bank:
            pays, receives = receives, pays
        if (line.pays_minor, line.receives_minor) != (pays, receives):
            return InstructionReason.AMOUNTS_DIFFER
        net += int(receives) - int(pays)
    return None if instruction.net_minor == str(net) else InstructionReason.NET_DIFFERS
