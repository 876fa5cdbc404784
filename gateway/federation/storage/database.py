"""Connections, transactions and migrations of one institution's PostgreSQL.

The application works under the role `concordat_app`, which owns nothing: what a migration doesn't grant it can't
do, so "entries are never updated or deleted" is kept by the database. Migrations run as the login user.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from asyncpg.pool import PoolAcquireContext
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.federation.storage.failures import sqlstate
from gateway.federation.storage.postgres import PostgresError, async_url, dsn
from gateway.federation.storage.sessions import (
    APP_ROLE,
    IDLE_IN_TRANSACTION_SECONDS_MAX,
    STATEMENT_SECONDS_MAX,
    Session,
    SessionGroup,
    open_session,
    session_options,
)

T = TypeVar("T")

Isolation = Literal["READ COMMITTED", "REPEATABLE READ"]
ACQUIRE_SECONDS_MAX = 5.0
"""How long somebody waits for a connection of a pool, and for its being opened."""
SIGN_OF_LIFE_S = IDLE_IN_TRANSACTION_SECONDS_MAX / 5
MIGRATION_STATEMENT_SECONDS_MAX = 60.0
_MIGRATION_LOCK = 0x636F6E63  # "conc"
_INSUFFICIENT_PRIVILEGE = "42501"


def create_engine(
    url: str,
    *,
    role: str | None = APP_ROLE,
    pool_size: int = 10,
    application_name: str = "concordat",
    statement_seconds: float = STATEMENT_SECONDS_MAX,
    idle_in_transaction_seconds: float = IDLE_IN_TRANSACTION_SECONDS_MAX,
) -> AsyncEngine:
    """Return an engine whose connections work as `role`. An engine belongs to one event loop."""
    options = session_options(
        role=role,
        application_name=application_name,
        statement_seconds=statement_seconds,
        idle_in_transaction_seconds=idle_in_transaction_seconds,
    )
    engine = create_async_engine(
        async_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=ACQUIRE_SECONDS_MAX,
        hide_parameters=True,
        connect_args={"async_creator_fn": SessionGroup().open, **options},
    )
    event.listen(engine.sync_engine, "checkout", _require_open)
    event.listen(engine.sync_engine, "handle_error", _drop_late)
    return engine


def _require_open(connection: Any, _record: Any, _proxy: Any) -> None:
    """Let the pool replace a connection that the server has closed: asyncpg knows without asking.

    SQLAlchemy's `pool_pre_ping` would be three round trips before every transaction.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _drop_late(context: ExceptionContext) -> None:
    """Drop a connection whose statement was given up; if its server is gone, its group drops the others."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect, context.invalidate_pool_on_disconnect = True, False


class _Pool(asyncpg.Pool):  # type: ignore[misc]
    """A pool of sessions that keeps nobody waiting without end."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(
            dsn(url),
            max_queries=50_000,
            max_inactive_connection_lifetime=300,
            connect=SessionGroup().open,
            loop=None,
            connection_class=Session,
            record_class=asyncpg.Record,
            **options,
        )

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        # With a limit the driver makes a task of it, which is for nothing where nobody has to wait.
        if timeout is None and not self.get_idle_size():
            timeout = ACQUIRE_SECONDS_MAX
        return super().acquire(timeout=timeout)


async def asyncpg_pool(
    url: str,
    *,
    role: str | None = APP_ROLE,
    min_size: int = 1,
    max_size: int = 10,
    application_name: str = "concordat",
    statement_seconds: float = STATEMENT_SECONDS_MAX,
) -> asyncpg.Pool:
    """Return a pool of bare asyncpg connections that work as `role`, for COPY and hot paths.

    Raises DatabaseUnreachableError, asyncpg.PostgresError.
    """
    options = session_options(role=role, application_name=application_name, statement_seconds=statement_seconds)
    pool = _Pool(url, min_size=min_size, max_size=max_size, **options)
    await pool
    return pool


@asynccontextmanager
async def transaction(
    engine: AsyncEngine, *, isolation: Isolation = "READ COMMITTED"
) -> AsyncIterator[AsyncConnection]:
    """Open a transaction; commit when the block ends, roll back when it raises. A failed commit raises."""
    async with engine.connect() as connection:
        if isolation != "READ COMMITTED":
            await connection.execution_options(isolation_level=isolation)
        yield connection
        await connection.commit()


async def computed(connection: AsyncConnection, work: Callable[[], T]) -> T:
    """Return what `work` makes on a thread, within a transaction that stays open however long that takes.

    The server ends a transaction whose client stands still, and can't see that this one computes. A process that is
    stopped says nothing either way.
    """
    made = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        while not (await asyncio.wait({made}, timeout=SIGN_OF_LIFE_S))[0]:
            await connection.execute(text("SELECT 1"))
        return await made
    finally:
        made.cancel()


def _alembic(package: str) -> Config:
    migrations = importlib.import_module(f"{package}.migrations")
    locations = [str(Path(path) / "versions") for path in migrations.__path__]
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(locations))
    return config


def head_revision(package: str) -> str | None:
    """Return the newest revision that a package's code knows."""
    return ScriptDirectory.from_config(_alembic(package)).get_current_head()


async def current_revision(engine: AsyncEngine) -> str | None:
    """Return the revision a database's schema is at, None before the first migration."""
    async with engine.connect() as connection:
        return await _revision(connection)


async def _revision(connection: AsyncConnection) -> str | None:
    if await connection.scalar(text("SELECT to_regclass('public.alembic_version')")) is None:
        return None
    revision = await connection.scalar(text("SELECT version_num FROM public.alembic_version"))
    return None if revision is None else str(revision)


async def check_schema(engine: AsyncEngine, package: str) -> str:
    """Return the schema's revision; raises PostgresError unless it is the one the code was written for."""
    current, head = await current_revision(engine), head_revision(package)
    _require_known(package, current)
    if current is None or current != head:
        raise PostgresError(f"schema at revision {current}, the code expects {head}: `serve` brings it up to date")
    return current


def _require_known(package: str, revision: str | None) -> None:
    """Raise PostgresError for a schema that a later release made."""
    script = ScriptDirectory.from_config(_alembic(package))
    if revision is not None and revision not in {known.revision for known in script.walk_revisions()}:
        raise PostgresError(
            f"schema at revision {revision}, made by a later release: this one knows them up to"
            f" {script.get_current_head()}; run that release, or this one on a backup from before"
        )


async def migrate(url: str, package: str) -> str | None:
    """Bring a database to the newest revision of `<package>.migrations`, and return that revision.

    Each revision is `<package>/migrations/versions/NNNN_*.py` in Alembic's form; `op.execute` takes whole SQL
    scripts. Each runs in its own transaction with lock and statement timeouts; replicas that start together wait
    for each other. Creates the role `concordat_app` if absent. Raises PostgresError, for a database of a later release
    before anything in it is changed.
    """
    options = session_options(
        role=None, application_name=f"concordat migrate {package}", statement_seconds=MIGRATION_STATEMENT_SECONDS_MAX
    )
    engine = create_async_engine(
        async_url(url), poolclass=NullPool, connect_args={"async_creator_fn": open_session, **options}
    )
    try:
        async with engine.connect() as connection:
            # A session lock, because it outlives the transactions of the single migrations; the connection is ours
            # alone and closing it gives the lock back.
            await connection.execute(text("SET lock_timeout = '60s'"))
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.execute(text("SET lock_timeout = '4s'"))
            _require_known(package, await _revision(connection))
            await _prepare_role(connection)
            await connection.commit()
            config = _alembic(package)

            def upgrade(sync: Connection) -> None:
                config.attributes["connection"] = sync
                command.upgrade(config, "head")

            await connection.run_sync(upgrade)
            await connection.execute(text(f"GRANT SELECT ON public.alembic_version TO {APP_ROLE}"))
            await connection.commit()
    finally:
        await engine.dispose()
    return head_revision(package)


async def _prepare_role(connection: AsyncConnection) -> None:
    """Create the application's role and let the login user take it on."""
    try:
        # Roles belong to the whole server, so another institution's migration may create this one meanwhile.
        await connection.execute(
            text(
                f"DO $$ BEGIN CREATE ROLE {APP_ROLE} NOLOGIN;"
                " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            )
            if not await connection.scalar(text("SELECT to_regrole(:role)"), {"role": APP_ROLE})
            else text("SELECT 1")
        )
        version = int(str(await connection.scalar(text("SHOW server_version_num"))))
        privilege = "SET" if version >= 160_000 else "MEMBER"
        may_become = text("SELECT pg_has_role(current_user, :role, :privilege)")
        if not await connection.scalar(may_become, {"role": APP_ROLE, "privilege": privilege}):
            await connection.execute(text(f"GRANT {APP_ROLE} TO CURRENT_USER"))
        await connection.execute(
            text(
                f"DO $$ BEGIN EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO {APP_ROLE}',"
                " current_database()); END $$"
            )
        )
        await connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {APP_ROLE}"))
    except ProgrammingError as error:
        if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise PostgresError(
            f"the database user may not set up the role {APP_ROLE}; let an administrator run:"
            f" CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO <user>;"
            f" and make the user owner of its database ({error.orig})"
        ) from error
