"""Databases as programs of before left them: tables of an earlier schema, and rows as they were written then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.federation.storage import database
from gateway.federation.storage.postgres import async_url, dsn

NUMBERED = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND is_identity = 'YES'
"""


async def lay_down(url: str, package: str, revision: str, tables: Mapping[str, Sequence[Any]]) -> None:
    """Make a package's tables of a revision in an empty database, and put the rows into them as they were."""
    engine = create_async_engine(async_url(url))
    async with engine.connect() as connection:
        await database._prepare_role(connection)
        config = database._alembic(package)

        def upgrade(sync: Connection) -> None:
            config.attributes["connection"] = sync
            command.upgrade(config, revision)

        await connection.run_sync(upgrade)
        await connection.commit()
    await engine.dispose()
    owner = await asyncpg.connect(dsn(url))
    try:
        await owner.execute("SET session_replication_role = replica")
        for table, rows in tables.items():
            # A migration may have put a first row into it.
            await owner.execute(f"DELETE FROM {table}")
            await owner.execute(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::{table}, $1)",
                json.dumps(rows, separators=(",", ":"), ensure_ascii=False),
            )
        for table, column in await owner.fetch(NUMBERED):
            await owner.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) FROM {table}"
            )
    finally:
        await owner.close()
