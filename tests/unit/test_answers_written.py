"""The head of an answer goes out with a small body in one piece, and a large body isn't copied for it."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.federation.http.connection import JOINED_BYTES_MAX, Answers


class Written(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Any] = []

    def write(self, data: Any) -> None:
        self.pieces.append(data)

    def is_closing(self) -> bool:
        return False


async def written(body: bytes) -> list[Any]:
    transport = Written()
    answers = Answers(transport, asyncio.get_running_loop())
    answers.write(b"head")
    answers.write(body)
    await asyncio.sleep(0)
    return transport.pieces


async def test_a_small_body_goes_out_with_the_head() -> None:
    assert await written(b"body") == [b"headbody"]


async def test_a_large_body_goes_out_as_it_is() -> None:
    large = bytes(JOINED_BYTES_MAX + 1)
    head, body = await written(large)
    assert head == b"head"
    assert body is large
