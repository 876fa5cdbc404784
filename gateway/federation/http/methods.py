"""HEAD wherever GET is, as RFC 9110 asks of every server: the same answer without its content."""

from __future__ import annotations

from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    """An ASGI layer that answers HEAD by GET, and says so in `Allow`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
                    message["headers"] = [_allowing(name, value) for name, value in message["headers"]]
                await send(message)
                if is_head:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif not is_head:
                await send(message)

        if is_head:
            asked["method"] = "GET"
        return await self._app(scope, receive, send_allowing)


def _allowing(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if name == b"allow" and b"GET" in value and b"HEAD" not in value:
        value = value.replace(b"GET", b"GET, HEAD")
    return name, value
