"""A door does what a network does: it parts, resets, fails over and slows, and a node that is away gets nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support import free_port

from tests.chaos.network import Backend, Door, Network

QUIET_S = 0.3
OWNER, CALLER = "B", "A"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1024):
        writer.write(data)
    writer.close()


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    # This very process is the caller: it is told by who holds the other end of a connection.
    network = Network(lambda: {os.getpid(): CALLER})
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Door(network, OWNER, free_port(), [Backend(server.sockets[0].getsockname()[1])])
    await made.start()
    yield made
    await made.stop()
    server.close()


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, door: Door) -> Caller:
        caller = cls(*await asyncio.open_connection("127.0.0.1", door.port))
        await caller.hears(b"hello")
        return caller

    async def hears(self, data: bytes) -> None:
        self.writer.write(data)
        assert await asyncio.wait_for(self.reader.readexactly(len(data)), 20) == data

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.read(1), QUIET_S)


async def test_what_a_partition_drops_comes_later(door: Door) -> None:
    caller = await Caller.of(door)
    door.network.part(CALLER, "C", refused=False)
    await caller.hears(b"others go on")
    door.network.part(CALLER, OWNER, refused=False)
    caller.writer.write(b"dropped")
    await caller.hears_nothing()
    door.network.join(CALLER, OWNER)
    assert await asyncio.wait_for(caller.reader.readexactly(7), 20) == b"dropped"


async def test_a_partition_that_refuses_resets(door: Door) -> None:
    caller = await Caller.of(door)
    door.network.part(CALLER, OWNER, refused=True)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(caller.reader.readexactly(1), 20)
        caller = Caller(*await asyncio.open_connection("127.0.0.1", door.port))
    door.network.join(CALLER, OWNER)
    await Caller.of(door)


async def test_after_a_failover_old_connections_are_silent_and_new_ones_work(door: Door) -> None:
    caller = await Caller.of(door)
    door.fail_over()
    caller.writer.write(b"is anybody there?")
    await caller.hears_nothing()
    await (await Caller.of(door)).hears(b"yes")
    await caller.hears_nothing()


async def test_a_door_that_is_shut_answers_when_it_opens(door: Door) -> None:
    caller = await Caller.of(door)
    door.shut()
    caller.writer.write(b"?")
    await caller.hears_nothing()
    door.open()
    assert await asyncio.wait_for(caller.reader.readexactly(1), 20) == b"?"


async def test_a_node_that_is_away_gets_nobody(door: Door) -> None:
    door.backends.insert(0, Backend(free_port()))
    for _ in range(4):
        await Caller.of(door)
