"""What a bank records and posts in a cycle.

Each is recorded under a subject of its own, once. What another node of the bank was quicker to record, or what is
decided again after a commit whose answer was lost, fails as known; the follower looks whether it is recorded before it
asks, and finds it then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.statements import CycleCut, LaneCut, PositionStatement, SettlementFinality, SettlementInstruction
from participants.ledger import events
from participants.ledger.accounts import Account, AccountKey
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.lanes import LaneKey


class FixCut(Command[CycleCut]):
    """Fix, once and for all, the last accepted number of every lane this bank receives on in the cycle's currencies.

    `lanes` are those the database knows; the books know any that came up since. It is signed afterwards, outside of
    the writer: a bank that is killed before signs the same cut when it is back.
    """

    def __init__(self, cycle: str, currencies: Collection[str], lanes: Sequence[LaneKey]) -> None:
        self.cycle = cycle
        self.currencies = currencies
        self.lanes = lanes

    def recorded_as(self) -> tuple[str, int]:
        return events.cut_subject(self.cycle), 1

    def lane_keys(self, books: Books) -> set[LaneKey]:
        mine = {key for key in books.lanes if key.receiver == books.bank}
        return mine | set(self.lanes)

    def decide(self, books: Books) -> CycleCut:
        cuts = tuple(
            LaneCut(sender=key.sender, currency=key.currency, last_sequence=lane.last_sequence)
            for key, lane in sorted(books.lanes.items())
            if key.receiver == books.bank and key.currency in self.currencies and lane.last_sequence
        )
        cut = CycleCut(cycle=self.cycle, receiver=books.bank, lanes=cuts)
        books.record(*self.recorded_as(), "cycle.cut", events.CutFixed(cycle=self.cycle, cut=cut))
        return cut


class RecordSignedCut(Command[int]):
    """Keep what this bank signed for its cut, before it hands that in."""

    def __init__(self, cycle: str, envelope: Envelope) -> None:
        self.cycle = cycle
        self.envelope = envelope

    def recorded_as(self) -> tuple[str, int]:
        return events.cut_subject(self.cycle), 2

    def decide(self, books: Books) -> int:
        documents = events.CycleDocuments(cycle=self.cycle, envelopes=(self.envelope,))
        return books.record(*self.recorded_as(), "cycle.cut_signed", documents).sequence


class RecordStatements(Command[int]):
    """Keep what this bank is about to submit, before it submits it: whatever happens then, it says the same again."""

    def __init__(self, cycle: str, version: int, envelopes: Sequence[Envelope]) -> None:
        self.cycle = cycle
        self.version = version
        self.envelopes = envelopes

    def recorded_as(self) -> tuple[str, int]:
        return events.attested_subject(self.cycle), self.version

    def decide(self, books: Books) -> int:
        documents = events.CycleDocuments(cycle=self.cycle, envelopes=tuple(self.envelopes))
        return books.record(*self.recorded_as(), "cycle.attested", documents).sequence


class RecordInstruction(Command[int]):
    """Keep an instruction that was verified."""

    def __init__(self, instruction: SettlementInstruction, envelope: Envelope) -> None:
        self.instruction = instruction
        self.envelope = envelope

    def recorded_as(self) -> tuple[str, int]:
        return events.instructed_subject(self.instruction.id), 1

    def decide(self, books: Books) -> int:
        data = events.Instructed(cycle=self.instruction.cycle, instruction=self.envelope)
        return books.record(*self.recorded_as(), "cycle.instructed", data).sequence


class RecordShownResult(Command[int]):
    """Keep what the coordinator showed of a result; from the first that holds on, require it of every result."""

    def __init__(self, shown: events.ResultShown, version: int, *, require: bool) -> None:
        self.shown = shown
        self.version = version
        self.require = require

    def recorded_as(self) -> tuple[str, int]:
        return events.result_subject(self.shown.cycle), self.version

    def decide(self, books: Books) -> int:
        if self.require:
            required = events.ProofsRequired(cycle=self.shown.cycle)
            books.record(events.proofs_subject(), 1, "cycle.proofs_required", required)
        return books.record(*self.recorded_as(), "cycle.result_shown", self.shown).sequence


class RecordBreak(Command[int]):
    """Keep that the coordinator told of a break of a pair of this bank, or that it was mended; once for each event."""

    def __init__(self, event: int, heard: events.BreakHeard) -> None:
        self.event = event
        self.heard = heard

    def recorded_as(self) -> tuple[str, int]:
        return events.break_subject(self.event), 1

    def decide(self, books: Books) -> int:
        return books.record(*self.recorded_as(), "cycle.break", self.heard).sequence


class PostSettlement(Command[int]):
    """Post the settlement leg of one instruction and mark its lanes settled through the cut.

    It counts from the time of the finality, however much later this bank gets to post it. Raises ValueError for a
    finality at a time that doesn't exist.
    """

    def __init__(
        self,
        instruction: SettlementInstruction,
        finality: SettlementFinality,
        statements: Mapping[str, PositionStatement],
        totals: Mapping[tuple[LaneKey, int], int],
    ) -> None:
        self.instruction = instruction
        self.finality = finality
        self.statements = [statements[line.statement] for line in instruction.lines]
        self.totals = totals
        self.settled_at = datetime.fromisoformat(finality.settled_at)

    def recorded_as(self) -> tuple[str, int]:
        return events.settled_subject(self.instruction.id), 1

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
        data = events.CycleSettled(
            cycle=instruction.cycle,
            currency=currency,
            instruction=instruction.id,
            finality=canonical.digest(canonical.encode(self.finality)),
        )
        legs: list[tuple[Account, int]] = []
        for line in instruction.lines:
            if int(line.pays_minor):
                legs.append((books.chart(AccountKey("due_to", line.counterparty, currency)), int(line.pays_minor)))
            if int(line.receives_minor):
                legs.append(
                    (books.chart(AccountKey("due_from", line.counterparty, currency)), -int(line.receives_minor))
                )
        legs.append((books.chart(AccountKey("nostro", books.agent, currency)), int(instruction.net_minor)))
        event = books.record(*self.recorded_as(), "cycle.settled", data, effective_at=self.settled_at)
        books.post_entry(event.sequence, legs)
        for statement in self.statements:
            for flow in statement.flows:
                if flow.last_sequence >= flow.first_sequence:
                    key = LaneKey(flow.sender, flow.receiver, currency)
                    total = self.totals[(key, flow.last_sequence)]
                    books.rows.settlements.append((books.lane(key).id, instruction.cycle, flow.last_sequence, total))
        return event.sequence
