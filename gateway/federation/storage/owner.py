"""Whose database this is: it knows the institution that it belongs to, and works for no other.

Two nodes whose settings were mixed up would each write its own word into the other's books.
"""

from __future__ import annotations

import asyncpg

from gateway.federation.storage.postgres import PostgresError
from gateway.federation.storage.sessions import connect

OWNER = "SELECT bic FROM owner"
CLAIM = "INSERT INTO owner (bic) VALUES ($1) ON CONFLICT DO NOTHING"


async def require_owner(url: str, bic: str, *, owner: str = OWNER, claim: bool = False) -> None:
    """Raise PostgresError unless the database is this institution's, or nobody's yet; then it may claim it for good.

    `owner` is the query that names who it belongs to.
    """
    connection = await connect(url, application_name=f"concordat {bic} owner")
    try:
        if claim:
            # Of two that claim it at the same time the second waits, and reads whose it is then.
            await connection.execute(CLAIM, bic)
        known = await connection.fetchval(owner)
    except asyncpg.UndefinedTableError:
        return  # of a release that knew no owners, and not served since
    finally:
        await connection.close()
    if known is not None and known != bic:
        raise PostgresError(f"this database belongs to {known}, and CONCORDAT_BIC says {bic}: mend one of the two")
