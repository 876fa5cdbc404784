"""What a node takes from outside is bounded: heads, times, connections, bodies and rates. Over raw sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from contextlib import AsyncExitStack

import pytest
from litestar import Litestar, get, post
from litestar.params import JSONBody
from support import Live

from compliance.crypto.keys import SigningKey
from gateway.federation.http.connection import ENDED, HEAD_BYTES_MAX, HEADERS_MAX, BoundedProtocol, ConnectionEnd
from gateway.federation.http.edge import BODY_BYTES_MAX
from gateway.federation.http.node import create_app, requires
from gateway.federation.http.rates import Rates, network_of
from gateway.federation.identity.tokens import TokenVerifier, issue_access_token
from gateway.federation.settings import EdgeLimits

BIC, ISSUER, HOUSE, KEY = "BANKDEFF", "http://issuer.example", "http://house.example", SigningKey.generate()
LONG_BYTES = 32 * 1024 * 1024
LIMITS = EdgeLimits(
    connections_per_address_max=20, head_seconds=2, body_seconds=3, address_requests_per_s=1, client_requests_per_s=2
)


def node() -> Litestar:
    @post("/large", guards=[requires("operator", "staff")], request_max_body_size=10 * BODY_BYTES_MAX, status_code=200)
    async def large(data: JSONBody[list[str]]) -> int:
        """Takes more than others."""
        return len(data)

    @post("/small", guards=[requires("operator", "staff")], status_code=200)
    async def small(data: JSONBody[list[str]]) -> int:
        """Takes what all take."""
        return len(data)

    @post("/open", opt={"public": True, "body": list[str]}, status_code=200)
    async def anybody() -> None:
        """Takes anybody."""

    @get("/long", opt={"public": True})
    async def long() -> str:
        """Answers more than the sockets hold."""
        return "x" * LONG_BYTES

    async def ready() -> dict[str, str]:
        return {}

    return create_app(
        title="Bounded",
        version="1",
        route_handlers=[large, small, anybody, long],
        verifier=TokenVerifier(BIC, lambda _, kid: KEY.verifying_key if kid == KEY.kid else None, staff_issuer=ISSUER),
        ready=ready,
        limits=LIMITS,
    )


@pytest.fixture
def port(live: Live) -> int:
    return int(live(node()).rpartition(":")[2])


async def talk(port: int, sent: bytes, *, within_s: float = 5) -> bytes:
    """Send bytes and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), within_s)
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


def request(
    path: str, body: bytes = b"[]", *headers: str, subject: str | None = "alice", role: str = "operator"
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", "Content-Type: application/json"]
    if subject is not None:
        token = issue_access_token(
            key=KEY,
            issuer=ISSUER if role == "staff" else HOUSE,
            subject=subject,
            audience=BIC,
            client_id=subject,
            role=role,  # type: ignore[arg-type]
        )
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """Return an answer's status; 0 for a connection that was closed without one, or while it was still sent to."""
    return int(answer.split()[1]) if answer.startswith(b"HTTP") else 0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([f"X-{number}: 1" for number in range(HEADERS_MAX - 10)], 200),
        ([f"X-{number}: 1" for number in range(HEADERS_MAX)], 431),
        (["X-Long: " + "x" * (HEAD_BYTES_MAX - 2_000)], 200),
        (["X-Long: " + "x" * HEAD_BYTES_MAX], 431),
        (["X-Long: " + "x" * 10 * HEAD_BYTES_MAX], 0),
    ],
)
async def test_a_head_has_a_size(port: int, headers: list[str], expected: int) -> None:
    found = status(await talk(port, request("/small", b"[]", *headers)))
    assert found == expected or (expected == 0 and found == 431)


async def test_a_long_address_line(port: int) -> None:
    assert status(await talk(port, request("/small?" + "x" * HEAD_BYTES_MAX))) == 431


async def test_a_head_that_never_ends(port: int) -> None:
    assert status(await talk(port, b"POST /small HTTP/1.1\r\nX-Long: " + b"x" * 2 * HEAD_BYTES_MAX)) == 431


@pytest.mark.parametrize("sent", [b"", b"POST /small HTT", b"POST /small HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_has_a_time(port: int, sent: bytes) -> None:
    started = time.monotonic()
    assert status(await talk(port, sent, within_s=10)) == 408
    assert 1 < time.monotonic() - started < 6


@pytest.mark.parametrize(
    ("more_headers", "left_out_bytes", "reason"),
    [
        (["X-Long: " + "x" * HEAD_BYTES_MAX], 0, ConnectionEnd.HEAD_TOO_LARGE),
        ([], 6, ConnectionEnd.HEAD_TOO_SLOW),
        ([], 1, ConnectionEnd.BODY_TOO_SLOW),
    ],
    ids=["large head", "slow head", "slow body"],
)
async def test_why_a_connection_was_ended_is_counted(
    port: int, more_headers: list[str], left_out_bytes: int, reason: ConnectionEnd
) -> None:
    ended = ENDED.labels(reason)._value
    before, sent = ended.get(), request("/small", b"[1]", *more_headers)
    await talk(port, sent[: len(sent) - left_out_bytes], within_s=10)
    assert ended.get() == before + 1


async def test_a_byte_a_time_takes_no_longer(port: int) -> None:
    """In the head, and in the body."""
    for sent in (b"POST /small HTTP/1.1\r\n", request("/small", b"x" * 1_000)[:-1_000]):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        started = time.monotonic()
        while not reader.at_eof() and time.monotonic() - started < 10:
            writer.write(b"x")
            try:
                await asyncio.wait_for(reader.read(1_000), 0.2)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - started < 7
        writer.close()


@pytest.mark.parametrize(
    ("trailers", "expected"), [(HEADERS_MAX, 200), (HEADERS_MAX + 1, 0), (1_000_000, 0)], ids=["few", "many", "endless"]
)
async def test_trailers_are_few_and_not_kept(port: int, trailers: int, expected: int) -> None:
    ended = ENDED.labels(ConnectionEnd.TOO_MANY_TRAILERS)._value
    before, head = (
        ended.get(),
        request("/small").replace(b"Content-Length: 2\r\n\r\n[]", b"Transfer-Encoding: chunked\r\n\r\n"),
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"2\r\n[]\r\n0\r\n" + b"a:\r\n" * trailers)
    await asyncio.sleep(0.2)
    for connection in gc.get_objects():
        if isinstance(connection, BoundedProtocol) and connection.scope is not None:
            assert len(connection.headers) + len(connection.scope["headers"]) < 10
    writer.write(b"\r\n")
    try:
        answer = await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        answer = b"reset"
    writer.close()
    assert status(answer) == expected
    assert ended.get() == before + (expected == 0)


POST = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"


async def test_a_connection_that_was_answered_early_does_not_stay(port: int) -> None:
    """Before its body came; an empty line after it doesn't change that."""

    async def answers(*parts: bytes) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.3)
        received = await asyncio.wait_for(reader.read(), 15)
        writer.close()
        return [status(b"HTTP" + answer) for answer in received.split(b"HTTP")[1:]]

    early, with_a_line = await asyncio.gather(
        answers(b"POST /small" + POST, b"[]"), answers(b"POST /open" + POST, b"[]", b"\r\n")
    )
    assert (early, with_a_line) == ([401, 408], [200, 408])


async def test_a_connection_is_used_again_after_an_early_answer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(b"POST /small" + POST)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.write(b"[]")
    writer.write(request("/small"))
    assert b"HTTP/1.1 200 " in await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_the_body_of_a_second_request_has_a_time_too(port: int) -> None:
    """Its head came together with the request before it."""
    keep = request("/small").replace(b"Connection: close", b"Connection: keep-alive")
    ended = ENDED.labels(ConnectionEnd.BODY_TOO_SLOW)._value
    before = ended.get()
    answer = await talk(port, keep + keep[:-1], within_s=15)
    assert answer.count(b"HTTP/1.1 ") == 1 or answer == b"reset"
    assert ended.get() == before + 1


async def test_a_last_answer_that_nobody_reads(port: int) -> None:
    """It is on its way and the connection closing already."""
    ended = ENDED.labels(ConnectionEnd.ANSWER_UNREAD)._value
    before, started = ended.get(), time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while ended.get() == before:
            assert time.monotonic() - started < 20
            await asyncio.sleep(0.1)


def test_an_answer_comes_in_one_piece(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for _ in range(50):
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            head, _, body = client.recv(65_536).partition(b"\r\n\r\n")
            assert (status(head), body) == (200, b'{"status":"live"}')


async def test_others_are_served_while_many_are_slow(port: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(LIMITS.connections_per_address_max - 1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(b"POST /small HTTP/1.1\r\n")
        await asyncio.sleep(0.1)
        started = time.monotonic()
        assert status(await talk(port, request("/small"))) == 200
        assert time.monotonic() - started < 1


async def test_an_address_has_so_many_connections(port: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(LIMITS.connections_per_address_max):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await asyncio.sleep(0.1)
        assert await talk(port, b"") in (b"", b"reset")
    await asyncio.sleep(0.1)
    assert status(await talk(port, request("/small"))) == 200


@pytest.mark.parametrize(
    ("path", "body_bytes", "expected"),
    [
        ("/small", BODY_BYTES_MAX, 200),
        ("/small", BODY_BYTES_MAX + 1, 413),
        ("/large", BODY_BYTES_MAX + 1, 200),
        ("/large", 10 * BODY_BYTES_MAX + 1, 413),
    ],
)
async def test_a_route_says_how_much_it_takes(port: int, path: str, body_bytes: int, expected: int) -> None:
    sent = request(path, b"[]" + b" " * (body_bytes - 2))
    # What is too large is refused by what is announced.
    answer = await talk(port, sent if expected == 200 else sent[: -body_bytes + 2])
    assert status(answer) == expected
    assert expected == 200 or b'"code":"body_too_large"' in answer


@pytest.mark.parametrize(
    "body", [b"[" * 50_000, b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000], ids=["arrays", "objects", "whole"]
)
async def test_json_has_a_depth(port: int, body: bytes) -> None:
    answer = await talk(port, request("/small", body))
    assert status(answer) == 400
    assert b'"code":"bad_request"' in answer or b'"code":"validation_failed"' in answer


@pytest.mark.parametrize(
    ("subject", "path", "at_once"),
    [
        (None, "/open", 20 * LIMITS.address_requests_per_s),
        (None, "/small", 20 * LIMITS.address_requests_per_s),
        ("alice", "/small", 20 * LIMITS.client_requests_per_s),
    ],
)
async def test_so_many_at_once(port: int, subject: str | None, path: str, at_once: int) -> None:
    """Then the answer says when to come again; another client isn't concerned."""
    answers = [await talk(port, request(path, subject=subject)) for _ in range(at_once)]
    assert {status(answer) for answer in answers} == {401 if (subject, path) == (None, "/small") else 200}
    refused = [await talk(port, request(path, subject=subject)) for _ in range(3)]
    assert 429 in {status(answer) for answer in refused}
    answer = next(answer for answer in refused if status(answer) == 429)
    assert b"retry-after: 1\r\n" in answer.lower()
    assert b'"code":"too_many_requests"' in answer
    assert status(await talk(port, request("/small", subject="bob"))) == 200


async def test_a_banks_own_staff_has_no_limit(port: int) -> None:
    for _ in range(20 * LIMITS.client_requests_per_s + 5):
        assert status(await talk(port, request("/small", subject="sam", role="staff"))) == 200


def test_buckets_fill_again_and_are_forgotten() -> None:
    now = 0.0
    rates = Rates(2, burst=4, keys_max=3, clock=lambda: now)
    assert [rates.take("a") for _ in range(5)] == [None, None, None, None, 1]
    now = 0.5
    assert [rates.take("a") for _ in range(2)] == [None, 1]
    for key in "bcde":
        assert rates.take(key) is None
    assert len(rates._buckets) == 3
    assert [Rates(0, burst=0).take("a") for _ in range(9)] == [None] * 9


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
    ],
)
def test_who_counts_as_one(address: str, network: str) -> None:
    assert network_of(address) == network
