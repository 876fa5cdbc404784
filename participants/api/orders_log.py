"""The log of orders that were taken: who, and which payments; no name and no amount.

Thousands come in a second, so what is to be said is put aside, and said a moment later with many payments in a line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

SAID_AFTER_SECONDS = 0.2
LINE_PAYMENTS_MAX = 100
_log = structlog.get_logger("participants.orders")
_waiting: dict[str, list[str]] = {}


def taken(subject: str, payments: Iterable[str]) -> None:
    """Note that orders of somebody's were answered. Called on the event loop."""
    if not _waiting:
        asyncio.get_running_loop().call_later(SAID_AFTER_SECONDS, _say)
    _waiting.setdefault(subject, []).extend(payments)


def note(what: str, subject: str, payments: Iterable[str]) -> None:
    """Say at once that somebody asked for something else of payments, many in a line."""
    ids = list(payments)
    for start in range(0, len(ids), LINE_PAYMENTS_MAX):
        _log.info(what, subject=subject, payments=ids[start : start + LINE_PAYMENTS_MAX])


def _say() -> None:
    said = dict(_waiting)
    _waiting.clear()
    for subject, payments in said.items():
        note("orders taken", subject, payments)
