"""The order by which a payment is given back, as the bank's own people ask for it."""

from __future__ import annotations

import asyncpg

from compliance.return_reasons import ReturnReason
from gateway.federation.problems import Refusal
from participants.api import views
from participants.api.orders import ReturnRequest
from participants.ledger.events import PaymentOrder
from participants.payments.orders import OrderReason
from participants.payments.returns import not_incoming


async def return_order(
    pool: asyncpg.Pool, payment_id: str, asked: ReturnRequest, *, default: ReturnReason | None = None
) -> PaymentOrder:
    """Return the order that gives a payment back, for the reason `default` where none is said.

    Raises Refusal `payment_unknown`, or `return_of_unknown` for a payment that this bank sent.
    """
    original = await views.payment(pool, payment_id)
    if original.direction != "in":
        raise Refusal(OrderReason.RETURN_OF_UNKNOWN, not_incoming(payment_id))
    return PaymentOrder(
        id=asked.id,
        creditor_agent=original.counterparty,
        amount_minor=asked.amount_minor or await views.left_of(pool, original, asked.id),
        currency=original.currency,
        debtor_account=original.creditor_account,
        debtor_name=original.creditor_name,
        creditor_account=original.debtor_account,
        creditor_name=original.debtor_name,
        remittance=asked.remittance,
        returns=original.id,
        return_reason=asked.reason or default,
    )
