"""What every request passes first: its correlation id, its line in the log, its place in the metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from gateway.federation import correlation, security_log
from gateway.federation.http.rates import Rates, network_of
from gateway.federation.identity.tokens import Claims, TokenRefused, TokenVerifier
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.settings import EdgeLimits
from gateway.federation.sharing import Shares, Turns
from gateway.federation.telemetry import REQUEST_SECONDS, REQUESTS

BODY_BYTES_MAX = 64 * 1024
"""Of a request; a route that takes more says so beside itself."""
LARGE_UNDER_WAY_MAX = 2
"""Requests to routes that take more, of each caller from outside. It sends one at a time, and again after a timeout."""
ADMITTED = "concordat.admitted"
"""Where a request's scope says that a layer around the application has counted it as one of its caller's."""
BURST_SECONDS = 20
"""How many seconds' worth of its rate somebody may use up at once."""

_log = structlog.get_logger()
_CORRELATION_HEADER = correlation.HEADER.lower().encode()


class Edge:
    """The outermost layer of a node, around routing, so that it sees requests that match no route too."""

    def __init__(self, app: ASGIApp, *, traffic: Collection[str] = ()) -> None:
        """`traffic` names the operations that leave no line in the security log when they succeed."""
        self._app = app
        self._traffic = frozenset(traffic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        proposed = header(scope, _CORRELATION_HEADER)
        correlation_id = correlation.begin(None if proposed is None else proposed.decode("latin-1")).encode()
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_CORRELATION_HEADER, correlation_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            _record(scope, status, time.perf_counter() - started, self._traffic)


def _record(scope: Any, status: int, seconds: float, traffic: frozenset[str]) -> None:
    # The template, never the path: paths hold identifiers, and would make one time series each.
    route, method = scope.get("path_template", "unmatched"), scope["method"]
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_SECONDS.labels(method, route).observe(seconds)
    handler = scope.get("route_handler")
    operation = getattr(handler, "operation_id", None)
    if security_log.is_worth_a_record(scope, status, traffic=operation in traffic):
        security_log.record(scope, address=client_address(scope), route=route, status=status)
    if status < 400 and handler is not None and handler.opt.get("quiet"):
        return
    _log.info(
        "request", method=method, route=route, status=status, ms=round(seconds * 1000, 1), subject=scope.get("user")
    )


WHILE_INACTIVE = {"while_inactive": True}
"""`opt` of a route that a member may use also while it isn't active: to settle what it owes, or to change a key."""
Admission = Callable[[Claims, Mapping[str, Any]], Awaitable[None]]
"""Refuses, by raising, a caller whose token is good and who has no access even so; the mapping is the route's `opt`."""


class Authentication(ASGIMiddleware):
    """Puts the access token's claims into `request.auth` and its subject into `request.user`.

    Routes with `opt={"public": True}` need no token; raw ASGI routes with `opt={"raw": True}` verify it themselves.
    Of what comes from outside, each caller has a rate, and of what may be large a share; routes with
    `opt={"shared": True}` give each its share themselves, or have one caller.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, verifier: TokenVerifier, limits: EdgeLimits, admission: Admission | None = None) -> None:
        self._verifier = verifier
        self._admission = admission
        self._turns = Turns()
        self._strangers = Rates(limits.address_requests_per_s, burst=limits.address_requests_per_s * BURST_SECONDS)
        self.clients = Rates(limits.client_requests_per_s, burst=limits.client_requests_per_s * BURST_SECONDS)
        self.shares = Shares(LARGE_UNDER_WAY_MAX, ServiceReason.TOO_MANY_REQUESTS, "large requests")

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        handler: Any = scope["route_handler"]
        opt = handler.opt
        # Which methods a path has is published, so who asks is nobody in particular.
        if opt.get("public") or scope.get("method") == "OPTIONS":
            if not opt.get("quiet"):
                self._count_stranger(scope)
        elif not opt.get("raw"):
            await self._turns.take()
            try:
                claims = self._verifier.verify_authorization(header(scope, b"authorization"))
                if self._admission is not None:
                    await self._admission(claims, opt)
            except TokenRefused:
                self._count_stranger(scope)
                raise
            scope["auth"], scope["user"] = claims, claims.sub
            if not (self._verifier.is_own(claims) or ADMITTED in scope):
                refuse_too_many(self.clients.take(claims.sub))
                if not opt.get("shared") and _takes_large_bodies(handler):
                    with self.shares.share_of(claims.sub):
                        await next_app(scope, receive, send)
                    return
        await next_app(scope, receive, send)

    def _count_stranger(self, scope: Scope) -> None:
        # Only who isn't known yet is counted by address: behind an ingress, all members come from one.
        refuse_too_many(self._strangers.take(network_of(client_address(scope))))


def _takes_large_bodies(handler: Any) -> bool:
    return (
        isinstance(handler, HTTPRouteHandler)
        and (handler.resolve_request_max_body_size() or BODY_BYTES_MAX) > BODY_BYTES_MAX
    )


def refuse_too_many(retry_after_s: int | None) -> None:
    """Raise Refusal `too_many_requests` unless there is nothing to wait for."""
    if retry_after_s is not None:
        raise Refusal(ServiceReason.TOO_MANY_REQUESTS, "too many requests", retry_after_s=retry_after_s)


def client_address(scope: Any) -> str:
    """Return the address that a request came from."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


def header(scope: Any, name: bytes) -> bytes | None:
    """Return a request header's value by its lower-case name; the last one if it is repeated."""
    last = None
    for key, value in scope["headers"]:
        if key == name:
            last = value
    return last
