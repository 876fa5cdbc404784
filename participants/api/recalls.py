"""HTTP: payments that are asked for back, here and by other banks, and what the bank's own people answer."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from compliance.crypto.dsse import Envelope
from compliance.recall_reasons import RecallReason, RecallRefusal
from compliance.return_reasons import ReturnReason
from gateway.federation.http.paging import Page, encode_cursor
from gateway.federation.messages.base import Answer, FreeText, Uuid
from gateway.federation.messages.base import Request as Body
from participants.api import orders_log, views
from participants.api.guards import MEMBERS, ORDERS, SEES_ORDERS, ConcordatRequest, Node
from participants.api.messages import PaymentView
from participants.api.orders import ReturnRequest, normalise_text, require_told
from participants.api.returns import return_order
from participants.api.views import payment_view
from participants.ledger import events, store
from participants.payments.orders import readable
from participants.payments.recalls import GiveBackRecalled, RefuseRecall, RequestRecall

RECALL_BYTES_MAX = 16 * 1024
"""Of a signed recall."""

RECALLED = """
SELECT event_sequence, payment_id::text FROM payment_open
WHERE state = 'recalled' AND ($1::text IS NULL OR direction = $1) AND ($2::bigint IS NULL OR event_sequence > $2)
ORDER BY event_sequence LIMIT $3
"""


class RecallRequest(Body, frozen=True, kw_only=True):
    """Why a payment is asked for back. The id is made by the client, so asking twice recalls once."""

    id: Uuid
    reason: RecallReason
    """As ISO 20022 has it. `NARR` says that the text tells, and needs one."""
    text: FreeText = ""

    def __post_init__(self) -> None:
        normalise_text(self, "text", stated=False)
        if self.reason is RecallReason.NARR:
            require_told(self.text, "text")


class RecallRefused(Body, frozen=True, kw_only=True):
    """Why a payment that is asked for back isn't given back."""

    reason: RecallRefusal
    """As ISO 20022 has it. `NARR` says that the text tells, and needs one."""
    text: FreeText = ""

    def __post_init__(self) -> None:
        normalise_text(self, "text", stated=False)
        if self.reason is RecallRefusal.NARR:
            require_told(self.text, "text")


class RecalledPage(Answer, frozen=True, kw_only=True):
    """Payments with an open recall, the one that waits longest first. `next` is the cursor of the following page."""

    items: tuple[PaymentView, ...]
    next: str | None = None


@post("/payments/{payment_id:uuid}/recalls", guards=ORDERS, tags=["payments"], operation_id="recallPayment")
async def recall_payment(
    payment_id: FromPath[UUID], data: JSONBody[RecallRequest], node: Node, request: ConcordatRequest
) -> PaymentView:
    """Ask for a payment back that the other bank has accepted; its people decide.

    They give back, in part too, or refuse. The recall is open until they have, and asked about again meanwhile; one is
    open at a time.
    """
    asked = events.RecallRequested(id=data.id, reason=data.reason, text=data.text, person=request.auth.sub)
    (await node.ledger.submit(RequestRecall(str(payment_id), asked))).or_refuse()
    orders_log.note("recall requested", request.auth.sub, (str(payment_id),))
    return await views.payment(node.pool, str(payment_id))


@get("/recalls", guards=SEES_ORDERS, tags=["payments"], operation_id="listRecalls")
async def list_recalls(
    node: Node,
    page: NamedDependency[Page],
    direction: Annotated[
        Literal["in", "out"] | None,
        QueryParameter(description="`in`: other banks ask for them, and wait for this one. `out`: this bank asks."),
    ] = None,
) -> RecalledPage:
    """List the payments that are asked for back and wait for an answer, each with its recalls."""
    async with node.pool.acquire() as connection:
        rows = await connection.fetch(RECALLED, direction, page.number(), page.limit)
        payments = await store.read_payments(connection, [row[1] for row in rows])
    items = tuple(payment_view(payments[row[1]]) for row in rows)
    return RecalledPage(items=items, next=encode_cursor(rows[-1][0]) if len(rows) == page.limit else None)


@post(
    "/payments/{payment_id:uuid}/recalls/{recall_id:uuid}/return",
    guards=ORDERS,
    tags=["payments"],
    operation_id="returnRecalled",
)
async def return_recalled(
    payment_id: FromPath[UUID],
    recall_id: FromPath[UUID],
    data: JSONBody[ReturnRequest],
    node: Node,
    request: ConcordatRequest,
) -> PaymentView:
    """Give back what another bank asks for, whole or in part, by a return; that answers its recall.

    Without a reason the return says `FOCR`. Where the return can't be ordered, the recall stays open.
    """
    person = request.auth.sub
    order = await return_order(node.pool, str(payment_id), data, default=ReturnReason.FOCR)
    orders = readable([order], maker=person)
    await node.screener.prepare([order])
    (checked,) = node.check(orders)
    command = GiveBackRecalled(checked, str(recall_id), person=person)
    outcomes = await node.ledger.submit(command)
    if command.refused is not None:
        command.refused.or_refuse()
    outcomes[0].or_refuse()
    orders_log.taken(person, (order.id,))
    return await views.payment(node.pool, str(payment_id))


@post(
    "/payments/{payment_id:uuid}/recalls/{recall_id:uuid}/refusal",
    guards=ORDERS,
    tags=["payments"],
    operation_id="refuseRecall",
)
async def refuse_recall(
    payment_id: FromPath[UUID],
    recall_id: FromPath[UUID],
    data: JSONBody[RecallRefused],
    node: Node,
    request: ConcordatRequest,
) -> PaymentView:
    """Refuse to give back what another bank asks for, and say why; that answers its recall."""
    command = RefuseRecall(str(payment_id), str(recall_id), person=request.auth.sub, reason=data.reason, text=data.text)
    (await node.ledger.submit(command)).or_refuse()
    orders_log.note("recall refused", request.auth.sub, (str(payment_id),))
    return await views.payment(node.pool, str(payment_id))


@post(
    "/federation/recalls",
    guards=MEMBERS,
    status_code=HTTP_200_OK,
    request_max_body_size=RECALL_BYTES_MAX,
    tags=["federation"],
    operation_id="receiveRecall",
    opt={"body": Envelope, "shared": True},  # read by itself, because its very bytes count
)
async def receive_recall(request: ConcordatRequest, node: Node) -> Envelope:
    """Take a signed Recall of a payment that the caller sent and this bank accepted, and answer with a signed one.

    It is `open` until people here have decided. The same again is answered with how it stands: ask again later.
    """
    node.recalls.heard_from(request.auth.sub)
    return await node.recalls.receive(request.auth.sub, request.body)


RECALL_HANDLERS = [recall_payment, list_recalls, return_recalled, refuse_recall, receive_recall]
