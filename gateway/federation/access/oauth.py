"""Access tokens for whoever a node knows by a key: OAuth 2.0 client credentials with `private_key_jwt`.

Authlib has the errors of RFC 6749, each with its status, body and headers. Client authentication (RFC 7523) is
verified by `gateway.federation.identity.tokens`: Authlib's own validator refuses Ed25519. Who is known, and who may
have which token, says the node's own `Register`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.errors import (
    InvalidClientError,
    InvalidRequestError,
    UnsupportedGrantTypeError,
)

from compliance.crypto.keys import ALGORITHMS, Signer, VerifyingKey
from gateway.federation.http.rates import Rates
from gateway.federation.identity.tokens import (
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

FAILURES_PER_S = 1
FAILURES_AT_ONCE = 60
"""Sign-ins that may fail, of one client at one address, before it is told to wait."""
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
AUTH_METHOD = "private_key_jwt"
GRANT_TYPE = "client_credentials"

# BICs, client names and assertion ids all look like this; nothing else ever gets near the database.
NAME = re.compile(r"[A-Za-z0-9._:~+/=-]{1,200}")

Fields = Mapping[str, str]
"""A token request: the fields of its form."""


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]
    """The requested resource is unknown or out of reach (RFC 8707, section 2)."""

    error = "invalid_target"


class Client(Protocol):
    """Who asks for a token, and the keys that he may sign in by now."""

    @property
    def client_id(self) -> str: ...

    @property
    def keys(self) -> Mapping[str, VerifyingKey]: ...


C = TypeVar("C", bound=Client)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The token that a client may have."""

    audience: str
    role: str
    scope: str = ""
    lifetime_s: int = TOKEN_LIFETIME_MAX_S


class Register(Protocol[C]):
    """Who is known at a node, within one transaction."""

    async def client(self, client_id: str) -> C | None:
        """Return a client; whatever its name holds, which is a stranger's word."""

    async def use_up(self, claims: AssertionClaims) -> bool:
        """Note that an assertion was used; False if it had been."""

    async def grant(self, client: C, kid: str, fields: Fields) -> Grant | OAuth2Error:
        """Return the token that this client may have by this key for what it asks, or why it may have none."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer of the token endpoint."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store", "Pragma": "no-cache"})
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the security log says of it: to whom which token was given, or why not."""


class TokenService(Generic[C]):
    """The token endpoint of a node."""

    def __init__(
        self,
        register: Callable[[], AbstractAsyncContextManager[Register[C]]],
        *,
        issuer: str,
        scheme: str | None,
        key: Signer,
        published: Callable[[], Awaitable[Iterable[VerifyingKey]]],
        hear: Callable[[C, int], None] | None = None,
    ) -> None:
        """`published` are the keys that others verify tokens by; `hear` is told what time it was at who signs in."""
        self._register = register
        self._issuer = issuer
        self._scheme = scheme
        self._key = key
        self._published = published
        self._hear = hear
        self.failures = Rates(FAILURES_PER_S, burst=FAILURES_AT_ONCE)

    async def answer(self, form: Sequence[tuple[str, str]]) -> Answer:
        """Answer a token request, given as the pairs of its form. A refusal is an answer in the form of RFC 6749.

        An assertion that verified is used up, whatever the answer is.
        """
        try:
            fields = _read(form)
            async with self._register() as register:
                client = await self._authenticate(register, fields)
                kid = named_key(fields["client_assertion"])
                grant = await register.grant(client, kid, fields)
            if isinstance(grant, OAuth2Error):
                return refusal(grant)
            token = await self._issue(client, grant, kid)
        except OAuth2Error as error:
            return refusal(error)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": grant.lifetime_s}
        facts = {
            "client": client.client_id,
            "role": grant.role,
            "audience": grant.audience,
            "token": token_id(token),
        }
        return Answer(status=200, body=body, facts=facts)

    async def _authenticate(self, register: Register[C], fields: Fields) -> C:
        """Return who signed the request's assertion, and use the assertion up. Raises InvalidClientError."""
        if fields.get("client_assertion_type") != ASSERTION_TYPE:
            raise InvalidClientError(f"The client authenticates by {AUTH_METHOD}")
        assertion = fields.get("client_assertion", "")
        client = await register.client(claimed_issuer(assertion))

        def key_for(_: str, kid: str) -> VerifyingKey | None:
            return None if client is None else client.keys.get(kid)

        try:
            claims = verify_client_assertion(assertion, audience=self._issuer, key_for=key_for, scheme=self._scheme)
        except TokenRefused as refused:
            why = f"Client assertion refused: {refused.reason}"
            if refused.issued_at is not None:
                self._heard(client, refused.issued_at)
                why = f"{why}: {refused.detail}"
            raise _unauthenticated(why) from refused
        self._heard(client, claims.iat)
        if not NAME.fullmatch(claims.jti):
            raise _unauthenticated("Client assertion refused: the jti has a strange form")
        if fields.get("client_id", claims.sub) != claims.sub:
            raise _unauthenticated("client_id is not the subject of the assertion")
        if client is None or not await register.use_up(claims):
            raise _unauthenticated("The client assertion was used before")
        return client

    def _heard(self, client: C | None, issued_at: int) -> None:
        if client is not None and self._hear is not None:
            self._hear(client, issued_at)

    async def _issue(self, client: C, grant: Grant, kid: str) -> str:
        return await signing(
            lambda: issue_access_token(
                key=self._key,
                issuer=self._issuer,
                subject=client.client_id,
                audience=grant.audience,
                client_id=client.client_id,
                role=grant.role,
                scope=grant.scope,
                lifetime_s=grant.lifetime_s,
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
        keys = await self._published()
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
