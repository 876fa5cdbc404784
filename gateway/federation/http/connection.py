"""One connection to a node, bounded before a request of it reaches the application.

uvicorn bounds neither the size of a head nor the time that a client takes. Here a head has a size and a number of
headers, a request has a time to arrive in, an answer a time to be read in, and an address so many connections.
Nothing is kept of what nobody reads: neither the trailers of a chunked body nor a connection that stands idle.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import StrEnum
from typing import Any

import prometheus_client
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.federation import security_log
from gateway.federation.http.rates import network_of
from gateway.federation.settings import EdgeLimits
from gateway.federation.telemetry import REGISTRY

HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
MESSAGE_BYTES_MAX = 128 * 1024 * 1024
"""Of a request in all, whatever the framing says; a route's own limit is below."""
JOINED_BYTES_MAX = 64 * 1024
"""Of what is written together with the head of an answer: an export has a hundred megabytes to be copied."""


class ConnectionEnd(StrEnum):
    """Why a connection was ended before the application had the request or its client the answer."""

    TOO_MANY_CONNECTIONS = "too_many_connections"
    HEAD_TOO_LARGE = "head_too_large"
    """Answered with 431."""
    TOO_MANY_TRAILERS = "too_many_trailers"
    MESSAGE_TOO_LARGE = "message_too_large"
    HEAD_TOO_SLOW = "head_too_slow"
    """Answered with 408, and so is the next."""
    BODY_TOO_SLOW = "body_too_slow"
    ANSWER_UNREAD = "answer_unread"


ENDED = prometheus_client.Counter(
    "concordat_connections_ended", "Connections that a node ended for its limits.", ("reason",), registry=REGISTRY
)

_log = structlog.get_logger(__name__)


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration with our limits, and who is connected how often."""

    def __init__(self, app: Any, *, limits: EdgeLimits, **options: Any) -> None:
        super().__init__(app, limit_concurrency=limits.connections_max, **options)
        self.limits = limits
        self.addresses: Counter[str] = Counter()


class Trailers(list[tuple[bytes, bytes]]):
    """Counts the headers that come after a body, and keeps none: nothing reads them."""

    total = 0

    def append(self, _: tuple[bytes, bytes], /) -> None:
        self.total += 1


class Answers:
    """The transport as answers are written to it: the head of one goes out with what follows it at once.

    uvicorn writes head and body one by one, and each write is a call of the system that wakes the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, or with what is written next."""
        if self._waiting:
            waiting, self._waiting = self._waiting, b""
            if len(data) > JOINED_BYTES_MAX:
                self._transport.write(waiting)
                self._transport.write(data)
            else:
                self._transport.write(waiting + data)
        else:
            self._waiting = data
            self._loop.call_soon(self._write_waiting)

    def close(self) -> None:
        """Write what waits, and close."""
        self._write_waiting()
        self._transport.close()

    def _write_waiting(self) -> None:
        if self._waiting and not self.is_closing():
            self._transport.write(self._waiting)
        self._waiting = b""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that ends when its client is too large or too slow."""

    config: ConnectionConfig

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._in_head = True
        self._begun = False
        """Whether the application was given a request of this connection."""
        self._chunk_bytes = self._message_bytes = 0
        self._trailers = Trailers()
        self._address: str | None = None
        self._arriving_since: float | None = self.loop.time()
        self._unread_since: float | None = None
        super().connection_made(transport)
        self._answers: Any = Answers(transport, self.loop)
        address = "" if self.client is None else self.client[0]
        if self.config.addresses[address] >= self.config.limits.connections_per_address_max:
            self._end(ConnectionEnd.TOO_MANY_CONNECTIONS)
            return
        self._address = address
        self.config.addresses[address] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._address is not None:
            self.config.addresses[self._address] -= 1
            if not self.config.addresses[self._address]:
                del self.config.addresses[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._chunk_bytes = len(data)
        self._message_bytes += self._chunk_bytes
        if self._arriving_since is None:
            self._arriving_since = self.loop.time()
        super().data_received(data)
        if self._in_head and self._message_bytes > HEAD_BYTES_MAX:
            self._end(ConnectionEnd.HEAD_TOO_LARGE, 431)
        elif self._message_bytes > MESSAGE_BYTES_MAX:
            self._end(ConnectionEnd.MESSAGE_TOO_LARGE)
        elif self._trailers.total > HEADERS_MAX:
            self._end(ConnectionEnd.TOO_MANY_TRAILERS)

    def on_message_begin(self) -> None:
        self._in_head = True
        self._message_bytes = self._chunk_bytes
        if self._arriving_since is None:  # the end of the request before was in the same chunk
            self._arriving_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.transport.is_closing():
            return
        # What came so far is an upper bound; only a head that may be too large is measured.
        if len(self.headers) > HEADERS_MAX or (
            self._message_bytes > HEAD_BYTES_MAX and self._head_bytes() > HEAD_BYTES_MAX
        ):
            self._end(ConnectionEnd.HEAD_TOO_LARGE, 431)
            return
        self._begun = True
        super().on_headers_complete()
        self.cycle.transport = self._answers
        # The application has the head's own list; uvicorn appends whatever comes from here on to this one.
        self.headers = self._trailers
        self._trailers.total = 0

    def on_body(self, body: bytes) -> None:
        if self._begun:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._arriving_since = None
        self._message_bytes = 0
        if not self._begun:
            return
        if self.cycle.response_complete:
            # Answered before it was whole, so that no answer will set uvicorn's time for idle connections again:
            # what comes next has the time that a new connection has.
            self._in_head = True
            self._arriving_since = self.loop.time()
        super().on_message_complete()

    def end_if_slow(self, now: float) -> None:
        """Close the connection if its client takes too long to send a request or to read an answer."""
        limits = self.config.limits
        since = self._arriving_since
        if since is not None and now - since > (limits.head_seconds if self._in_head else limits.body_seconds):
            self._end(ConnectionEnd.HEAD_TOO_SLOW if self._in_head else ConnectionEnd.BODY_TOO_SLOW, 408)
        if not (self.flow.write_paused or self.transport.is_closing()):
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since > limits.body_seconds:
            self._end(ConnectionEnd.ANSWER_UNREAD)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _end(self, reason: ConnectionEnd, status: int | None = None) -> None:
        """Close: with an answer, unless there is none or the application is answering."""
        if self.transport.is_closing() and reason != ConnectionEnd.ANSWER_UNREAD:
            return
        ENDED.labels(reason).inc()
        address = "" if self.client is None else network_of(self.client[0])
        _log.info("connection_ended", reason=reason, address=address)
        if reason == ConnectionEnd.TOO_MANY_CONNECTIONS:
            security_log.write("refused", reason=str(reason), address=address)
        if status is None or (self._begun and not self.cycle.response_complete):
            self.transport.abort()
        else:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
