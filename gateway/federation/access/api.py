"""HTTP: the token endpoint and what describes it. Errors here have the form of RFC 6749, not of RFC 9457."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.status_codes import HTTP_200_OK, HTTP_400_BAD_REQUEST, HTTP_401_UNAUTHORIZED
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from gateway.federation import security_log
from gateway.federation.access.oauth import ASSERTION_TYPE, GRANT_TYPE, Answer, TokenService, malformed
from gateway.federation.http.edge import client_address, refuse_too_many
from gateway.federation.http.rates import network_of
from gateway.federation.identity.tokens import claimed_issuer

FORM = "application/x-www-form-urlencoded"
FORM_BYTES_MAX = 16_384
FIELDS_MAX = 20


class TokenAnswer(Struct, frozen=True):
    """An access token (RFC 6749, section 5.1)."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class TokenError(Struct, frozen=True, omit_defaults=True):
    """Why there is no token (RFC 6749, section 5.2)."""

    error: str
    error_description: str | None = None


@dataclass
class _FormOperation(Operation):
    """An operation whose request body is a form."""

    def __post_init__(self) -> None:
        form = Schema(type=OpenAPIType.OBJECT, properties={**_FIELDS, **self.optional()}, required=list(_FIELDS))
        self.request_body = RequestBody(content={FORM: OpenAPIMediaType(schema=form)}, required=True)

    def optional(self) -> dict[str, Schema]:
        """Return the fields that a request may leave out."""
        return {}


@dataclass
class _ScopedFormOperation(_FormOperation):
    """A request that may say which of several roles the token is for."""

    def optional(self) -> dict[str, Schema]:
        return {"scope": _TEXT}


_TEXT = Schema(type=OpenAPIType.STRING)
_FIELDS = {
    "grant_type": Schema(const=GRANT_TYPE),
    "client_assertion_type": Schema(const=ASSERTION_TYPE),
    "client_assertion": _TEXT,
    "resource": _TEXT,
}
_ANSWERS = {
    HTTP_200_OK: ResponseSpec(TokenAnswer, generate_examples=False, description="OK"),
    HTTP_400_BAD_REQUEST: ResponseSpec(TokenError, generate_examples=False, description="The request is refused."),
    HTTP_401_UNAUTHORIZED: ResponseSpec(TokenError, generate_examples=False, description="The client isn't known."),
}


async def _answer(request: Request[Any, Any, Any], tokens: TokenService[Any]) -> Answer:
    if request.content_type[0] != FORM:
        return malformed(f"The body is a form: {FORM}")
    try:
        form = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        return malformed("The body is not a well-formed form")
    answer = await tokens.answer(form)
    if answer.status == HTTP_401_UNAUTHORIZED:
        # Only who fails is told to wait: a good assertion passes, however many a stranger forged in the client's name.
        # How many are verified at all is bounded by the rate of an address, as every public route is.
        client = claimed_issuer(dict(form).get("client_assertion", ""))[:200]
        security_log.note(request.scope, claimed=client)
        refuse_too_many(tokens.failures.take((network_of(client_address(request.scope)), client)))
    return answer


def _endpoint(operation: type[Operation], description: str) -> HTTPRouteHandler:
    @post(
        "/oauth/token",
        opt={"public": True, "form": True},
        status_code=200,
        request_max_body_size=FORM_BYTES_MAX,
        tags=["access"],
        operation_id="requestToken",
        operation_class=operation,
        description=description,
        summary="RequestToken",
        responses=_ANSWERS,
    )
    async def token(
        request: Request[Any, Any, Any], tokens: NamedDependency[TokenService[Any]]
    ) -> Response[dict[str, Any]]:
        answer = await _answer(request, tokens)
        security_log.note(request.scope, refused=answer.facts.get("reason"), **answer.facts)
        return Response(
            dict(answer.body),
            status_code=answer.status,
            media_type=MediaType.JSON,
            headers=dict(answer.headers),
        )

    return token


@get("/.well-known/oauth-authorization-server", opt={"public": True}, tags=["access"], operation_id="getMetadata")
async def metadata(tokens: NamedDependency[TokenService[Any]]) -> dict[str, Any]:
    """Describe the authorization server (RFC 8414)."""
    return tokens.metadata()


@get("/.well-known/jwks.json", opt={"public": True}, tags=["access"], operation_id="getKeys")
async def jwks(tokens: NamedDependency[TokenService[Any]]) -> dict[str, Any]:
    """List the public keys that access tokens are signed with."""
    return await tokens.jwks()


_DESCRIBED: list[ControllerRouterHandler] = [metadata, jwks]


def members_endpoint() -> list[ControllerRouterHandler]:
    """Return the routes where a member, operator or auditor gets tokens, each for one member."""
    return [
        _endpoint(
            _FormOperation,
            "Issue an access token of at most 300 s for one member (`resource`: its BIC).\n\n"
            "OAuth 2.0 client credentials with `private_key_jwt`: grant_type, client_assertion_type, client_assertion,"
            " resource.",
        ),
        *_DESCRIBED,
    ]


def staff_endpoint() -> list[ControllerRouterHandler]:
    """Return the routes where an institution's own people and systems get tokens for it."""
    return [
        _endpoint(
            _ScopedFormOperation,
            "Issue an access token of at most 300 s to one of the bank's own people or systems (`resource`: the bank's"
            " BIC).\n\n"
            "OAuth 2.0 client credentials with `private_key_jwt`: grant_type, client_assertion_type, client_assertion,"
            " resource; and `scope`, the role that the token is for, where the client has several. For `read` it may"
            " name the books after it, as in `read payments`.",
        ),
        *_DESCRIBED,
    ]
