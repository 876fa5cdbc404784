"""The correlation id: one name for everything that one request causes, across institutions."""

from __future__ import annotations

import re
from contextvars import ContextVar
from uuid import uuid4

HEADER = "X-Correlation-ID"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{8,64}")

_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def current() -> str | None:
    """Return the correlation id of the request or task we are in."""
    return _current.get()


def begin(proposed: str | None = None) -> str:
    """Set and return the correlation id: the proposed one if it is well formed, else a new one."""
    chosen = proposed if proposed is not None and _ACCEPTABLE.fullmatch(proposed) else str(uuid4())
    _current.set(chosen)
    return chosen
