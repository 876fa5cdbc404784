"""The OpenAPI document (3.1), made to tell the truth about tokens, roles, messages and problem documents.

Litestar finds the routes and their parameters; the schemas of bodies and answers are msgspec's own, because those
are what is really checked: closed objects, exact patterns, array items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, get_args, get_origin

import msgspec
from litestar import Request, Response, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Problem

_JSON = "application/json"
_REF_TEMPLATE = "#/components/schemas/{name}"
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until it may be asked again.", "schema": {"type": "integer"}}}
_PROBLEM_RESPONSE = {
    "description": "The request is refused; `code` is a stable reason.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _REF_TEMPLATE.format(name="Problem")}}},
}


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A route as it is: who may use it (nobody named: anybody), what it takes, and what it answers."""

    roles: tuple[str, ...]
    body: Any
    answer: Any
    described: frozenset[str]
    """The statuses whose answers the route describes itself, such as refusals that are no problem documents."""

    @classmethod
    def of(cls, handler: HTTPRouteHandler, roles: tuple[str, ...]) -> Exposed:
        body = handler.parsed_data_field
        return cls(
            roles=roles,
            body=handler.opt.get("body") if body is None else body.annotation,
            answer=_answered(handler.parsed_return_field.annotation),
            described=frozenset(str(int(status)) for status in handler.responses or {}),
        )


Operations = dict[tuple[str, str], Exposed]
"""By path and method (in lower case)."""


def openapi_config(*, title: str, version: str, operations: Operations) -> OpenAPIConfig:
    """Return the configuration that serves the document at /schema/openapi.json."""
    unattended = {"public": True, "quiet": True}
    return OpenAPIConfig(
        title=title,
        version=version,
        openapi_router=Router("/schema", route_handlers=[], opt=unattended, include_in_schema=False),
        render_plugins=[_Truthful(operations)],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    bearer_format="at+jwt",
                    description="An access token (RFC 9068) for this member; of one bank calling another, its own"
                    " assertion (RFC 7523). An operation names the roles it takes.",
                )
            }
        ),
        security=[{"bearer": []}],
        use_handler_docstrings=True,
    )


class _Truthful(JsonRenderPlugin):
    def __init__(self, operations: Operations) -> None:
        super().__init__(path=("/openapi.json", "/"))
        self._operations = operations

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, tell_the_truth(openapi_schema, self._operations))


def tell_the_truth(document: dict[str, Any], operations: Operations) -> dict[str, Any]:
    """Return the document with the schemas that are checked, the roles asked for, and every refusal a problem."""
    messages = [kind for exposed in operations.values() for kind in (exposed.body, exposed.answer) if kind is not None]
    schemas, components = msgspec.json.schema_components([Problem, *messages], ref_template=_REF_TEMPLATE)
    schema_of = dict(zip(messages, schemas[1:], strict=True))
    paths = {
        path: {
            method: _operation(operation, operations[path, method], schema_of)
            if isinstance(operation, dict) and (path, method) in operations
            else operation
            for method, operation in item.items()
        }
        for path, item in document.get("paths", {}).items()
    }
    described = document.get("components", {})
    return {
        **document,
        "paths": dict(sorted(paths.items())),
        "components": {**described, "schemas": dict(sorted({**described.get("schemas", {}), **components}.items()))},
    }


def _operation(operation: dict[str, Any], exposed: Exposed, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    # Litestar documents an error shape of its own for 4xx; ours is the same for all.
    answers = {
        status: _answer(status, answer, exposed, schema_of)
        for status, answer in operation["responses"].items()
        if not status.startswith("4") or status in exposed.described
    }
    refusals = {
        "429": _refusal("Too many requests: `too_many_requests`.", headers=_RETRY_AFTER),
        "default": _PROBLEM_RESPONSE,
    }
    if "requestBody" in operation:
        refusals["413"] = _refusal("The body is larger than this operation takes: `body_too_large`.")
    document: dict[str, Any] = {**operation, "responses": {**answers, **dict(sorted(refusals.items()))}}
    summary, _, more = operation.get("description", "").partition("\n")
    document["summary"] = summary.strip()
    if more.strip():
        document["description"] = " ".join(more.split())
    else:
        document.pop("description", None)
    if exposed.body is not None and _JSON in operation.get("requestBody", {}).get("content", {}):
        document["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema_of[exposed.body]}}}
    # Any one of the roles will do: alternatives, in the words of OpenAPI 3.1.
    document["security"] = [{"bearer": [role]} for role in exposed.roles]
    return document


def _refusal(description: str, **more: Any) -> dict[str, Any]:
    return {**_PROBLEM_RESPONSE, "description": description, **more}


def _answer(status: str, answer: dict[str, Any], exposed: Exposed, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    if status in exposed.described:
        return answer
    document = {**answer, "description": HTTPStatus(int(status)).phrase}
    if exposed.answer is not None and _JSON in answer.get("content", {}):
        document["content"] = {**answer["content"], _JSON: {"schema": schema_of[exposed.answer]}}
    return document


def _answered(annotation: Any) -> Any:
    """Return the type of an answer's JSON; None if it is none."""
    if get_origin(annotation) is Response:
        (annotation,) = get_args(annotation)
    return None if annotation in (None, type(None), bytes, Response) else annotation
