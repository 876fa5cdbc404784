"""A bank contests a payment that it accepted: it stays posted and numbered, and out of the bank's statements.

What is settled is settled: a payment at or below the last settled number of its lane can't be contested any more,
and a dispute that a settlement has passed over can't be withdrawn, since no later cycle would take the payment in.
The number is part of the lane in the books, so a settlement and a dispute are decided one after the other by the
same writer, or the later of two writers finds the ledger moved.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import events
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.lanes import Lane, LaneKey
from participants.ledger.payment import Payment, Status


class DisputeReason(RefusalReason):
    """Why a payment isn't disputed, or a dispute not withdrawn, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown", 404
    NOT_INCOMING = "payment_not_incoming", 409
    NOT_ACCEPTED = "payment_not_accepted", 409
    PAYMENT_RETURNED = "payment_returned", 409
    """Part of it is given back."""
    PAYMENT_SETTLED = "payment_settled", 409


class DisputeOutcome(Struct, frozen=True, omit_defaults=True):
    """Whether the payment is under dispute now, or why nothing was changed."""

    id: str
    disputed: bool
    reason: DisputeReason | None = None

    def or_refuse(self) -> None:
        """Raise Refusal if what was asked for wasn't done."""
        if self.reason is not None:
            raise Refusal(self.reason, _DETAILS[self.reason].format(id=self.id))


_DETAILS = {
    DisputeReason.PAYMENT_UNKNOWN: "no payment {id}",
    DisputeReason.NOT_INCOMING: "payment {id} isn't an incoming one: its receiver contests it",
    DisputeReason.NOT_ACCEPTED: "payment {id} isn't accepted, so statements leave it out anyway",
    DisputeReason.PAYMENT_RETURNED: "some of payment {id} is given back, so it is acknowledged",
    DisputeReason.PAYMENT_SETTLED: "payment {id} is settled, so what this bank attested of it stands",
}


class _DisputeCommand(Command[DisputeOutcome]):
    """The parts that both commands share."""

    assumes_new = False

    def __init__(self, payment_id: str, person: str, reason: str) -> None:
        self.payment_id = payment_id
        self.statement = events.Disputed(person=person, reason=reason)

    def payment_ids(self) -> list[str]:
        return [self.payment_id]


class Dispute(_DisputeCommand):
    """Contest an accepted payment that isn't settled. A payment under dispute stays so."""

    def decide(self, books: Books) -> DisputeOutcome:
        subject = _unsettled(books, self.payment_id, Status.ACCEPTED)
        if isinstance(subject, DisputeOutcome):
            return subject
        payment, lane = subject
        books.advance(payment, payment.id, "payment.disputed", self.statement)
        rows = books.rows
        if payment.id in rows.ended_disputes:
            rows.ended_disputes.remove(payment.id)
        else:
            rows.disputes.append((payment.id, lane.id, payment.sequence or 0, payment.amount))
        return DisputeOutcome(payment.id, disputed=True)


class WithdrawDispute(_DisputeCommand):
    """Stand by an accepted payment again, before a settlement passes over it. Without a dispute it stays so."""

    def decide(self, books: Books) -> DisputeOutcome:
        subject = _unsettled(books, self.payment_id, Status.DISPUTED)
        if isinstance(subject, DisputeOutcome):
            return subject
        payment, _ = subject
        books.advance(payment, payment.id, "payment.dispute_withdrawn", self.statement)
        books.rows.ended_disputes.append(payment.id)
        return DisputeOutcome(payment.id, disputed=False)


def _unsettled(books: Books, payment_id: str, before: Status) -> tuple[Payment, Lane] | DisputeOutcome:
    """Return an unsettled payment in status `before` and its lane; or the answer, where nothing is to be changed."""
    payment = books.payments.get(payment_id)
    if payment is None:
        return DisputeOutcome(payment_id, disputed=False, reason=DisputeReason.PAYMENT_UNKNOWN)
    disputed = payment.status is Status.DISPUTED
    if payment.direction != "in":
        return DisputeOutcome(payment_id, disputed, DisputeReason.NOT_INCOMING)
    if payment.sequence is None or payment.status not in (Status.ACCEPTED, Status.DISPUTED):
        return DisputeOutcome(payment_id, disputed, DisputeReason.NOT_ACCEPTED)
    if payment.status is not before:
        return DisputeOutcome(payment_id, disputed)
    if payment.given_back:
        return DisputeOutcome(payment_id, disputed, DisputeReason.PAYMENT_RETURNED)
    lane = books.lane(LaneKey(payment.counterparty, books.bank, payment.terms.currency))
    if payment.sequence <= books.settled_sequence(lane):
        return DisputeOutcome(payment_id, disputed, DisputeReason.PAYMENT_SETTLED)
    return payment, lane
