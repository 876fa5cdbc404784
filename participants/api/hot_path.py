"""The short way for payment orders: the two busiest requests, without the framework's share of the cost.

It takes a request only when all is as it should be (a good token, a well-formed body without repeated members) and
hands any other to the application as it came, so validation and problem documents are written once. A typed
handler of the framework costs about as much as everything else a payment needs (docs/decisions/0006-hot-path.md).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.federation.http import correlation
from gateway.federation.http.edge import header
from gateway.federation.http.problems import PROBLEM_MEDIA_TYPE, Refusal, problem_of
from gateway.federation.identity.tokens import TokenRefused
from gateway.federation.telemetry import REQUESTS
from participants.api.routes import answer_of, refusal_of
from participants.api.views import OrderBatch, OrderResults
from participants.ledger.events import PaymentOrder
from participants.node import BankNode

BODY_BYTES_MAX = 16 * 1024 * 1024
_REQUIRED_MEMBERS = 8
# Those of a name and of its value, which is a text in every member of an order.
_QUOTES = 4

_decode_order = msgspec.json.Decoder(PaymentOrder).decode
_decode_batch = msgspec.json.Decoder(OrderBatch).decode
_encode = msgspec.json.Encoder().encode
_created = REQUESTS.labels("POST", "/payments", "201")
_batched = REQUESTS.labels("POST", "/payments/batch", "200")
_refused = REQUESTS.labels("POST", "/payments", "4xx")


class HotPath:
    """An ASGI layer around the application that answers good payment orders itself."""

    def __init__(self, app: ASGIApp, node: BankNode) -> None:
        self._app = app
        self._node = node

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        path = scope["path"]
        if path not in ("/payments", "/payments/batch"):
            return await self._app(scope, receive, send)
        try:
            claims = self._node.verifier.verify_authorization(header(scope, b"authorization"))
        except TokenRefused:
            return await self._app(scope, receive, send)
        if claims.role != "staff":
            return await self._app(scope, receive, send)
        body, again = await _read(receive)
        if body is None:
            return await self._app(scope, again, send)
        try:
            if path == "/payments":
                order = _decode_order(body)
                orders: tuple[PaymentOrder, ...] = (order,)
                quotes = _quotes(order)
            else:
                orders = _decode_batch(body).payments
                quotes = 2 + sum(map(_quotes, orders))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return await self._app(scope, again, send)
        # A repeated member, however it is spaced or escaped, adds quotes to those of what was understood. A body with
        # quotes inside a text has more of them too: the application looks at it more closely.
        if body.count(b'"') != quotes:
            return await self._app(scope, again, send)
        try:
            outcomes = await self._node.submit(orders)
        except Refusal as refusal:
            return await _refuse(scope, send, refusal)
        if path != "/payments":
            _batched.inc()
            return await _answer(send, 200, _encode(OrderResults(results=tuple(map(answer_of, outcomes)))))
        (outcome,) = outcomes
        if outcome.status == "refused":
            return await _refuse(scope, send, refusal_of(outcome))
        _created.inc()
        hit = [(b"idempotency-hit", b"true")] if outcome.replayed else []
        return await _answer(send, 201, _encode(answer_of(outcome)), hit)


def _quotes(order: PaymentOrder) -> int:
    """Return how many quotes an order has when each member stands in it once and no text holds another."""
    return _QUOTES * (_REQUIRED_MEMBERS + (order.remittance != "") + (order.returns is not None))


async def _read(receive: Receive) -> tuple[bytes | None, Receive]:
    """Return the body, or None if it is too large or broken off, and a `receive` that gives all of it again."""
    messages: list[dict[str, Any]] = []
    body = b""
    while True:
        message = cast(dict[str, Any], await receive())
        messages.append(message)
        if message["type"] != "http.request":
            break
        body = body + message.get("body", b"") if body else message.get("body", b"")
        if len(body) > BODY_BYTES_MAX or not message.get("more_body", False):
            break
    whole = messages[-1]["type"] == "http.request" and len(body) <= BODY_BYTES_MAX
    kept = iter(messages)

    async def again() -> Any:
        return next(kept, None) or await receive()

    return (body if whole else None), again


async def _answer(
    send: Send, status: int, body: bytes, headers: Any = (), media_type: bytes = b"application/json"
) -> None:
    start: Any = {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers],
    }
    end: Any = {"type": "http.response.body", "body": body}
    await send(start)
    await send(end)


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    _refused.inc()
    proposed = header(scope, correlation.HEADER.lower().encode())
    instance = correlation.begin(None if proposed is None else proposed.decode("latin-1"))
    headers = [(correlation.HEADER.lower().encode(), instance.encode())]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    document = _encode(problem_of(refusal, instance=instance))
    await _answer(send, refusal.status, document, headers, PROBLEM_MEDIA_TYPE.encode())
