"""Orders that come one by one, taken up together: those of one turn of the event loop are one command.

A thousand clients that send an order each then cost the ledger what one does that sends a thousand, and each is
answered for itself, when all of them are durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog
from msgspec import Struct

from gateway.federation import correlation
from gateway.federation.http.bare import JSON_HEADERS, Headers
from gateway.federation.http.edge import header
from gateway.federation.http.problem_documents import failure_refusal
from gateway.federation.http.repeats import Answer
from gateway.federation.identity.tokens import Claims, TokenRefused
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Refusal, problem_of
from gateway.federation.storage.failures import failure_of
from gateway.federation.telemetry import REQUEST_SECONDS, REQUESTS
from participants.api import orders_log
from participants.api.orders import is_plain
from participants.ledger.events import EventData, beginning
from participants.node import BankNode
from participants.payments.orders import OrderOutcome, ReadableOrder
from participants.roles import Role

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
TURN_ORDERS_MAX = 128
"""So many are one command at most: about a millisecond of work."""
_HIT_HEADERS: Headers = (*JSON_HEADERS, (b"idempotency-hit", b"true"))
CORRELATION_HEADER = correlation.HEADER.lower().encode()
_encode = msgspec.json.Encoder().encode
_created = REQUESTS.labels("POST", "/payments", "201")
_seconds = REQUEST_SECONDS.labels("POST", "/payments")
_log = structlog.get_logger(__name__)


def may_order(claims: Claims) -> bool:
    """Tell whether somebody may do what an order takes, and no less than all of it."""
    return claims.role == Role.ORDERS and not claims.scope


def readable_order(body: bytes, *, maker: str) -> ReadableOrder | None:
    """Return the order that a body says, or None if anything about it isn't as it should be."""
    try:
        orders = EventData.orders((body,), maker=maker)
        return orders[0] if is_said_by(body, orders, maker) and is_plain(orders[0]) else None
    except UNREADABLE:
        return None


def is_said_by(body: bytes, orders: Sequence[ReadableOrder], maker: str, *, around: int = 0) -> bool:
    """Tell whether a body says nothing but its orders, where a batch has `around` them what an empty one has.

    Every member of an order is a text, and the canonical form of it, without its maker, the shortest there is. So a
    body that says anything besides (a member twice, before all) is longer than that, white space between its tokens
    aside.
    """
    said = sum([len(order.text) for order in orders]) - len(orders) * (len(beginning(maker)) - 1)
    length = around + said + len(orders) - 1
    # Without white space or a letter beyond ASCII, which is nearly always so, nothing has to be taken out first.
    return len(body) == length or len(msgspec.json.format(body, indent=-1).decode()) == length


class _Request(Struct, gc=False):
    """An order, who asked for it, how he named his request, how he is answered, and when it came."""

    order: ReadableOrder
    claims: Claims
    proposed: bytes | None
    answer: Answer
    began: float


class SingleOrders:
    """Takes up orders that come one by one."""

    def __init__(self, node: BankNode) -> None:
        self._node = node
        self._waiting: list[_Request] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def channel(self, scope: object) -> OrderChannel:
        """Return how orders are taken whose requests have the head of this request."""
        token = (header(scope, b"authorization") or b"").partition(b" ")[2]
        return OrderChannel(self._node, self, token, header(scope, CORRELATION_HEADER))

    def add(self, request: _Request) -> None:
        """Let an order be decided with the others that come in this turn of the loop."""
        if request.order.value.returns is not None:
            # The payment that it gives back has to be read first, and nobody else's order waits for that.
            self._start([request])
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._start_all)
        self._waiting.append(request)

    def _start_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), TURN_ORDERS_MAX):
            self._start(waiting[start : start + TURN_ORDERS_MAX])

    def _start(self, requests: Sequence[_Request]) -> None:
        task = asyncio.create_task(self._carry_out(requests))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, requests: Sequence[_Request]) -> None:
        try:
            outcomes = await self._node.submit_few([request.order for request in requests])
        except Refusal as refusal:
            for request in requests:
                _refuse(request, refusal)
        except Exception as error:  # as the application answers it
            if len(requests) > 1 and failure_of(error) is None:
                # One of them may be at fault, and the others aren't.
                for request in requests:
                    self._start([request])
                return
            for request in requests:
                _refuse(request, failure_refusal(error))
        else:
            _answer(requests, outcomes)


class OrderChannel:
    """Where the orders of somebody come in whose requests all have one head."""

    def __init__(self, node: BankNode, orders: SingleOrders, token: bytes, proposed: bytes | None) -> None:
        self._node = node
        self._orders = orders
        self._token = token
        self._proposed = proposed

    def take(self, body: bytes, answer: Answer) -> bool:
        """Take an order up; False if anything about it, or the token, isn't as it should be."""
        began = time.perf_counter()
        try:
            claims = self._node.verifier.verify(self._token)
        except TokenRefused:
            return False
        if not may_order(claims) or (order := readable_order(body, maker=claims.sub)) is None:
            return False
        if self._node.head_offices and self._node.names_otherwise((order,)):
            return False
        self._orders.add(_Request(order, claims, self._proposed, answer, began))
        return True


def _answer(requests: Sequence[_Request], outcomes: Sequence[OrderOutcome]) -> None:
    taken: dict[str, list[str]] = {}
    for request, outcome in zip(requests, outcomes, strict=True):
        if outcome.reason is not None:
            try:
                outcome.or_refuse()
            except Refusal as refusal:
                _refuse(request, refusal)
            continue
        request.answer(201, _HIT_HEADERS if outcome.replayed else JSON_HEADERS, _encode(outcome.answer()))
        _seconds.observe(time.perf_counter() - request.began)
        taken.setdefault(request.claims.sub, []).append(outcome.id)
    for subject, payments in taken.items():
        _created.inc(len(payments))
        orders_log.taken(subject, payments)


def _refuse(request: _Request, refusal: Refusal) -> None:
    request.answer(*refused("/payments", request.proposed, refusal, request.began, request.claims, [request.order]))


def refused(
    path: str,
    proposed: bytes | None,
    refusal: Refusal,
    began: float,
    claims: Claims,
    orders: Sequence[ReadableOrder],
) -> tuple[int, Headers, bytes]:
    """Return the answer to orders that are refused, whose correlation id is as proposed, and note it."""
    instance = correlation.begin(None if proposed is None else proposed.decode("latin-1"))
    headers = [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), (CORRELATION_HEADER, instance.encode())]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    REQUESTS.labels("POST", path, str(refusal.status)).inc()
    REQUEST_SECONDS.labels("POST", path).observe(time.perf_counter() - began)
    payments = [order.value.id for order in orders[: orders_log.LINE_PAYMENTS_MAX]]
    _log.info(
        "orders refused", subject=claims.sub, status=refusal.status, reason=str(refusal.reason), payments=payments
    )
    return refusal.status, headers, _encode(problem_of(refusal, instance=instance))
