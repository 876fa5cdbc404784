"""A place that webhooks are sent to, on a real socket, for tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

WAIT_S = 20


@dataclass
class Message:
    """What came in one request."""

    head: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.head["webhook-id"]

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["data"]["events"]
        return events

    def signed_by(self, secret: str) -> bool:
        """Verify as the specification of Standard Webhooks says, without a line of ours."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.head['webhook-timestamp']}.{self.body.decode()}".encode()
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{expected}" in self.head["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """Keeps what comes, and answers what `answer` says: a status, or whole bytes; None never answers."""

    port: int = 0
    answer: Callable[[Message], int | bytes | None] = lambda _: 204
    messages: list[Message] = field(default_factory=list)
    taken: list[Message] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - a test
                await asyncio.sleep(0.01)

    def sequences(self) -> list[int]:
        """Return the numbers of the events that were taken, in the order in which they came."""
        return [event["sequence"] for message in self.taken for event in message.events]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                raw = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
                head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in raw)}
                message = Message(head, await reader.readexactly(int(head["content-length"])))
                self.messages.append(message)
                self.at_once += 1
                self.at_once_max = max(self.at_once_max, self.at_once)
                await asyncio.sleep(0.001)
                answer = self.answer(message)
                self.at_once -= 1
                if answer is None:
                    await asyncio.Event().wait()
                elif isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    if answer < 300:
                        self.taken.append(message)
                    writer.write(
                        f"HTTP/1.1 {answer} X\r\nLocation: {self.url}/away\r\nContent-Length: 0\r\n\r\n".encode()
                    )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
