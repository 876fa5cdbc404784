"""The one table from refusals and failures to problem documents (RFC 9457), for Litestar."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from compliance.bic import BicError
from compliance.crypto.dsse import EvidenceError
from gateway.federation import correlation, security_log
from gateway.federation.http.client import RemoteProblem, RemoteUnavailable
from gateway.federation.http.faults import ERRORS_MAX, json_pointer
from gateway.federation.http.methods import allowed_methods
from gateway.federation.http.refusals import EVIDENCE_STATUS
from gateway.federation.problems import (
    PROBLEM_MEDIA_TYPE,
    Problem,
    ProblemError,
    Refusal,
    ServiceReason,
    problem,
    problem_of,
)
from gateway.federation.storage.failures import database_refusal, failure_of, sqlstate

_log = structlog.get_logger()

_BY_STATUS = {
    reason.status: reason
    for reason in (
        ServiceReason.BAD_REQUEST,
        ServiceReason.UNAUTHORIZED,
        ServiceReason.FORBIDDEN,
        ServiceReason.NOT_FOUND,
        ServiceReason.METHOD_NOT_ALLOWED,
        ServiceReason.BODY_TOO_LARGE,
        ServiceReason.UNSUPPORTED_MEDIA_TYPE,
        ServiceReason.TOO_MANY_REQUESTS,
        ServiceReason.UNAVAILABLE,
    )
}
PARSED_BODY = "concordat.parsed_body"
"""Where a request's scope has its JSON as it was read, None if it has no body; of what is read by itself, nothing."""


def respond(document: Problem, *, headers: dict[str, str] | None = None) -> Response[Problem]:
    """Return a problem document as a response."""
    headers = headers or {}
    if document.status == 401:
        headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    if document.status == 415:
        headers["Accept"] = "application/json"
    return Response(document, status_code=document.status, media_type=PROBLEM_MEDIA_TYPE, headers=headers)


def refusal_response(refusal: Refusal) -> Response[Problem]:
    """Answer a refusal."""
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
    return respond(problem_of(refusal, instance=correlation.current()), headers=headers)


def _on_refusal(request: Request[Any, Any, Any], refusal: Refusal) -> Response[Problem]:
    security_log.note(request.scope, reason=refusal.reason)
    return refusal_response(refusal)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    if error.status_code >= 500:
        return _on_failure(request, error)
    errors = _faults(request, error) if isinstance(error, ValidationException) else ()
    code = ServiceReason.VALIDATION_FAILED if errors else _BY_STATUS.get(error.status_code, f"http_{error.status_code}")
    # Litestar's own text repeats the address with its query, which may hold what nobody should log.
    detail = "the request doesn't have the documented form" if errors else _said(request, error)
    security_log.note(request.scope, reason=str(code))
    document = problem(code, error.status_code, detail, instance=correlation.current(), errors=errors)
    return respond(document, headers=dict(error.headers or {}))


def _said(request: Request[Any, Any, Any], error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "no such path"
        case 405:
            methods = allowed_methods((error.headers or {}).get("allow", "").split(", "))
            return f"{request.method} is no method of this path, which takes {methods}"
    return error.detail


def _faults(request: Request[Any, Any, Any], error: ValidationException) -> tuple[ProblemError, ...]:
    """Return all that is wrong with a request; if nothing is found, what the framework says of it."""
    operation = request.app.state.get("asked", {}).get(request.scope.get("route_handler"))
    body: Any = request.scope.get(PARSED_BODY, ...)
    faults = () if operation is None else tuple(islice(operation.faults(request, body), ERRORS_MAX + 1))
    return faults or tuple(_framework_errors(error.extra if isinstance(error.extra, list) else ()))


def _framework_errors(entries: Iterable[Any]) -> Iterable[ProblemError]:
    for entry in entries:
        key, message = str(entry.get("key", "")), str(entry.get("message", ""))
        if entry.get("source") == "body":
            yield ProblemError(message, json_pointer("" if key == "data" else key))
        else:
            yield ProblemError(f"{key}: {message}" if key else message)


def _on_bad_evidence(_: Request[Any, Any, Any], error: EvidenceError) -> Response[Problem]:
    return refusal_response(Refusal(error.reason, str(error), status=EVIDENCE_STATUS))


def _on_bad_bic(_: Request[Any, Any, Any], error: BicError) -> Response[Problem]:
    return refusal_response(Refusal(ServiceReason.VALIDATION_FAILED, str(error)))


def _on_remote_problem(_: Request[Any, Any, Any], error: RemoteProblem) -> Response[Problem]:
    return refusal_response(
        Refusal(ServiceReason.REMOTE_REFUSED, f"another member answered {error.status} {error.code}")
    )


def _on_remote_unavailable(_: Request[Any, Any, Any], __: RemoteUnavailable) -> Response[Problem]:
    return refusal_response(Refusal(ServiceReason.REMOTE_UNAVAILABLE, "another member can't be reached"))


def _on_failure(_: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    return refusal_response(failure_refusal(error))


def failure_refusal(error: Exception) -> Refusal:
    """Return the answer to what nobody foresaw: the log gets the frames, the client gets nothing."""
    reason = failure_of(error)
    if reason is not None:
        _log.warning("database refused", reason=reason, sqlstate=sqlstate(error), error=type(error).__name__)
        return database_refusal(reason)
    _log.error("request failed", exc_info=error, sqlstate=sqlstate(error))
    return Refusal(ServiceReason.INTERNAL_ERROR, "an internal error; it is logged")


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Refusal: _on_refusal,
    HTTPException: _on_http_exception,
    EvidenceError: _on_bad_evidence,
    BicError: _on_bad_bic,
    RemoteProblem: _on_remote_problem,
    RemoteUnavailable: _on_remote_unavailable,
    Exception: _on_failure,
}
