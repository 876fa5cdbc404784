"""A PostgreSQL server of a measurement's own, in a directory that goes with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.federation.storage.postgres import EmbeddedServer


@contextmanager
def own_server(prefix: str = "concordat-bench-") -> Iterator[tuple[EmbeddedServer, Path]]:
    """Run a server until the end of the block, and make a directory for all else that is measured."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        server = EmbeddedServer(Path(name) / "postgres")
        server.start()
        try:
            yield server, Path(name)
        finally:
            server.stop()
