"""Headers of answers, as the published description names them beside those that every answer has."""

from __future__ import annotations

from litestar.datastructures import ResponseHeader

IDEMPOTENCY_HIT = ResponseHeader(
    name="Idempotency-Hit",
    documentation_only=True,
    description="`true` where the same was asked before, and this is the answer that was given.",
)
FILE_NAME = ResponseHeader(
    name="Content-Disposition", documentation_only=True, description="What to call the answer as a file."
)
