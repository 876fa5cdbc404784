"""A bank contests a payment that it accepted: it stays posted and numbered, and out of the bank's statements.

What is settled is settled: a payment at or below the last settled number of its lane can't be contested any more,
and a dispute that a settlement has passed over can't be withdrawn, since no later cycle would take the payment in.
The number is part of the lane in the books, so a settlement and a dispute are decided one after the other by the
same writer, or the later of two writers finds the ledger moved.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from gateway.federation.http.problems import Refusal
from participants.ledger import events
from participants.ledger.books import Books, Command, Lane, LaneKey, Payment, Status
from participants.payments import decisions


class DisputeReason(StrEnum):
    """Why a payment isn't disputed, or a dispute not withdrawn, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown"
    NOT_INCOMING = "payment_not_incoming"
    NOT_ACCEPTED = "payment_not_accepted"
    SETTLED = "payment_settled"


class DisputeOutcome(Struct, frozen=True, omit_defaults=True):
    """Whether the payment is under dispute now, or why nothing was changed."""

    id: str
    disputed: bool
    reason: DisputeReason | None = None

    def or_refuse(self) -> bool:
        """Return whether the payment is under dispute; raises Refusal if what was asked for wasn't done."""
        if self.reason is not None:
            status = 404 if self.reason is DisputeReason.PAYMENT_UNKNOWN else 409
            raise Refusal(self.reason, f"the dispute of payment {self.id} was left as it is", status=status)
        return self.disputed


class _OnAcceptedPayment(Command[DisputeOutcome]):
    """The parts that both commands share."""

    assumes_new = False

    def __init__(self, payment_id: str, person: str, reason: str) -> None:
        self.payment_id = payment_id
        self.said = events.Disputed(person=person, reason=reason)

    def payment_ids(self) -> list[str]:
        return [self.payment_id]


class Dispute(_OnAcceptedPayment):
    """Contest an accepted payment that isn't settled. A payment under dispute stays so."""

    def decide(self, books: Books) -> DisputeOutcome:
        found = _find(books, self.payment_id, Status.ACCEPTED)
        if isinstance(found, DisputeOutcome):
            return found
        payment, lane = found
        decisions.append(books, payment, "payment.disputed", self.said)
        rows = books.rows
        if payment.id in rows.undisputed:
            rows.undisputed.remove(payment.id)
        else:
            rows.disputes.append((payment.id, lane.id, payment.sequence or 0, int(payment.terms.amount_minor)))
        return DisputeOutcome(payment.id, disputed=True)


class WithdrawDispute(_OnAcceptedPayment):
    """Stand by an accepted payment again, before a settlement passes over it. Without a dispute it stays so."""

    def decide(self, books: Books) -> DisputeOutcome:
        found = _find(books, self.payment_id, Status.DISPUTED)
        if isinstance(found, DisputeOutcome):
            return found
        payment, _ = found
        decisions.append(books, payment, "payment.dispute_withdrawn", self.said)
        books.rows.undisputed.append(payment.id)
        return DisputeOutcome(payment.id, disputed=False)


def _find(books: Books, payment_id: str, before: Status) -> tuple[Payment, Lane] | DisputeOutcome:
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
    lane = books.lane(LaneKey(payment.counterparty, books.bank, payment.terms.currency))
    if payment.sequence <= books.settled_through(lane):
        return DisputeOutcome(payment_id, disputed, DisputeReason.SETTLED)
    return payment, lane
