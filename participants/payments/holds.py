"""Two people decide on a payment that screening holds: it goes on, or it ends unposted."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from compliance.screening import holds
from compliance.screening.holds import Decision, HoldRefusal, HoldState, Opinion
from gateway.federation.messages.payments import is_expired, leaf_of
from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import events
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Payment, Status
from participants.payments import answers, incoming
from participants.payments.incoming import DeclineReason
from participants.payments.returns import give_back, return_fault


class HoldReason(RefusalReason):
    """Why an opinion on a held payment isn't taken, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown", 404
    JOURNAL_DETACHED = "journal_detached", 410
    """It is in a part of the journal that was taken out, and nobody holds it any more."""
    NOT_HELD = "payment_not_held", 409
    ALREADY_DECIDED = HoldRefusal.ALREADY_DECIDED.value, 409
    MAKER_IS_CHECKER = HoldRefusal.MAKER_IS_CHECKER.value, 409
    """Whoever ordered the payment, or the return, has no word on it."""
    SAME_PERSON = HoldRefusal.SAME_PERSON.value, 409
    REASON_MISSING = HoldRefusal.REASON_MISSING.value, 409
    REASON_TOO_LONG = HoldRefusal.REASON_TOO_LONG.value, 409
    RETURN_OF_UNKNOWN = DeclineReason.RETURN_OF_UNKNOWN.value, 409
    """The payment that this one gives back was given back meanwhile: it can only be rejected."""
    RETURN_DIFFERS = DeclineReason.RETURN_DIFFERS.value, 409
    RETURN_EXCEEDS = DeclineReason.RETURN_EXCEEDS.value, 409
    """So much of that payment was given back meanwhile that this is more than is left: it can only be rejected."""
    TOO_MANY_RETURNS = DeclineReason.TOO_MANY_RETURNS.value, 409
    CREDITOR_ACCOUNT_CLOSED = DeclineReason.CREDITOR_ACCOUNT_CLOSED.value, 409
    CREDITOR_ACCOUNT_BLOCKED = DeclineReason.CREDITOR_ACCOUNT_BLOCKED.value, 409
    """The account was closed or blocked meanwhile: release it once it isn't any more, or reject it."""
    BALANCE_OUT_OF_RANGE = DeclineReason.BALANCE_OUT_OF_RANGE.value, 409
    EXPOSURE_LIMIT = DeclineReason.EXPOSURE_LIMIT.value, 409
    """The sender's bank owes too much for it now: release it after a settlement, or reject it."""


class HoldOutcome(Struct, frozen=True, omit_defaults=True):
    """Where a hold stands after a person's word, or why the word isn't taken."""

    id: str
    state: HoldState | None = None
    reason: HoldReason | None = None

    def or_refuse(self) -> None:
        """Raise Refusal if the word wasn't taken."""
        if self.reason is not None:
            raise Refusal(self.reason, _DETAILS[self.reason].format(id=self.id))


_DETAILS = {
    HoldReason.PAYMENT_UNKNOWN: "no payment {id}",
    HoldReason.JOURNAL_DETACHED: "the events of {id} are detached",
    HoldReason.NOT_HELD: "screening doesn't hold payment {id}, or not any more",
    HoldReason.ALREADY_DECIDED: "two people have decided on payment {id} already",
    HoldReason.MAKER_IS_CHECKER: "payment {id} was ordered by the same person, who has no word on it",
    HoldReason.SAME_PERSON: "the same person has given a word on payment {id} already; another one must agree",
    HoldReason.REASON_MISSING: "reason: it says nothing, and a word on payment {id} needs one",
    HoldReason.REASON_TOO_LONG: "reason: that of a word on payment {id} is too long",
    HoldReason.RETURN_OF_UNKNOWN: "what payment {id} gives back is given back by now: it can only be rejected",
    HoldReason.RETURN_DIFFERS: "payment {id} has other accounts or another currency than what it gives back",
    HoldReason.RETURN_EXCEEDS: "payment {id} is more than is left of what it gives back: it can only be rejected",
    HoldReason.TOO_MANY_RETURNS: "what payment {id} gives back has been given back in too many parts",
    HoldReason.CREDITOR_ACCOUNT_CLOSED: "the account that payment {id} goes to was closed meanwhile",
    HoldReason.CREDITOR_ACCOUNT_BLOCKED: "the account that payment {id} goes to was blocked meanwhile",
    HoldReason.BALANCE_OUT_OF_RANGE: "with payment {id} there would be too much on one account",
    HoldReason.EXPOSURE_LIMIT: "with payment {id} its sender's bank would owe more than it may",
}


def opinions_on(payment: Payment) -> list[Opinion]:
    """Return what people said of a payment that was held, in the order in which they did."""
    return [Opinion(said.person, Decision(said.decision), said.reason) for said in payment.opinions]


class DecideHold(Command[HoldOutcome]):
    """Take one person's word on a held payment; when two concur, carry it out in the same transaction.

    One that they release after its expiry is refused as `expired`.

    The same word of the same person again is answered with where the hold stands now.
    """

    assumes_new = False
    judges_detached = True

    def __init__(self, payment_id: str, person: str, decision: Literal["release", "reject"], reason: str) -> None:
        self.payment_id = payment_id
        self.opinion = Opinion(person, Decision(decision), reason)

    def payment_ids(self) -> list[str]:
        return [self.payment_id]

    def decide(self, books: Books) -> HoldOutcome:
        payment = books.payments.get(self.payment_id)
        if payment is None:
            detached = self.payment_id in books.detached
            return self._refuse(HoldReason.JOURNAL_DETACHED if detached else HoldReason.PAYMENT_UNKNOWN)
        opinions = opinions_on(payment)
        if payment.status is not Status.HELD and not opinions:
            return self._refuse(HoldReason.NOT_HELD)
        if self.opinion in opinions:
            return HoldOutcome(self.payment_id, holds.state(opinions))
        state = holds.decide(opinions, self.opinion, maker=payment.maker)
        if isinstance(state, HoldRefusal):
            return self._refuse(HoldReason(state.value))
        expired = state is HoldState.RELEASED and is_expired(payment.terms, books.now)
        if state is HoldState.RELEASED and not expired and (obstacle := _obstacle(books, payment)) is not None:
            return self._refuse(obstacle)
        recorded = events.Opinion(
            person=self.opinion.person, decision=self.opinion.decision.value, reason=self.opinion.reason
        )
        books.advance(payment, payment.id, "payment.opinion", recorded)
        payment = books.payments[payment.id]
        if expired:
            _refuse(books, payment, DeclineReason.EXPIRED)
        elif state is HoldState.RELEASED:
            _release(books, payment)
        elif state is HoldState.REJECTED:
            _refuse(books, payment, DeclineReason.SCREENING_REJECTED)
        return HoldOutcome(self.payment_id, state)

    def _refuse(self, reason: HoldReason) -> HoldOutcome:
        return HoldOutcome(self.payment_id, reason=reason)


def _obstacle(books: Books, payment: Payment) -> HoldReason | None:
    """Return what has come in the way of accepting a payment since it was held. Outgoing ones are reserved already."""
    if payment.direction == "out":
        return None
    terms = payment.terms
    if terms.returns is not None:
        original = books.payments.get(terms.returns)
        if (fault := return_fault(original, terms, payment.counterparty, direction="out")) is not None:
            return HoldReason(fault.value)
    due_from = books.chart(AccountKey("due_from", payment.counterparty, terms.currency))
    creditor = books.existing(AccountKey("customer", terms.creditor_account, terms.currency))
    if not creditor.state.takes_credits:
        closed = creditor.state is AccountState.CLOSED
        return HoldReason.CREDITOR_ACCOUNT_CLOSED if closed else HoldReason.CREDITOR_ACCOUNT_BLOCKED
    amount = payment.amount
    if due_from.balance + amount > due_from.highest or creditor.balance - amount < creditor.lowest:
        return HoldReason.BALANCE_OUT_OF_RANGE
    if due_from.balance + amount > books.limits.of(payment.counterparty, terms.currency).minor:
        return HoldReason.EXPOSURE_LIMIT
    return None


def _release(books: Books, payment: Payment) -> None:
    books.end_wait(payment)
    if payment.direction == "out":
        people = tuple(opinion.person for opinion in payment.opinions if opinion.decision == "release")
        books.advance(payment, payment.id, "payment.released", events.Released(people=people))
        books.wait(books.payments[payment.id], "queued")
        return
    terms = payment.terms
    due_from = books.chart(AccountKey("due_from", payment.counterparty, terms.currency))
    creditor = books.existing(AccountKey("customer", terms.creditor_account, terms.currency))
    lane = books.lane(LaneKey(payment.counterparty, books.bank, terms.currency))
    numbered = events.Numbered(sequence=lane.last_sequence + 1)
    sequence = books.advance(payment, payment.id, "payment.credited", numbered)
    incoming.credit(books, books.payments[payment.id], sequence, due_from, creditor, leaf_of(terms))
    if terms.returns is not None:
        give_back(books, books.payments[terms.returns], terms)


def _refuse(books: Books, payment: Payment, reason: DeclineReason) -> None:
    books.end_wait(payment)
    refused = events.Refused(reason=reason.value)
    if payment.direction == "out":
        answers.refuse(books, payment, refused)
    else:
        books.advance(payment, payment.id, "payment.refused", refused)
