"""A payment is asked for back: what each bank takes down of it, and who may say what.

Nothing follows from a recall by itself. The receiver's people give back, by a return like any other, or they refuse.
One recall of a payment is open at a time, each is asked about until it is answered, and there are so many at most.
"""

from __future__ import annotations

from msgspec import Struct

from compliance.recall_reasons import RecallReason, RecallRefusal
from gateway.federation.messages.recalls import Recall, RecallAnswer
from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import events
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.payment import AskedBack, Payment, Status
from participants.ledger.rows import Evidence
from participants.payments.orders import CheckedOrder, OrderOutcome, OrderReason, SubmitOrders, refuse_order

RECALL_EVIDENCE, ANSWER_EVIDENCE = "recall", "recall-answer"
RECALLS_MAX = 8
"""Of one payment."""


class RecallRequestReason(RefusalReason):
    """Why a payment isn't asked for back, or a recall isn't answered, in order of precedence."""

    TOO_MANY_RECALLS_OPEN = "too_many_recalls_open", 503
    """Of the bank that asks: its others are answered first; with `Retry-After`."""
    PAYMENT_UNKNOWN = "payment_unknown", 404
    """Or, to another bank: none that it sent and this one accepted."""
    NOT_OUTGOING = "payment_not_outgoing", 409
    NOT_POSTED = "payment_not_posted", 409
    """The other bank hasn't accepted it, or has given all of it back."""
    RECALL_ID_REUSED = "recall_id_reused", 409
    """Another recall of the payment has this id."""
    RECALL_OPEN = "recall_open", 409
    """An earlier one waits for its answer."""
    TOO_MANY_RECALLS = "too_many_recalls", 409
    """It has been recalled eight times."""
    RECALL_UNKNOWN = "recall_unknown", 404
    RECALL_ANSWERED = "recall_answered", 409
    """It has been answered otherwise."""


class RecallOutcome(Struct, frozen=True):
    """How a recall stands, or why nothing was taken down of it."""

    recall: AskedBack | None = None
    reason: RecallRequestReason | None = None
    detail: str = ""

    def or_refuse(self) -> AskedBack:
        """Return the recall; raise Refusal if there is none."""
        if self.recall is None:
            reason = self.reason or RecallRequestReason.RECALL_UNKNOWN
            raise Refusal(reason, self.detail or reason.replace("_", " "))
        return self.recall


def _refused(reason: RecallRequestReason, detail: str) -> RecallOutcome:
    return RecallOutcome(reason=reason, detail=detail)


def _not_posted(payment: Payment) -> str:
    match payment.status:
        case Status.RETURNED:
            return f"all of payment {payment.id} is given back already"
        case Status.RESERVED | Status.HELD | Status.CANCELLING:
            return f"payment {payment.id} is {payment.status}: what the other bank hasn't accepted can be cancelled"
    return f"payment {payment.id} is {payment.status}: nothing of it was paid"


def _answered_words(recall: AskedBack) -> str:
    given = recall.answer
    if given is not None and given.answer == "refused":
        return f"recall {recall.id} is answered: it was refused with {given.reason}"
    by = "" if given is None else f" by payment {given.returned_by}"
    return f"recall {recall.id} is answered: it was given back{by}"


def known_or_refused(payment: Payment, id_: str, reason: RecallReason, text: str) -> RecallOutcome | None:
    """Return how a recall of a payment stands that is known, or why it can't be another one; None if it is new."""
    known = payment.recall(id_)
    if known is not None:
        same = (known.reason, known.text) == (reason, text)
        detail = f"id: recall {id_} of payment {payment.id} was another one, by its reason or text; take a new id"
        return RecallOutcome(known) if same else _refused(RecallRequestReason.RECALL_ID_REUSED, detail)
    if (open_ := payment.open_recall) is not None:
        detail = f"recall {open_.id} of payment {payment.id} waits for its answer, and one is open at a time"
        return _refused(RecallRequestReason.RECALL_OPEN, detail)
    if len(payment.recalls) >= RECALLS_MAX:
        detail = f"payment {payment.id} has been recalled {RECALLS_MAX} times, and no more often"
        return _refused(RecallRequestReason.TOO_MANY_RECALLS, detail)
    return None


def heard_before(payment: Payment | None, recall: Recall) -> RecallOutcome | None:
    """Return what another bank is told of a recall without anybody's doing; None if it is to be taken down."""
    # One detail for all, so that nobody learns of a payment that isn't his.
    unknown = f"no payment {recall.payment} that {recall.sender} sent and this bank accepted"
    theirs = payment is not None and (payment.direction, payment.counterparty) == ("in", recall.sender)
    if payment is None or not theirs or payment.sequence is None:
        return _refused(RecallRequestReason.PAYMENT_UNKNOWN, unknown)
    outcome = known_or_refused(payment, recall.id, recall.reason, recall.text)
    if outcome is None and payment.status is Status.RETURNED:
        refused = events.RecallAnswered(
            id=recall.id, answer="refused", reason=RecallRefusal.ARDT, status=payment.status.value
        )
        return RecallOutcome(AskedBack(recall.id, recall.reason, recall.text, refused))
    return outcome


class _RecallCommand(Command[RecallOutcome]):
    """The parts that commands on the recalls of one payment share."""

    assumes_new = False

    def __init__(self, payment_id: str) -> None:
        self.payment_id = payment_id

    def payment_ids(self) -> list[str]:
        return [self.payment_id]


class RequestRecall(_RecallCommand):
    """Ask for a payment back that the other bank has accepted. The same again is answered with how it stands."""

    def __init__(self, payment_id: str, requested: events.RecallRequested) -> None:
        super().__init__(payment_id)
        self.requested = requested

    def decide(self, books: Books) -> RecallOutcome:
        payment, asked = books.payments.get(self.payment_id), self.requested
        if payment is None:
            return _refused(RecallRequestReason.PAYMENT_UNKNOWN, f"no payment {self.payment_id}")
        if payment.direction != "out":
            detail = f"payment {payment.id} is an incoming one: its sender recalls it, and this bank may give it back"
            return _refused(RecallRequestReason.NOT_OUTGOING, detail)
        outcome = known_or_refused(payment, asked.id, asked.reason, asked.text)
        if outcome is not None and outcome.recall is not None:
            return outcome
        if payment.status is not Status.POSTED:
            return _refused(RecallRequestReason.NOT_POSTED, _not_posted(payment))
        return outcome or _begin(books, payment, "payment.recall_requested", asked)


class ReceiveRecall(_RecallCommand):
    """Take down that the sender of a payment asks for it back, for the bank's people to answer."""

    def __init__(self, evidence: Evidence, recall: Recall) -> None:
        super().__init__(recall.payment)
        self.evidence = evidence
        self.recall = recall

    def decide(self, books: Books) -> RecallOutcome:
        payment, recall = books.payments.get(self.payment_id), self.recall
        if (outcome := heard_before(payment, recall)) is not None or payment is None:
            return outcome or RecallOutcome()
        books.keep(self.evidence)
        received = events.RecallReceived(
            id=recall.id,
            reason=recall.reason,
            text=recall.text,
            recall=self.evidence.sha256,
            status=payment.status.value,
        )
        return _begin(books, payment, "payment.recall_received", received)


def _begin(books: Books, payment: Payment, type_: str, data: events.RecallRequested) -> RecallOutcome:
    books.advance(payment, payment.id, type_, data)
    payment = books.payments[payment.id]
    books.wait(payment, "recalled")
    return RecallOutcome(payment.recalls[-1])


class RefuseRecall(_RecallCommand):
    """Refuse to give back what is recalled, on one person's word. The same again changes nothing."""

    def __init__(self, payment_id: str, recall_id: str, *, person: str, reason: RecallRefusal, text: str) -> None:
        super().__init__(payment_id)
        self.recall_id = recall_id
        self.said = (person, reason, text)

    def decide(self, books: Books) -> RecallOutcome:
        payment = books.payments.get(self.payment_id)
        recall = _received(payment, self.recall_id)
        if payment is None or recall is None:
            detail = f"no recall {self.recall_id} of an incoming payment {self.payment_id}"
            return _refused(RecallRequestReason.RECALL_UNKNOWN, detail)
        person, reason, text = self.said
        if (given := recall.answer) is not None:
            same = (given.answer, given.reason, given.text) == ("refused", reason, text)
            return (
                RecallOutcome(recall)
                if same
                else _refused(RecallRequestReason.RECALL_ANSWERED, _answered_words(recall))
            )
        status = payment.status.value
        answered = events.RecallAnswered(
            id=recall.id, answer="refused", reason=reason, text=text, person=person, status=status
        )
        return end(books, payment, answered)


class GiveBackRecalled(SubmitOrders):
    """Give back what is recalled, by a return that is decided on as any other, and say so, in one step."""

    judges_detached = False

    def __init__(self, order: CheckedOrder, recall_id: str, *, person: str) -> None:
        super().__init__([order])
        self._recall_id = recall_id
        self._person = person
        self.refused: RecallOutcome | None = None
        """Why the recall isn't answered so, once it is decided: then nothing is ordered."""

    def decide(self, books: Books) -> list[OrderOutcome]:
        self.refused = None
        order = self.orders[0].order.value
        payment = books.payments.get(order.returns or "")
        recall = _received(payment, self._recall_id)
        if payment is None or recall is None:
            detail = f"no recall {self._recall_id} of an incoming payment {order.returns}"
            self.refused = _refused(RecallRequestReason.RECALL_UNKNOWN, detail)
            return []
        if recall.answer is not None and recall.answer.returned_by != order.id:
            self.refused = _refused(RecallRequestReason.RECALL_ANSWERED, _answered_words(recall))
            return []
        (outcome,) = super().decide(books)
        if outcome.payment_reason is not None and recall.answer is None:
            # A return of before that came to nothing gives nothing back: the recall stays open.
            return [refuse_order(books, self.orders[0].order, OrderReason.ID_REUSED)]
        if outcome.reason is None and recall.answer is None:
            payment = books.payments[payment.id]
            answered = events.RecallAnswered(
                id=recall.id,
                answer="returned",
                returned_by=order.id,
                person=self._person,
                status=payment.status.value,
            )
            end(books, payment, answered)
        return [outcome]


class ApplyRecallAnswer(_RecallCommand):
    """Take down what the other bank's people said to a recall."""

    def __init__(self, payment_id: str, recall_id: str, evidence: Evidence, answer: RecallAnswer) -> None:
        super().__init__(payment_id)
        self.recall_id = recall_id
        self.evidence = evidence
        self.answer = answer

    def decide(self, books: Books) -> RecallOutcome:
        payment, answer = books.payments[self.payment_id], self.answer
        recall = payment.open_recall
        if recall is None or recall.id != self.recall_id or answer.status == "open":
            return RecallOutcome(payment.recall(self.recall_id))
        books.keep(self.evidence)
        answered = events.RecallAnswered(
            id=recall.id,
            answer=answer.status,
            returned_by=answer.returned_by,
            reason=answer.reason,
            text=answer.text,
            acknowledgement=self.evidence.sha256,
            status=payment.status.value,
        )
        return end(books, payment, answered)


def _received(payment: Payment | None, recall_id: str) -> AskedBack | None:
    return None if payment is None or payment.direction != "in" else payment.recall(recall_id)


def end(books: Books, payment: Payment, answered: events.RecallAnswered) -> RecallOutcome:
    """Take down the answer to the open recall of a payment."""
    books.end_wait(payment)
    books.advance(payment, payment.id, "payment.recall_answered", answered)
    return RecallOutcome(books.payments[payment.id].recalls[-1])
