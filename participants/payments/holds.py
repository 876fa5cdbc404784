"""Two people decide on a payment that screening holds: it goes on, or it ends unposted."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from compliance.crypto import canonical, merkle
from compliance.screening import holds
from compliance.screening.holds import Decision, HoldRefusal, HoldState, Opinion
from gateway.federation.http.problems import Refusal
from participants.ledger import events
from participants.ledger.books import Books, Command, Payment, Status
from participants.payments import decisions
from participants.payments.decisions import DeclineReason


class HoldReason(StrEnum):
    """Why an opinion on a held payment isn't taken, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown"
    NOT_HELD = "payment_not_held"
    ALREADY_DECIDED = HoldRefusal.ALREADY_DECIDED.value
    SAME_PERSON = HoldRefusal.SAME_PERSON.value
    REASON_MISSING = HoldRefusal.REASON_MISSING.value
    REASON_TOO_LONG = HoldRefusal.REASON_TOO_LONG.value
    RETURN_OF_UNKNOWN = DeclineReason.RETURN_OF_UNKNOWN.value
    """The payment that this one gives back was given back meanwhile: it can only be rejected."""
    BALANCE_OUT_OF_RANGE = DeclineReason.BALANCE_OUT_OF_RANGE.value


class HoldOutcome(Struct, frozen=True, omit_defaults=True):
    """Where a hold stands after a person's word, or why the word isn't taken."""

    id: str
    state: HoldState | None = None
    reason: HoldReason | None = None

    def or_refuse(self) -> HoldState:
        """Return where the hold stands; raises Refusal if the word wasn't taken."""
        if self.state is None:
            status = 404 if self.reason is HoldReason.PAYMENT_UNKNOWN else 409
            raise Refusal(str(self.reason), f"no decision on payment {self.id} was taken", status=status)
        return self.state


class DecideHold(Command[HoldOutcome]):
    """Take one person's word on a held payment; when two concur, carry it out in the same transaction.

    The same word of the same person again is answered with where the hold stands now.
    """

    assumes_new = False

    def __init__(self, payment_id: str, person: str, decision: Literal["release", "reject"], reason: str) -> None:
        self.payment_id = payment_id
        self.word = Opinion(person, Decision(decision), reason)

    def payment_ids(self) -> list[str]:
        return [self.payment_id]

    def decide(self, books: Books) -> HoldOutcome:
        payment = books.payments.get(self.payment_id)
        if payment is None:
            return self._refuse(HoldReason.PAYMENT_UNKNOWN)
        if payment.status is not Status.HELD and not payment.opinions:
            return self._refuse(HoldReason.NOT_HELD)
        taken = [Opinion(o.person, Decision(o.decision), o.reason) for o in payment.opinions]
        if self.word in taken:
            return HoldOutcome(self.payment_id, holds.state(taken))
        state = holds.decide(taken, self.word)
        if isinstance(state, HoldRefusal):
            return self._refuse(HoldReason(state.value))
        if state is HoldState.RELEASED and (obstacle := _obstacle(books, payment)) is not None:
            return self._refuse(obstacle)
        said = events.Opinion(person=self.word.person, decision=self.word.decision.value, reason=self.word.reason)
        decisions.append(books, payment, "payment.opinion", said)
        payment = books.payments[payment.id]
        if state is HoldState.RELEASED:
            _release(books, payment, [o.person for o in payment.opinions if o.decision == "release"])
        elif state is HoldState.REJECTED:
            _reject(books, payment)
        return HoldOutcome(self.payment_id, state)

    def _refuse(self, reason: HoldReason) -> HoldOutcome:
        return HoldOutcome(self.payment_id, reason=reason)


def _obstacle(books: Books, payment: Payment) -> HoldReason | None:
    """Return what has come in the way of accepting a payment since it was held. Outgoing ones are reserved already."""
    if payment.direction == "out":
        return None
    terms = payment.terms
    if terms.returns is not None:
        returned = books.payments.get(terms.returns)
        if returned is None or returned.status is not Status.POSTED:
            return HoldReason.RETURN_OF_UNKNOWN
    due_from = books.chart("due_from", payment.counterparty, terms.currency)
    creditor = books.account("customer", terms.creditor_account, terms.currency)
    if creditor is None:
        raise LookupError(f"customer account of payment {payment.id}")
    amount = int(terms.amount_minor)
    if due_from.balance + amount > due_from.highest or creditor.balance - amount < creditor.lowest:
        return HoldReason.BALANCE_OUT_OF_RANGE
    return None


def _release(books: Books, payment: Payment, people: Sequence[str]) -> None:
    terms = payment.terms
    _close(books, payment)
    if payment.direction == "out":
        sequence = decisions.append(books, payment, "payment.released", events.Released(people=tuple(people)))
        books.rows.opened[payment.id] = (payment.id, "out", payment.counterparty, "queued", sequence)
        return
    due_from = books.chart("due_from", payment.counterparty, terms.currency)
    creditor = books.account("customer", terms.creditor_account, terms.currency)
    if creditor is None:
        raise LookupError(f"customer account of payment {payment.id}")
    leaf = merkle.leaf_hash(canonical.encode(terms))
    number = decisions.credit(
        books, due_from, creditor, terms, payment.counterparty, leaf, version=payment.version + 1
    )  # fmt: skip
    credited = decisions.advance(payment, "payment.credited", events.Numbered(sequence=number), books.head)
    if credited is not None:
        books.payments[payment.id] = credited
    if terms.returns is not None:
        given_back = events.Returned(by=payment.id)
        decisions.append(books, books.payments[terms.returns], "payment.returned", given_back)


def _reject(books: Books, payment: Payment) -> None:
    _close(books, payment)
    refused = events.Refused(reason=DeclineReason.SCREENING_REJECTED.value)
    if payment.direction == "out":
        decisions.release(books, payment, refused)
    else:
        decisions.append(books, payment, "payment.refused", refused)


def _close(books: Books, payment: Payment) -> None:
    books.rows.opened.pop(payment.id, None)
    books.rows.closed.append((payment.counterparty, payment.waiting_since))
