"""What another bank answers on payments sent to it: they are posted, or end unposted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from gateway.federation.messages.payments import PaymentOutcome
from participants.ledger import events
from participants.ledger.accounts import AccountKey
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import EventData
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Payment, Status
from participants.ledger.rows import Evidence
from participants.payments import returns
from participants.payments.incoming import DeclineReason

EVIDENCE_KIND = "acknowledgement"
REASON_NOT_GIVEN = "unspecified"
_REASON = re.compile(r"[a-z][a-z0-9_]{0,63}")
UNANSWERED = {Status.RESERVED: "queued", Status.CANCELLING: "cancelling"}
"""How a payment stands that waits for the other bank's answer, and how that wait is called."""


class SentPayment(Struct, frozen=True, gc=False):
    """A payment as it was sent, with the hash of its terms, and the answer."""

    payment: Payment
    leaf: bytes
    outcome: PaymentOutcome


class ApplyAnswers(Command[int]):
    """Post what the other bank accepted and release what it refused."""

    def __init__(self, acknowledgement: Evidence, answers: Sequence[SentPayment]) -> None:
        self.acknowledgement = acknowledgement
        self.counterparty = acknowledgement.counterparty
        self.answers = [a for a in answers if a.outcome.status != "held"]
        self.conflicts: list[str] = []

    def payment_ids(self) -> list[str]:
        return [a.payment.id for a in self.answers]

    def known_payment_ids(self) -> list[str]:
        return [a.payment.terms.returns for a in self.answers if a.payment.terms.returns is not None]

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        keys: set[AccountKey] = set()
        for answer in self.answers:
            terms = answer.payment.terms
            keys.add(AccountKey("reserved", self.counterparty, terms.currency))
            if answer.outcome.status == "accepted":
                keys.add(AccountKey("due_to", self.counterparty, terms.currency))
            else:
                keys.add(AccountKey("customer", terms.debtor_account, terms.currency))
        return keys

    def lane_keys(self, books: Books) -> set[LaneKey]:
        return {LaneKey(books.bank, self.counterparty, a.payment.terms.currency) for a in self.answers}

    def decide(self, books: Books) -> int:
        """Return the number of payments that ended by this answer; ones that had ended before are passed over.

        `conflicts` are payments accepted under a number that the lane has given to another one: they stay open,
        and the pair breaks at the next cut-off, where people see it.
        """
        ended = 0
        self.conflicts = []
        for answer in self.answers:
            payment = books.payments.get(answer.payment.id, answer.payment)
            if payment.status not in UNANSWERED:
                continue
            if answer.outcome.status != "accepted":
                reason = answer.outcome.reason or ""
                # A code, of any release; nothing else that another bank writes stands in this one's books.
                reason = reason if _REASON.fullmatch(reason) else REASON_NOT_GIVEN
                refuse(books, payment, events.Refused(reason=reason, acknowledgement=self.acknowledgement.sha256))
            elif not self._post(books, payment, answer):
                if payment.id not in books.payments:
                    books.assumed_versions[payment.id] = payment.version
                self.conflicts.append(payment.id)
                continue
            ended += 1
            books.end_wait(payment)
        if ended:
            books.keep(self.acknowledgement)
        return ended

    def _post(self, books: Books, payment: Payment, answer: SentPayment) -> bool:
        """Post a payment under its number; False if that is no number, or another payment's."""
        number, currency = answer.outcome.sequence or 0, payment.terms.currency
        lane = books.lane(LaneKey(books.bank, self.counterparty, currency))
        if number < 1 or lane.has(number):
            return False
        numbered = events.Numbered(sequence=number, acknowledgement=self.acknowledgement.sha256)
        sequence = books.advance(payment, payment.id, "payment.posted", EventData.of_read("payment.posted", numbered))
        reserved = books.chart(AccountKey("reserved", self.counterparty, currency))
        books.post(sequence, reserved, books.chart(AccountKey("due_to", self.counterparty, currency)), payment.amount)
        books.number(lane, number, payment.id, payment.amount, answer.leaf)
        return True


def refuse(books: Books, payment: Payment, data: events.Refused) -> None:
    """End an outgoing payment unposted and give the reserved money back to the customer."""
    terms = payment.terms
    cancelled = payment.status is Status.CANCELLING and data.reason == DeclineReason.CANCELLED_BY_SENDER
    type_ = "payment.cancelled" if cancelled else "payment.refused"
    sequence = books.advance(payment, payment.id, type_, data)
    customer = books.existing(AccountKey("customer", terms.debtor_account, terms.currency))
    reserved = books.chart(AccountKey("reserved", payment.counterparty, terms.currency))
    books.post(sequence, reserved, customer, payment.amount)
    returns.fail(books, payment)
