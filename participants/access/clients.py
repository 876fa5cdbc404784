"""Which people and systems sign in at a bank: each by keys of its own, each key good for some roles.

They are registered at the bank's machine, where whoever can also write tokens with the bank's `token` key; so nobody
can do more by this than before. What was registered or revoked, when, and who said so stays in the database.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from compliance.crypto.keys import VerifyingKey
from compliance.person import same_person
from participants.roles import Role, Scope

CLIENT_PATTERN = r"[a-z][a-z0-9._-]{0,63}"
"""What a client may be called: people compare these names, and nothing in them looks like anything else."""

KEYS = """
SELECT k.*, r.revoked_at, r.revoked_by, r.reason FROM client_key k LEFT JOIN client_key_revocation r USING (kid)
"""
KEYS_OF = KEYS + "WHERE k.client_id = $1 AND r.kid IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())"
ALL_KEYS = KEYS + "ORDER BY k.client_id, k.registered_at, k.kid"
REVOKED = "SELECT kid FROM client_key_revocation"
REGISTER = """
INSERT INTO client_key (kid, client_id, x, roles, scope, expires_at, registered_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING RETURNING kid
"""
REVOKE = """
INSERT INTO client_key_revocation (kid, revoked_by, reason)
SELECT kid, $2, $3 FROM client_key WHERE client_id = $1 AND ($4::text IS NULL OR kid = $4)
ON CONFLICT DO NOTHING RETURNING kid
"""
KEEP_OUT = "SELECT pg_advisory_xact_lock(hashtextextended('client keys', 0))"
NAMES = "SELECT DISTINCT client_id FROM client_key"
FORGET = "DELETE FROM used_assertion WHERE client_id = $1 AND expires_at < now() - interval '1 minute'"
USE_UP = """
INSERT INTO used_assertion (client_id, jti, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING jti
"""


class ClientError(Exception):
    """What can't be registered or revoked. The message says why."""


@dataclass(frozen=True, kw_only=True)
class ClientKey:
    """One key of a client: `scope` narrows the role `read`; revoked if `revoked_at` is there."""

    client_id: str
    key: VerifyingKey
    roles: tuple[Role, ...]
    scope: str
    expires_at: datetime | None
    registered_by: str
    registered_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None

    @property
    def kid(self) -> str:
        return self.key.kid

    def seconds_left(self, now: datetime) -> float:
        """Return for how long it may be used yet; 0 or less if it may not."""
        if self.revoked_at is not None:
            return 0
        return float("inf") if self.expires_at is None else (self.expires_at - now).total_seconds()


@dataclass(frozen=True)
class BankClient:
    """Who asks the bank for a token, with the keys that count now."""

    client_id: str
    granted: Mapping[str, ClientKey]

    @property
    def keys(self) -> Mapping[str, VerifyingKey]:
        return {kid: granted.key for kid, granted in self.granted.items()}


async def load(connection: asyncpg.Connection, client_id: str) -> BankClient | None:
    """Return a client with the keys that it may sign in by; None if it has none."""
    keys = [_key(row) for row in await connection.fetch(KEYS_OF, client_id)]
    return BankClient(client_id, {key.kid: key for key in keys}) if keys else None


async def every(connection: asyncpg.Connection) -> list[ClientKey]:
    """Return all keys that ever were registered, by client."""
    return [_key(row) for row in await connection.fetch(ALL_KEYS)]


async def revoked(connection: asyncpg.Connection) -> frozenset[str]:
    """Return the ids of all revoked keys."""
    return frozenset(row[0] for row in await connection.fetch(REVOKED))


async def register(
    connection: asyncpg.Connection,
    client_id: str,
    key: VerifyingKey,
    roles: Sequence[Role],
    *,
    scopes: Collection[Scope] = (),
    expires_at: datetime | None = None,
    by: str,
) -> None:
    """Let a client sign in by a key. Raises ClientError: a key has one owner, and two clients aren't one person."""
    if scopes and tuple(roles) != (Role.READ,):
        raise ClientError("only the role read, alone, has a scope")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise ClientError(f"{expires_at:%Y-%m-%dT%H:%M:%SZ} is over")
    async with connection.transaction():
        await connection.execute(KEEP_OUT)
        for (name,) in await connection.fetch(NAMES):
            if name != client_id and same_person(name, client_id):
                raise ClientError(f"{client_id} reads as {name}, who is registered: they would count as one person")
        scope = " ".join(sorted(set(scopes)))
        granted = sorted({str(role) for role in roles})
        if not await connection.fetch(REGISTER, key.kid, client_id, key.x, granted, scope, expires_at, by):
            raise ClientError(f"the key {key.kid} was registered before: a key is one client's, once and for all")


async def revoke(
    connection: asyncpg.Connection, client_id: str, *, kid: str | None = None, by: str, reason: str
) -> list[str]:
    """Take a client's keys back, or one of them; return those that counted until now. Raises ClientError."""
    done = [row[0] for row in await connection.fetch(REVOKE, client_id, by, reason, kid)]
    if not done:
        raise ClientError(f"{client_id} has no such key that isn't revoked")
    return done


async def use_up(connection: asyncpg.Connection, client_id: str, jti: str, expires_at: datetime) -> bool:
    """Note that an assertion was used; False if it had been. Past ones are forgotten a minute after they end."""
    await connection.execute(FORGET, client_id)
    return bool(await connection.fetch(USE_UP, client_id, jti, expires_at))


def _key(row: Any) -> ClientKey:
    return ClientKey(
        client_id=row["client_id"],
        key=VerifyingKey(row["x"]),
        roles=tuple(map(Role, row["roles"])),
        scope=row["scope"],
        expires_at=row["expires_at"],
        registered_by=row["registered_by"],
        registered_at=row["registered_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )
