"""HTTP: the token endpoint and what describes it. Errors here have the form of RFC 6749, not of RFC 9457."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.types import ControllerRouterHandler

from gateway.coordinator.oauth import Answer, TokenService, malformed

FORM = "application/x-www-form-urlencoded"
FORM_BYTES_MAX = 16_384
FIELDS_MAX = 20


@post(
    "/oauth/token",
    opt={"public": True},
    status_code=200,
    request_max_body_size=FORM_BYTES_MAX,
    tags=["access"],
    operation_id="requestToken",
)
async def token(request: Request[Any, Any, Any], tokens: NamedDependency[TokenService]) -> Response[dict[str, Any]]:
    """Issue an access token of at most 300 s for one member (`resource`: its BIC).

    OAuth 2.0 client credentials with `private_key_jwt`: grant_type, client_assertion_type, client_assertion, resource.
    """
    answer = await _answer(request, tokens)
    return Response(
        dict(answer.body), status_code=answer.status, media_type=MediaType.JSON, headers=dict(answer.headers)
    )


async def _answer(request: Request[Any, Any, Any], tokens: TokenService) -> Answer:
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
    return await tokens.answer(form)


@get("/.well-known/oauth-authorization-server", opt={"public": True}, tags=["access"], operation_id="getMetadata")
async def metadata(tokens: NamedDependency[TokenService]) -> dict[str, Any]:
    """Describe the authorization server (RFC 8414)."""
    return tokens.metadata()


@get("/.well-known/jwks.json", opt={"public": True}, tags=["access"], operation_id="getKeys")
async def jwks(tokens: NamedDependency[TokenService]) -> dict[str, Any]:
    """List the public keys that access tokens are signed with."""
    return await tokens.jwks()


route_handlers: list[ControllerRouterHandler] = [token, metadata, jwks]
