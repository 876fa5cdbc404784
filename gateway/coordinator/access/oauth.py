"""Access tokens for members, operators and auditors: OAuth 2.0 client credentials with `private_key_jwt`.

Authlib has the errors of RFC 6749, each with its status, body and headers. Client authentication (RFC 7523) is
verified by `gateway.federation.identity.tokens`: Authlib's own validator refuses Ed25519.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidRequestError,
    UnauthorizedClientError,
    UnsupportedGrantTypeError,
)
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.keys import ALGORITHMS, Signer, VerifyingKey
from gateway.coordinator.access.clients import (
    NAME,
    SPEAKS_TO_COORDINATOR,
    Audience,
    Client,
    load_audience,
    load_client,
    may_speak,
)
from gateway.federation.clocks import Clocks, Span
from gateway.federation.http.rates import Rates
from gateway.federation.identity.tokens import (
    ASSERTION_LIFETIME_MAX_S,
    TOKEN_LIFETIME_MAX_S,
    AssertionClaims,
    TokenRefused,
    claimed_issuer,
    issue_access_token,
    named_key,
    token_id,
    verify_client_assertion,
)
from gateway.federation.signers.signing import signing
from gateway.federation.storage.database import transaction

FAILURES_PER_S = 1
FAILURES_AT_ONCE = 60
"""Sign-ins that may fail, of one client at one address, before it is told to wait."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUTH_METHOD = "private_key_jwt"
GRANT_TYPE = "client_credentials"

Fields = Mapping[str, str]
"""A token request: the fields of its form."""


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]
    """The requested resource is unknown or out of reach (RFC 8707, section 2)."""

    error = "invalid_target"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer of the token endpoint."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store", "Pragma": "no-cache"})
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the security log says of it: to whom which token was given, or why not."""


class TokenService:
    """The token endpoint of the coordinator."""

    def __init__(self, engine: AsyncEngine, *, issuer: str, scheme: str | None, key: Signer, clocks: Clocks) -> None:
        """`clocks` hears what time it is at members that sign in."""
        self._clocks = clocks
        self._engine = engine
        self._issuer = issuer
        self._scheme = scheme
        self._key = key
        self.failures = Rates(FAILURES_PER_S, burst=FAILURES_AT_ONCE)

    async def answer(self, form: Sequence[tuple[str, str]]) -> Answer:
        """Answer a token request, given as the pairs of its form. A refusal is an answer in the form of RFC 6749.

        An assertion that verified is used up, whatever the answer is.
        """
        try:
            fields = _read(form)
            async with transaction(self._engine) as conn:
                client = await self._authenticate(conn, fields)
                audience = await load_audience(conn, fields.get("resource", ""))
            receiver = _audience(fields, client, audience)
            token = await self._issue(client, receiver, named_key(fields["client_assertion"]))
        except OAuth2Error as error:
            return refusal(error)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME_MAX_S}
        facts = {
            "client": client.client_id,
            "role": client.role,
            "audience": receiver.bic,
            "token": token_id(token),
        }
        return Answer(status=200, body=body, facts=facts)

    async def _authenticate(self, conn: AsyncConnection, fields: Fields) -> Client:
        """Return who signed the request's assertion, and use the assertion up. Raises InvalidClientError."""
        if fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClientError(f"The client authenticates by {AUTH_METHOD}")
        assertion = fields.get("client_assertion", "")
        client = await load_client(conn, claimed_issuer(assertion))

        def key_for(_: str, kid: str) -> VerifyingKey | None:
            return None if client is None else client.keys.get(kid)

        try:
            claims = verify_client_assertion(assertion, audience=self._issuer, key_for=key_for, scheme=self._scheme)
        except TokenRefused as refused:
            why = f"Client assertion refused: {refused.reason}"
            if refused.issued_at is not None:
                self._hear(client, refused.issued_at)
                why = f"{why}: {refused.detail}"
            raise _unauthenticated(why) from refused
        self._hear(client, claims.iat)
        if not NAME.fullmatch(claims.jti):
            raise _unauthenticated("Client assertion refused: the jti has a strange form")
        if fields.get("client_id", claims.sub) != claims.sub:
            raise _unauthenticated("client_id is not the subject of the assertion")
        if client is None or not await _use_up(conn, claims):
            raise _unauthenticated("The client assertion was used before")
        return client

    def _hear(self, client: Client | None, issued_at: int) -> None:
        """Note what time it was at a member, by an assertion that it has just made."""
        if client is not None and client.role in ("participant", "agent"):
            ahead = issued_at - time.time()
            self._clocks.hear(client.client_id, Span(ahead, ahead + 1 + ASSERTION_LIFETIME_MAX_S))

    async def _issue(self, client: Client, audience: Audience, kid: str) -> str:
        return await signing(
            lambda: issue_access_token(
                key=self._key,
                issuer=self._issuer,
                subject=client.client_id,
                audience=audience.bic,
                client_id=client.client_id,
                role=client.role,
                signed_in_by=kid,
            ),
            self._key,
        )

    def metadata(self) -> dict[str, Any]:
        """Return the authorization server's metadata (RFC 8414)."""
        return {
            "issuer": self._issuer,
            "token_endpoint": f"{self._issuer}/oauth/token",
            "jwks_uri": f"{self._issuer}/.well-known/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": [GRANT_TYPE],
            "token_endpoint_auth_methods_supported": [AUTH_METHOD],
            "token_endpoint_auth_signing_alg_values_supported": [algorithm.jws for algorithm in ALGORITHMS],
        }

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys that access tokens are signed with (RFC 7517, RFC 8037)."""
        async with transaction(self._engine) as conn:
            rows = await conn.execute(
                text(
                    "SELECT x FROM member_keys JOIN members USING (bic)"
                    " WHERE kind = 'coordinator' AND use = 'token' AND member_keys.status = 'active' ORDER BY kid"
                )
            )
            keys = [VerifyingKey(row.x) for row in rows]
        return {"keys": [{**key.jwk, "use": "sig", "alg": key.algorithm.jws, "kid": key.kid} for key in keys]}


def _read(form: Sequence[tuple[str, str]]) -> Fields:
    """Return the fields of a token request. Raises OAuth2Error."""
    fields = dict(form)
    if len(fields) != len(form):
        if sum(name == "resource" for name, _ in form) > 1:
            raise InvalidTargetError("A token is for one audience: give resource once")
        raise InvalidRequestError("A parameter is repeated")
    if "grant_type" not in fields:
        raise InvalidRequestError("grant_type is missing")
    if fields["grant_type"] != GRANT_TYPE:
        raise UnsupportedGrantTypeError(fields["grant_type"])
    return fields


def _audience(fields: Fields, client: Client, audience: Audience | None) -> Audience:
    """Return whom a client may have the token for that it asks for. Raises OAuth2Error."""
    if fields.get("scope"):
        raise InvalidRequestError("No scope is defined: a role says what its holder may do")
    if client.status not in SPEAKS_TO_COORDINATOR:
        raise UnauthorizedClientError(f"The member is {client.status}")
    if not fields.get("resource"):
        raise InvalidTargetError("The resource parameter names the one audience, by its BIC")
    if audience is None or not may_speak(client, audience):
        raise InvalidTargetError("The resource is unknown or out of reach for this client")
    return audience


async def _use_up(conn: AsyncConnection, claims: AssertionClaims) -> bool:
    """Note that an assertion was used; False if it had been. Past ones are forgotten a minute after they expired."""
    await conn.execute(
        text("DELETE FROM used_assertions WHERE client_id = :client_id AND expires_at < now() - interval '1 minute'"),
        {"client_id": claims.sub},
    )
    used = await conn.execute(
        text(
            "INSERT INTO used_assertions (client_id, jti, expires_at) VALUES (:client_id, :jti, :expires_at)"
            " ON CONFLICT DO NOTHING RETURNING jti"
        ),
        {"client_id": claims.sub, "jti": claims.jti, "expires_at": datetime.fromtimestamp(claims.exp, UTC)},
    )
    if used.one_or_none() is None:
        return False
    await conn.execute(
        text(
            "UPDATE members SET last_seen_at = now() WHERE bic = :bic"
            " AND (last_seen_at IS NULL OR last_seen_at < now() - interval '10 seconds')"
        ),
        {"bic": claims.sub},
    )
    return True


def _unauthenticated(description: str) -> OAuth2Error:
    return InvalidClientError(description, status_code=401)


def malformed(description: str) -> Answer:
    """Answer a request that isn't a form."""
    return refusal(InvalidRequestError(description))


def refusal(error: OAuth2Error) -> Answer:
    """Return an error as the answer that RFC 6749, section 5.2, describes."""
    status, body, headers = error()
    return Answer(
        status=status,
        body=body,
        headers={n: v for n, v in headers if n.lower() != "content-type"},
        facts={"reason": f"{error.error}: {error.description}"},
    )
