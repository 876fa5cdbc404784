"""Access tokens for members, operators and auditors: OAuth 2.0 client credentials with `private_key_jwt`.

Authlib runs the grant (RFC 6749, RFC 7523). It is synchronous and its own validator refuses Ed25519, so the client
is loaded before it runs, and `gateway.federation.identity.tokens` verifies the assertion inside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, UnauthorizedClientError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.models import ClientMixin
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compliance.crypto.keys import SigningKey, VerifyingKey
from gateway.coordinator.registry import members
from gateway.coordinator.registry.lifecycle import Status
from gateway.federation.identity.tokens import (
    JWT_ALGORITHM,
    TOKEN_LIFETIME_MAX_S,
    AssertionClaims,
    TokenRefused,
    issue_access_token,
    verify_client_assertion,
)
from gateway.federation.storage.database import transaction

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUTH_METHOD = "private_key_jwt"
GRANT_TYPE = "client_credentials"
# BICs, client names and assertion ids all look like this; nothing else ever gets near the database.
_NAME = re.compile(r"[A-Za-z0-9._:~+/=-]{1,200}")

# Whom a role speaks to, by kind of member. Everybody else is out of reach, whatever a token request says.
REACH: dict[str, frozenset[str]] = {
    "participant": frozenset({"coordinator", "participant", "agent"}),
    "coordinator": frozenset({"participant", "agent"}),
    "agent": frozenset({"coordinator"}),
    "operator": frozenset({"coordinator"}),
    "auditor": frozenset({"coordinator", "participant"}),
}
# In these states a member still settles its affairs with the coordinator; among each other only active ones talk.
SPEAKS_TO_COORDINATOR = frozenset({Status.APPROVED, Status.ACTIVE, Status.SUSPENDED})


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]
    """The requested resource is unknown or out of reach (RFC 8707, section 2)."""

    error = "invalid_target"


@dataclass(frozen=True, kw_only=True)
class Client(ClientMixin):  # type: ignore[misc]
    """Who asks: a member by its BIC, or an operator or auditor by name."""

    client_id: str
    role: str
    status: Status
    keys: Mapping[str, VerifyingKey]

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return (method, endpoint) == (AUTH_METHOD, "token")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == GRANT_TYPE


@dataclass(frozen=True, kw_only=True)
class Audience:
    """The one member that a token is for."""

    bic: str
    kind: str
    status: Status


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer of the token endpoint."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store", "Pragma": "no-cache"})


def may_speak(client: Client, audience: Audience) -> bool:
    """Tell whether a client may have a token for an audience."""
    if audience.kind not in REACH[client.role]:
        return False
    if audience.kind == "coordinator":
        return client.status in SPEAKS_TO_COORDINATOR
    return client.status is Status.ACTIVE and audience.status is Status.ACTIVE


class TokenService:
    """The token endpoint of the coordinator."""

    def __init__(self, engine: AsyncEngine, *, issuer: str, key: SigningKey) -> None:
        self._engine = engine
        self._issuer = issuer
        self._key = key

    async def answer(self, form: Sequence[tuple[str, str]]) -> Answer:
        """Answer a token request, given as the pairs of its form. A refusal is an answer in the form of RFC 6749.

        An assertion that verified is used up, whatever the answer is.
        """
        fields = dict(form)
        if problem := _form_problem(form, fields):
            return _refusal(problem)
        client_id = _claimed_client(fields.get("client_assertion", ""), self._issuer)
        async with transaction(self._engine) as conn:
            exchange = Exchange(
                issuer=self._issuer,
                key=self._key,
                client=await load_client(conn, client_id),
                audience=await _load_audience(conn, fields.get("resource", "")),
            )
            answer = exchange.run(fields)
            claims = exchange.assertion
            if claims is not None and not await _use_up(conn, claims):
                answer = _refusal(InvalidClientError("The client assertion was used before", status_code=401))
        return answer

    def metadata(self) -> dict[str, Any]:
        """Return the authorization server's metadata (RFC 8414)."""
        return {
            "issuer": self._issuer,
            "token_endpoint": f"{self._issuer}/oauth/token",
            "jwks_uri": f"{self._issuer}/.well-known/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": [GRANT_TYPE],
            "token_endpoint_auth_methods_supported": [AUTH_METHOD],
            "token_endpoint_auth_signing_alg_values_supported": [JWT_ALGORITHM],
        }

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys that access tokens are signed with (RFC 7517, RFC 8037)."""
        async with transaction(self._engine) as conn:
            rows = await conn.execute(
                text(
                    "SELECT kid, x FROM member_keys JOIN members USING (bic)"
                    " WHERE kind = 'coordinator' AND use = 'token' AND member_keys.status = 'active' ORDER BY kid"
                )
            )
            return {
                "keys": [
                    {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": JWT_ALGORITHM, "kid": row.kid, "x": row.x}
                    for row in rows
                ]
            }


class Exchange(AuthorizationServer):  # type: ignore[misc]
    """One token request, run through Authlib. It touches neither network nor database."""

    def __init__(self, *, issuer: str, key: SigningKey, client: Client | None, audience: Audience | None) -> None:
        super().__init__()
        self.issuer = issuer
        self.audience = audience
        self.assertion: AssertionClaims | None = None
        self._key = key
        self._client = client
        self.register_client_auth_method(AUTH_METHOD, StrictAssertion(self))
        self.register_grant(SingleAudienceGrant)
        self.register_token_generator("default", self._issue)

    def run(self, fields: Mapping[str, str]) -> Answer:
        answer: Answer = self.create_token_response(FormRequest(fields))
        return answer

    # --- what Authlib asks of a framework

    def query_client(self, client_id: str) -> Client | None:
        return self._client if self._client is not None and self._client.client_id == client_id else None

    def create_oauth2_request(self, request: FormRequest) -> FormRequest:
        return request

    def handle_response(self, status: int, body: Mapping[str, Any], headers: Sequence[tuple[str, str]]) -> Answer:
        kept = {name: value for name, value in headers if name.lower() != "content-type"}
        return Answer(status=status, body=body, headers=kept)

    def save_token(self, token: Mapping[str, Any], request: FormRequest) -> None:
        """Tokens are never stored: members verify them offline."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def _issue(self, *, client: Client, **_: Any) -> dict[str, Any]:
        if self.audience is None:
            raise InvalidTargetError("The resource is unknown")
        token = issue_access_token(
            key=self._key,
            issuer=self.issuer,
            subject=client.client_id,
            audience=self.audience.bic,
            client_id=client.client_id,
            role=client.role,
            lifetime_s=TOKEN_LIFETIME_MAX_S,
        )
        return {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFETIME_MAX_S}


class FormRequest(OAuth2Request):  # type: ignore[misc]
    """A POST to the token endpoint as Authlib wants it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        # Authlib refuses a plain http:// address. Behind the ingress ours is one, and TLS is the ingress's matter.
        super().__init__("POST", "https://coordinator.example/oauth/token")
        self.payload = BasicOAuth2Payload(dict(fields))

    @property
    def form(self) -> Mapping[str, str]:
        fields: Mapping[str, str] = self.payload.data
        return fields


class StrictAssertion(JWTBearerClientAssertion):  # type: ignore[misc]
    """RFC 7523 client authentication, with the verification of `gateway.federation.identity.tokens`."""

    CLIENT_AUTH_METHOD = AUTH_METHOD

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    def __call__(self, query_client: Any, request: FormRequest) -> Client | None:
        if request.form.get("client_assertion_type") != ASSERTION_TYPE:
            return None

        def key_for(issuer: str, kid: str) -> VerifyingKey | None:
            client: Client | None = query_client(issuer)
            return None if client is None else client.keys.get(kid)

        try:
            claims = verify_client_assertion(
                request.form.get("client_assertion", ""), audience=self._exchange.issuer, key_for=key_for
            )
        except TokenRefused as refused:
            raise InvalidClientError(f"Client assertion refused: {refused.reason}", status_code=401) from refused
        if not _NAME.fullmatch(claims.jti):
            raise InvalidClientError("Client assertion refused: the jti has a strange form", status_code=401)
        if request.form.get("client_id", claims.sub) != claims.sub:
            raise InvalidClientError("client_id is not the subject of the assertion", status_code=401)
        self._exchange.assertion = claims
        client: Client = self.authenticate_client(query_client(claims.sub))
        return client


class SingleAudienceGrant(ClientCredentialsGrant):  # type: ignore[misc]
    """Client credentials for exactly one audience (RFC 8707)."""

    TOKEN_ENDPOINT_AUTH_METHODS = [AUTH_METHOD]  # noqa: RUF012 - Authlib's own attribute

    def validate_token_request(self) -> None:
        super().validate_token_request()
        client: Client = self.request.client
        if self.request.form.get("scope"):
            raise InvalidRequestError("No scope is defined: a role says what its holder may do")
        if client.status not in SPEAKS_TO_COORDINATOR:
            raise UnauthorizedClientError(f"The member is {client.status}")
        if not self.request.form.get("resource"):
            raise InvalidTargetError("The resource parameter names the one audience, by its BIC")
        if self.server.audience is None or not may_speak(client, self.server.audience):
            raise InvalidTargetError("The resource is unknown or out of reach for this client")


async def load_client(conn: AsyncConnection, client_id: str) -> Client | None:
    """Return a client with its active authentication keys."""
    if not _NAME.fullmatch(client_id):
        return None
    member = await members.find(conn, client_id)
    if member is not None:
        keys = await members.keys(conn, client_id, "auth")
        return Client(client_id=client_id, role=member.kind, status=member.status, keys=keys)
    row = (
        await conn.execute(
            text("SELECT role, kid, x FROM clients WHERE client_id = :client_id AND NOT disabled"),
            {"client_id": client_id},
        )
    ).one_or_none()
    if row is None:
        return None
    return Client(client_id=client_id, role=row.role, status=Status.ACTIVE, keys={row.kid: VerifyingKey(row.x)})


async def _load_audience(conn: AsyncConnection, bic: str) -> Audience | None:
    member = await members.find(conn, bic) if _NAME.fullmatch(bic) else None
    return None if member is None else Audience(bic=member.bic, kind=member.kind, status=member.status)


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


def _claimed_client(assertion: str, issuer: str) -> str:
    """Return whom an assertion says it is from, "" for one too malformed to say.

    Nothing is verified yet: a lookup that knows no key takes a note of what the verifier asks for.
    """
    claimed: list[str] = []

    def note(client_id: str, _: str) -> None:
        claimed.append(client_id)

    with suppress(TokenRefused):
        verify_client_assertion(assertion, audience=issuer, key_for=note)
    return claimed[0] if claimed else ""


def _form_problem(form: Sequence[tuple[str, str]], fields: Mapping[str, str]) -> OAuth2Error | None:
    if len(fields) != len(form):
        if sum(name == "resource" for name, _ in form) > 1:
            return InvalidTargetError("A token is for one audience: give resource once")
        return InvalidRequestError("A parameter is repeated")
    if "grant_type" not in fields:
        return InvalidRequestError("grant_type is missing")
    return None


def malformed(description: str) -> Answer:
    """Answer a request that isn't a form."""
    return _refusal(InvalidRequestError(description))


def _refusal(error: OAuth2Error) -> Answer:
    status, body, headers = error()
    return Answer(status=status, body=body, headers={n: v for n, v in headers if n.lower() != "content-type"})
