"""The base of every node: one Litestar application with identity, problems, health and metrics built in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import ClientException, InternalServerException, ValidationException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import ASGIApp, ControllerRouterHandler, Guard, LifespanHook

from gateway.federation.http.asked import Asked, has_body, operations_of, require_json
from gateway.federation.http.edge import BODY_BYTES_MAX, Admission, Authentication, Edge
from gateway.federation.http.health import Readiness, Ready, live, private_app, public_readiness, startup
from gateway.federation.http.methods import Methods
from gateway.federation.http.openapi import Exposed, Links, Operations, openapi_config
from gateway.federation.http.paging import PageResponse, provide_page, provide_part
from gateway.federation.http.problem_documents import EXCEPTION_HANDLERS, PARSED_BODY
from gateway.federation.identity.tokens import TokenVerifier
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.settings import EdgeLimits
from gateway.federation.sharing import beside_if_large
from gateway.federation.strict_json import read_strictly

_SAYS_NOTHING = (b"", b"{}")
OUTCOME = "concordat.outcome"
"""Where a request's scope has the error that a layer around the application ended in, for it to tell."""


def requires(*roles: str, scope: str | tuple[str, ...] = ()) -> Guard:
    """Return a guard that lets only these roles pass; everybody else gets 403 `role_not_allowed`.

    A token with a scope of its own passes only where `scope`, or one of several, is part of it, else it gets 403
    `scope_not_allowed`.
    """

    return _Requires(roles, (scope,) if isinstance(scope, str) else scope)


@dataclass(frozen=True)
class _Requires:
    roles: tuple[str, ...]
    scopes: tuple[str, ...]

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        claims = connection.auth
        if claims.role not in self.roles:
            raise Refusal(ServiceReason.ROLE_NOT_ALLOWED, f"this takes the role {' or '.join(self.roles)}")
        if claims.scope and not set(self.scopes) & set(claims.scope.split()):
            raise Refusal(ServiceReason.SCOPE_NOT_ALLOWED, f"the token is good for {claims.scope} only")


def create_app(
    *,
    title: str,
    version: str,
    route_handlers: Sequence[ControllerRouterHandler],
    verifier: TokenVerifier,
    ready: Ready,
    admission: Admission | None = None,
    on_startup: Sequence[LifespanHook] = (),
    on_shutdown: Sequence[LifespanHook] = (),
    dependencies: Mapping[str, Provide] | None = None,
    limits: EdgeLimits | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    shorten: Callable[[ASGIApp, Litestar, Authentication], ASGIApp] | None = None,
    traffic: Collection[str] = (),
    links: Links | None = None,
) -> Litestar:
    """Return a node's application.

    Every route says who may use it: by a guard (`requires`), or with `opt={"public": True}`, or, for a raw ASGI
    route that verifies tokens itself, `opt={"raw": True}`. `admission` is asked about whoever has a good token. `ready`
    names what the node depends on and each one's state, and raises if it can't serve; `app.state.private` is the
    application that tells it, beside the metrics, on the private port. `wrap` puts one more layer around everything,
    `shorten` one within what every request passes: it answers some requests in the application's place, and counts them
    as the authentication does.
    `traffic` names the operations that are no changes to keep a security record of. `links` says in which answers the
    values of path parameters are, for the published description. While the server drains, the event
    `app.state.stopping` is set: whoever waits for news should then answer.
    """
    limits = limits or EdgeLimits()
    operations: Operations = {}
    asked: dict[BaseRouteHandler, Asked] = {}
    readiness = Readiness(ready)

    async def begin() -> None:
        readiness.started = True

    authentication = Authentication(verifier, limits, admission)
    app = Litestar(
        route_handlers=[live, startup, public_readiness(readiness), *route_handlers],
        middleware=[authentication],
        exception_handlers=EXCEPTION_HANDLERS,
        dependencies={
            "page": Provide(provide_page, sync_to_thread=False),
            "part": Provide(provide_part, sync_to_thread=False),
            **(dependencies or {}),
        },
        on_startup=[*on_startup, begin],
        on_shutdown=list(on_shutdown),
        request_class=StrictRequest,
        response_class=PageResponse,
        request_max_body_size=BODY_BYTES_MAX,
        before_request=partial(_look_first, asked),
        openapi_config=openapi_config(title=title, version=version, operations=operations, links=links or {}),
        logging_config=None,
    )
    asked |= operations_of(app)
    _check_routes(app, operations, asked)
    app.state.asked = asked
    app.state.stopping = asyncio.Event()
    app.state.limits = limits
    app.state.private = private_app(readiness)
    app.state.readiness = readiness
    within: ASGIApp = Methods(app)
    if shorten is not None:
        within = shorten(within, app, authentication)
    handler: ASGIApp = Edge(within, traffic=traffic)
    app.asgi_handler = handler if wrap is None else wrap(handler)
    return app


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body names no member twice."""

    async def body(self) -> bytes:
        """Return the body. Raises Refusal if the client goes away before all of it has come."""
        try:
            return await super().body()
        except InternalServerException as error:
            raise Refusal(ServiceReason.BAD_REQUEST, "the client went away before its request was whole") from error

    async def json(self) -> Any:
        """Parse the body; raises ClientException (400)."""
        try:
            body = await self.body() or b"null"
            # Kept for whoever has to say what is wrong with it.
            parsed = await beside_if_large(len(body), lambda: read_strictly(body))
            self.scope[PARSED_BODY] = parsed  # type: ignore[literal-required]
            return parsed
        except msgspec.DecodeError as error:
            raise ClientException(f"the body isn't acceptable JSON: {error}") from error


async def _look_first(asked: Mapping[BaseRouteHandler, Asked], request: Request[Any, Any, Any]) -> None:
    """Refuse a body of another kind, or where none is taken, and a filter that isn't there.

    Of a request that was dealt with already, raise what came of it.
    """
    if OUTCOME in request.scope:
        raise request.scope[OUTCOME]  # type: ignore[literal-required]
    operation = asked.get(request.route_handler)
    if operation is None:
        return
    if operation.body is not None:
        if has_body(request):
            require_json(request)
        else:
            request.scope[PARSED_BODY] = None  # type: ignore[literal-required]
    elif not operation.form and has_body(request):
        # Who says something would take it for heard. Clients that can't leave a body out send an empty object.
        said = (await request.body()).strip()
        if said not in _SAYS_NOTHING:
            request.scope[PARSED_BODY] = said  # type: ignore[literal-required]
            raise ValidationException
    if request.scope["query_string"] and operation.has_unknown(request):
        if operation.body is not None:
            await request.json()  # so that its faults are told as well
        raise ValidationException


def _check_routes(app: Litestar, operations: Operations, asked: Mapping[BaseRouteHandler, Asked]) -> None:
    """Refuse to build a node with a route that anybody with any token could use; collect what there is."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", (getattr(route, "route_handler", None),)):
            if handler is None or handler.opt.get("raw") or getattr(handler, "http_methods", None) == {"OPTIONS"}:
                continue
            guards = handler.resolve_guards()
            if not guards and not handler.opt.get("public"):
                raise ValueError(f"route {route.path}: say who may use it, by requires(...) or opt={{'public': True}}")
            if isinstance(handler, HTTPRouteHandler):
                roles = tuple(role for guard in guards if isinstance(guard, _Requires) for role in guard.roles)
                exposed = Exposed.of(handler, asked[handler], roles)
                operations.update(
                    {(route.path_format or "/", str(method).lower()): exposed for method in handler.http_methods}
                )
