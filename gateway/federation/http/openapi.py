"""The OpenAPI document (3.1), made to tell the truth about tokens, roles, messages and problem documents.

Litestar finds the routes and their parameters; the schemas of bodies and answers are msgspec's own, because those
are what is really checked: closed objects, exact patterns, array items. So are those of parameters. What some readers
of such documents don't take is said in other words (`schemas`).
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

from gateway.federation.http import refusals
from gateway.federation.http.asked import JSON, Asked, Parameter
from gateway.federation.http.schemas import example_of, portable
from gateway.federation.problems import Problem

_REF_TEMPLATE = "#/components/schemas/{name}"
_TEXT = {"type": "string"}
_BYTES = {"type": "string", "format": "binary"}
Links = Mapping[str, Mapping[str, str]]
"""Where the values of path parameters come from: by parameter, by operation, where in its answer (or request)."""


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A route as it is: who may use it (nobody named: anybody), what it takes, and what it answers."""

    roles: tuple[str, ...]
    asked: Asked
    answer: Any
    described: frozenset[str]
    """The statuses whose answers the route describes itself, such as refusals that are no problem documents."""
    refuses: frozenset[int]
    """With what it refuses beside what any such operation does: `opt={"refuses": [404]}`."""
    package: str
    """Where it is from, and so which reasons it refuses for."""

    @classmethod
    def of(cls, handler: HTTPRouteHandler, asked: Asked, roles: tuple[str, ...]) -> Exposed:
        steps = handler.fn.__module__.split(".")
        return cls(
            roles=roles,
            asked=asked,
            refuses=frozenset(handler.opt.get("refuses", ())),
            package=".".join(steps[:2]) if steps[0] == "gateway" else steps[0],
            answer=_answered(handler.parsed_return_field.annotation),
            described=frozenset(str(int(status)) for status in handler.responses or {}),
        )


Operations = dict[tuple[str, str], Exposed]
"""By path and method (in lower case)."""


def openapi_config(*, title: str, version: str, operations: Operations, links: Links) -> OpenAPIConfig:
    """Return the configuration that serves the document at /schema/openapi.json."""
    unattended = {"public": True, "quiet": True}
    return OpenAPIConfig(
        title=title,
        version=version,
        openapi_router=Router("/schema", route_handlers=[], opt=unattended, include_in_schema=False),
        render_plugins=[_Truthful(operations, links)],
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
    def __init__(self, operations: Operations, links: Links) -> None:
        super().__init__(path=("/openapi.json", "/"))
        self._operations = operations
        self._links = links

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, tell_the_truth(openapi_schema, self._operations, self._links))


def tell_the_truth(document: dict[str, Any], operations: Operations, links: Links) -> dict[str, Any]:
    """Return the document with the schemas that are checked, the roles asked for, and every refusal a problem."""
    messages: list[Any] = [Problem]
    for exposed in operations.values():
        messages += [kind for kind in (exposed.asked.body, exposed.answer) if kind is not None]
        messages += [parameter.kind for parameter in exposed.asked.parameters]
    schemas, components = msgspec.json.schema_components(messages, ref_template=_REF_TEMPLATE)
    codes = refusals.reasons({"gateway.federation", *(exposed.package for exposed in operations.values())})
    components["Problem"]["properties"]["code"]["x-extensible-enum"] = sorted(
        {code for of in codes.values() for code in of}
    )
    made = _Made(dict(zip(map(_key, messages), schemas, strict=True)), codes, _links(document, links))
    paths = {
        path: {
            method: made.operation(method, operation, operations[path, method])
            if isinstance(operation, dict) and (path, method) in operations
            else operation
            for method, operation in item.items()
        }
        for path, item in document.get("paths", {}).items()
    }
    described = document.get("components", {})
    truth: dict[str, Any] = {
        **document,
        "paths": dict(sorted(paths.items())),
        "components": {
            **described,
            "headers": dict(refusals.HEADERS),
            "responses": refusals.described(codes),
            "schemas": dict(sorted({**described.get("schemas", {}), **components}.items())),
        },
    }
    return dict(portable(truth))


def _key(kind: Any) -> str:
    # An annotation may hold what has no hash, such as the examples of a form.
    return repr(kind)


def _links(document: dict[str, Any], links: Links) -> dict[str, dict[str, Any]]:
    """Return the links of each operation's answer to those that take what is in it."""
    made: dict[str, dict[str, Any]] = {}
    for item in document.get("paths", {}).values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()) if isinstance(operation, dict) else ():
                if parameter["in"] != "path":
                    continue
                for producer, where in links.get(parameter["name"], {}).items():
                    if producer != operation["operationId"]:
                        link = made.setdefault(producer, {}).setdefault(
                            operation["operationId"], {"operationId": operation["operationId"], "parameters": {}}
                        )
                        link["parameters"][parameter["name"]] = where
    return made


@dataclass(frozen=True)
class _Made:
    """What the parts of a document are made of."""

    schema_of: Mapping[str, Any]
    codes: Mapping[int, list[str]]
    links: Mapping[str, Mapping[str, Any]]

    def operation(self, method: str, operation: dict[str, Any], exposed: Exposed) -> dict[str, Any]:
        # Litestar documents an error shape of its own for 4xx; ours is the same for all.
        links = self.links.get(operation["operationId"], {})
        answers = {
            status: self._answer(status, answer, exposed, links)
            for status, answer in operation["responses"].items()
            if not status.startswith("4") or status in exposed.described
        }
        path = any(parameter.place == "path" for parameter in exposed.asked.parameters)
        body = "requestBody" in operation or exposed.asked.body is not None
        usual = refusals.statuses(method, guarded=bool(exposed.roles), body=body, path=path)
        said = sorted({*usual, *exposed.refuses})
        refused = {str(status): {"$ref": f"#/components/responses/{status}"} for status in said if status in self.codes}
        document: dict[str, Any] = {
            **operation,
            "responses": {**dict(sorted({**refused, **answers}.items())), "default": refusals.OTHERWISE},
        }
        summary, _, more = operation.get("description", "").partition("\n")
        document["summary"] = summary.strip()
        if more.strip():
            document["description"] = " ".join(more.split())
        else:
            document.pop("description", None)
        if exposed.asked.parameters:
            described = {(entry["in"], entry["name"]): entry for entry in operation.get("parameters", ())}
            document["parameters"] = [
                self._parameter(parameter, described.get((parameter.place, parameter.name), {}))
                for parameter in exposed.asked.parameters
            ]
        if exposed.asked.body is not None:
            content = {"schema": self.schema_of[_key(exposed.asked.body)], "example": example_of(exposed.asked.body)}
            document["requestBody"] = {"required": True, "content": {JSON: content}}
        # Any one of the roles will do: alternatives, in the words of OpenAPI 3.1.
        document["security"] = [{"bearer": [role]} for role in exposed.roles]
        return document

    def _parameter(self, parameter: Parameter, litestar: Mapping[str, Any]) -> dict[str, Any]:
        schema = dict(self.schema_of[_key(parameter.kind)])
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            schema = dict(kinds[0])  # there is no null in a path, a query or a header
        description = litestar.get("description") or schema.pop("description", None)
        schema.pop("description", None)
        for name in ("default", "format"):
            if (said := litestar.get("schema", {}).get(name)) is not None:
                schema[name] = said
        document = {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required or parameter.place == "path",
        }
        if description:
            document["description"] = description
        document["schema"] = {"type": "array", "items": schema} if parameter.repeated else schema
        return document

    def _answer(
        self, status: str, answer: dict[str, Any], exposed: Exposed, links: Mapping[str, Any]
    ) -> dict[str, Any]:
        if status in exposed.described and not status.startswith("2"):
            return answer
        headers = {name: {"schema": _TEXT, **header} for name, header in answer.get("headers", {}).items()}
        if any(parameter.name == "cursor" for parameter in exposed.asked.parameters):
            headers["Link"] = {"$ref": "#/components/headers/Link"}
        document = {**answer, "headers": {**headers, **refusals.CORRELATION}}
        if status not in exposed.described:
            document["description"] = HTTPStatus(int(status)).phrase
            document["content"] = {
                media_type: {"schema": self.schema_of[_key(exposed.answer)]}
                if exposed.answer is not None and media_type == JSON
                else {"schema": _BYTES}
                if media_type.startswith("application/") and media_type != JSON
                else content
                for media_type, content in answer.get("content", {}).items()
            }
        if links:
            document["links"] = dict(links)
        return document


def _answered(annotation: Any) -> Any:
    """Return the type of an answer's JSON; None if it is none."""
    if get_origin(annotation) is Response:
        (annotation,) = get_args(annotation)
    return None if annotation in (None, type(None), bytes, Response) else annotation
