"""Peers on real sockets that answer as no honest one does."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNK = b"x" * 65_536
BOMB = b"".join([gzip.compress(b"\0" * 2**22, 9)] * 256)
"""1 MB of gzip that is 1 GB."""


@asynccontextmanager
async def peer(behaviour: Behaviour, *, port: int = 0) -> AsyncIterator[str]:
    """Serve a behaviour until the block ends; yields its URL. The request's head is read before it begins."""
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await behaviour(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, "", ""]).encode()


async def huge(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """400 MB, without saying how much."""
    writer.write(head("Transfer-Encoding: chunked"))
    for _number in range(400 * 16):
        writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK))
        await writer.drain()


async def huge_refusal(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head("Content-Length: 400000000", status="409 Conflict"))
    for _number in range(400 * 16):
        writer.write(CHUNK)
        await writer.drain()


async def bomb(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head("Content-Encoding: gzip", f"Content-Length: {len(BOMB)}") + BOMB)
    await writer.drain()


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte a second, for as long as anybody reads."""
    writer.write(head("Content-Length: 1000000"))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1)


async def endless_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + CHUNK + b"\r\n")
        await writer.drain()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Never an answer."""
    await asyncio.Event().wait()


async def elsewhere(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head("Location: http://127.0.0.1:1/", "Content-Length: 0", status="307 Temporary Redirect"))
    await writer.drain()


async def later_than_ever(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks to come back after more seconds than a number has room for."""
    headers = (f"Retry-After: {'9' * 5_000}", "Content-Length: 0")
    writer.write(head(*headers, status="503 Service Unavailable"))
    await writer.drain()


async def deep_refusal(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = b'{"title":' + b"[" * 30_000
    writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
