"""HEAD wherever GET is, as RFC 9110 asks of every server, and `Allow` that names every method of a path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    """An ASGI layer that answers HEAD by GET, and says so in `Allow`."""

    def __init__(self, app: Litestar) -> None:
        self._app: ASGIApp = app.asgi_handler
        self._methods = _methods_of(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        asked: Any = scope
        is_head = asked["method"] == "HEAD"

        async def send_allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                if is_head:
                    # Whoever writes the answer, or records it, goes by what was asked.
                    asked["method"] = "HEAD"
                if message["status"] == 405 or asked["method"] == "OPTIONS":
                    message["headers"] = [self._allowing(asked, *header) for header in message["headers"]]
                await send(message)
                if is_head:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif not is_head:
                await send(message)

        if is_head:
            asked["method"] = "GET"
        return await self._app(scope, receive, send_allowing)

    def _allowing(self, scope: Any, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        if name != b"allow":
            return name, value
        # The framework's answer to OPTIONS knows the methods that the path had when its first one was added.
        methods = self._methods.get(scope.get("path_template"), value.decode("latin-1").split(", "))
        return name, allowed_methods(methods).encode()


def _methods_of(app: Litestar) -> Mapping[str, set[str]]:
    """Return the methods of each path, by its template."""
    methods: defaultdict[str, set[str]] = defaultdict(set)
    for route in app.routes:
        methods[route.path_format or "/"].update(map(str, getattr(route, "methods", ())))
    return methods


def allowed_methods(known: Iterable[str]) -> str:
    """Return the methods of a path as `Allow` names them, by those that have a handler."""
    methods = set(known)
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
