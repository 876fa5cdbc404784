"""Orders of a bank's own customers: the money is reserved and the payment queued, or the order is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from compliance.crypto import canonical
from compliance.iban import iban_fault, iban_words
from gateway.federation.messages.payments import is_expired
from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import events
from participants.ledger.accounts import AccountKey, AccountState
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import EventData, Hit, PaymentOrder
from participants.ledger.payment import CAME_TO_NOTHING, Payment
from participants.payments.returns import ReturnFault, give_back, return_detail, return_fault


class OrderReason(RefusalReason):
    """Why a bank refuses its own customer's order, in order of precedence."""

    ORDER_MALFORMED = "order_malformed", 422
    """A member doesn't have its form; of an order that was put together here, as a return is."""
    ID_REUSED = "id_reused", 409
    ID_DETACHED = "id_detached", 410
    """A payment of this id is in a part of the journal that was taken out: whether it is the same isn't known here."""
    ID_RESERVED = "id_reserved", 422
    """A UUID of version 8: the ledger keeps these for what isn't a payment."""
    EXPIRED = "expired", 422
    """It isn't to be accepted any more, by its own `expires_at`."""
    CREDITOR_AGENT_IS_SELF = "creditor_agent_is_self", 422
    CREDITOR_AGENT_UNKNOWN = "creditor_agent_unknown", 422
    CREDITOR_AGENT_NOT_ACTIVE = "creditor_agent_not_active", 422
    IBAN_LENGTH_WRONG = "iban_length_wrong", 422
    """An account begins as an IBAN, and those of its country are longer or shorter."""
    IBAN_CHECK_DIGITS_WRONG = "iban_check_digits_wrong", 422
    DEBTOR_ACCOUNT_UNKNOWN = "debtor_account_unknown", 422
    DEBTOR_ACCOUNT_CLOSED = "debtor_account_closed", 422
    DEBTOR_ACCOUNT_BLOCKED = "debtor_account_blocked", 422
    """This bank lets no money off it now."""
    CURRENCY_NOT_CLEARED = "currency_not_cleared", 422
    """The rulebook doesn't clear it, so the payment would never settle. A return may be: it takes such a one back."""
    RETURN_OF_UNKNOWN = ReturnFault.RETURN_OF_UNKNOWN.value, 422
    """There is no such payment, or nothing of it is left to give back."""
    RETURN_OF_DETACHED = ReturnFault.RETURN_OF_DETACHED.value, 410
    """The payment is in a part of the journal that was taken out: attach that, and give it back then."""
    RETURN_DIFFERS = ReturnFault.RETURN_DIFFERS.value, 422
    """Other accounts, another bank or currency than the payment's that it gives back; or that is a return itself."""
    RETURN_EXCEEDS = ReturnFault.RETURN_EXCEEDS.value, 422
    """More than is left of the payment: other returns of it count once they are ordered."""
    TOO_MANY_RETURNS = ReturnFault.TOO_MANY_RETURNS.value, 422
    """The payment has been given back in 64 parts."""
    INSUFFICIENT_FUNDS = "insufficient_funds", 422
    BALANCE_OUT_OF_RANGE = "balance_out_of_range", 422
    BATCH_NOT_TAKEN = "batch_not_taken", 422
    """Nothing is wrong with it, but with another order of a batch that is taken whole or not at all."""


class OrderOutcome(Struct, frozen=True, omit_defaults=True, gc=False):
    """The answer on one order. `replayed` says that the order was known before.

    `batch` is the batch that took it in then: of a replayed one, where the request has an id of its own.
    `payment_reason` says why the payment of a replayed one was refused after all, by the other bank or by people who
    screen: its money is free again. `detail` says in words why an order was refused: which member, and what it says.
    """

    id: str
    status: Literal["reserved", "held", "refused"]
    reason: str | None = None
    replayed: bool = False
    batch: str | None = None
    payment_reason: str | None = None
    detail: str | None = None

    def answer(self) -> OrderOutcome:
        """Return the outcome as it is answered to a single order: the same the first time and every time after."""
        return OrderOutcome(self.id, self.status, self.reason) if self.replayed else self

    def or_refuse(self) -> None:
        """Raise Refusal if the order, asked for by itself, was refused."""
        if self.reason is not None:
            raise Refusal(OrderReason(self.reason), self.detail or f"payment {self.id} was refused")


ReadableOrder = EventData[PaymentOrder]
"""An order that the journal's reader has read."""


def readable(orders: Sequence[PaymentOrder], *, maker: str) -> list[ReadableOrder]:
    """Let the journal's reader read orders that were put together here. Raises Refusal `order_malformed`."""
    try:
        said = [canonical.encode(order) for order in orders]
        again = EventData.orders(said, maker=maker)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Refusal(OrderReason.ORDER_MALFORMED, str(error)) from error
    if [order.text for order in again] != [events.beginning(maker) + body[1:].decode() for body in said]:
        raise Refusal(OrderReason.ORDER_MALFORMED, "it is read back as something else")
    return again


def creditor_refusal(order: PaymentOrder) -> OrderReason | None:
    """Return why an order's creditor account isn't taken, or None. A return goes back to where its payment came from.

    Whether the debtor's is well written is asked only where this bank has no such account.
    """
    fault = iban_fault(order.creditor_account)
    return None if fault is None or order.returns is not None else OrderReason(fault.value)


class CheckedOrder(Struct, frozen=True, gc=False):
    """An order, with who made it, what screening says of it, and why its bank or account can't be paid."""

    order: ReadableOrder
    hits: tuple[Hit, ...] = ()
    refusal: OrderReason | None = None


class SubmitOrders(Command[list[OrderOutcome]]):
    """Reserve the money of orders and queue them, in their order; each is accepted or refused for itself."""

    judges_detached = True

    def __init__(self, orders: Sequence[CheckedOrder]) -> None:
        self.orders = orders
        self._ids = [checked.order.value.id for checked in orders]
        values = [checked.order.value for checked in orders]
        self._debtors = [AccountKey("customer", order.debtor_account, order.currency) for order in values]
        self._reserved = [AccountKey("reserved", order.creditor_agent, order.currency) for order in values]
        self._account_keys = {*self._debtors, *self._reserved}

    def payment_ids(self) -> list[str]:
        return self._ids

    def known_payment_ids(self) -> list[str]:
        return [o.order.value.returns for o in self.orders if o.order.value.returns is not None]

    def account_keys(self, books: Books) -> set[AccountKey]:  # noqa: ARG002
        return self._account_keys

    def decide(self, books: Books) -> list[OrderOutcome]:
        return [
            self._decide(books, checked, debtor, reserved)
            for checked, debtor, reserved in zip(self.orders, self._debtors, self._reserved, strict=True)
        ]

    def _decide(
        self, books: Books, checked: CheckedOrder, debtor_key: AccountKey, reserved_key: AccountKey
    ) -> OrderOutcome:
        order = checked.order.value
        earlier = books.payments.get(order.id)
        if earlier is not None:
            if _is_of(earlier, order):
                return replayed(order.id, earlier)
            return refuse_order(books, checked.order, OrderReason.ID_REUSED)
        if order.id in books.detached:
            return refuse_order(books, checked.order, OrderReason.ID_DETACHED)
        if events.is_reserved(order.id):
            return refuse_order(books, checked.order, OrderReason.ID_RESERVED)
        if order.expires_at is not None and is_expired(order, books.now):
            return refuse_order(books, checked.order, OrderReason.EXPIRED)
        if checked.refusal is not None:
            return refuse_order(books, checked.order, checked.refusal)
        debtor = books.accounts[debtor_key]
        if debtor is None:
            misspelled = iban_fault(order.debtor_account)
            reason = OrderReason.DEBTOR_ACCOUNT_UNKNOWN if misspelled is None else OrderReason(misspelled.value)
            return refuse_order(books, checked.order, reason)
        if debtor.state is not AccountState.OPEN:
            closed = debtor.state is AccountState.CLOSED
            reason = OrderReason.DEBTOR_ACCOUNT_CLOSED if closed else OrderReason.DEBTOR_ACCOUNT_BLOCKED
            return refuse_order(books, checked.order, reason)
        if order.returns is None and not books.limits.clears(order.currency):
            return refuse_order(books, checked.order, OrderReason.CURRENCY_NOT_CLEARED)
        original: Payment | None = None
        if order.returns is not None:
            original = books.payments.get(order.returns)
            fault = return_fault(original, order, order.creditor_agent, direction="in")
            if order.returns in books.detached:
                fault = ReturnFault.RETURN_OF_DETACHED
            if fault is not None:
                said = return_detail(fault, original, order)
                return refuse_order(books, checked.order, OrderReason(fault.value), said)
        amount = int(order.amount_minor)
        if debtor.balance + amount > debtor.highest:
            return refuse_order(books, checked.order, OrderReason.INSUFFICIENT_FUNDS)
        reserved = books.chart(reserved_key)
        if reserved.balance - amount < reserved.lowest:
            return refuse_order(books, checked.order, OrderReason.BALANCE_OUT_OF_RANGE)
        if checked.hits:
            held = events.held_out(checked.order, checked.hits)
            sequence = books.advance(None, order.id, "payment.held_out", held)
        else:
            sequence = books.advance(None, order.id, "payment.reserved", checked.order)
        books.post(sequence, debtor, reserved, amount)
        books.wait(books.payments[order.id], "held" if checked.hits else "queued")
        if original is not None:
            give_back(books, original, order)
        return OrderOutcome(order.id, "held" if checked.hits else "reserved")


def replayed(order_id: str, payment: Payment | None) -> OrderOutcome:
    """Return the answer on an order that is known, whose payment this is; None is one whose events are detached."""
    if payment is None:
        return OrderOutcome(order_id, "refused", OrderReason.ID_DETACHED.value, detail="its payment is archived")
    reason = payment.reason if payment.status in CAME_TO_NOTHING else None
    status: Literal["held", "reserved"] = "held" if payment.was_held else "reserved"
    return OrderOutcome(order_id, status, replayed=True, payment_reason=reason)


def _is_of(payment: Payment, order: PaymentOrder) -> bool:
    """Tell whether a payment came of the very same order."""
    return (
        payment.direction == "out" and payment.counterparty == order.creditor_agent and payment.terms == order.terms()
    )


def refuse_order(books: Books, asked: ReadableOrder, reason: OrderReason, detail: str | None = None) -> OrderOutcome:
    """Refuse an order, and take that down: once, however often the same is asked for."""
    order = asked.value
    if order.id not in books.payments and order.id not in books.detached:
        # Perhaps it was accepted long ago and this is its repetition: then the first answer stands.
        books.assumed_versions[order.id] = 0
    books.refuse(order.id, reason.value, asked.text)
    return OrderOutcome(order.id, "refused", reason.value, detail=detail or order_detail(reason, order))


def order_detail(reason: OrderReason, order: PaymentOrder) -> str:
    """Return in words why an order is refused: which member, and what it says. Nothing but the order's own is told."""
    debtor = f"'{order.debtor_account}' in {order.currency}"
    match reason:
        case OrderReason.ID_REUSED:
            return f"id: {order.id} is that of another order; what isn't the very same order takes an id of its own"
        case OrderReason.ID_DETACHED:
            return f"id: {order.id} is that of a payment whose events are archived"
        case OrderReason.ID_RESERVED:
            return f"id: {order.id} is a UUID of version 8, which the ledger keeps for what isn't a payment"
        case OrderReason.EXPIRED:
            return f"expires_at: {order.expires_at} is over"
        case OrderReason.CREDITOR_AGENT_IS_SELF:
            return f"creditor_agent: {order.creditor_agent} is this bank itself"
        case OrderReason.CREDITOR_AGENT_UNKNOWN:
            return f"creditor_agent: {order.creditor_agent} is no member of the scheme"
        case OrderReason.CREDITOR_AGENT_NOT_ACTIVE:
            return f"creditor_agent: {order.creditor_agent} is a member, and isn't active now"
        case OrderReason.IBAN_LENGTH_WRONG | OrderReason.IBAN_CHECK_DIGITS_WRONG:
            of_creditor = creditor_refusal(order) is reason
            member, account = ("creditor", order.creditor_account) if of_creditor else ("debtor", order.debtor_account)
            return f"{member}_account: '{account}' {iban_words(account)}"
        case OrderReason.DEBTOR_ACCOUNT_UNKNOWN:
            return f"debtor_account: this bank has no customer's account {debtor}; each account has one currency"
        case OrderReason.DEBTOR_ACCOUNT_CLOSED:
            return f"debtor_account: {debtor} is closed"
        case OrderReason.DEBTOR_ACCOUNT_BLOCKED:
            return f"debtor_account: this bank lets no money off {debtor} now"
        case OrderReason.CURRENCY_NOT_CLEARED:
            return f"currency: the rulebook doesn't clear {order.currency}, so the payment would never settle"
        case OrderReason.INSUFFICIENT_FUNDS:
            return f"amount_minor: {order.amount_minor} is more than there is on {debtor}"
        case OrderReason.BALANCE_OUT_OF_RANGE:
            return (
                f"amount_minor: with {order.amount_minor} more, too much would be on its way to a bank for one account"
            )
        case OrderReason.BATCH_NOT_TAKEN:
            return "another order of the batch is refused, and this batch is taken whole or not at all"
        case _:
            return f"payment {order.id} was refused"
