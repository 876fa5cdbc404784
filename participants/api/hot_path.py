"""The short way for payment orders: the two busiest requests, without the framework's share of the cost.

It takes a request only when all is as it should be (a good token, a well-formed body of JSON without repeated members,
BICs, accounts and texts in their normal form) and hands any other to the application as it came, so validation, normal
forms and problem documents are written once. A typed handler of the framework costs about as much as everything else a
payment needs (docs/decisions/0006-hot-path.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
import structlog
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta

from gateway.federation import correlation
from gateway.federation.http.bare import JSON_TYPES, answer, read_body
from gateway.federation.http.edge import header
from gateway.federation.http.node import BODY_BYTES_MAX as ORDER_BYTES_MAX
from gateway.federation.http.problem_documents import failure_refusal
from gateway.federation.identity.tokens import Claims, TokenRefused
from gateway.federation.messages.base import Request
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Refusal, problem_of
from gateway.federation.sharing import in_slices
from gateway.federation.telemetry import REQUEST_SECONDS, REQUESTS
from participants.api import orders_log
from participants.api.messages import BATCH_BYTES_MAX, OrderResults
from participants.api.orders import is_plain
from participants.ledger.events import EventData, beginning
from participants.node import BankNode
from participants.payments.orders import ReadableOrder
from participants.roles import Role


class _RawBatch(Request, frozen=True, kw_only=True):
    """An OrderBatch whose orders are still to be read, one by one."""

    payments: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


_decode_batch = msgspec.json.Decoder(_RawBatch).decode
_EMPTY_BATCH = '{"payments":[]}'
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_created = REQUESTS.labels("POST", "/payments", "201")
_batched = REQUESTS.labels("POST", "/payments/batch", "200")
_single_seconds = REQUEST_SECONDS.labels("POST", "/payments")
_batch_seconds = REQUEST_SECONDS.labels("POST", "/payments/batch")


class HotPath:
    """An ASGI layer around the application that answers good payment orders itself."""

    def __init__(self, app: ASGIApp, node: BankNode) -> None:
        self._app = app
        self._node = node

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        path = scope["path"]
        if path not in ("/payments", "/payments/batch") or scope["query_string"]:
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        try:
            claims = self._node.verifier.verify_authorization(header(scope, b"authorization"))
        except TokenRefused:
            return await self._app(scope, receive, send)
        if claims.role != Role.ORDERS or claims.scope or header(scope, b"content-type") not in JSON_TYPES:
            return await self._app(scope, receive, send)
        body, again = await read_body(receive, ORDER_BYTES_MAX if path == "/payments" else BATCH_BYTES_MAX)
        if body is None:
            return await self._app(scope, again, send)
        orders = await _orders(path, body, maker=claims.sub)
        if orders is None or (self._node.head_offices and self._node.names_otherwise(orders)):
            return await self._app(scope, again, send)
        try:
            outcomes = await self._node.submit(orders)
            if path == "/payments":
                outcomes[0].or_refuse()
        except Refusal as refusal:
            return await _refuse(scope, send, refusal, began, claims, orders)
        except Exception as error:  # as the application answers it
            return await _refuse(scope, send, failure_refusal(error), began, claims, orders)
        if path != "/payments":
            await answer(send, 200, _encode(OrderResults(results=tuple(outcomes))))
            _batched.inc()
            _batch_seconds.observe(time.perf_counter() - began)
            orders_log.taken(claims.sub, [outcome.id for outcome in outcomes if outcome.status != "refused"])
            return None
        hit = [(b"idempotency-hit", b"true")] if outcomes[0].replayed else ()
        await answer(send, 201, _encode(outcomes[0].answer()), hit)
        _created.inc()
        _single_seconds.observe(time.perf_counter() - began)
        orders_log.taken(claims.sub, (outcomes[0].id,))
        return None


async def _orders(path: str, body: bytes, *, maker: str) -> list[ReadableOrder] | None:
    """Return the orders of a body, or None if anything about it isn't as it should be."""
    try:
        bodies = (body,) if path == "/payments" else _decode_batch(body).payments
        orders = await in_slices(partial(EventData.orders, maker=maker), bodies)
        return orders if _says_nothing_besides(path, body, orders, maker) and all(map(is_plain, orders)) else None
    except UNREADABLE:
        return None


def _says_nothing_besides(path: str, body: bytes, orders: Sequence[ReadableOrder], maker: str) -> bool:
    """Tell whether a body says nothing but its orders.

    Every member of an order is a text, and the canonical form of it, without its maker, the shortest there is. So a
    body that says anything besides (a member twice, before all) is longer than that, white space between its tokens
    aside.
    """
    around = 0 if path == "/payments" else len(_EMPTY_BATCH) + len(orders) - 1
    length = around + sum([len(order.text) for order in orders]) - len(orders) * (len(beginning(maker)) - 1)
    # Without white space or a letter beyond ASCII, which is nearly always so, nothing has to be taken out first.
    return len(body) == length or len(msgspec.json.format(body, indent=-1).decode()) == length


async def _refuse(
    scope: Scope, send: Send, refusal: Refusal, began: float, claims: Claims, orders: Sequence[ReadableOrder]
) -> None:
    proposed = header(scope, correlation.HEADER.lower().encode())
    instance = correlation.begin(None if proposed is None else proposed.decode("latin-1"))
    headers = [(correlation.HEADER.lower().encode(), instance.encode())]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    document = _encode(problem_of(refusal, instance=instance))
    await answer(send, refusal.status, document, headers, PROBLEM_MEDIA_TYPE.encode())
    REQUESTS.labels("POST", scope["path"], str(refusal.status)).inc()
    REQUEST_SECONDS.labels("POST", scope["path"]).observe(time.perf_counter() - began)
    payments = [order.value.id for order in orders[: orders_log.LINE_PAYMENTS_MAX]]
    _log.info(
        "orders refused", subject=claims.sub, status=refusal.status, reason=str(refusal.reason), payments=payments
    )
