"""Who may have which access token at the coordinator, read from its registry."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidRequestError, UnauthorizedClientError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.keys import Signer, VerifyingKey
from gateway.coordinator.access.clients import SPEAKS_TO_COORDINATOR, Client, load_audience, load_client, may_speak
from gateway.federation.access.oauth import Fields, Grant, InvalidTargetError, TokenService
from gateway.federation.clocks import Clocks, Span
from gateway.federation.identity.tokens import ASSERTION_LIFETIME_MAX_S, AssertionClaims
from gateway.federation.storage.database import transaction


def token_service(
    engine: AsyncEngine, *, issuer: str, scheme: str | None, key: Signer, clocks: Clocks
) -> TokenService[Client]:
    """Return the coordinator's token endpoint. `clocks` hears what time it is at members that sign in."""

    @asynccontextmanager
    async def register() -> AsyncIterator[_Register]:
        async with transaction(engine) as conn:
            yield _Register(conn)

    def hear(client: Client, issued_at: int) -> None:
        """Note what time it was at a member, by an assertion that it has just made."""
        if client.role in ("participant", "agent"):
            ahead = issued_at - time.time()
            clocks.hear(client.client_id, Span(ahead, ahead + 1 + ASSERTION_LIFETIME_MAX_S))

    return TokenService(register, issuer=issuer, scheme=scheme, key=key, published=_published(engine), hear=hear)


class _Register:
    """The registry, within one transaction."""

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def client(self, client_id: str) -> Client | None:
        return await load_client(self._conn, client_id)

    async def grant(self, client: Client, _: str, fields: Fields) -> Grant | OAuth2Error:
        """Return the token that a client may have for the one member that it names."""
        if fields.get("scope"):
            return InvalidRequestError("No scope is defined: a role says what its holder may do")
        if client.status not in SPEAKS_TO_COORDINATOR:
            return UnauthorizedClientError(f"The member is {client.status}")
        if not fields.get("resource"):
            return InvalidTargetError("The resource parameter names the one audience, by its BIC")
        audience = await load_audience(self._conn, fields["resource"])
        if audience is None or not may_speak(client, audience):
            return InvalidTargetError("The resource is unknown or out of reach for this client")
        return Grant(audience=audience.bic, role=client.role)

    async def use_up(self, claims: AssertionClaims) -> bool:
        """Note that an assertion was used; False if it had been. Past ones are forgotten a minute after they end."""
        await self._conn.execute(
            text(
                "DELETE FROM used_assertions WHERE client_id = :client_id AND expires_at < now() - interval '1 minute'"
            ),
            {"client_id": claims.sub},
        )
        used = await self._conn.execute(
            text(
                "INSERT INTO used_assertions (client_id, jti, expires_at) VALUES (:client_id, :jti, :expires_at)"
                " ON CONFLICT DO NOTHING RETURNING jti"
            ),
            {"client_id": claims.sub, "jti": claims.jti, "expires_at": datetime.fromtimestamp(claims.exp, UTC)},
        )
        if used.one_or_none() is None:
            return False
        await self._conn.execute(
            text(
                "UPDATE members SET last_seen_at = now() WHERE bic = :bic"
                " AND (last_seen_at IS NULL OR last_seen_at < now() - interval '10 seconds')"
            ),
            {"bic": claims.sub},
        )
        return True


def _published(engine: AsyncEngine) -> Callable[[], Awaitable[Iterable[VerifyingKey]]]:
    async def keys() -> Iterable[VerifyingKey]:
        async with transaction(engine) as conn:
            rows = await conn.execute(
                text(
                    "SELECT x FROM member_keys JOIN members USING (bic)"
                    " WHERE kind = 'coordinator' AND use = 'token' AND member_keys.status = 'active' ORDER BY kid"
                )
            )
            return [VerifyingKey(row.x) for row in rows]

    return keys
