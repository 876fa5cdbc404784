"""Requests whose heads say what the head before them on their connection said, but for the length of the body.

A client that sends many requests sends one head, over and over. What it means is known from the first time, when the
parser read it and the application looked at it; after that reading it again costs more than most requests are worth.
So an application may say of a request that it took: of another one with this head, give me the body. The head is
compared byte by byte, and nothing but the digits behind Content-Length may differ. A request that comes in other
pieces than one, or two that are its head and its body, is read by the parser like any other, and so is a large one,
whose size is judged with the rest, and whatever the application doesn't take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.federation.http.bare import Headers
from gateway.federation.http.connection import BoundedProtocol

REPEATS = "concordat.repeats"
"""Where a request's scope has what an application calls (with a `Take`) to be given the bodies of others like it."""

Answer = Callable[[int, Headers, bytes], None]
"""Answers a request: with a status, headers of the application's own making but for Content-Length, and a body."""
Take = Callable[[bytes, Answer], bool]
"""Takes a body, to be answered later; False if it has to go the way of all others."""

PIECE_BYTES_MAX = 16 * 1024
"""Of a request that comes in one piece. Reading the head of a larger one is little beside its body."""
_LENGTH = b"\r\ncontent-length:"
_LENGTH_DIGITS_MAX = 6
# Headers that say more of a request, or of what becomes of its connection, than what this is made for.
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"connection", b"trailer"})
_USUAL_CONNECTION = (b"connection", b"keep-alive")


class Repeat(Struct, frozen=True, gc=False):
    """A head: what stands before the digits of its Content-Length, and from there to its end."""

    before: bytes
    after: bytes
    take: Take

    @classmethod
    def of(cls, came: bytes, headers: Headers, take: Take) -> Repeat | None:
        """Return the head that came, by itself or with all of its body, and was read as these headers.

        None if it came otherwise, or isn't as nearly all heads are.
        """
        end = came.find(b"\r\n\r\n") + 4
        lengths = [value for name, value in headers if name == b"content-length"]
        if end < 4 or len(lengths) != 1 or not _is_number(lengths[0]) or len(came) - end not in (0, int(lengths[0])):
            return None
        if any(name in _UNUSUAL and (name, value.lower()) != _USUAL_CONNECTION for name, value in headers):
            return None
        line = came.lower().find(_LENGTH, 0, end)
        at = line + len(_LENGTH)
        digits = came[at : came.find(b"\r\n", at)].strip(b" \t")
        if line < 0 or digits != lengths[0]:
            return None
        start = came.find(digits, at)
        return cls(came[:start], came[start + len(digits) : end], take)

    def body_of(self, came: bytes) -> bytes | None:
        """Return the body that came with this head, b"" if that is still to come; None if anything else came."""
        if not came.startswith(self.before):
            return None
        start = len(self.before)
        end = came.find(self.after, start, start + _LENGTH_DIGITS_MAX + len(self.after))
        if end < 0 or not (digits := came[start:end]).isdigit():
            return None
        body, length = came[end + len(self.after) :], int(digits)
        return body if length and len(body) in (0, length) else None


def _is_number(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX


class RepeatingProtocol(BoundedProtocol):
    """A connection that hands the bodies of like requests to the application without reading their heads again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._repeat: Repeat | None = None
        self._came = b""
        """What came last, if a request may begin with it."""
        self._answering = False
        """Whether a body that was handed over is still to be answered."""
        self._early = b""
        """What came meanwhile."""
        self._head = b""
        """A head that came by itself and is no news: its body is to come."""
        self._is_last = False
        self._idle_since: float | None = None
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._repeat, self._early = None, b""
        scope: Any = self.scope
        if scope is not None:
            scope.pop(REPEATS, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        if self._answering:
            self._early += data
            self.flow.pause_reading()
            return
        since, begun = self._arriving_since, self._head
        if begun:
            data, self._head, self._arriving_since = begun + data, b"", None
        repeat = self._repeat
        is_small = len(data) <= PIECE_BYTES_MAX
        if is_small and repeat is not None and self._rests() and (body := repeat.body_of(data)) is not None:
            self._unset_keepalive_if_required()
            if not body and not begun:
                self._head, self._arriving_since = data, self.loop.time()
                return
            self._answering = repeat.take(body, self._answer)
            if self._answering:
                return
        self._arriving_since = since
        self._came = data if is_small and not self._message_bytes else b""
        super().data_received(data)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        came, self._came = self._came, b""
        scope: Any = self.scope
        if came and self._begun and self.cycle.keep_alive and scope["http_version"] == "1.1":
            scope[REPEATS] = partial(self._remember, came, scope["headers"])

    def shutdown(self) -> None:
        if self._answering:
            self._is_last = True
            return
        if self._head:
            head, self._head = self._head, b""
            super().data_received(head)
        super().shutdown()

    def end_if_slow(self, now: float) -> None:
        super().end_if_slow(now)
        # A timer for each request costs more than this look at all connections, and is set for others alone.
        if self._answering or self.timeout_keep_alive_task is not None or self._repeat is None or not self._rests():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since >= self.timeout_keep_alive:
            self.transport.close()

    def _remember(self, came: bytes, headers: Headers, take: Take) -> None:
        self._repeat = Repeat.of(came, headers, take) or self._repeat

    def _rests(self) -> bool:
        """Tell whether all that came is answered, and more may come."""
        return (
            self._arriving_since is None
            and self.cycle.response_complete
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and (self.limit_concurrency is None or len(self.connections) < self.limit_concurrency)
        )

    def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        self._answering = bool(self._early)
        if self.transport.is_closing():
            return
        head = _begin(status, tuple(self.server_state.default_headers), tuple(headers))
        if self._is_last:
            head += b"connection: close\r\n"
        self.transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
        self.server_state.total_requests += 1
        if self._is_last:
            self.transport.close()
        elif self._early:
            # By itself, so that whoever answers many is done with them first.
            self.loop.call_soon(self._read_early)

    def _read_early(self) -> None:
        self._answering = False
        early, self._early = self._early, b""
        if early and not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(early)


@lru_cache(64)
def _begin(status: int, defaults: Any, headers: Any) -> bytes:
    """Return how an answer begins: its status, what the server says of all, and headers."""
    return b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % header for header in (*defaults, *headers))])
