"""A PostgreSQL server of a test's own, and a way to it that can fail over as a host does: in silence."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from gateway.federation.storage.postgres import EmbeddedServer, dsn

CONNECTIONS_MAX = 45


@contextmanager
def own_server() -> Iterator[EmbeddedServer]:
    """Run a server that nobody else uses, so that it can be made to fail."""
    directory = Path(tempfile.mkdtemp(prefix="concordat-failing-"))
    options = {"fsync": "off", "max_connections": str(CONNECTIONS_MAX), "superuser_reserved_connections": "0"}
    server = EmbeddedServer(directory, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def administrator(server: EmbeddedServer) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of whoever looks after the server."""
    connection = await asyncpg.connect(dsn(server.url("postgres")))
    try:
        yield connection
    finally:
        await connection.close()


class Gate:
    """A TCP port in front of a server."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._socket = str(server.socket_dir / ".s.PGSQL.5432")
        self._password = server.password
        self._pumps: set[asyncio.Task[None]] = set()
        self._behind: list[asyncio.StreamWriter] = []
        self._dead: list[asyncio.StreamWriter] = []
        self._before: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """Yield the URL of the server's first database through the gate."""
        listener = await asyncio.start_server(self._take, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        try:
            yield f"postgresql+asyncpg://postgres:{self._password}@127.0.0.1:{port}/postgres"
        finally:
            listener.close()
            self.fail_over()
            for writer in self._dead:
                writer.transport.abort()

    def fail_over(self) -> int:
        """Let the host behind every connection vanish without a word, and return how many there were.

        What is sent on them is still acknowledged, by the gate, so no kernel notices. New ones are served.
        """
        count = len(self._before)
        for pump in self._pumps:
            pump.cancel()
        for writer in self._behind:
            writer.transport.abort()
        self._dead.extend(self._before)
        self._behind.clear()
        self._before.clear()
        return count

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_unix_connection(self._socket)
        self._before.append(writer)
        self._behind.append(behind_writer)
        for source, target in ((reader, behind_writer), (behind_reader, writer)):
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        target.close()
