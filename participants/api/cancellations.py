"""HTTP: the bank's own people cancel payments that have no answer yet."""

from __future__ import annotations

from uuid import UUID

from litestar import post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from participants.api import orders_log, views
from participants.api.guards import ORDERS, ConcordatRequest, Node
from participants.api.messages import CancellationOutcomes, Cancellations, PaymentView
from participants.ledger.partitions import require_attached
from participants.payments.cancellations import CancellationReason, RequestCancellation


@post(
    "/payments/{payment_id:uuid}/cancellation",
    guards=ORDERS,
    status_code=HTTP_200_OK,
    tags=["payments"],
    operation_id="cancelPayment",
)
async def cancel_payment(payment_id: FromPath[UUID], node: Node, request: ConcordatRequest) -> PaymentView:
    """Cancel a payment that the other bank hasn't answered yet: it is `cancelling` until that bank says if it is in.

    If it isn't, it is declined there for good and `cancelled` here, with its money free again; if it is, it is
    `posted` with its number, and can be recalled. Asked again, it changes nothing and shows how the payment stands.
    """
    (outcome,) = await node.ledger.submit(RequestCancellation([str(payment_id)], request.auth.sub))
    if outcome.reason is CancellationReason.JOURNAL_DETACHED:
        async with node.pool.acquire() as connection:
            await require_attached(connection, [str(payment_id)])
    outcome.or_refuse()
    orders_log.note("cancellation requested", request.auth.sub, (outcome.id,))
    return await views.payment(node.pool, str(payment_id))


@post(
    "/payments/cancellations",
    guards=ORDERS,
    status_code=HTTP_200_OK,
    tags=["payments"],
    operation_id="cancelPayments",
)
async def cancel_payments(data: JSONBody[Cancellations], node: Node, request: ConcordatRequest) -> CancellationOutcomes:
    """Cancel up to 1,000 payments, each for itself; each has its own result."""
    outcomes = await node.ledger.submit(RequestCancellation(data.payments, request.auth.sub))
    taken = [outcome.id for outcome in outcomes if outcome.reason is None]
    orders_log.note("cancellation requested", request.auth.sub, taken)
    return CancellationOutcomes(results=tuple(outcomes))


CANCELLATION_HANDLERS = [cancel_payment, cancel_payments]
