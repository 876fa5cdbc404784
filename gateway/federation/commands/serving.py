"""What starting a node takes, in this order: its ports, its database, the application.

Whatever is missing is told in a line that whoever starts it understands: at once if only he can mend it, and again and
again while it is waited for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from compliance.terminal import shown
from gateway.federation.settings import NodeSettings, SettingsError

if TYPE_CHECKING:
    from litestar import Litestar

RETRY_SECONDS = 1.0
SAID_AGAIN_SECONDS = 15.0


def serve(
    settings: NodeSettings,
    *,
    database: str,
    package: str,
    build: Callable[[str], Litestar],
    owner: str | None = None,
) -> None:
    """Run a node until it is told to stop, on a database that is brought up to date first.

    `build` makes the application on the database's URL. `owner` is the query for whose database it is; without, its
    table `owner` says so, and one that is nobody's yet becomes this node's. Raises ConfigurationError, SystemExit.
    """
    from gateway.federation.commands.own_database import require_keys
    from gateway.federation.http.serve import Certificate, run
    from gateway.federation.http.starting import Starting
    from gateway.federation.storage.database import migrate
    from gateway.federation.storage.owner import OWNER, require_owner
    from gateway.federation.storage.postgres import database as database_of
    from gateway.federation.telemetry import configure_logging

    async def prepare(url: str) -> None:
        await migrate(url, package)
        await require_owner(url, settings.bic, owner=owner or OWNER, claim=owner is None)

    with ExitStack() as stack:
        public = stack.enter_context(_reserved("PORT", settings.host, settings.port))
        private = None
        if settings.private is not None:
            private = stack.enter_context(_reserved("PRIVATE_PORT", *settings.private))
        certificate = _certificate(settings)
        require_keys(settings)
        configure_logging(settings.log_level)
        with ExitStack() as start:
            waits_for: Callable[..., None] = _nobody_asks
            if private is not None and settings.private is not None:
                waits_for = start.enter_context(Starting(private, settings.private)).readiness.waits_for
            url = stack.enter_context(database_of(settings, database))
            _wait_for_database(url, waits_for)
            waits_for("the database is brought up to date")
            asyncio.run(prepare(url))
            app = build(url)
        run(
            app,
            host=settings.host,
            port=settings.port,
            private=settings.private,
            log_level=settings.log_level,
            sockets=(public, private),
            certificate=None if certificate is None else Certificate(*certificate),
        )


@contextmanager
def _reserved(setting: str, host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that has the port from now on, and listens once the node serves. Raises SettingsError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        reserved = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(f"CONCORDAT_HOST: {host} is no address of this machine: {error}") from error
    with reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reserved.bind(address)
        except OSError as error:
            raise SettingsError(f"CONCORDAT_{setting}: {host}:{port} can't be listened on: {error.strerror}") from error
        yield reserved


def _certificate(settings: NodeSettings) -> tuple[str, str] | None:
    """Return the files of the certificate and key to serve with, once they were read. Raises SettingsError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = str(settings.tls_cert), str(settings.tls_key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"CONCORDAT_TLS_CERT, CONCORDAT_TLS_KEY: can't be used: {error}") from error
    return files


def _nobody_asks(*_: object) -> None:
    """Where there is no private port to say on what is waited for."""


def _wait_for_database(url: str, waits_for: Callable[..., None]) -> None:
    """Wait until the database takes a connection, and say every few seconds that it doesn't, and why."""
    from gateway.federation.problems import ServiceReason
    from gateway.federation.storage.failures import DATABASE_ERRORS, failure_of
    from gateway.federation.storage.postgres import dsn, place
    from gateway.federation.storage.sessions import open_session

    async def ask() -> None:
        connection = await open_session(dsn(url), timeout=5)
        await connection.close()

    said_at = None
    while True:
        try:
            asyncio.run(ask())
        except DATABASE_ERRORS as error:
            now, what = time.monotonic(), f"waiting for PostgreSQL at {place(url)}: {error}"
            waits_for(what, failure_of(error) or ServiceReason.DATABASE_UNAVAILABLE)
            if said_at is None or now - said_at >= SAID_AGAIN_SECONDS:
                said_at = now
                _say(what)
            time.sleep(RETRY_SECONDS)
        else:
            if said_at is not None:
                _say(f"PostgreSQL at {place(url)} is there")
            return


def _say(text: str) -> None:
    sys.stderr.write(f"concordat: {shown(text)}\n")
    sys.stderr.flush()
