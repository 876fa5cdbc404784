"""A small HTTP/1.1 load client: requests made beforehand, kept-alive connections, one answer awaited at a time each.

It does next to nothing a request, because it shares two cores with what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What a run took: wall seconds, and the latency of each request in seconds, sorted."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    def percentile(self, share: float) -> float:
        """Return a latency in milliseconds."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000

    def require_success(self, what: str) -> None:
        """Raise RuntimeError if any answer was no success: then the time says nothing."""
        wrong = {status: count for status, count in self.statuses.items() if status >= 300}
        if wrong:
            raise RuntimeError(f"{what}: answers {wrong}")


class _Connection(asyncio.Protocol):
    def __init__(self, work: list[bytes], latencies: list[float], statuses: dict[int, int]) -> None:
        self.work = work
        self.latencies = latencies
        self.statuses = statuses
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        if not self.work:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.sent = time.perf_counter()
        self.transport.write(self.work.pop())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.find(b"content-length: ", 0, head)
        length = int(self.buffer[at + 16 : self.buffer.find(b"\r\n", at)])
        if len(self.buffer) < head + 4 + length:
            return
        status = int(self.buffer[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies.append(time.perf_counter() - self.sent)
        self.buffer = self.buffer[head + 4 + length :]
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed by the server"))


def request(path: str, token: str, body: bytes) -> bytes:
    """Return a POST request as it goes over the wire."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def run(host: str, port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """Send the requests over so many connections and return what it took."""
    work = list(reversed(requests))
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    opened = [
        await loop.create_connection(lambda: _Connection(work, latencies, statuses), host, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in opened))
    return Load(time.perf_counter() - started, sorted(latencies), statuses)
