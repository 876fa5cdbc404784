"""A database and a login role of its own for each institution on an embedded server that several may share."""

from __future__ import annotations

import asyncpg

from gateway.federation.storage.server_directory import PostgresError

APP_ROLE = "concordat_app"
"""As which every institution's application works: it may not change or delete history."""

# Tables, views, sequences and their like, functions, types and schemas that a release before made as the superuser.
# What belongs to a table follows it.
_HAND_OVER = """
DO $$
DECLARE statement text;
BEGIN
    FOR statement IN
        SELECT format('ALTER SCHEMA %I OWNER TO {role}', nspname) FROM pg_namespace
        WHERE nspowner = 10 AND nspname !~ '^pg_' AND nspname <> 'information_schema'
        UNION ALL
        SELECT format('ALTER %s %s OWNER TO {role}',
            CASE relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.oid::regclass)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relowner = 10 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
            AND nspname !~ '^pg_' AND nspname <> 'information_schema'
            AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i') AND relkind = 'S')
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO {role}', p.oid::regprocedure)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
        WHERE proowner = 10 AND nspname !~ '^pg_' AND nspname <> 'information_schema'
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO {role}', t.oid::regtype)
        FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
        WHERE typowner = 10 AND typtype IN ('d', 'e', 'r') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    LOOP
        EXECUTE statement;
    END LOOP;
END $$
"""


async def give_own_database(superuser: str, database: str, *, name: str, password: str, make: bool = True) -> None:
    """Let the role `name` in, to the database of that name and no other.

    Both are made if they aren't there, or PostgresError is raised where they aren't to be made.
    `superuser` is the superuser's DSN of the server's first database, `database` of this one. One caller at a time.
    A database that the superuser owns, as with releases before, is handed over with all that is in it.
    """
    connection = await asyncpg.connect(superuser)
    try:
        owner = await connection.fetchval("SELECT datdba::regrole::text FROM pg_database WHERE datname = $1", name)
        if owner == name:
            return
        if owner is None and not make:
            raise PostgresError(f"this server holds no database {name}: is this another institution's data directory?")
        await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        for role, may in ((APP_ROLE, "NOLOGIN"), (name, f"LOGIN PASSWORD '{password}'")):
            if await connection.fetchval("SELECT to_regrole($1)", role) is None:
                await connection.execute(f'CREATE ROLE "{role}" {may}')
        # To become it, and no more: every database lets it connect, and not whoever may become it.
        await connection.execute(f'GRANT {APP_ROLE} TO "{name}" WITH INHERIT FALSE, SET TRUE')
        if owner is None:
            await connection.execute(f'CREATE DATABASE "{name}"')
        else:
            await _hand_over(database, name)
        await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        # Last, so that whoever finds it done finds all of it done.
        await connection.execute(f'ALTER DATABASE "{name}" OWNER TO "{name}"')
    finally:
        await connection.close()


async def _hand_over(database: str, name: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(_HAND_OVER.format(role=f'"{name}"'))
    finally:
        await connection.close()


async def ask_for_passwords(superuser: str, password: str) -> None:
    """Let nobody in without a password, where a release before let in whoever reached the socket."""
    connection = await asyncpg.connect(superuser)
    try:
        if not await connection.fetchval("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'trust'"):
            return
        await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{password}'")
        path = str(await connection.fetchval("SHOW hba_file")).replace("'", "''")
        # Written by the server, as whoever it runs as.
        await connection.execute(f"COPY (SELECT 'local all all scram-sha-256') TO '{path}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()
