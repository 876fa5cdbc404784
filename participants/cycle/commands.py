"""What a bank records and posts in a cycle.

Each is recorded under a subject of its own, once. What another node of the bank was quicker to record, or what is
decided again after a commit whose answer was lost, fails as known; the follower looks whether it is recorded before it
asks, and finds it then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime

from compliance.crypto import canonical
from compliance.crypto.dsse import Envelope
from compliance.cycle.positions import Position
from compliance.statements import CycleCut, LaneCut, SettlementFinality, SettlementInstruction
from participants.cycle.statements import lanes_of
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


class RecordAttestation(Command[int]):
    """Keep what this bank is about to hand in, before it does: whatever happens then, it says the same again."""

    def __init__(self, said: events.EventData[events.CycleAttested], version: int) -> None:
        """Its data are made outside of the writer, as there may be thousands of positions (`attestations.attest`)."""
        self.said = said
        self.version = version

    def recorded_as(self) -> tuple[str, int]:
        return events.attested_subject(self.said.value.cycle), self.version

    def decide(self, books: Books) -> int:
        return books.record(*self.recorded_as(), self.said.type, self.said).sequence


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

    def __init__(self, shown: events.EventData[events.ResultShown], version: int, *, require: bool) -> None:
        """Its data are made outside of the writer, as there may be thousands of lines."""
        self.shown = shown
        self.version = version
        self.require = require

    def recorded_as(self) -> tuple[str, int]:
        return events.result_subject(self.shown.value.cycle), self.version

    def decide(self, books: Books) -> int:
        if self.require:
            required = events.ProofsRequired(cycle=self.shown.value.cycle)
            books.record(events.proofs_subject(), 1, "cycle.proofs_required", required)
        return books.record(*self.recorded_as(), self.shown.type, self.shown).sequence


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
        own: Mapping[str, Position],
        totals: Mapping[LaneKey, int],
    ) -> None:
        """`own` is what this bank signed, by digest; `totals` are those of the instruction's lanes at their cuts."""
        self.instruction = instruction
        self.finality = finality
        self.lanes = settled_lanes(instruction, own)
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

    def lane_keys(self, books: Books) -> Set[LaneKey]:  # noqa: ARG002
        return self.lanes.keys()

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
        for key, sequence in self.lanes.items():
            books.rows.settlements.append((books.lane(key).id, instruction.cycle, sequence, self.totals[key]))
        return event.sequence


def settled_lanes(instruction: SettlementInstruction, own: Mapping[str, Position]) -> dict[LaneKey, int]:
    """Return the lanes that an instruction settles, each with its last number."""
    return {lane: number for line in instruction.lines for lane, number in lanes_of(own[line.statement]).items()}
