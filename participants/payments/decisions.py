"""What a bank decides about payments: orders of its own customers, payments of other banks, and their answers.

Each command is decided on the books in memory, all or nothing per payment; nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Struct

from compliance.statements import Document
from gateway.federation.messages.payments import PaymentOutcome, PaymentTerms
from participants.ledger import events
from participants.ledger.books import (
    Account,
    AccountKey,
    Books,
    Command,
    Direction,
    LaneKey,
    Payment,
    Status,
    next_status,
)
from participants.ledger.events import Hit, PaymentOrder


class OrderReason(StrEnum):
    """Why a bank refuses its own customer's order, in order of precedence."""

    ID_REUSED = "id_reused"
    CREDITOR_AGENT_IS_SELF = "creditor_agent_is_self"
    CREDITOR_AGENT_UNKNOWN = "creditor_agent_unknown"
    CREDITOR_AGENT_NOT_ACTIVE = "creditor_agent_not_active"
    DEBTOR_ACCOUNT_UNKNOWN = "debtor_account_unknown"
    RETURN_OF_UNKNOWN = "return_of_unknown"
    RETURN_DIFFERS = "return_differs"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    BALANCE_OUT_OF_RANGE = "balance_out_of_range"


class DeclineReason(StrEnum):
    """Why a bank refuses a payment of another bank, in order of precedence."""

    ID_REUSED = "id_reused"
    CREDITOR_ACCOUNT_UNKNOWN = "creditor_account_unknown"
    RETURN_OF_UNKNOWN = "return_of_unknown"
    RETURN_DIFFERS = "return_differs"
    BALANCE_OUT_OF_RANGE = "balance_out_of_range"
    SCREENING_REJECTED = "screening_rejected"


class OrderOutcome(Struct, frozen=True, omit_defaults=True):
    """The answer on one order. `replayed` says that the order was known before; it isn't part of the answer."""

    id: str
    status: Literal["reserved", "held", "refused"]
    reason: str | None = None
    replayed: bool = False


class CheckedOrder(Struct, frozen=True):
    """An order, its canonical bytes, what screening found, and whether its bank may be paid."""

    order: PaymentOrder
    data: str
    hits: tuple[Hit, ...] = ()
    agent_refusal: OrderReason | None = None


class SubmitOrders(Command[list[OrderOutcome]]):
    """Reserve the money of orders and queue them, in their order; each is accepted or refused for itself."""

    def __init__(self, orders: Sequence[CheckedOrder]) -> None:
        self.orders = orders

    def payment_ids(self) -> list[str]:
        return [o.order.id for o in self.orders]

    def known_payment_ids(self) -> list[str]:
        return [o.order.returns for o in self.orders if o.order.returns is not None]

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        keys: set[AccountKey] = set()
        for checked in self.orders:
            order = checked.order
            keys.add(AccountKey("customer", order.debtor_account, order.currency))
            keys.add(AccountKey("reserved", order.creditor_agent, order.currency))
        return keys

    def decide(self, books: Books) -> list[OrderOutcome]:
        return [self._decide_one(books, checked) for checked in self.orders]

    def _decide_one(self, books: Books, checked: CheckedOrder) -> OrderOutcome:
        order = checked.order
        known = books.payments.get(order.id)
        if known is not None:
            if known.direction == "out" and known.first_data == checked.data:
                return OrderOutcome(order.id, "held" if known.was_held else "reserved", replayed=True)
            return self._refuse(books, order, OrderReason.ID_REUSED)
        if checked.agent_refusal is not None:
            return self._refuse(books, order, checked.agent_refusal)
        debtor = books.account("customer", order.debtor_account, order.currency)
        if debtor is None:
            return self._refuse(books, order, OrderReason.DEBTOR_ACCOUNT_UNKNOWN)
        returned: Payment | None = None
        if order.returns is not None:
            returned = books.payments.get(order.returns)
            if returned is None or returned.direction != "in" or returned.status is not Status.ACCEPTED:
                return self._refuse(books, order, OrderReason.RETURN_OF_UNKNOWN)
            if not _gives_back(order, order.creditor_agent, returned):
                return self._refuse(books, order, OrderReason.RETURN_DIFFERS)
        amount = int(order.amount_minor)
        if debtor.balance + amount > debtor.highest:
            return self._refuse(books, order, OrderReason.INSUFFICIENT_FUNDS)
        reserved = books.chart("reserved", order.creditor_agent, order.currency)
        if reserved.balance - amount < reserved.lowest:
            return self._refuse(books, order, OrderReason.BALANCE_OUT_OF_RANGE)
        held = bool(checked.hits)
        if held:
            sequence = books.record(
                order.id, 1, "payment.held_out", events.OutgoingHeld(order=order, hits=checked.hits)
            )
        else:
            sequence = books.event(order.id, 1, "payment.reserved", checked.data)
        books.post(sequence, debtor, reserved, amount)
        books.rows.opened[order.id] = (
            order.id, "out", order.creditor_agent, "held" if held else "queued", sequence
        )  # fmt: skip
        books.payments[order.id] = Payment(
            id=order.id,
            version=1,
            status=Status.HELD if held else Status.RESERVED,
            direction="out",
            counterparty=order.creditor_agent,
            terms=order,
            first_data=checked.data,
            was_held=held,
            waiting_since=sequence,
        )
        if returned is not None:
            append(books, returned, "payment.returned", events.Returned(by=order.id))
        return OrderOutcome(order.id, "held" if held else "reserved")

    @staticmethod
    def _refuse(books: Books, order: PaymentOrder, reason: OrderReason) -> OrderOutcome:
        if order.id not in books.payments:
            # Perhaps it was accepted long ago and this is its repetition: then the first answer stands.
            books.doubted[order.id] = 0
        books.rows.refusals.append((books.now, order.id, reason.value))
        return OrderOutcome(order.id, "refused", reason.value)


class ReceivedPayment(Struct, frozen=True):
    """A payment of another bank with the hash of its terms and what screening found."""

    terms: PaymentTerms
    leaf: bytes
    hits: tuple[Hit, ...] = ()


class ReceivePayments(Command[list[PaymentOutcome]]):
    """Accept, hold or decline the payments of one signed batch, numbering what is accepted."""

    def __init__(self, sender: str, batch: str, envelope: bytes, payments: Sequence[ReceivedPayment]) -> None:
        self.sender = sender
        self.batch = batch
        self.envelope = envelope
        self.payments = payments

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

    def decide(self, books: Books) -> list[PaymentOutcome]:
        outcomes = [self._decide_one(books, payment) for payment in self.payments]
        if books.rows.events:
            digest = bytes.fromhex(self.batch)
            books.rows.evidence.append((digest, "payment-batch", self.sender, books.now, self.envelope))
        return outcomes

    def _decide_one(self, books: Books, payment: ReceivedPayment) -> PaymentOutcome:
        terms = payment.terms
        known = books.payments.get(terms.id)
        if known is not None:
            if known.direction == "in" and known.counterparty == self.sender and known.terms == terms:
                return outcome_of(known)
            return PaymentOutcome(id=terms.id, status="refused", reason=DeclineReason.ID_REUSED.value)
        creditor = books.account("customer", terms.creditor_account, terms.currency)
        if creditor is None:
            return self._decline(books, terms, DeclineReason.CREDITOR_ACCOUNT_UNKNOWN)
        returned: Payment | None = None
        if terms.returns is not None:
            returned = books.payments.get(terms.returns)
            if returned is None or returned.direction != "out" or returned.status is not Status.POSTED:
                return self._decline(books, terms, DeclineReason.RETURN_OF_UNKNOWN)
            if not _gives_back(terms, self.sender, returned):
                return self._decline(books, terms, DeclineReason.RETURN_DIFFERS)
        amount = int(terms.amount_minor)
        due_from = books.chart("due_from", self.sender, terms.currency)
        if due_from.balance + amount > due_from.highest or creditor.balance - amount < creditor.lowest:
            return self._decline(books, terms, DeclineReason.BALANCE_OUT_OF_RANGE)
        if payment.hits:
            held = events.IncomingHeld(sender=self.sender, batch=self.batch, terms=terms, hits=payment.hits)
            sequence = books.record(terms.id, 1, "payment.held_in", held)
            books.rows.opened[terms.id] = (terms.id, "in", self.sender, "held", sequence)
            self._remember(books, terms, Status.HELD)
            return PaymentOutcome(id=terms.id, status="held")
        number = credit(books, due_from, creditor, terms, self.sender, payment.leaf, version=1, batch=self.batch)
        self._remember(books, terms, Status.ACCEPTED, number)
        if returned is not None:
            append(books, returned, "payment.returned", events.Returned(by=terms.id))
        return PaymentOutcome(id=terms.id, status="accepted", sequence=number)

    def _decline(self, books: Books, terms: PaymentTerms, reason: DeclineReason) -> PaymentOutcome:
        declined = events.IncomingDeclined(sender=self.sender, batch=self.batch, terms=terms, reason=reason.value)
        books.record(terms.id, 1, "payment.declined", declined)
        self._remember(books, terms, Status.DECLINED, reason=reason.value)
        return PaymentOutcome(id=terms.id, status="refused", reason=reason.value)

    def _remember(
        self, books: Books, terms: PaymentTerms, status: Status, number: int | None = None, reason: str | None = None
    ) -> None:
        books.payments[terms.id] = Payment(
            id=terms.id, version=1, status=status, direction="in", counterparty=self.sender, terms=terms,
            sequence=number, reason=reason, batch=self.batch, waiting_since=books.head,
        )  # fmt: skip


class SentPayment(Struct, frozen=True):
    """A payment as it was sent, with the hash of its terms, and the answer."""

    payment: Payment
    leaf: bytes
    outcome: PaymentOutcome


class ApplyAnswers(Command[int]):
    """Post what the other bank accepted and release what it refused."""

    def __init__(self, counterparty: str, digest: str, envelope: bytes, answers: Sequence[SentPayment]) -> None:
        self.counterparty = counterparty
        self.digest = digest
        self.envelope = envelope
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
            if payment.status is not Status.RESERVED:
                continue
            if answer.outcome.status == "accepted":
                if not self._post(books, payment, answer):
                    if payment.id not in books.payments:
                        books.doubted[payment.id] = payment.version
                    self.conflicts.append(payment.id)
                    continue
            else:
                reason = answer.outcome.reason or "unspecified"
                release(books, payment, events.Refused(reason=reason, acknowledgement=self.digest))
            ended += 1
            books.rows.closed.append((payment.counterparty, payment.waiting_since))
        if ended:
            digest = bytes.fromhex(self.digest)
            books.rows.evidence.append((digest, "acknowledgement", self.counterparty, books.now, self.envelope))
        return ended

    def _post(self, books: Books, payment: Payment, answer: SentPayment) -> bool:
        terms = payment.terms
        number = answer.outcome.sequence or 0
        if number < 1:
            return False
        lane = books.lane(LaneKey(books.bank, self.counterparty, terms.currency))
        if number <= lane.tree.size or number in lane.beyond:
            return False
        sequence = books.event(
            payment.id,
            payment.version + 1,
            "payment.posted",
            f'{{"acknowledgement":"{self.digest}","sequence":{number}}}',
        )
        amount = int(terms.amount_minor)
        reserved = books.chart("reserved", self.counterparty, terms.currency)
        books.post(sequence, reserved, books.chart("due_to", self.counterparty, terms.currency), amount)
        books.number(lane, number, payment.id, amount, answer.leaf)
        books.payments[payment.id] = msgspec.structs.replace(
            payment, version=payment.version + 1, status=Status.POSTED, sequence=number
        )
        return True


def credit(
    books: Books,
    due_from: Account,
    creditor: Account,
    terms: PaymentTerms,
    sender: str,
    leaf: bytes,
    *,
    version: int,
    batch: str | None = None,
) -> int:
    """Number an incoming payment and credit it to the customer; return the number."""
    lane = books.lane(LaneKey(sender, books.bank, terms.currency))
    number = lane.tree.size + len(lane.beyond) + 1
    if batch is not None:
        accepted = events.IncomingAccepted(sender=sender, batch=batch, terms=terms, sequence=number)
        sequence = books.record(terms.id, version, "payment.accepted", accepted)
    else:
        sequence = books.record(terms.id, version, "payment.credited", events.Numbered(sequence=number))
    amount = int(terms.amount_minor)
    books.post(sequence, due_from, creditor, amount)
    books.number(lane, number, terms.id, amount, leaf)
    return number


def release(books: Books, payment: Payment, data: events.Refused) -> None:
    """End an outgoing payment unposted and give the reserved money back to the customer."""
    terms = payment.terms
    sequence = append(books, payment, "payment.refused", data)
    customer = books.accounts[AccountKey("customer", terms.debtor_account, terms.currency)]
    if customer is None:
        raise LookupError(f"customer account of payment {payment.id}")
    reserved = books.chart("reserved", payment.counterparty, terms.currency)
    books.post(sequence, reserved, customer, int(terms.amount_minor))
    if terms.returns is not None and (returned := books.payments.get(terms.returns)) is not None:
        append(books, returned, "payment.return_failed", events.Returned(by=payment.id))


def outcome_of(payment: Payment) -> PaymentOutcome:
    """Return what the sender is told about a payment it sent before."""
    if payment.status is Status.HELD:
        return PaymentOutcome(id=payment.id, status="held")
    if payment.status in (Status.DECLINED, Status.REFUSED):
        return PaymentOutcome(id=payment.id, status="refused", reason=payment.reason)
    return PaymentOutcome(id=payment.id, status="accepted", sequence=payment.sequence)


def _gives_back(terms: PaymentTerms, bank: str, returned: Payment) -> bool:
    """Tell whether a return gives the whole of a payment back to the bank and account it came from."""
    original = returned.terms
    return (
        returned.counterparty == bank
        and original.returns is None
        and (terms.amount_minor, terms.currency) == (original.amount_minor, original.currency)
        and (terms.debtor_account, terms.creditor_account) == (original.creditor_account, original.debtor_account)
    )


def append(books: Books, payment: Payment, kind: str, data: Document) -> int:
    """Add an event to a payment, keep its new version in the books, and return the event's number."""
    after = advance(payment, kind, data, books.head + 1)
    if after is None:
        raise ValueError(f"{kind} on payment {payment.id} that is {payment.status}")
    books.payments[payment.id] = after
    return books.record(payment.id, after.version, kind, data)


def advance(payment: Payment, kind: str, data: Any, sequence: int) -> Payment | None:
    """Return a payment after one more event, number `sequence`, or None if its status doesn't allow the event."""
    status = next_status(payment.status, kind)
    if status is None:
        return None
    changes: dict[str, Any] = {"version": payment.version + 1, "status": status}
    if isinstance(data, events.Numbered):
        changes["sequence"] = data.sequence
    elif isinstance(data, events.Refused):
        changes["reason"] = data.reason
    elif isinstance(data, events.Opinion):
        changes["opinions"] = (*payment.opinions, data)
    elif isinstance(data, events.Released):
        changes["waiting_since"] = sequence
    return msgspec.structs.replace(payment, **changes)


def first(row: events.EventRow, data: Any) -> Payment | None:
    """Return the payment that an event of version 1 begins, or None if the event isn't about a payment."""
    kind = row.type
    common: Mapping[str, Any] = {"id": row.subject, "version": 1, "waiting_since": row.sequence}
    direction: Direction
    if kind in ("payment.reserved", "payment.held_out"):
        direction = "out"
        order: PaymentOrder = data if kind == "payment.reserved" else data.order
        held = kind == "payment.held_out"
        return Payment(
            **common,
            first_data=events.encode(order) if held else row.data,
            status=Status.HELD if held else Status.RESERVED,
            direction=direction,
            counterparty=order.creditor_agent,
            terms=order,
            was_held=held,
        )
    if isinstance(data, events.Incoming):
        direction = "in"
        status = {
            "payment.accepted": Status.ACCEPTED,
            "payment.held_in": Status.HELD,
            "payment.declined": Status.DECLINED,
        }[kind]
        return Payment(
            **common,
            status=status,
            direction=direction,
            counterparty=data.sender,
            terms=data.terms,
            sequence=getattr(data, "sequence", None),
            reason=getattr(data, "reason", None),
            batch=data.batch,
        )
    return None
