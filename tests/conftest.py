"""Fixtures for everybody: a real PostgreSQL, and databases cloned from migrated templates."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from gateway.federation.database import migrate
from gateway.federation.postgres import EmbeddedServer, async_url, create_database, drop_database

NewDatabase = Callable[..., Awaitable[str]]

# A test's database needs no durability.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
_numbers = count(1)
_templates: dict[str, str] = {}


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a database on a server where tests may create others: DATABASE_URL, or an embedded one."""
    configured = os.environ.get("DATABASE_URL")
    if configured:
        yield async_url(configured)
        return
    # Not pytest's own temporary directory, which every new pytest run makes private again: the server may run as
    # another user, who has to pass through.
    directory = Path(tempfile.mkdtemp(prefix="concordat-test-"))
    server = EmbeddedServer(directory, options=_FAST)
    server.start()
    try:
        yield server.url("postgres")
    finally:
        server.stop()
        shutil.rmtree(directory)


@pytest.fixture
async def new_database(postgres_url: str) -> AsyncIterator[NewDatabase]:
    """A factory: `await new_database("participants")` is the URL of a fresh database with that package's schema.

    `await new_database()` is an empty one. All are dropped after the test.
    """
    run = f"{os.getpid()}_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    made: list[str] = []

    async def create(package: str | None = None) -> str:
        name = f"test_{run}_{next(_numbers)}"
        template = None if package is None else await _template(postgres_url, run, package)
        url = await create_database(postgres_url, name, template=template)
        made.append(name)
        return url

    yield create
    for name in made:
        await drop_database(postgres_url, name)


async def _template(server_url: str, run: str, package: str) -> str:
    if package not in _templates:
        name = f"template_{run}_{package.replace('.', '_')}"
        await migrate(await create_database(server_url, name), package)
        _templates[package] = name
    return _templates[package]
