"""The database of the institution that a command is for, at its own machine: that one, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gateway.federation.settings import NodeSettings
from gateway.federation.signers.key_store import open_keys
from gateway.federation.storage.database import check_schema, create_engine, migrate
from gateway.federation.storage.owner import OWNER, require_owner
from gateway.federation.storage.postgres import PostgresError, database, dsn, place
from gateway.federation.storage.sessions import DatabaseUnreachableError, open_session

REVISION = "SELECT to_regclass('public.alembic_version')"
CONNECT_SECONDS_MAX = 10


@contextmanager
def own_database(
    settings: NodeSettings, name: str, package: str, *, owner: str = OWNER, up_to_date: bool = False
) -> Iterator[str]:
    """Yield the URL of an institution's database. Raises ConfigurationError if there is none, or it is another's.

    With `up_to_date` it is made where there is none and brought to the schema of `package`; or else nothing is changed.
    No server is started in a data directory without keys. `owner` is the query that names whose database it is.
    """
    if settings.database_url is None:
        require_keys(settings)
    with database(settings, name, make=up_to_date) as url:
        try:
            asyncio.run(_prepare(url, settings.bic, package, owner=owner, up_to_date=up_to_date))
        except DatabaseUnreachableError as error:
            raise PostgresError(f"no connection to PostgreSQL at {place(url)}: {error}") from error
        try:
            yield url
        except asyncpg.SyntaxOrAccessError:
            # A table or column that isn't there: of an earlier release, or else a defect.
            asyncio.run(_require_schema(url, package))
            raise


def require_keys(settings: NodeSettings) -> None:
    """Raise SettingsError unless the data directory is an institution's: a mistyped one is left as it is."""
    open_keys(settings.keys_dir).signer("auth")


async def _prepare(url: str, bic: str, package: str, *, owner: str, up_to_date: bool) -> None:
    if up_to_date:
        await migrate(url, package)
    else:
        connection = await open_session(dsn(url), timeout=CONNECT_SECONDS_MAX)
        try:
            if await connection.fetchval(REVISION) is None:
                raise PostgresError(f"{place(url)} holds nothing yet: `serve` makes what a node keeps")
        finally:
            await connection.close()
    await require_owner(url, bic, owner=owner)


async def _require_schema(url: str, package: str) -> None:
    engine = create_engine(url)
    try:
        await check_schema(engine, package)
    finally:
        await engine.dispose()
