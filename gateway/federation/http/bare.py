"""Requests and answers of an ASGI layer that answers by itself, without the framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from litestar.types import Receive, Send

Headers = Sequence[tuple[bytes, bytes]]
JSON_HEADERS: Headers = ((b"content-type", b"application/json"),)
JSON_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8"})
"""`Content-Type` of JSON as nearly everybody writes it; what is written otherwise is the framework's to look at."""


async def read_body(receive: Receive, bytes_max: int) -> tuple[bytes | None, Receive]:
    """Return the body, or None if it is too large or broken off, and a `receive` that gives all of it again."""
    messages: list[dict[str, Any]] = []
    size = 0
    while True:
        message = cast(dict[str, Any], await receive())
        messages.append(message)
        if message["type"] != "http.request":
            break
        size += len(message.get("body", b""))
        if size > bytes_max or not message.get("more_body", False):
            break
    complete = messages[-1]["type"] == "http.request" and size <= bytes_max
    replay = iter(messages)

    async def again() -> Any:
        return next(replay, None) or await receive()

    return (b"".join([message.get("body", b"") for message in messages]) if complete else None), again


async def answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer in one piece."""
    length = (b"content-length", str(len(body)).encode())
    start: Any = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    end: Any = {"type": "http.response.body", "body": body}
    await send(start)
    await send(end)
