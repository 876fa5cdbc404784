"""The network between institutions and to their databases: small TCP proxies that can fail as networks do.

Whoever calls an institution, or a node its database, goes through a door. A door forwards bytes, until it is told to
cut, to drop, to slow down, or to answer as no honest peer does. Packets that are dropped come through later, as TCP
sends them again; connections whose host has failed over never come to life again, and nobody tells their client.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)
HEALTH_EVERY_S = 1.0
HEALTH_TIMEOUT_S = 3.0
JUNK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n" + b'{"junk": [1, null]',
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\n\r\n[]",
    b"\x16\x03\x01\x02\x00" + bytes(64),
)

Pids = Callable[[], Mapping[int, str]]


@dataclass(frozen=True)
class Backend:
    """What a door leads to: a TCP port of this machine, or a unix socket."""

    port: int = 0
    path: str = ""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port)


@dataclass(eq=False)
class Passage:
    """One connection through a door. `caller` is an institution's name, None for people and strangers."""

    caller: str | None
    backend: Backend
    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter
    lost: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.upstream):
            _reset(writer)

    def lose(self) -> None:
        """The host behind it is gone: its side ends, and the client hears nothing, ever."""
        self.lost = True
        _reset(self.upstream)


class Network:
    """Which pairs of institutions are parted at the moment, and who is who."""

    def __init__(self, pids: Pids) -> None:
        self._pids = pids
        self._parted: dict[frozenset[str], asyncio.Event] = {}
        self._refused: set[frozenset[str]] = set()
        self.doors: list[Door] = []

    def part(self, one: str, other: str, *, refused: bool) -> None:
        """Let nothing pass between two institutions; `refused`: with resets instead of silence."""
        pair = frozenset((one, other))
        self._parted[pair] = asyncio.Event()
        if refused:
            self._refused.add(pair)
            for door in self.doors:
                for passage in door.passages_between(pair):
                    passage.reset()

    def join(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        self._refused.discard(pair)
        if pair in self._parted:
            self._parted.pop(pair).set()

    def is_refused(self, one: str | None, other: str) -> bool:
        return frozenset((one or "", other)) in self._refused

    async def passable(self, one: str | None, other: str) -> None:
        """Return when bytes get through between two institutions."""
        while (parted := self._parted.get(frozenset((one or "", other)))) is not None:
            await parted.wait()

    def caller(self, client_port: int, door_port: int) -> str | None:
        """Return whose process is at the other end of a connection to a door."""
        inode = _inode(client_port, door_port)
        if inode is None:
            return None
        for pid, name in self._pids().items():
            with suppress(OSError):
                for entry in os.scandir(f"/proc/{pid}/fd"):
                    with suppress(OSError):
                        if os.readlink(entry.path) == f"socket:[{inode}]":
                            return name
        return None


class Door:
    """An address that leads to an institution's nodes, or to its database. Several nodes share the connections."""

    def __init__(self, network: Network, owner: str, port: int, backends: Sequence[Backend]) -> None:
        self.network = network
        self.owner = owner
        self.port = port
        self.backends = list(backends)
        self.passages: set[Passage] = set()
        self.latency_s = 0.0
        self.junk = False
        self._open = asyncio.Event()
        self._open.set()
        self._sick: set[Backend] = set()
        self._turns = itertools.count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        network.doors.append(self)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        if len(self.backends) > 1:
            self._keep(self._look_after())

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for passage in list(self.passages):
            passage.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def passages_between(self, pair: frozenset[str]) -> list[Passage]:
        return [passage for passage in self.passages if frozenset((passage.caller or "", self.owner)) == pair]

    def shut(self) -> None:
        """Answer nobody: bytes wait until the door is opened."""
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def fail_over(self) -> None:
        """All connections that there are lead nowhere from now on; new ones work."""
        for passage in list(self.passages):
            passage.lose()

    # --- what passes -------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(self._serve(reader, writer))

    def _keep(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = None
        if not self.backends[0].path:
            caller = self.network.caller(writer.get_extra_info("peername")[1], self.port)
        if self.network.is_refused(caller, self.owner):
            _reset(writer)
            return
        if self.junk and caller is not None:
            await self._answer_junk(reader, writer)
            return
        for backend in self._in_turn():
            with suppress(OSError):
                upstream_reader, upstream = await backend.open()
                break
        else:
            _reset(writer)
            return
        passage = Passage(caller, backend, writer, upstream)
        self.passages.add(passage)
        try:
            await asyncio.gather(self._pump(passage, reader, upstream), self._pump(passage, upstream_reader, writer))
        finally:
            self.passages.discard(passage)
            passage.reset()

    async def _pump(self, passage: Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await _read(passage, reader):
            await self._open.wait()
            await self.network.passable(passage.caller, self.owner)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            # What a client sends to a host that is gone is read and forgotten, until the client closes.
            if not passage.lost:
                with suppress(OSError):
                    writer.write(data)
                    await writer.drain()
        if not passage.lost and writer.can_write_eof() and not writer.is_closing():
            with suppress(OSError):
                writer.write_eof()

    async def _answer_junk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(JUNK[next(self._turns) % len(JUNK)])
            await writer.drain()
        writer.close()

    # --- several nodes -----------------------------------------------------------------------------------

    def _in_turn(self) -> list[Backend]:
        turn = next(self._turns) % len(self.backends)
        return sorted(self.backends[turn:] + self.backends[:turn], key=lambda backend: backend in self._sick)

    async def _look_after(self) -> None:
        """Send nobody to a node that isn't ready, as a load balancer does."""
        async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False) as client:
            while True:
                healthy = await asyncio.gather(*(_healthy(client, backend) for backend in self.backends))
                sick = {backend for backend, good in zip(self.backends, healthy, strict=True) if not good}
                for passage in list(self.passages):
                    if passage.backend in sick and len(sick) < len(self.backends):
                        passage.reset()
                self._sick = sick
                await asyncio.sleep(HEALTH_EVERY_S)


async def _read(passage: Passage, reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK)
    except OSError:
        if not passage.lost:
            passage.reset()
        return b""


async def _healthy(client: httpx.AsyncClient, backend: Backend) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{backend.port}/health/ready")).status_code == 200
    except httpx.HTTPError:
        return False


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    with suppress(OSError):
        if connection is not None and connection.fileno() >= 0 and connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def _inode(client_port: int, door_port: int) -> str | None:
    """Return the inode of the client's end of a connection over the loopback interface."""
    local, remote = f"0100007F:{client_port:04X}", f"0100007F:{door_port:04X}"
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[2] == remote:
            return fields[9]
    return None
