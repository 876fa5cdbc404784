"""HTTP: the bank's own people cancel payments that have no answer yet."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from gateway.federation.http.paging import LIMIT_MAX
from gateway.federation.messages.base import Answer, Uuid
from gateway.federation.messages.base import Request as Body
from participants.api import views
from participants.api.guards import ORDERS, ConcordatRequest, Node
from participants.api.messages import PaymentView
from participants.payments.cancellations import CancellationOutcome, RequestCancellation


class Cancellations(Body, frozen=True, kw_only=True):
    """Payments that are to be paid no more."""

    payments: Annotated[tuple[Uuid, ...], Meta(min_length=1, max_length=LIMIT_MAX)]


class CancellationOutcomes(Answer, frozen=True, kw_only=True):
    """How each payment stands, or why it isn't cancelled; in the order of the request."""

    results: tuple[CancellationOutcome, ...]


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
    outcome.or_refuse()
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
    return CancellationOutcomes(results=tuple(outcomes))


CANCELLATION_HANDLERS = [cancel_payment, cancel_payments]
