"""A PostgreSQL server of a measurement's own, in a directory that goes with it."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.federation.storage.postgres import EmbeddedServer, PostgresError


@contextmanager
def own_server(prefix: str = "concordat-bench-") -> Iterator[tuple[EmbeddedServer, Path]]:
    """Run a server until the end of the block, and make a directory for all else that is measured.

    Both are gone afterwards, also where Ctrl-C ends the block, or comes while the server starts or stops.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    server = EmbeddedServer(directory / "postgres")
    try:
        server.start()
        yield server, directory
    finally:
        waiting = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with suppress(PostgresError):
                server.start()  # joins one whose start was interrupted: nobody else knows of it
            server.stop()
            shutil.rmtree(directory)
        finally:
            signal.signal(signal.SIGINT, waiting)
