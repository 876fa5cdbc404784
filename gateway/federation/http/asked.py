"""What each operation takes: its parameters, its headers and its body, and whether a request is that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from litestar import Litestar, Request
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import inspect

from compliance.terminal import shown
from gateway.federation.http.faults import VALUE_SHOWN, asked_for, body_faults, text_fault
from gateway.federation.problems import ProblemError, Refusal, ServiceReason

JSON = "application/json"
Place = Literal["path", "query", "header"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as the request names it, and the type that its text is checked against."""

    place: Place
    name: str
    kind: Any
    required: bool
    repeated: bool
    """Whether it may be given several times."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation takes. `body` is the type of its JSON; None if it takes none, or a form."""

    parameters: tuple[Parameter, ...]
    body: Any
    form: bool = False

    @classmethod
    def by(cls, handler: HTTPRouteHandler, route: HTTPRoute) -> Asked:
        """Return what a handler takes, by its own signature and those of its dependencies."""
        model = handler.create_kwargs_model(path_parameters=route.path_parameters)
        signatures = [handler.signature_model, *(d.signature_model for d in handler.resolve_dependencies().values())]
        kinds: dict[str, Any] = {}
        for signature in reversed(signatures):
            kinds |= signature.__annotations__
        defined: list[tuple[Place, Any]] = [
            *(("path", parameter) for parameter in model.expected_path_params),
            *(("query", parameter) for parameter in model.expected_query_params),
            *(("header", parameter) for parameter in model.expected_header_params),
        ]
        parameters = [
            Parameter(
                place,
                parameter.field_alias,
                _item(kinds[parameter.field_name]) if parameter.is_sequence else kinds[parameter.field_name],
                parameter.is_required,
                parameter.is_sequence,
            )
            for place, parameter in defined
        ]
        data = None if model.expected_form_data or model.expected_msgpack_data else handler.parsed_data_field
        body = handler.opt.get("body") if data is None else data.annotation
        ordered = sorted(parameters, key=lambda parameter: (parameter.place, parameter.name))
        return cls(tuple(ordered), body, handler.opt.get("form", False))

    def has_unknown(self, request: Request[Any, Any, Any]) -> bool:
        """Tell whether the query asks for what isn't there, or for one thing twice.

        Who asks for a part would take the whole for it.
        """
        return any(True for _ in self._faults_of_query_names(request))

    def faults(self, request: Request[Any, Any, Any], body: Any) -> Iterator[ProblemError]:
        """Yield all that is wrong with a request, its body left aside where that is Ellipsis."""
        yield from self._faults_of_query_names(request)
        for parameter in self.parameters:
            for text in _texts(parameter, request):
                if (detail := text_fault(parameter.name, text, parameter.kind)) is not None:
                    yield _error(parameter, detail)
        for parameter in self.parameters:
            if parameter.required and parameter.place != "path" and not _texts(parameter, request):
                yield _error(
                    parameter, f"{parameter.name}: missing; it takes {asked_for(inspect.type_info(parameter.kind))}"
                )
        if body is ...:
            return
        if self.body is None:
            yield ProblemError("the body: this operation takes none; leave it out, or send {}", "")
        else:
            yield from body_faults(body, self.body)

    def _faults_of_query_names(self, request: Request[Any, Any, Any]) -> Iterator[ProblemError]:
        known = {parameter.name: parameter for parameter in self.parameters if parameter.place == "query"}
        for name in sorted(set(request.query_params.keys())):
            said = shown(name, characters_max=VALUE_SHOWN)
            if name not in known:
                more = f", which takes {', '.join(known)}" if known else ""
                yield ProblemError(f"{said}: no query parameter of this operation{more}", parameter=said)
            elif not known[name].repeated and len(request.query_params.getall(name)) > 1:
                yield ProblemError(f"{said}: given twice, and one is taken", parameter=said)


def has_body(request: Request[Any, Any, Any]) -> bool:
    """Tell whether a request comes with a body (RFC 9112, section 6.3)."""
    headers = request.headers
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip() != "0"


def require_json(request: Request[Any, Any, Any]) -> None:
    """Raise Refusal `unsupported_media_type` for a body that isn't said to be JSON in UTF-8, or is compressed."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise _unsupported(f"Content-Encoding is {_quoted(coding)}; this takes a body as it is")
    said = request.headers.get("Content-Type")
    if said is None:
        raise _unsupported(f"Content-Type is missing; this takes {JSON}")
    if not is_json(said):
        raise _unsupported(f"Content-Type is {_quoted(said)}; this takes {JSON}, and no charset but utf-8")


def is_json(content_type: str) -> bool:
    """Tell whether a Content-Type is that of JSON, in UTF-8 if it names a charset (RFC 8259 knows no other)."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", "").replace("\n", "")
    charset = message.get_param("charset", "utf-8")
    return message.get_content_type() == JSON and isinstance(charset, str) and charset.lower() in ("utf-8", "utf8")


def _quoted(text: str) -> str:
    return f"'{shown(text, characters_max=VALUE_SHOWN)}'"


def _unsupported(detail: str) -> Refusal:
    return Refusal(ServiceReason.UNSUPPORTED_MEDIA_TYPE, detail)


def _item(kind: Any) -> Any:
    """Return the type of one text of a parameter that may be given several times."""
    origin, kinds = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return next(_item(inner) for inner in kinds if inner is not type(None))
    return _item(kinds[0]) if origin is Annotated else kinds[0]


def _texts(parameter: Parameter, request: Request[Any, Any, Any]) -> list[str]:
    match parameter.place:
        case "path":
            # What the path's own pattern read is no text any more, and right.
            text = request.path_params.get(parameter.name)
            return [text] if isinstance(text, str) else []
        case "query":
            return list(request.query_params.getall(parameter.name, []))
        case "header":
            return [] if (text := request.headers.get(parameter.name)) is None else [text]


def _error(parameter: Parameter, detail: str) -> ProblemError:
    return (
        ProblemError(detail, header=parameter.name)
        if parameter.place == "header"
        else ProblemError(detail, parameter=parameter.name)
    )


def operations_of(app: Litestar) -> Mapping[BaseRouteHandler, Asked]:
    """Return what each operation of an application takes."""
    return {
        handler: Asked.by(handler, route)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
    }
