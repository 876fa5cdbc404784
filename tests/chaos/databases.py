"""Each institution's own PostgreSQL server, and what can happen to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import asyncpg

from gateway.federation.storage.postgres import EmbeddedServer, PostgresError, create_database, dsn
from tests.chaos.network import Backend

# Processes are killed here, never the machine: what a commit has written needn't reach the disk, but it must be
# written (synchronous_commit), or a killed server forgets what it has confirmed.
POSTGRES = {
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "fsync": "off",
    "full_page_writes": "off",
}
START_LIMIT_S = 60
FULL = """
CREATE FUNCTION chaos_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$
"""
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"

PASSWORD = "of-all-servers"
"""One for all: the others are copies of the first one's data."""


class Database:
    """One institution's server with its one database."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.server = EmbeddedServer(directory, options=POSTGRES, password=PASSWORD)

    @property
    def backend(self) -> Backend:
        return Backend(path=str(self.server.socket_dir / ".s.PGSQL.5432"))

    @property
    def url(self) -> str:
        """Where the owner of everything connects, past the door."""
        return dsn(self.server.url(self.name))

    async def create(self, template: Path) -> None:
        """Begin with a copy of an initialised server."""
        self.server.directory.mkdir(parents=True)
        await _copy(template, self.server.data)
        await self.start()
        await create_database(self.server.url("postgres"), self.name)

    async def start(self) -> None:
        """Start the server; a killed one's children may hold its memory for a moment yet."""
        give_up_at = time.monotonic() + START_LIMIT_S
        while True:
            try:
                await asyncio.to_thread(self.server.start)
                return
            except PostgresError:
                if time.monotonic() > give_up_at:
                    raise
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def restart(self) -> None:
        """As an administrator does: sessions are ended, nothing is lost."""
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        """SIGKILL the server and start it again: it recovers from its journal."""
        pid = int((self.server.data / "postmaster.pid").read_text().split()[0])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await self.stop()
        await self.start()

    async def read_only(self, on: bool) -> None:
        """Refuse every write from now on, or take writes again."""
        async with _Owner(self.url) as connection:
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute(
                "ALTER SYSTEM SET default_transaction_read_only = on"
                if on
                else "ALTER SYSTEM RESET default_transaction_read_only"
            )
            await connection.execute("SELECT pg_reload_conf()")

    async def full(self, on: bool) -> None:
        """Answer every write as a server does whose disk is full, or no more."""
        async with _Owner(self.url) as connection:
            if not on:
                await connection.execute("DROP FUNCTION IF EXISTS chaos_full CASCADE")
                return
            await connection.execute("DROP FUNCTION IF EXISTS chaos_full CASCADE")
            await connection.execute(FULL)
            for (table,) in await connection.fetch(TABLES):
                await connection.execute(
                    f"CREATE TRIGGER chaos_full BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION chaos_full()"
                )

    # --- backups -----------------------------------------------------------------------------------------

    async def back_up(self) -> None:
        """Keep a copy of the server as it is now; it is away meanwhile."""
        await self.stop()
        await _copy(self.server.data, self.server.directory / "backup")
        await self.start()

    async def restore(self) -> None:
        """Put the backup in the server's place; what it had come to is kept aside. The server must be stopped."""
        self.server.data.rename(self.server.directory / "present")
        (self.server.directory / "backup").rename(self.server.data)

    async def undo_restore(self) -> None:
        """Put back what the server had come to. The server must be stopped."""
        await asyncio.to_thread(shutil.rmtree, self.server.data)
        (self.server.directory / "present").rename(self.server.data)


class _Owner:
    """A session of the database's owner, tried again while the server is busy with itself."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(self._url)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def template(directory: Path) -> Path:
    """Return the data of a server that was initialised and stopped, to be copied."""
    server = EmbeddedServer(directory, options=POSTGRES, password=PASSWORD)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(server.stop)
    return server.data


async def _copy(source: Path, target: Path) -> None:
    # With owners and permissions, which shutil doesn't keep.
    await asyncio.to_thread(subprocess.run, ["cp", "-a", str(source), str(target)], check=True)
