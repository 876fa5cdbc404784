"""A session with PostgreSQL: what it may cost when a server is gone, a lock is held, or a neighbour stands still.

Every connection of a node is opened here, with the same limits. A host that is gone sends no reset: the kernel notices
within `UNANSWERED_SECONDS_MAX`, where nothing between answers in its place; where something does, the limit of a
statement is what notices. The server, on its side, ends a session whose client is gone or stands still inside a
transaction, so that what it has locked is free for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import asyncpg

from gateway.federation.storage.failures import failure_of
from gateway.federation.storage.own_role import APP_ROLE as APP_ROLE
from gateway.federation.storage.postgres import dsn

CONNECT_SECONDS_MAX = 4.0
LOCK_SECONDS_MAX = 4.0
STATEMENT_SECONDS_MAX = 5.0
"""Unless a setting says otherwise."""
LONG_READ_SECONDS_MAX = 60.0
"""For what reads a whole journal, and says so."""
GRACE_SECONDS = 0.5
"""How much later than the server we give a statement up."""
CANCEL_SECONDS_MAX = 1.5
"""How long the server has to cancel a statement, and to answer a goodbye; after that it is gone."""
IDLE_IN_TRANSACTION_SECONDS_MAX = 5.0
"""A transaction waits for nothing but its database: no network, no disk, no signature."""
UNANSWERED_SECONDS_MAX = 5.0
"""Until the kernel gives up a connection on which nothing that was sent is acknowledged."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 3, 1, 3


class DatabaseUnreachableError(ConnectionError):
    """No connection to the database could be opened."""


class Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection that notices when its server is gone."""

    __slots__ = ("gone",)

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        self.gone: Callable[[], None] = lambda: None
        """Called when a statement was given up and the server didn't even cancel it."""
        _keep_alive(transport.get_extra_info("socket"))

    async def close(self, *, timeout: float | None = None) -> None:
        """Say goodbye to the server, or let go of one that doesn't answer."""
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=CANCEL_SECONDS_MAX if timeout is None else timeout)

    async def _cancel(self, *waiters: Any) -> None:
        # The driver would wait as long again as for the statement itself, on a server that may be gone.
        async with asyncio.timeout(CANCEL_SECONDS_MAX) as limit:
            await super()._cancel(*waiters)
        if limit.expired():
            self.terminate()
            self.gone()


def _keep_alive(connection: socket.socket) -> None:
    """Let the kernel find out that a host is gone. A unix socket's other end is here, and needs no such thing."""
    if connection.family == socket.AF_UNIX:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every system has all of them.
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", round(UNANSWERED_SECONDS_MAX * 1000)),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def session_options(
    *,
    application_name: str,
    role: str | None = APP_ROLE,
    statement_seconds: float = STATEMENT_SECONDS_MAX,
    idle_in_transaction_seconds: float = IDLE_IN_TRANSACTION_SECONDS_MAX,
) -> dict[str, Any]:
    """Return what asyncpg is to be told when it connects."""
    settings = {
        "application_name": application_name,
        "search_path": "public",
        "timezone": "UTC",
        "lock_timeout": _ms(LOCK_SECONDS_MAX),
        "statement_timeout": _ms(statement_seconds),
        "idle_in_transaction_session_timeout": _ms(idle_in_transaction_seconds),
        "tcp_keepalives_idle": str(KEEPALIVE_IDLE_S),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_S),
        "tcp_keepalives_count": str(KEEPALIVE_COUNT),
        "tcp_user_timeout": _ms(UNANSWERED_SECONDS_MAX),
    }
    return {
        "server_settings": settings if role is None else {**settings, "role": role},
        "timeout": CONNECT_SECONDS_MAX,
        # The server's own word comes first where there is a server.
        "command_timeout": statement_seconds + GRACE_SECONDS,
    }


async def open_session(*args: Any, **options: Any) -> Session:
    """Connect as asyncpg does. Raises DatabaseUnreachableError, asyncpg.PostgresError."""
    try:
        connection = await asyncpg.connect(*args, **{**options, "connection_class": Session})
    except (OSError, asyncpg.PostgresError) as error:
        # A database that isn't there yet, or a password that was changed: it passes, as anything at this point does.
        if isinstance(error, OSError) or failure_of(error) is None:
            raise DatabaseUnreachableError(f"{type(error).__name__}: {error}") from error
        raise
    assert isinstance(connection, Session)
    return connection


class SessionGroup:
    """The sessions of a pool: once one of them finds its server gone, all are let go of, whatever they wait for."""

    def __init__(self) -> None:
        self._sessions: WeakSet[Session] = WeakSet()

    async def open(self, *args: Any, **options: Any) -> Session:
        """Do what `open_session` does."""
        session = await open_session(*args, **options)
        session.gone = self._drop
        self._sessions.add(session)
        return session

    def _drop(self) -> None:
        for session in list(self._sessions):
            session.terminate()


async def connect(url: str, *, application_name: str, statement_seconds: float = STATEMENT_SECONDS_MAX) -> Session:
    """Open a session of the application. Raises DatabaseUnreachableError, asyncpg.PostgresError."""
    options = session_options(application_name=application_name, statement_seconds=statement_seconds)
    return await open_session(dsn(url), **options)


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
