"""A service that answers otherwise than it does: a layer around it that rewrites the bodies of its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Scope, Send


class RewrittenAnswers(ABC):
    """An ASGI layer around an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @abstractmethod
    def rewrite(self, scope: Scope, start: Any, body: bytes) -> bytes:
        """Return the body to answer with. `start` is the message that begins the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: Any = None
        body = b""

        async def collect(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")  # type: ignore[typeddict-item]
            if not message.get("more_body", False):
                content = self.rewrite(scope, start, body)
                kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                await send({**start, "headers": [*kept, (b"content-length", str(len(content)).encode())]})
                await send({"type": "http.response.body", "body": content, "more_body": False})

        await self._app(scope, receive, collect)
