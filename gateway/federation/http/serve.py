"""Runs a node's application until it is told to stop: on its public port and, where there is one, its private port."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import structlog
import uvicorn
from litestar import Litestar

from gateway.federation.http.connection import BoundedProtocol, ConnectionConfig
from gateway.federation.http.repeats import RepeatingProtocol
from gateway.federation.settings import EdgeLimits
from gateway.federation.telemetry import configure_logging

SHUTDOWN_TIMEOUT_S = 10
STOP_LOOK_S = 0.2
BACKLOG = 512
COLLECT_AFTER = 20_000
"""New objects that may hold others, before the collector looks at them."""
PRIVATE_LIMITS = EdgeLimits(connections_per_address_max=100)
CANNOT_START = 3


class Certificate(NamedTuple):
    """The files (PEM) that a port is served with over TLS."""

    cert: str
    key: str


Sockets = tuple[socket.socket, socket.socket | None]
"""Bound and not listening yet: for the public port, and for the private one where there is one."""
Address = tuple[str, int]
"""Host and port to listen on; port 0 is any that is free."""

_log = structlog.get_logger()


class NodeServer(uvicorn.Server):
    """uvicorn with a second listener for a node's own people, and one that tells the application when it drains.

    Both listeners share one loop, one end and one look at slow connections.
    """

    def __init__(
        self, config: ConnectionConfig, private: ConnectionConfig | None = None, sockets: Sockets | None = None
    ) -> None:
        super().__init__(config)
        self._private = private
        self._sockets = sockets
        self.private_port: int | None = None
        """Where the private listener listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # First, so that whoever waits for a start can ask what it waits for.
        private = None if self._private is None else await self._listen(self._private)
        # An application may wait at its start for somebody who isn't there: whoever stops it doesn't wait with it.
        starting = asyncio.ensure_future(super().startup(sockets if self._sockets is None else [self._sockets[0]]))
        while not starting.done():
            await asyncio.wait([starting], timeout=STOP_LOOK_S)
            if self.should_exit and not starting.done():
                starting.cancel()
                await asyncio.wait([starting])
                # It would call what was broken off here a failure, and print where.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                return
        await starting
        if private is not None:
            self.servers.append(private)

    async def _listen(self, config: ConnectionConfig) -> asyncio.Server:
        config.load()
        connect = partial(BoundedProtocol, config=config, server_state=self.server_state, app_state={})
        try:
            at: dict[str, Any] = {"host": config.host, "port": config.port}
            if self._sockets is not None and self._sockets[1] is not None:
                at = {"sock": self._sockets[1]}
            listener = await asyncio.get_running_loop().create_server(connect, backlog=config.backlog, **at)
        except OSError as error:
            _log.error("the private port can't be listened on", host=config.host, port=config.port, error=str(error))
            sys.exit(CANNOT_START)
        self.private_port = listener.sockets[0].getsockname()[1]
        return listener

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


def server(
    app: Litestar,
    *,
    host: str,
    port: int,
    private: Address | None = None,
    sockets: Sockets | None = None,
    certificate: Certificate | None = None,
) -> NodeServer:
    """Return a server for the application, and for its people on the address `private`: one process, one event loop.

    `sockets` have these ports already; with a `certificate` the public one speaks TLS.
    """
    public = config_of(app, (host, port), app.state.limits, certificate=certificate)
    if private is None:
        return NodeServer(public, sockets=sockets)
    behind = config_of(app.state.private, private, PRIVATE_LIMITS, lifespan="off")
    # Counted with the public port's: who fills that must not keep the node's own people from looking at it.
    behind.limit_concurrency = None
    return NodeServer(public, behind, sockets)


def config_of(
    app: Litestar,
    address: Address,
    limits: EdgeLimits,
    *,
    lifespan: str = "on",
    certificate: Certificate | None = None,
) -> ConnectionConfig:
    """Return how an application is served on an address."""
    return ConnectionConfig(
        app,
        limits=limits,
        http=RepeatingProtocol,
        host=address[0],
        port=address[1],
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        ssl_certfile=None if certificate is None else certificate.cert,
        ssl_keyfile=None if certificate is None else certificate.key,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )


def run(
    app: Litestar,
    *,
    host: str,
    port: int,
    private: Address | None = None,
    log_level: str = "info",
    sockets: Sockets | None = None,
    certificate: Certificate | None = None,
) -> None:
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
    server(app, host=host, port=port, private=private, sockets=sockets, certificate=certificate).run()
