"""Fixtures for everybody: a real PostgreSQL, and databases cloned from migrated templates."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from litestar import Litestar
from support import ANY_PRIVATE_PORT, Live, NewDatabase, keep_private

from gateway.federation.http.serve import NodeServer, server
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import EmbeddedServer, async_url, create_database, drop_database

# A test's database needs no durability.
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
LONGEST = ("chaos", "simulation", "console", "integration", "contract", "property")
"""Kinds of tests, in the order of the time that they take; all others are quick."""
_numbers = count(1)
_templates: dict[str, str] = {}


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run at once: half as many again as there are cores, for they wait a third of their time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest: a worker that begins one last keeps all others waiting."""
    items.sort(key=lambda item: next((rank for rank, kind in enumerate(LONGEST) if kind in item.path.parts), 99))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a database on a server where tests may create others: DATABASE_URL, or an embedded one."""
    configured = os.environ.get("DATABASE_URL")
    if configured:
        yield async_url(configured)
        for name in _templates.values():
            asyncio.run(drop_database(configured, name))
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
    """A factory: `await new_database("participants.ledger")` is the URL of a fresh database with that package's schema.

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


@pytest.fixture
def live() -> Iterator[Live]:
    """A function that serves an application on a free port of the loopback interface and returns its base URL.

    Takes an application, or a function from the URL to the application. All are stopped after the test.
    """
    running: list[tuple[NodeServer, threading.Thread]] = []

    def serve(build: Litestar | Callable[[str], Litestar]) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        host, port = listener.getsockname()
        url = f"http://{host}:{port}"
        app = build if isinstance(build, Litestar) else build(url)
        node = server(app, host=host, port=port, private=ANY_PRIVATE_PORT)
        thread = threading.Thread(target=node.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not node.started:
            assert thread.is_alive(), "the application didn't start"
            time.sleep(0.01)
        keep_private(url, node.private_port)
        running.append((node, thread))
        return url

    yield serve
    for node, _ in running:
        node.should_exit = True
    for _, thread in running:
        thread.join()
