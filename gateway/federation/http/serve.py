"""Runs a node's application until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

import structlog
import uvicorn
from litestar import Litestar

from gateway.federation.http.connection import BoundedProtocol, ConnectionConfig
from gateway.federation.telemetry import configure_logging

SHUTDOWN_TIMEOUT_S = 10
BACKLOG = 512
COLLECT_AFTER = 20_000
"""New objects that may hold others, before the collector looks at them."""

_log = structlog.get_logger()


class NodeServer(uvicorn.Server):
    """uvicorn that tells the application when it begins to drain, so that long polls end at once."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        application = self.config.app
        if isinstance(application, Litestar):
            application.state.stopping.set()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        # Called ten times a second. One look at all connections costs less than a timer for each request.
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    try:
                        connection.end_if_slow(now)
                    except Exception as error:  # an error that reaches uvicorn's loop ends the process
                        _log.error("connection not looked at", exc_info=error)
                        connection.transport.abort()
        return await super().on_tick(counter)


def server(app: Litestar, *, host: str, port: int) -> NodeServer:
    """Return a server for the application: one process, one event loop."""
    return NodeServer(
        ConnectionConfig(
            app,
            limits=app.state.limits,
            host=host,
            port=port,
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
    )


def run(app: Litestar, *, host: str, port: int, log_level: str = "info") -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests under way, within 10 s, and return.

    Raises SystemExit: 0 when stopped by a signal, 3 when the application couldn't start.
    """
    configure_logging(log_level)
    # What the imports left is here to stay, and a request may bring tens of thousands of documents that hold no cycle:
    # with Python's own thresholds the collector goes through all of it, again and again, while they are read.
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)

    def leave(_: int, __: FrameType | None) -> NoReturn:
        raise SystemExit(0)

    # uvicorn takes the signals over while it runs, and raises them again when it has shut down.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    server(app, host=host, port=port).run()
