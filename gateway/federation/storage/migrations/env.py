"""Alembic runs this file; `gateway.federation.storage.database.migrate` hands it an open connection."""

from __future__ import annotations

from typing import Any

from alembic import context
from alembic.ddl.postgresql import PostgresqlImpl
from sqlalchemy import Executable
from sqlalchemy.util import await_only


class ScriptImpl(PostgresqlImpl):
    """Lets `op.execute` take a whole SQL script: many statements, colons and percent signs as they stand."""

    __dialect__ = "postgresql"

    def execute(self, sql: Executable | str, execution_options: dict[str, Any] | None = None) -> None:
        if not isinstance(sql, str) or self.connection is None:
            super().execute(sql, execution_options)
            return
        # SQLAlchemy's adapter opens the transaction with the first statement that goes through it.
        self.connection.exec_driver_sql("SELECT 1")
        driver: Any = self.connection.connection.driver_connection
        await_only(driver.execute(sql))


context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
