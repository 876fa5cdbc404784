"""Refusals inside, RFC 9457 problem documents at the edge.

`gateway.federation.http.problem_documents` turns the one into the other; this module knows no web framework, so that
clients share the vocabulary.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from msgspec import Struct

PROBLEM_TYPE = "https://concordat.example/problems/"
PROBLEM_MEDIA_TYPE = "application/problem+json"


class RefusalReason(StrEnum):
    """Base of the reasons that requests are refused for: `NAME = "code", status`, in order of precedence.

    409 by itself: the state of things is in the way.
    """

    status: int

    def __new__(cls, code: str, status: int = 409) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member


class ServiceReason(RefusalReason):
    """What any service may answer, whatever is asked of it."""

    BAD_REQUEST = "bad_request", 400
    """The request can't be read at all."""
    VALIDATION_FAILED = "validation_failed", 400
    """It doesn't have the documented form; `errors` says all that is wrong, and where."""
    CURSOR_MALFORMED = "cursor_malformed", 400
    """The cursor is of another list, or of none."""
    UNAUTHORIZED = "unauthorized", 401
    """The token endpoint and all others have reasons of their own instead, see Access."""
    FORBIDDEN = "forbidden", 403
    ROLE_NOT_ALLOWED = "role_not_allowed", 403
    """The token's role isn't one that the operation takes."""
    SCOPE_NOT_ALLOWED = "scope_not_allowed", 403
    """The token is good for other books than this one."""
    NOT_FOUND = "not_found", 404
    """No such path."""
    METHOD_NOT_ALLOWED = "method_not_allowed", 405
    BODY_TOO_LARGE = "body_too_large", 413
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 415
    """The body isn't said to be JSON (a form, at the token endpoint), or is compressed."""
    TOO_MANY_REQUESTS = "too_many_requests", 429
    """With `Retry-After`."""
    INTERNAL_ERROR = "internal_error", 500
    """A defect; the log has it under the correlation id."""
    REMOTE_REFUSED = "remote_refused", 502
    """Another member refused what this one asked of it."""
    REMOTE_UNAVAILABLE = "remote_unavailable", 503
    """Another member can't be reached."""
    DATABASE_BUSY = "database_busy", 503
    """Locked, out of connections, or slower than a limit; with `Retry-After`, as the next three."""
    DATABASE_FULL = "database_full", 503
    """Its disk is."""
    DATABASE_READ_ONLY = "database_read_only", 503
    """It is a standby, or was set so."""
    DATABASE_UNAVAILABLE = "database_unavailable", 503
    """It can't be reached."""
    NOT_READY = "not_ready", 503
    """`/health/ready` on the private port says what is missing."""
    UNAVAILABLE = "unavailable", 503


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A request that is understood and refused. `reason` is stable and documented; `detail` is for people.

    It is answered with the status of its reason; 409 if it has none, unless another is given.
    `pointer` is the JSON pointer (RFC 6901) of what is refused in the request's body. `retry_after_s` says that the
    same request may succeed later.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        *,
        status: int | None = None,
        pointer: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = str(reason)
        self.detail = detail
        self.status = getattr(reason, "status", 409) if status is None else status
        self.pointer = pointer
        self.retry_after_s = retry_after_s


class ProblemError(Struct, frozen=True, omit_defaults=True):
    """One error among several, in words, and where: in the body (a JSON pointer), in a parameter or in a header."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    """Of the query or the path."""
    header: str | None = None

    def __str__(self) -> str:
        """Return it in a line: where, and what."""
        if self.parameter is not None:
            return f"parameter {self.parameter}: {self.detail}"
        if self.header is not None:
            return f"header {self.header}: {self.detail}"
        return f"{self.pointer}: {self.detail}" if self.pointer else self.detail


class Problem(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An RFC 9457 problem document. `code` is the reason; `instance` is the request's correlation id."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    errors: tuple[ProblemError, ...] = ()


def problem(
    code: str, status: int, detail: str, *, instance: str | None = None, errors: tuple[ProblemError, ...] = ()
) -> Problem:
    """Return the problem document of a reason code."""
    return Problem(
        type=PROBLEM_TYPE + code.replace("_", "-"),
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        instance=instance,
        errors=errors,
    )


def problem_of(refusal: Refusal, *, instance: str | None = None) -> Problem:
    """Return the problem document of a refusal."""
    errors = () if refusal.pointer is None else (ProblemError(refusal.detail, refusal.pointer),)
    return problem(refusal.reason, refusal.status, refusal.detail, instance=instance, errors=errors)
