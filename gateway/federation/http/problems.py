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
    """Reasons of refusal, in order of precedence, each with the HTTP status beside it: `NAME = "code", 409`."""

    status: int

    def __new__(cls, code: str, status: int = 409) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        return member


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A request that is understood and refused. `reason` is stable and documented; `detail` is for people.

    A RefusalReason brings its status along. `pointer` is the JSON pointer (RFC 6901) of what is refused in the
    request's body. `retry_after_s` says that the same request may succeed later.
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
        self.status = status or (reason.status if isinstance(reason, RefusalReason) else 409)
        self.pointer = pointer
        self.retry_after_s = retry_after_s


class ProblemError(Struct, frozen=True, omit_defaults=True):
    """One error among several; `pointer` is a JSON pointer into the request's body."""

    detail: str
    pointer: str | None = None


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
