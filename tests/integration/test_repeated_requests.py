"""Requests with a head that is no news, over raw sockets: answered in their order, as if the parser had read each."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from litestar import Litestar
from litestar.types import ASGIApp, Receive, Send
from support import Live, free_port

from gateway.federation.http.node import create_app
from gateway.federation.http.repeats import PIECE_BYTES_MAX, REPEATS, Answer, Headers, RepeatingProtocol
from gateway.federation.http.serve import server
from gateway.federation.identity.tokens import TokenVerifier
from gateway.federation.settings import EdgeLimits

TEXT: Headers = ((b"content-type", b"text/plain"),)
LIMITS = EdgeLimits(head_seconds=2, body_seconds=2)
REFUSED = b"not by this way"


class Echo:
    """A layer that answers with the body backwards, and counts how many heads it was given; others aren't found."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.heads = 0
        self.waits_for = threading.Event()
        """Bodies taken without their head are answered once it is set."""
        self.waits_for.set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/echo":
            await self._app(scope, receive, send)
            return
        self.heads += 1
        body, more = b"", True
        while more:
            message: Any = await receive()
            if message["type"] != "http.request":
                return
            body, more = body + message["body"], message["more_body"]
        if (let_repeat := scope.get(REPEATS)) is not None:
            let_repeat(self.take)
        headers: Any = [*TEXT, (b"content-length", str(len(body)).encode())]
        start: Any = {"type": "http.response.start", "status": 200, "headers": headers}
        end: Any = {"type": "http.response.body", "body": body[::-1]}
        await send(start)
        await send(end)

    def take(self, body: bytes, answer: Answer) -> bool:
        if body == REFUSED:
            return False
        self._answer_soon(lambda: answer(200, TEXT, body[::-1]))
        return True

    def _answer_soon(self, answer: Callable[[], None]) -> None:
        if self.waits_for.is_set():
            asyncio.get_running_loop().call_soon(answer)
        else:
            asyncio.get_running_loop().call_later(0.01, self._answer_soon, answer)


def _node() -> tuple[Echo, Litestar]:
    layers: list[Echo] = []

    def wrap(app: ASGIApp) -> ASGIApp:
        layers.append(Echo(app))
        return layers[0]

    async def ready() -> dict[str, str]:
        return {}

    app = create_app(
        title="Echo",
        version="1",
        route_handlers=[],
        verifier=TokenVerifier("BANKDEFF", lambda _, __: None),
        ready=ready,
        limits=LIMITS,
        wrap=wrap,
    )
    return layers[0], app


@pytest.fixture
def echo(live: Live) -> tuple[Echo, int]:
    layer, app = _node()
    return layer, int(live(app).rpartition(":")[2])


class Client:
    """A connection, and the answers on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def send(self, *pieces: bytes) -> None:
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(0.05)
            self.socket.sendall(piece)

    def answer(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        """Return status line, headers but the date's value, and body of the next answer."""
        status, headers = self._file.readline(), {}
        while (line := self._file.readline()) != b"\r\n":
            assert line, "the connection was closed"
            name, _, value = line.strip().partition(b": ")
            headers[name] = b"" if name == b"date" else value
        return status, headers, self._file.read(int(headers[b"content-length"]))

    def is_closed(self) -> bool:
        return self._file.read(1) == b""


def request(body: bytes, *, more: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\nAccept: */*\r\n\r\n%s" % (more, len(body), body)


def halves(sent: bytes) -> tuple[bytes, bytes]:
    head, _, body = sent.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def test_one_head_is_read_for_many(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for number in range(12):
        client.send(request(b"%d" % (10**number)))
        status, headers, body = client.answer()
        assert status == b"HTTP/1.1 200 OK\r\n"
        assert headers == {b"date": b"", b"content-type": b"text/plain", b"content-length": b"%d" % (number + 1)}
        assert body == str(10**number)[::-1].encode()
    assert layer.heads == 1


def test_a_head_that_comes_before_its_body(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for number in range(5):
        client.send(*halves(request(b"body %d" % number)))
        assert client.answer()[2] == b"%d ydob" % number
    assert layer.heads == 1


@pytest.mark.parametrize("cut", [1, 30, -1, -3])
def test_other_pieces_are_put_together_by_the_parser(echo: tuple[Echo, int], cut: int) -> None:
    layer, port = echo
    client = Client(port)
    for number in range(4):
        sent = request(b"body %d" % number)
        client.send(*((sent,) if number % 2 == 0 else (sent[:cut], sent[cut:])))
        assert client.answer()[2] == b"%d ydob" % number
    assert layer.heads == 3


def test_a_body_that_comes_in_pieces_after_its_head(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for _ in range(3):
        head, body = halves(request(b"abcdef"))
        client.send(head, body[:2], body[2:4], body[4:])
        assert client.answer()[2] == b"fedcba"
    client.send(request(b"xyz"))
    assert client.answer()[2] == b"zyx"
    assert layer.heads >= 3


def test_many_sent_at_once_are_answered_in_their_order(echo: tuple[Echo, int]) -> None:
    """The first by itself, so that its head is known; then some together, and some while others wait."""
    layer, port = echo
    client = Client(port)
    client.send(request(b"first"))
    assert client.answer()[2] == b"tsrif"
    layer.waits_for.clear()
    client.send(request(b"0"), *(request(b"%d" % number) + request(b"%d" % (number + 1)) for number in range(1, 9, 2)))
    layer.waits_for.set()
    assert [client.answer()[2] for _ in range(9)] == [b"%d" % number for number in range(9)]


def test_another_head_is_read(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for more in (b"", b"X: 1\r\n", b"", b"x-forwarded-for: 1\r\n"):
        client.send(request(b"ab", more=more))
        assert client.answer()[2] == b"ba"
    assert layer.heads == 4
    client.send(b"POST /other HTTP/1.1\r\nContent-Length: 2\r\n\r\nab")
    assert client.answer()[0] == b"HTTP/1.1 404 Not Found\r\n"


def test_nothing_large_is_kept(echo: tuple[Echo, int]) -> None:
    """Neither what a head might be learned from, nor a body that was handed over."""
    layer, port = echo
    client = Client(port)
    large = b"x" * 2 * PIECE_BYTES_MAX
    client.send(request(large))
    assert client.answer()[2] == large
    assert not [found for found in _connections() if found.scope is not None and REPEATS in found.scope]
    client.send(request(b"ab"))
    client.answer()
    heads = layer.heads
    client.send(request(large))
    assert client.answer()[2] == large
    assert layer.heads == heads + 1, "its size is judged where that of all others is"
    for found in _connections():
        kept = [value for value in vars(found).values() if isinstance(value, bytes | bytearray)]
        assert sum(map(len, kept)) < PIECE_BYTES_MAX


def _connections() -> list[RepeatingProtocol]:
    return [found for found in gc.get_objects() if isinstance(found, RepeatingProtocol)]


def test_what_is_not_taken_goes_the_way_of_all_others(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for body, heads in ((b"ab", 1), (REFUSED, 2), (b"cd", 2), (REFUSED, 3)):
        client.send(request(body))
        assert client.answer()[2] == body[::-1]
        assert layer.heads == heads


def test_a_head_has_its_time_and_its_body_too(echo: tuple[Echo, int]) -> None:
    _, port = echo
    client = Client(port)
    client.send(request(b"ab"))
    client.answer()
    client.send(halves(request(b"abc"))[0])
    assert client._file.readline() == b"HTTP/1.1 408 Request Timeout\r\n"


def test_an_idle_connection_is_closed(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    client = Client(port)
    for _ in range(2):
        client.send(request(b"ab"))
        client.answer()
    assert layer.heads == 1
    assert client.is_closed()


def test_a_client_that_is_gone_costs_nobody_anything(echo: tuple[Echo, int]) -> None:
    layer, port = echo
    gone, stays = Client(port), Client(port)
    for client in (gone, stays):
        client.send(request(b"ab"))
        client.answer()
    layer.waits_for.clear()
    for client in (gone, stays):
        client.send(request(b"cd"))
    gone.socket.shutdown(socket.SHUT_RDWR)
    gone.socket.close()
    layer.waits_for.set()
    assert stays.answer()[2] == b"dc"


async def test_a_server_that_ends_answers_first() -> None:
    layer, app = _node()
    port = free_port()
    node = server(app, host="127.0.0.1", port=port)
    serving = asyncio.create_task(node.serve())
    while not node.started:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(b"ab"))
    await reader.readuntil(b"ba")
    layer.waits_for.clear()
    writer.write(request(b"cd"))
    await asyncio.sleep(0.1)
    node.should_exit = True
    await app.state.stopping.wait()
    layer.waits_for.set()
    async with asyncio.timeout(20):
        answer = await reader.read()
        await serving
    writer.close()
    assert layer.heads == 1
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\nconnection: close\r\ncontent-length: 2\r\n\r\ndc")
