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
from compliance.statements import Flow, PositionStatement, SettlementInstruction
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

    def flow(self) -> Flow:
        """Return this direction of a statement: everything after what is settled, up to here."""
        first, last = taken_in(settled=self.settled_sequence, cut=self.sequence)
        return Flow(
            sender=self.lane.sender,
            receiver=self.lane.receiver,
            first_sequence=first,
            last_sequence=last,
            count=self.sequence - self.settled_sequence - self.disputed_count,
            amount_minor=str(self.total - self.settled_total - self.disputed_amount),
            root=self.root.hex(),
        )


def empty_point(lane: LaneKey) -> LanePoint:
    """Return a lane on which nothing was ever accepted."""
    return LanePoint(lane, 0, 0, EMPTY_ROOT, 0, 0)


def statements(
    *,
    bank: str,
    cycle: str,
    points: Mapping[LaneKey, LanePoint],
    unknown: Collection[LaneKey] = (),
    revision: int = 1,
) -> list[PositionStatement]:
    """Return the statement of each pair and currency with anything unsettled, ordered by counterparty and currency.

    `points` holds each lane of this bank at its cut, but for the `unknown` ones, on whose pairs nothing can be said
    yet. A pair whose both directions are settled through the cut has nothing to state.
    """

    def of(lane: LaneKey) -> tuple[str, str]:
        return (lane.receiver if lane.sender == bank else lane.sender, lane.currency)

    unsettled = {of(lane) for lane, point in points.items() if point.sequence > point.settled_sequence}
    pairs = sorted(unsettled - {of(lane) for lane in unknown})
    positions = []
    for counterparty, currency in pairs:
        first, second = sorted((bank, counterparty))
        lanes = (LaneKey(first, second, currency), LaneKey(second, first, currency))
        forth, back = ((points.get(lane) or empty_point(lane)).flow() for lane in lanes)
        positions.append(
            PositionStatement(
                cycle=cycle, currency=currency, pair=(first, second), revision=revision, flows=(forth, back)
            )
        )
    return positions


def check_instruction(
    instruction: SettlementInstruction, *, bank: str, cycle: str, own: Mapping[str, PositionStatement]
) -> InstructionReason | None:
    """Return why an instruction doesn't follow from what this bank signed, or None if it does.

    `own` are this bank's own statements of the cycle by the SHA-256 of their canonical bytes.
    """
    if (instruction.participant, instruction.cycle) != (bank, cycle):
        return InstructionReason.NOT_OURS
    net = 0
    counterparties: set[str] = set()
    for line in instruction.lines:
        if line.counterparty in counterparties:
            return InstructionReason.LINE_REPEATED
        counterparties.add(line.counterparty)
        statement = own.get(line.statement)
        if statement is None or statement.currency != instruction.currency or line.counterparty not in statement.pair:
            return InstructionReason.STATEMENT_NOT_SIGNED
        pays, receives = _amounts(statement, bank)
        if (line.pays_minor, line.receives_minor) != (str(pays), str(receives)):
            return InstructionReason.AMOUNTS_DIFFER
        net += receives - pays
    return None if instruction.net_minor == str(net) else InstructionReason.NET_DIFFERS


def _amounts(statement: PositionStatement, bank: str) -> tuple[int, int]:
    """Return what the bank pays and receives by a statement."""
    forth, back = statement.flows
    if forth.sender != bank:
        forth, back = back, forth
    return int(forth.amount_minor), int(back.amount_minor)
