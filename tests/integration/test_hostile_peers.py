"""A peer costs at most its own connections, one time limit and one answer of the size that was asked for."""

from __future__ import annotations

import asyncio
import resource
import time
import tracemalloc
from contextlib import AsyncExitStack
from typing import Any

import hostile_peers
import pytest
from hostile_peers import Behaviour, peer

from compliance.crypto.keys import SigningKey
from gateway.federation.http.client import FederationClient, RemoteAnswerRefused, RemoteProblem, RemoteUnavailable
from gateway.federation.http.peers import ANSWER_BYTES_MAX, CONNECTIONS_MAX


def client(**options: Any) -> FederationClient:
    return FederationClient("BANKDEFF", SigningKey.generate(), "http://127.0.0.1:1", **options)


@pytest.mark.parametrize(
    ("behaviour", "error", "code"),
    [
        (hostile_peers.huge, RemoteAnswerRefused, "answer_too_large"),
        (hostile_peers.bomb, RemoteAnswerRefused, "answer_encoded"),
        (hostile_peers.huge_refusal, RemoteProblem, "http_409"),
        (hostile_peers.elsewhere, RemoteProblem, "http_307"),
        (hostile_peers.later_than_ever, RemoteProblem, "http_503"),
        (hostile_peers.deep_refusal, RemoteProblem, "http_409"),
        (hostile_peers.endless_head, RemoteUnavailable, None),
        (hostile_peers.trickle, RemoteUnavailable, None),
        (hostile_peers.silence, RemoteUnavailable, None),
    ],
)
async def test_an_answer_that_was_not_asked_for(behaviour: Behaviour, error: type[Exception], code: str | None) -> None:
    """It is given up soon, and little is kept of it; a second request on the way isn't disturbed."""
    async with peer(behaviour) as url, client(timeout_s=2) as caller:
        tracemalloc.start()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        with pytest.raises(error) as refused:
            await caller.request("GET", url, audience=None, attempts_max=2)
        seconds, (_, most) = time.monotonic() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert code is None or getattr(refused.value, "code", None) == code
    assert seconds < 6
    # The tests' peers live in this process too.
    assert most < 4 * ANSWER_BYTES_MAX
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 100_000


async def test_an_answer_of_just_the_size_asked_for() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hostile_peers.head("Content-Length: 1000") + b"x" * 1_000)
        await writer.drain()

    async with peer(answer) as url, client() as caller:
        whole = await caller.request("GET", url, audience=None, answer_bytes_max=1_000)
        assert whole.content == b"x" * 1_000
        with pytest.raises(RemoteAnswerRefused):
            await caller.request("GET", url, audience=None, answer_bytes_max=999)
        parts: list[bytes] = []
        streamed = await caller.request("GET", url, audience=None, sink=parts.append)
        assert (b"".join(parts), streamed.content) == (b"x" * 1_000, b"")


async def test_a_peers_cookies_are_neither_kept_nor_sent() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(hostile_peers.head("Set-Cookie: a=b", "Content-Length: 2") + b"{}")
            await writer.drain()
            heads.append(await reader.readuntil(b"\r\n\r\n"))

    async with peer(answer) as url, client() as caller:
        for _ in range(3):
            await caller.request("GET", url, audience=None)
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


async def test_what_came_to_a_sink_is_not_sent_again() -> None:
    asked = 0

    async def breaks_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(hostile_peers.head("Content-Length: 1000") + b"x" * 500)
        await writer.drain()

    async with peer(breaks_off) as url, client() as caller:
        with pytest.raises(RemoteUnavailable):
            await caller.request("GET", url, audience=None, sink=lambda _: None)
    assert asked == 1


async def test_a_hundred_that_never_answer_keep_nobody_from_one_who_does() -> None:
    """Nor does one peer that takes all of its own connections."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hostile_peers.head("Content-Length: 2", "Connection: close") + b"{}")
        await writer.drain()

    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(client(timeout_s=30))
        alive = await stack.enter_async_context(peer(answer))
        dead = [await stack.enter_async_context(peer(hostile_peers.silence)) for _ in range(100)]
        waiting = [asyncio.create_task(caller.request("GET", url, audience=None, attempts_max=1)) for url in dead]
        many = range(2 * CONNECTIONS_MAX)
        waiting += [asyncio.create_task(caller.request("GET", dead[0], audience=None, attempts_max=1)) for _ in many]
        await asyncio.sleep(0.5)
        started = time.monotonic()
        for _ in range(10):
            await caller.request("GET", alive, audience=None)
        assert time.monotonic() - started < 2
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
