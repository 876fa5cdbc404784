"""The correlation id: one name for everything that one request causes, across institutions."""

from __future__ import annotations

import os
import re
from collections import deque
from contextvars import ContextVar
from uuid import UUID

HEADER = "X-Correlation-ID"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{8,64}")

_DRAWN_AT_ONCE = 256
"""Ids' worth of chance. To draw some is a call of the system, in which whoever else wants to work takes over."""


_drawn: deque[bytes] = deque()
os.register_at_fork(after_in_child=_drawn.clear)

_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def current() -> str | None:
    """Return the correlation id of the request or task we are in."""
    return _current.get()


def begin(proposed: str | None = None) -> str:
    """Set and return the correlation id: the proposed one if it is well formed, else a new one."""
    chosen = proposed if proposed is not None and _ACCEPTABLE.fullmatch(proposed) else _new()
    _current.set(chosen)
    return chosen


def _new() -> str:
    """Return a random UUID. Any thread may."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        more = os.urandom(16 * _DRAWN_AT_ONCE)
        _drawn.extend(more[at : at + 16] for at in range(16, len(more), 16))
        drawn = more[:16]
    return str(UUID(bytes=drawn, version=4))
