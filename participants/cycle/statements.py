"""A bank's side of a clearing cycle: what it signs, what it believes, what it posts. Pure decisions.

The numbers decide: a cycle takes in of each lane what the receiver had accepted when it fixed its cut. Both banks
of a pair therefore derive the same statement from their own books, whenever they get to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import Signer
from compliance.crypto.merkle import EMPTY_ROOT
from compliance.cycle.cuts import taken_in
from compliance.statements import (
    CycleCut,
    Flow,
    LaneCut,
    PositionStatement,
    SettlementFinality,
    SettlementInstruction,
)
from participants.ledger import events
from participants.ledger.books import Account, AccountKey, Books, Command, LaneKey


class InstructionReason(StrEnum):
    """Why a bank doesn't believe an instruction, in order of precedence."""

    NOT_OURS = "instruction_not_ours"
    LINE_REPEATED = "instruction_line_repeated"
    STATEMENT_NOT_SIGNED = "instruction_statement_not_signed"
    AMOUNTS_DIFFER = "instruction_amounts_differ"
    NET_DIFFERS = "instruction_net_differs"
    RESULT_DIFFERS = "instruction_result_differs"


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
    *, bank: str, cycle: str, points: Mapping[LaneKey, LanePoint], revision: int = 1
) -> list[PositionStatement]:
    """Return the statement of each pair and currency with anything unsettled, ordered by counterparty and currency.

    `points` holds each lane of this bank at its cut. A pair whose both directions are settled through the cut has
    nothing to state.
    """
    pairs = sorted(
        {
            (lane.receiver if lane.sender == bank else lane.sender, lane.currency)
            for lane, point in points.items()
            if point.sequence > point.settled_sequence
        }
    )
    found = []
    for counterparty, currency in pairs:
        first, second = sorted((bank, counterparty))
        lanes = (LaneKey(first, second, currency), LaneKey(second, first, currency))
        forth, back = ((points.get(lane) or empty_point(lane)).flow() for lane in lanes)
        found.append(
            PositionStatement(
                cycle=cycle, currency=currency, pair=(first, second), revision=revision, flows=(forth, back)
            )
        )
    return found


def check_instruction(
    instruction: SettlementInstruction, *, bank: str, cycle: str, signed: Mapping[str, PositionStatement]
) -> InstructionReason | None:
    """Return why an instruction doesn't follow from what this bank signed, or None if it does.

    `signed` are this bank's own statements of the cycle by the SHA-256 of their canonical bytes.
    """
    if (instruction.participant, instruction.cycle) != (bank, cycle):
        return InstructionReason.NOT_OURS
    net = 0
    seen: set[str] = set()
    for line in instruction.lines:
        if line.counterparty in seen:
            return InstructionReason.LINE_REPEATED
        seen.add(line.counterparty)
        statement = signed.get(line.statement)
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


# --- commands --------------------------------------------------------------------------------------------
#
# Each is recorded under a subject of its own, once. Decided again after a commit whose answer was lost, the ledger
# refuses it as known; the follower looks whether it is recorded before it asks, and finds it then.


def cut_subject(cycle: str) -> str:
    return events.subject_id("cycle.cut", cycle)


def attested_subject(cycle: str) -> str:
    return events.subject_id("cycle.attested", cycle)


def instructed_subject(instruction: str) -> str:
    return events.subject_id("cycle.instructed", instruction)


def settled_subject(instruction: str) -> str:
    return events.subject_id("cycle.settled", instruction)


class FixCut(Command[Envelope]):
    """Fix, once and for all, the last accepted number of every lane this bank receives on in the cycle's currencies.

    `lanes` are those the database knows; the books know any that came up since.
    """

    def __init__(self, cycle: str, currencies: Collection[str], lanes: Sequence[LaneKey], signer: Signer) -> None:
        self.cycle = cycle
        self.currencies = currencies
        self.lanes = lanes
        self.signer = signer

    def lane_keys(self, books: Books) -> set[LaneKey]:
        mine = {key for key in books.lanes if key.receiver == books.bank}
        return mine | set(self.lanes)

    def decide(self, books: Books) -> Envelope:
        cuts = tuple(
            LaneCut(sender=key.sender, currency=key.currency, last_sequence=lane.tree.size + len(lane.beyond))
            for key, lane in sorted(books.lanes.items())
            if key.receiver == books.bank and key.currency in self.currencies and lane.tree.size + len(lane.beyond)
        )
        envelope = dsse.sign(CycleCut(cycle=self.cycle, receiver=books.bank, lanes=cuts), self.signer)
        books.record(
            cut_subject(self.cycle), 1, "cycle.cut", events.CycleDocuments(cycle=self.cycle, envelopes=(envelope,))
        )
        return envelope


class RecordSigned(Command[int]):
    """Keep what this bank is about to submit, before it submits it: whatever happens then, it says the same again."""

    def __init__(self, cycle: str, version: int, envelopes: Sequence[Envelope]) -> None:
        self.cycle = cycle
        self.version = version
        self.envelopes = envelopes

    def decide(self, books: Books) -> int:
        documents = events.CycleDocuments(cycle=self.cycle, envelopes=tuple(self.envelopes))
        return books.record(attested_subject(self.cycle), self.version, "cycle.attested", documents)


class RecordInstruction(Command[int]):
    """Keep an instruction that was verified."""

    def __init__(self, instruction: SettlementInstruction, envelope: Envelope) -> None:
        self.instruction = instruction
        self.envelope = envelope

    def decide(self, books: Books) -> int:
        data = events.Instructed(cycle=self.instruction.cycle, instruction=self.envelope)
        return books.record(instructed_subject(self.instruction.id), 1, "cycle.instructed", data)


class PostSettlement(Command[int]):
    """Post the settlement leg of one instruction and mark its lanes settled through the cut."""

    def __init__(
        self,
        instruction: SettlementInstruction,
        finality: SettlementFinality,
        signed: Mapping[str, PositionStatement],
        totals: Mapping[tuple[LaneKey, int], int],
    ) -> None:
        self.instruction = instruction
        self.finality = finality
        self.statements = [signed[line.statement] for line in instruction.lines]
        self.totals = totals

    def account_keys(self, books: Books) -> set[AccountKey]:
        keys = {AccountKey("nostro", books.agent, self.instruction.currency)}
        for line in self.instruction.lines:
            keys.add(AccountKey("due_to", line.counterparty, self.instruction.currency))
            keys.add(AccountKey("due_from", line.counterparty, self.instruction.currency))
        return keys

    def lane_keys(self, books: Books) -> set[LaneKey]:  # noqa: ARG002
        return {
            LaneKey(flow.sender, flow.receiver, self.instruction.currency)
            for statement in self.statements
            for flow in statement.flows
            if flow.last_sequence >= flow.first_sequence
        }

    def decide(self, books: Books) -> int:
        instruction = self.instruction
        currency = instruction.currency
        settled = events.Settled(
            cycle=instruction.cycle,
            currency=currency,
            instruction=instruction.id,
            finality=canonical.digest(canonical.encode(self.finality)),
        )
        legs: list[tuple[Account, int]] = []
        for line in instruction.lines:
            if int(line.pays_minor):
                legs.append((books.chart("due_to", line.counterparty, currency), int(line.pays_minor)))
            if int(line.receives_minor):
                legs.append((books.chart("due_from", line.counterparty, currency), -int(line.receives_minor)))
        legs.append((books.chart("nostro", books.agent, currency), int(instruction.net_minor)))
        sequence = books.record(settled_subject(instruction.id), 1, "cycle.settled", settled)
        books.post_entry(sequence, legs)
        for statement in self.statements:
            for flow in statement.flows:
                if flow.last_sequence >= flow.first_sequence:
                    key = LaneKey(flow.sender, flow.receiver, currency)
                    total = self.totals[(key, flow.last_sequence)]
                    books.rows.settled.append((books.lane(key).id, instruction.cycle, flow.last_sequence, total))
        return sequence
