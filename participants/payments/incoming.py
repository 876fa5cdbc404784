"""Payments of other banks: accepted with their number, held, or declined."""

from __future__ import annotations

from collections.abc import Sequence, Set
from enum import StrEnum

import asyncpg
from msgspec import Struct

from compliance.plain_text import all_plain
from gateway.federation.messages.payments import PaymentOutcome, PaymentTerms, is_expired
from participants.ledger import events, store
from participants.ledger.accounts import Account, AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import EventData, Hit
from participants.ledger.lanes import LaneKey
from participants.ledger.payment import Payment, Status
from participants.ledger.rows import Evidence
from participants.payments.returns import ReturnFault, give_back, return_fault

EVIDENCE_KIND = "payment-batch"
# A batch is kept whole for the payments that are new in it; so many others it may hold besides, and for each new one.
OTHERS_MAX = 32
OTHERS_PER_NEW_MAX = 4
READ_ITEMS_MAX = 512
"""So many payments are read over one connection before another may have it."""


class DeclineReason(StrEnum):
    """Why a bank refuses a payment of another bank, in order of precedence. The signed answer holds it."""

    ID_REUSED = "id_reused"
    ID_RESERVED = "id_reserved"
    """A UUID of version 8: the ledger keeps these for what isn't a payment. Nothing is recorded."""
    CANCELLED_BY_SENDER = "cancelled_by_sender"
    """The sender doesn't want it paid any more, and it wasn't in yet."""
    EXPIRED = "expired"
    """It wasn't accepted before the instant that the sender set; or it was held then, and released later."""
    TEXT_NOT_PLAIN = "text_not_plain"
    """A name or the remittance isn't as the one rule for text leaves it; a return may repeat its payment's names."""
    CREDITOR_ACCOUNT_UNKNOWN = "creditor_account_unknown"
    CREDITOR_ACCOUNT_CLOSED = "creditor_account_closed"
    CREDITOR_ACCOUNT_BLOCKED = "creditor_account_blocked"
    """Nothing may be credited to it now. Why, and by whom, stays in the bank."""
    CURRENCY_NOT_CLEARED = "currency_not_cleared"
    """The rulebook doesn't clear it, so the payment would never settle. A return may be: it takes such a one back."""
    RETURN_OF_UNKNOWN = ReturnFault.RETURN_OF_UNKNOWN.value
    """There is no such payment, or nothing of it is left to give back; or there is a reason for that and no payment."""
    RETURN_OF_DETACHED = ReturnFault.RETURN_OF_DETACHED.value
    """What it gives back is in a part of the journal that was taken out: whether it may be isn't known here."""
    RETURN_DIFFERS = ReturnFault.RETURN_DIFFERS.value
    """Other accounts, another bank or currency than the payment's that it gives back."""
    RETURN_EXCEEDS = ReturnFault.RETURN_EXCEEDS.value
    """More than is left of the payment."""
    TOO_MANY_RETURNS = ReturnFault.TOO_MANY_RETURNS.value
    """The payment has been given back in 64 parts."""
    BALANCE_OUT_OF_RANGE = "balance_out_of_range"
    EXPOSURE_LIMIT = "exposure_limit"
    """The sender's bank would owe more than it may before it is settled. Nothing of the payment is taken."""
    SCREENING_REJECTED = "screening_rejected"


class ReceivedPayment(Struct, frozen=True, gc=False):
    """A payment of another bank with the hash of its terms, what screening says of it, and if its texts are plain."""

    terms: PaymentTerms
    leaf: bytes
    hits: tuple[Hit, ...] = ()
    is_plain: bool = True

    @classmethod
    def of(cls, terms: PaymentTerms, leaf: bytes, hits: tuple[Hit, ...]) -> ReceivedPayment:
        """Judge the texts of a payment that came in: each bank's own rule holds for what it is asked to book."""
        plain = all_plain(terms.debtor_name, terms.creditor_name, *_references(terms), free=terms.remittance)
        return cls(terms, leaf, hits, plain)


class TooFewNew(Struct, frozen=True):
    """A batch isn't taken: it would be kept for the payments new in it, and holds too many others beside them."""

    new: int
    others: int


class ReceivePayments(Command[list[PaymentOutcome] | TooFewNew]):
    """Accept, hold or decline the payments of one signed batch, numbering what is accepted.

    A batch with something new in it is kept as evidence, so its size has to be in proportion; one with nothing new
    may be as large as any, since it leaves nothing. Of those that the sender has `withdrawn`, what is new is declined.
    """

    judges_detached = True

    def __init__(self, batch: Evidence, payments: Sequence[ReceivedPayment], *, withdrawn: bool = False) -> None:
        self.batch = batch
        self.withdrawn = withdrawn
        self.sender = batch.counterparty
        self.payments = payments
        self.others = 0
        """How many payments weren't new, once it is decided."""
        self.beyond_limit = 0
        """How many were declined for what the sender owes already, once it is decided."""

    def payment_ids(self) -> list[str]:
        return [p.terms.id for p in self.payments]

    def known_payment_ids(self) -> list[str]:
        return [p.terms.returns for p in self.payments if p.terms.returns is not None]

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        keys: set[AccountKey] = set()
        for payment in self.payments:
            terms = payment.terms
            keys.add(AccountKey("customer", terms.creditor_account, terms.currency))
            keys.add(AccountKey("due_from", self.sender, terms.currency))
        return keys

    def lane_keys(self, books: Books) -> set[LaneKey]:
        return {LaneKey(self.sender, books.bank, p.terms.currency) for p in self.payments}

    def decide(self, books: Books) -> list[PaymentOutcome] | TooFewNew:
        outcomes = [
            _earlier_outcome(self.sender, p.terms, books.payments.get(p.terms.id), books.detached)
            for p in self.payments
        ]
        new = outcomes.count(None)
        self.others = len(outcomes) - new
        if _too_few(new, self.others):
            return TooFewNew(new, self.others)
        self.beyond_limit = 0
        limits = {c: books.limits.of(self.sender, c).minor for c in {p.terms.currency for p in self.payments}}
        decided = [
            self._decide_new(books, payment, limits[payment.terms.currency]) if outcome is None else outcome
            for payment, outcome in zip(self.payments, outcomes, strict=True)
        ]
        if new:
            books.keep(self.batch)
        return decided

    def _decide_new(self, books: Books, payment: ReceivedPayment, limit: int) -> PaymentOutcome:
        """Decide a payment; `limit` is the most that its sender may owe in its currency, unsettled."""
        terms = payment.terms
        if self.withdrawn:
            return self._decline(books, terms, DeclineReason.CANCELLED_BY_SENDER)
        if terms.expires_at is not None and is_expired(terms, books.now):
            return self._decline(books, terms, DeclineReason.EXPIRED)
        if not payment.is_plain and not _repeats_names(books, terms):
            return self._decline(books, terms, DeclineReason.TEXT_NOT_PLAIN)
        creditor = books.accounts[AccountKey("customer", terms.creditor_account, terms.currency)]
        if creditor is None:
            return self._decline(books, terms, DeclineReason.CREDITOR_ACCOUNT_UNKNOWN)
        if creditor.state is not AccountState.OPEN and not creditor.state.takes_credits:
            closed = creditor.state is AccountState.CLOSED
            reason = DeclineReason.CREDITOR_ACCOUNT_CLOSED if closed else DeclineReason.CREDITOR_ACCOUNT_BLOCKED
            return self._decline(books, terms, reason)
        if terms.returns is None and not books.limits.clears(terms.currency):
            return self._decline(books, terms, DeclineReason.CURRENCY_NOT_CLEARED)
        original: Payment | None = None
        if terms.returns is not None or terms.return_reason is not None:
            if terms.returns in books.detached:
                return self._decline(books, terms, DeclineReason.RETURN_OF_DETACHED)
            original = books.payments.get(terms.returns or "")
            if (fault := return_fault(original, terms, self.sender, direction="out")) is not None:
                return self._decline(books, terms, DeclineReason(fault.value))
        amount = int(terms.amount_minor)
        due_from = books.chart(AccountKey("due_from", self.sender, terms.currency))
        if due_from.balance + amount > due_from.highest or creditor.balance - amount < creditor.lowest:
            return self._decline(books, terms, DeclineReason.BALANCE_OUT_OF_RANGE)
        if due_from.balance + amount > limit:
            self.beyond_limit += 1
            return self._decline(books, terms, DeclineReason.EXPOSURE_LIMIT)
        if payment.hits:
            held = events.IncomingHeld(sender=self.sender, batch=self.batch.sha256, terms=terms, hits=payment.hits)
            books.advance(None, terms.id, "payment.held_in", held)
            books.wait(books.payments[terms.id], "held")
            return outcome_of(books.payments[terms.id])
        number = books.lane(LaneKey(self.sender, books.bank, terms.currency)).last_sequence + 1
        accepted = events.IncomingAccepted(sender=self.sender, batch=self.batch.sha256, terms=terms, sequence=number)
        sequence = books.advance(None, terms.id, "payment.accepted", EventData.of_read("payment.accepted", accepted))
        credit(books, books.payments[terms.id], sequence, due_from, creditor, payment.leaf)
        if original is not None:
            give_back(books, original, terms)
        return outcome_of(books.payments[terms.id])

    def _decline(self, books: Books, terms: PaymentTerms, reason: DeclineReason) -> PaymentOutcome:
        declined = events.IncomingDeclined(
            sender=self.sender, batch=self.batch.sha256, terms=terms, reason=reason.value
        )
        books.advance(None, terms.id, "payment.declined", declined)
        return outcome_of(books.payments[terms.id])


async def read_outcomes(
    pool: asyncpg.Pool, sender: str, payments: Sequence[PaymentTerms]
) -> list[PaymentOutcome] | TooFewNew | None:
    """Return what the ledger's writer would say of a batch, read beside it; None if something new is to be decided.

    No lock is needed: a payment that is known stays known, of the same bank and terms, and what becomes of it later
    is told when it is asked about later. Only that it is new can't be known here, so nothing is decided on that.
    """
    outcomes: list[PaymentOutcome | None] = []
    for start in range(0, len(payments), READ_ITEMS_MAX):
        some = payments[start : start + READ_ITEMS_MAX]
        # A connection for each slice, so that nobody waits for one until the whole batch is read.
        async with pool.acquire() as connection:
            known, detached = await store.payments_here(connection, [terms.id for terms in some])
        outcomes += [_earlier_outcome(sender, terms, known.get(terms.id), detached) for terms in some]
    new = outcomes.count(None)
    others = len(outcomes) - new
    if _too_few(new, others):
        return TooFewNew(new, others)
    return None if new else [outcome for outcome in outcomes if outcome is not None]


def _repeats_names(books: Books, terms: PaymentTerms) -> bool:
    """Tell whether a return's names are those of its payment, which may be of before the rule, the rest plain."""
    original = None if terms.returns is None else books.payments.get(terms.returns)
    return (
        original is not None
        and (original.terms.debtor_name, original.terms.creditor_name) == (terms.creditor_name, terms.debtor_name)
        and all_plain(*_references(terms), free=terms.remittance)
    )


def _references(terms: PaymentTerms) -> list[str]:
    return [reference for reference in (terms.end_to_end_id, terms.instruction_id) if reference is not None]


def _too_few(new: int, others: int) -> bool:
    return new > 0 and others > OTHERS_MAX + OTHERS_PER_NEW_MAX * new


def _earlier_outcome(
    sender: str, terms: PaymentTerms, earlier: Payment | None, detached: Set[str]
) -> PaymentOutcome | None:
    """Return what is said of a payment that isn't new, given what is known under its id; None if it is new."""
    if earlier is not None:
        if earlier.direction == "in" and earlier.counterparty == sender and earlier.terms == terms:
            return outcome_of(earlier)
        return PaymentOutcome(id=terms.id, status="refused", reason=DeclineReason.ID_REUSED.value)
    if terms.id in detached:
        # It may have been accepted: a refusal would contradict that, so its sender is to ask again.
        return PaymentOutcome(id=terms.id, status="held")
    if events.is_reserved(terms.id):
        return PaymentOutcome(id=terms.id, status="refused", reason=DeclineReason.ID_RESERVED.value)
    return None


def credit(
    books: Books, payment: Payment, event_sequence: int, due_from: Account, creditor: Account, leaf: bytes
) -> None:
    """Post an incoming payment that an event has just numbered, and enter it into its lane."""
    if payment.sequence is None:
        raise ValueError(f"payment {payment.id} has no number")
    books.post(event_sequence, due_from, creditor, payment.amount)
    lane = books.lane(LaneKey(payment.counterparty, books.bank, payment.terms.currency))
    books.number(lane, payment.sequence, payment.id, payment.amount, leaf)


def outcome_of(payment: Payment) -> PaymentOutcome:
    """Return what the sender is told about a payment that it sent."""
    if payment.status is Status.HELD:
        return PaymentOutcome(id=payment.id, status="held")
    if payment.status in (Status.DECLINED, Status.REFUSED):
        return PaymentOutcome(id=payment.id, status="refused", reason=payment.reason)
    return PaymentOutcome(id=payment.id, status="accepted", sequence=payment.sequence)
