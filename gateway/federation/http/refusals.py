"""What an operation may refuse with, for the published description: every status, its codes and its headers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from compliance.crypto.dsse import EvidenceReason
from gateway.federation import correlation
from gateway.federation.problems import PROBLEM_MEDIA_TYPE, RefusalReason, problem

EVIDENCE_STATUS = 422
"""Of a document that was understood and doesn't prove what it says."""
CORRELATION = {correlation.HEADER: {"$ref": "#/components/headers/CorrelationId"}}
HEADERS: Mapping[str, Any] = {
    "CorrelationId": {
        "description": "What the request is called in this node's log: as it was named, or a UUID.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {"description": "Seconds until it may be asked again.", "schema": {"type": "integer"}},
    "Link": {
        "description": 'The following page of a list, `rel="next"` (RFC 8288); not there at its end.',
        "schema": {"type": "string"},
    },
    "WwwAuthenticate": {"description": "How to say who is asking (RFC 6750).", "schema": {"type": "string"}},
    "Accept": {"description": "The media type that is taken.", "schema": {"type": "string"}},
}
_OF_STATUS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "WwwAuthenticate"},
    415: {"Accept": "Accept"},
    429: {"Retry-After": "RetryAfter"},
    503: {"Retry-After": "RetryAfter"},
}
_SCHEMA = {"$ref": "#/components/schemas/Problem"}


def reasons(packages: Collection[str]) -> dict[int, list[str]]:
    """Return the codes that some packages refuse with, by status, each in order of precedence."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for kind in sorted(_kinds(RefusalReason), key=lambda reason: (reason.__module__, reason.__qualname__)):
        if f"{kind.__module__}.".startswith(tuple(f"{package}." for package in packages)):
            for reason in kind:
                codes[reason.status].append(str(reason))
    codes[EVIDENCE_STATUS].extend(map(str, EvidenceReason))
    return {status: list(dict.fromkeys(of)) for status, of in sorted(codes.items())}


def _kinds(base: type[RefusalReason]) -> Iterator[type[RefusalReason]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


def statuses(method: str, *, guarded: bool, body: bool, path: bool) -> list[int]:
    """Return what an operation may be refused with; 405 is of a method that it hasn't."""
    changes = method != "get"
    return sorted(
        {400, 429, 503}
        | ({401, 403} if guarded else set())
        | ({404, 409} if path or changes else set())
        | ({422} if path or changes else set())
        | ({413, 415} if body else set())
    )


def described(codes: Mapping[int, list[str]]) -> dict[str, Any]:
    """Return the answers that operations refer to, by status."""
    return {str(status): answer(status, of) for status, of in codes.items()}


def answer(status: int, codes: list[str]) -> dict[str, Any]:
    """Return how a refusal with a status is described."""
    said = ", ".join(f"`{code}`" for code in codes)
    example = problem(codes[0], status, f"what is wrong with this request: {codes[0].replace('_', ' ')}")
    named = _OF_STATUS.get(status, {})
    return {
        "description": f"{HTTPStatus(status).phrase}: {said}.",
        "headers": {**CORRELATION, **{name: {"$ref": f"#/components/headers/{of}"} for name, of in named.items()}},
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": _SCHEMA,
                "example": {
                    "type": example.type,
                    "title": example.title,
                    "status": example.status,
                    "detail": example.detail,
                    "code": example.code,
                },
            }
        },
    }


OTHERWISE = {
    "description": "The request is refused, or can't be answered; `code` is a stable reason.",
    "headers": CORRELATION,
    "content": {PROBLEM_MEDIA_TYPE: {"schema": _SCHEMA}},
}
