"""The OpenAPI document (3.1), made to tell the truth about tokens and problem documents."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from gateway.federation.problems import PROBLEM_MEDIA_TYPE, Problem

_PROBLEM_REF = "#/components/schemas/Problem"
_PROBLEM_RESPONSE = {
    "description": "The request is refused; `code` is a stable reason.",
    "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": _PROBLEM_REF}}},
}

Operations = set[tuple[str, str]]
"""(path, method in lower case)."""


def openapi_config(*, title: str, version: str, public: Operations) -> OpenAPIConfig:
    """Return the configuration that serves the document at /schema/openapi.json."""
    return OpenAPIConfig(
        title=title,
        version=version,
        openapi_router=Router("/schema", route_handlers=[], opt={"public": True, "quiet": True}),
        render_plugins=[_Truthful(public)],
        components=Components(
            security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="at+jwt")}
        ),
        security=[{"bearer": []}],
        use_handler_docstrings=True,
    )


class _Truthful(JsonRenderPlugin):
    def __init__(self, public: Operations) -> None:
        super().__init__(path=("/openapi.json", "/"))
        self._public = public

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, tell_the_truth(openapi_schema, self._public))


def tell_the_truth(document: dict[str, Any], public: Operations) -> dict[str, Any]:
    """Return the document with every refusal a problem document, and no token asked for where none is."""
    _, schemas = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    components = document.get("components", {})
    paths = {
        path: {
            method: _operation(operation, is_public=(path, method) in public)
            if isinstance(operation, dict) and "responses" in operation
            else operation
            for method, operation in item.items()
        }
        for path, item in document.get("paths", {}).items()
    }
    return {
        **document,
        "paths": paths,
        "components": {**components, "schemas": {**components.get("schemas", {}), **schemas}},
    }


def _operation(operation: dict[str, Any], *, is_public: bool) -> dict[str, Any]:
    # Litestar documents an error shape of its own for 4xx; ours is the same for all.
    answers = {status: answer for status, answer in operation["responses"].items() if not status.startswith("4")}
    return {
        **operation,
        "responses": {**answers, "default": _PROBLEM_RESPONSE},
        **({"security": []} if is_public else {}),
    }
