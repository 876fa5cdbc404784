"""The embedded server is shared and survives its owner; migrations run once; the application's role can't do all."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from support import NewDatabase

from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import (
    asyncpg_pool,
    check_schema,
    create_engine,
    current_revision,
    head_revision,
    migrate,
    transaction,
)
from gateway.federation.storage.failures import sqlstate
from gateway.federation.storage.postgres import (
    SOCKET,
    EmbeddedServer,
    PostgresError,
    async_url,
    create_database,
    database,
    dsn,
    with_database,
)

FAST = {"fsync": "off"}
REVISION = '''
from alembic import op

revision = "{revision}"
down_revision = {down}


def upgrade() -> None:
    op.execute("""{sql}""")
'''
FIRST = """
CREATE TABLE entry (id bigint PRIMARY KEY, note text NOT NULL CHECK (note NOT LIKE '%::%'));
CREATE FUNCTION half(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v bigint := n / 2;
BEGIN
  RETURN v::bigint;
END $$;
GRANT SELECT, INSERT ON entry TO concordat_app;
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="concordat-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with one migration, and a name of its own."""
    name = "ledger_" + tmp_path.name.replace("-", "_")
    versions = tmp_path / name / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "migrations" / "__init__.py").touch()
    (versions / "0001_first.py").write_text(REVISION.format(revision="0001", down=None, sql=FIRST))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[module]


def add_revision(package: str, sql: str) -> None:
    versions = Path(sys.modules[f"{package}.migrations"].__path__[0]) / "versions"
    (versions / "0002_second.py").write_text(REVISION.format(revision="0002", down='"0001"', sql=sql))


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(dsn(url))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def test_data_outlive_the_server(directory: Path) -> None:
    for expected in (0, 1):
        server = EmbeddedServer(directory, options=FAST)
        server.start()
        url = asyncio.run(create_database(server.url("postgres"), "bank"))
        asyncio.run(fetch(url, "CREATE TABLE IF NOT EXISTS t (n int)"))
        assert asyncio.run(fetch(url, "SELECT count(*) FROM t")) == expected
        asyncio.run(fetch(url, "INSERT INTO t VALUES (1)"))
        server.stop()
        assert not (server.socket_dir / SOCKET).exists()


def test_only_its_owner_can_reach_the_socket(directory: Path) -> None:
    server = EmbeddedServer(directory, options=FAST)
    server.start()
    try:
        assert server.socket_dir.stat().st_mode & 0o077 == 0
        assert asyncio.run(fetch(server.url("postgres"), "SHOW listen_addresses")) == ""
    finally:
        server.stop()


def answers(server: EmbeddedServer) -> bool:
    try:
        return asyncio.run(fetch(server.url("postgres"), "SELECT 1")) == 1
    except OSError:
        return False


def test_the_last_to_leave_stops_the_server(directory: Path) -> None:
    first, second = EmbeddedServer(directory, options=FAST), EmbeddedServer(directory)
    first.start()
    second.start()
    first.stop()
    first.stop()
    assert answers(second)
    first.start()
    second.stop()
    assert answers(first)
    first.stop()
    assert not answers(first)


def test_the_server_of_a_killed_process_is_taken_over(directory: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gateway.federation.storage.postgres import EmbeddedServer;"
        "EmbeddedServer(Path(sys.argv[1]), options={'fsync': 'off'}).start();"
        "print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    postmaster = (directory / "data" / "postmaster.pid").read_text().splitlines()[0]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    heir = EmbeddedServer(directory)
    heir.start()
    assert (directory / "data" / "postmaster.pid").read_text().splitlines()[0] == postmaster
    assert answers(heir)
    heir.stop()
    assert not answers(heir)
    assert not (directory / "data" / "postmaster.pid").exists()


def test_processes_that_start_together_share_one_server(directory: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gateway.federation.storage.postgres import EmbeddedServer;"
        "server = EmbeddedServer(Path(sys.argv[1]), options={'fsync': 'off'}); server.start();"
        "print((server.data / 'postmaster.pid').read_text().splitlines()[0], flush=True);"
        "sys.stdin.read(); server.stop()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    pids = {process.stdout.readline() for process in processes if process.stdout is not None}
    for process in processes:
        process.communicate("")
    assert len(pids) == 1
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert not (directory / "data" / "postmaster.pid").exists()


def test_a_stale_pid_file_is_no_obstacle(directory: Path) -> None:
    server = EmbeddedServer(directory, options=FAST)
    server.start()
    pid_file = directory / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    pid_file.write_text("\n".join([str(gone.pid), *lines[1:]]) + "\n")
    again = EmbeddedServer(directory, options=FAST)
    again.start()
    assert asyncio.run(fetch(again.url("postgres"), "SELECT 1")) == 1
    again.stop()


def test_the_environment_s_database_goes_before_the_embedded_one(directory: Path) -> None:
    settings = NodeSettings(bic="BANKDEFF", url="http://127.0.0.1:1", data_dir=directory, database_url="postgres://h/d")
    with database(settings, "ignored") as url:
        assert url == "postgresql+asyncpg://h/d"
    assert not list(directory.iterdir())


async def test_the_embedded_database_works_from_inside_an_event_loop(directory: Path) -> None:
    settings = NodeSettings(bic="BANKDEFF", url="http://127.0.0.1:1", data_dir=directory)
    with database(settings, "bankdeff") as url:
        assert await fetch(url, "SELECT current_database()") == "bankdeff"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_database_urls_are_brought_into_form(scheme: str) -> None:
    url = f"{scheme}://u:p%40@h:5432/d?host=/tmp"
    assert async_url(url) == "postgresql+asyncpg://u:p%40@h:5432/d?host=/tmp"
    assert dsn(url) == "postgresql://u:p%40@h:5432/d?host=/tmp"
    assert with_database(url, "e").startswith("postgresql+asyncpg://u:p%40@h:5432/e?")
    assert with_database("postgresql:///d?host=/tmp", "e").startswith("postgresql+asyncpg:///e?")


@pytest.mark.parametrize("url", ["mysql://h/d", "h/d", "", "sqlite://"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(PostgresError):
        async_url(url)


async def test_migrations_run_once_whoever_starts_them(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    assert await asyncio.gather(*(migrate(url, package) for _ in range(3))) == ["0001"] * 3
    assert await fetch(url, "SELECT half(9)") == 4


async def test_the_code_and_the_schema_must_agree(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    engine = create_engine(url, role=None)
    assert await current_revision(engine) is None
    with pytest.raises(PostgresError, match="schema at revision None, the code expects 0001"):
        await check_schema(engine, package)
    await migrate(url, package)
    assert await check_schema(engine, package) == head_revision(package) == "0001"
    add_revision(package, "ALTER TABLE entry ADD COLUMN at timestamptz;")
    with pytest.raises(PostgresError, match="at revision 0001, the code expects 0002"):
        await check_schema(engine, package)
    await migrate(url, package)
    assert await check_schema(engine, package) == "0002"
    await engine.dispose()


async def test_a_failing_migration_leaves_nothing_behind(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    await migrate(url, package)
    add_revision(package, "CREATE TABLE half_done (n int); SELECT 1 / 0;")
    with pytest.raises((asyncpg.DivisionByZeroError, DBAPIError)):
        await migrate(url, package)
    assert await fetch(url, "SELECT to_regclass('half_done')") is None
    assert await fetch(url, "SELECT version_num FROM alembic_version") == "0001"


async def test_the_application_can_t_do_what_no_migration_granted(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    await migrate(url, package)
    engine = create_engine(url)
    async with transaction(engine) as connection:
        await connection.execute(text("INSERT INTO entry VALUES (1, 'a')"))
        assert await connection.scalar(text("SELECT current_user")) == "concordat_app"
    for forbidden in ("UPDATE entry SET note = 'b'", "DELETE FROM entry", "TRUNCATE entry", "DROP TABLE entry"):
        with pytest.raises(ProgrammingError) as refused:
            async with transaction(engine) as connection:
                await connection.execute(text(forbidden))
        assert sqlstate(refused.value) == "42501"
    await engine.dispose()


async def test_bare_connections_keep_the_role_after_check_in(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    await migrate(url, package)
    pool = await asyncpg_pool(url, max_size=1)
    for _ in range(2):
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT current_user") == "concordat_app"
            assert await connection.fetchval("SHOW statement_timeout") == "5s"
            await connection.execute("SET statement_timeout = 0")
    await pool.close()


async def test_a_user_without_the_right_is_told_what_to_do(new_database: NewDatabase, package: str) -> None:
    url = await new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    login = f"limited_{name}"
    await migrate(await new_database(), package)  # the role is there now, and it isn't this user's to give
    await fetch(url, f"CREATE ROLE {login} LOGIN PASSWORD '{login}'")
    await fetch(url, f"ALTER DATABASE {name} OWNER TO {login}")
    try:
        connection = await asyncpg.connect(dsn(url), user=login, password=login)
    except asyncpg.InvalidAuthorizationSpecificationError:
        pytest.skip("this server doesn't let a new user in")
    await connection.close()
    limited = url.replace("://" + url.partition("://")[2].partition("@")[0] + "@", f"://{login}:{login}@")
    with pytest.raises(PostgresError, match="GRANT concordat_app TO <user>"):
        await migrate(limited, package)
    await fetch(url, f"GRANT concordat_app TO {login}")
    assert await migrate(limited, package) == "0001"
    await fetch(url, f"REASSIGN OWNED BY {login} TO CURRENT_USER")
    await fetch(url, f"DROP OWNED BY {login}")
    await fetch(url, f"DROP ROLE {login}")


async def test_a_failed_commit_is_an_error(new_database: NewDatabase) -> None:
    engine = create_engine(await new_database(), role=None)
    async with transaction(engine) as connection:
        await connection.execute(text("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with pytest.raises(IntegrityError):
        async with transaction(engine) as connection:
            await connection.execute(text("INSERT INTO t VALUES (1), (1)"))
    async with transaction(engine) as connection:
        assert await connection.scalar(text("SELECT count(*) FROM t")) == 0
    await engine.dispose()


async def test_a_parameter_never_shows_in_an_error(new_database: NewDatabase) -> None:
    engine = create_engine(await new_database(), role=None)
    with pytest.raises(DBAPIError) as failed:
        async with transaction(engine) as connection:
            await connection.execute(text("SELECT CAST(:name AS text) || nosuch"), {"name": "Jane Doe"})
    assert "Jane Doe" not in str(failed.value)
    await engine.dispose()
