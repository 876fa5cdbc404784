"""The bank's token endpoint: which token a client may have, and which tokens count no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import asyncpg
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidScopeError

from compliance.crypto.keys import Signer, VerifyingKey
from gateway.federation.access.oauth import NAME, Fields, Grant, InvalidTargetError, TokenService
from gateway.federation.identity.tokens import TOKEN_LIFETIME_MAX_S, AssertionClaims, Claims, signed_in_by
from participants.access import clients
from participants.access.clients import BankClient, ClientKey
from participants.roles import Role, Scope
from participants.watch import Outage, Watch

LOOK_SECONDS = 5.0
"""How often the revoked keys are read: a command at the bank's machine revokes, and each node has to hear of it."""


class SignIn:
    """Who signs in at the bank. Belongs to one event loop."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        outage: Outage,
        *,
        bank: str,
        issuer: str,
        scheme: str,
        key: Signer,
        forget: Callable[[], None],
    ) -> None:
        """`forget` lets go of verified tokens: some of them may count no more."""
        self._pool = pool
        self._bank = bank
        self._forget = forget
        self._revoked: frozenset[str] = frozenset()
        self.task = Watch("client-keys", self.look, every_s=LOOK_SECONDS, outage=outage).task

        async def published() -> Iterable[VerifyingKey]:
            return (key.verifying_key,)

        self.tokens = TokenService(self._register, issuer=issuer, scheme=scheme, key=key, published=published)

    async def start(self) -> None:
        """Read which keys are revoked, and go on looking."""
        await self.look()
        self.task.start()

    def withdrawn(self, claims: Claims) -> bool:
        """Tell whether a token was got by a key that is revoked. One that was got by none is the bank's own word."""
        return signed_in_by(claims) in self._revoked

    async def look(self) -> None:
        """Read which keys are revoked."""
        async with self._pool.acquire() as connection:
            revoked = await clients.revoked(connection)
        if revoked != self._revoked:
            self._revoked = revoked
            self._forget()

    @asynccontextmanager
    async def _register(self) -> AsyncIterator[_Register]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield _Register(connection, self._bank)


class _Register:
    """The bank's clients, within one transaction."""

    def __init__(self, connection: asyncpg.Connection, bank: str) -> None:
        self._connection = connection
        self._bank = bank

    async def client(self, client_id: str) -> BankClient | None:
        return await clients.load(self._connection, client_id) if NAME.fullmatch(client_id) else None

    async def use_up(self, claims: AssertionClaims) -> bool:
        ends = datetime.fromtimestamp(claims.exp, UTC)
        return await clients.use_up(self._connection, claims.sub, claims.jti, ends)

    async def grant(self, client: BankClient, kid: str, fields: Fields) -> Grant | OAuth2Error:
        if fields.get("resource") != self._bank:
            return InvalidTargetError(f"The resource parameter names the one audience: {self._bank}")
        granted = client.granted[kid]
        asked = fields.get("scope", "").split()
        if not asked:
            if len(granted.roles) > 1:
                return InvalidScopeError(f"Say in scope which one role the token is for: {', '.join(granted.roles)}")
            asked = [granted.roles[0]]
        role, *books = asked
        if role not in granted.roles:
            # What is asked for may be any text, and isn't said again unless it is a role.
            asked_for = f"The role {role}" if role in set(Role) else "That"
            return InvalidScopeError(f"{asked_for} isn't one of this client's: {', '.join(granted.roles)}")
        scope = _narrowed(Role(role), books, granted)
        if scope is None:
            return InvalidScopeError("Only read is narrowed, to some of payments, accounts, cycles, lists that it has")
        left = granted.seconds_left(datetime.now(UTC))
        return Grant(audience=self._bank, role=role, scope=scope, lifetime_s=int(min(TOKEN_LIFETIME_MAX_S, left)))


def _narrowed(role: Role, books: list[str], granted: ClientKey) -> str | None:
    """Return the scope of a token that asks for these books; None if the client may not have it."""
    may = granted.scope.split() or [str(scope) for scope in Scope]
    if not books:
        return granted.scope if role is Role.READ else ""
    return " ".join(sorted(set(books))) if role is Role.READ and set(books) <= set(may) else None
