"""The bank's own people cancel a payment that has no answer yet. Whether it is in, the other bank alone can say.

So nothing ends here: the money stays set aside, and the payment is sent once more, as withdrawn. The other bank answers
with its number if it is in, and declines it for good if it isn't, so no earlier batch brings it in later. Its answer
ends the payment, and both banks agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import events
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.payment import Payment, Status


class CancellationReason(RefusalReason):
    """Why a payment isn't cancelled, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown", 404
    JOURNAL_DETACHED = "journal_detached", 410
    """It is in a part of the journal that was taken out, and so it ended."""
    NOT_OUTGOING = "payment_not_outgoing", 409
    PAYMENT_HELD = "payment_held", 409
    """Screening holds it at this bank: two people reject it."""
    PAYMENT_ANSWERED = "payment_answered", 409
    """It has ended: it was refused, or the other bank has accepted it, and can only give it back."""


class CancellationOutcome(Struct, frozen=True, omit_defaults=True):
    """How a payment stands that was to be cancelled, or why it isn't."""

    id: str
    status: Status | None = None
    reason: CancellationReason | None = None

    def or_refuse(self) -> None:
        """Raise Refusal if the cancellation wasn't taken."""
        if self.reason is not None:
            raise Refusal(self.reason, _DETAILS[self.reason].format(id=self.id))


_DETAILS = {
    CancellationReason.PAYMENT_UNKNOWN: "no payment {id}",
    CancellationReason.JOURNAL_DETACHED: "the events of {id} are detached",
    CancellationReason.NOT_OUTGOING: "payment {id} is an incoming one: it can be given back, and its sender cancels",
    CancellationReason.PAYMENT_HELD: "screening holds payment {id} at this bank: two people reject it instead",
    CancellationReason.PAYMENT_ANSWERED: (
        "payment {id} has ended: it was refused, or the other bank has accepted it, and then it can be recalled"
    ),
}


class RequestCancellation(Command[list[CancellationOutcome]]):
    """Have payments withdrawn that nobody has answered yet, each for itself.

    Asked again for one, nothing changes, and it is answered with how that one stands.
    """

    assumes_new = False
    judges_detached = True

    def __init__(self, payment_ids: Sequence[str], person: str) -> None:
        self._ids = payment_ids
        self._requested = events.CancellationRequested(person=person)

    def payment_ids(self) -> list[str]:
        return list(self._ids)

    def decide(self, books: Books) -> list[CancellationOutcome]:
        return [self._decide(books, id_, books.payments.get(id_)) for id_ in self._ids]

    def _decide(self, books: Books, id_: str, payment: Payment | None) -> CancellationOutcome:
        if id_ in books.detached:
            return CancellationOutcome(id_, reason=CancellationReason.JOURNAL_DETACHED)
        if payment is None:
            return CancellationOutcome(id_, reason=CancellationReason.PAYMENT_UNKNOWN)
        if payment.direction != "out":
            return CancellationOutcome(id_, reason=CancellationReason.NOT_OUTGOING)
        if payment.cancelled_by is not None:
            return CancellationOutcome(id_, payment.status)
        if payment.status is Status.HELD:
            return CancellationOutcome(id_, reason=CancellationReason.PAYMENT_HELD)
        if payment.status is not Status.RESERVED:
            return CancellationOutcome(id_, reason=CancellationReason.PAYMENT_ANSWERED)
        books.end_wait(payment)
        books.advance(payment, id_, "payment.cancellation_requested", self._requested)
        books.wait(books.payments[id_], "cancelling")
        return CancellationOutcome(id_, Status.CANCELLING)
