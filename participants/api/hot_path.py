"""The short way for payment orders: the two busiest requests, without the framework's share of the cost.

It takes a request only when all is as it should be (a good token, a well-formed body of JSON without repeated members,
BICs, accounts and texts in their normal form) and hands any other to the application as it came, so validation, normal
forms and problem documents are written once. A typed handler of the framework costs about as much as everything else a
payment needs (docs/decisions/0006-hot-path.md).
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar.types import ASGIApp, Receive, Send
from msgspec import Meta

from gateway.federation.http.bare import JSON_HEADERS, JSON_TYPES, Headers, answer, read_body
from gateway.federation.http.edge import BODY_BYTES_MAX as ORDER_BYTES_MAX
from gateway.federation.http.edge import header
from gateway.federation.http.problem_documents import failure_refusal
from gateway.federation.http.repeats import REPEATS
from gateway.federation.identity.tokens import Claims, TokenRefused
from gateway.federation.messages.base import Request
from gateway.federation.messages.payments import BATCH_ITEMS_MAX
from gateway.federation.problems import Refusal
from gateway.federation.sharing import in_slices
from gateway.federation.telemetry import REQUEST_SECONDS, REQUESTS
from participants.api import orders_log
from participants.api.messages import BATCH_BYTES_MAX, OrderResults
from participants.api.orders import is_plain
from participants.api.single_orders import (
    CORRELATION_HEADER,
    UNREADABLE,
    SingleOrders,
    is_said_by,
    may_order,
    refused,
)
from participants.ledger.events import EventData
from participants.node import BankNode
from participants.payments.orders import ReadableOrder

_Answered = tuple[int, Headers, bytes]


class _RawBatch(Request, frozen=True, kw_only=True):
    """An OrderBatch whose orders are still to be read, one by one."""

    payments: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


_decode_batch = msgspec.json.Decoder(_RawBatch).decode
_EMPTY_BATCH = '{"payments":[]}'
_encode = msgspec.json.Encoder().encode
_batched = REQUESTS.labels("POST", "/payments/batch", "200")
_batch_seconds = REQUEST_SECONDS.labels("POST", "/payments/batch")


class HotPath:
    """An ASGI layer around the application that answers good payment orders itself."""

    def __init__(self, app: ASGIApp, node: BankNode) -> None:
        self._app = app
        self._node = node
        self._singles = SingleOrders(node)

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
        if not may_order(claims) or header(scope, b"content-type") not in JSON_TYPES:
            return await self._app(scope, receive, send)
        body, again = await read_body(receive, ORDER_BYTES_MAX if path == "/payments" else BATCH_BYTES_MAX)
        answered = None if body is None else await self._answer_to(scope, body, began, claims)
        if answered is None:
            return await self._app(scope, again, send)
        return await answer(send, *answered)

    async def _answer_to(self, scope: Any, body: bytes, began: float, claims: Claims) -> _Answered | None:
        """Return the answer to a body, or None if anything about it isn't as it should be."""
        if scope["path"] == "/payments":
            return await self._single(scope, body)
        orders = await _orders(body, maker=claims.sub)
        if orders is None or (self._node.head_offices and self._node.names_otherwise(orders)):
            return None
        try:
            outcomes = await self._node.submit(orders)
        except Exception as error:  # as the application answers it
            refusal = error if isinstance(error, Refusal) else failure_refusal(error)
            proposed = header(scope, CORRELATION_HEADER)
            return refused("/payments/batch", proposed, refusal, began, claims, orders)
        results = _encode(OrderResults(results=tuple(outcomes)))
        _batched.inc()
        _batch_seconds.observe(time.perf_counter() - began)
        orders_log.taken(claims.sub, [outcome.id for outcome in outcomes if outcome.status != "refused"])
        return 200, JSON_HEADERS, results

    async def _single(self, scope: Any, body: bytes) -> _Answered | None:
        channel = self._singles.channel(scope)
        answered: asyncio.Future[_Answered] = asyncio.get_running_loop().create_future()

        def settle(status: int, headers: Headers, document: bytes) -> None:
            if not answered.done():
                answered.set_result((status, headers, document))

        if not channel.take(body, settle):
            return None
        if (let_repeat := scope.get(REPEATS)) is not None:
            let_repeat(channel.take)
        return await answered


async def _orders(body: bytes, *, maker: str) -> list[ReadableOrder] | None:
    """Return the orders of a batch, or None if anything about it isn't as it should be."""
    try:
        bodies = _decode_batch(body).payments
        orders = await in_slices(partial(EventData.orders, maker=maker), bodies)
        is_plain_batch = is_said_by(body, orders, maker, around=len(_EMPTY_BATCH)) and all(map(is_plain, orders))
        return orders if is_plain_batch else None
    except UNREADABLE:
        return None
