"""The answer of `concordat gridlock`: what settles, as canonical JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compliance.crypto import canonical
from gateway.analysis.queues import Queue
from netting.gridlock import Resolution


def document(queues: Sequence[Queue], resolutions: Sequence[Resolution]) -> bytes:
    """Return the resolutions: members sorted, no white space, one line.

    Queues that were resolved each on its own are told by currency. Balances are by participant, and by currency within
    where a resolution spans several.
    """
    told = [_resolution(one) for one in resolutions]
    if len(told) == 1:
        return canonical.encode(told[0]) + b"\n"
    by_currency = {queue.currency or "": one for queue, one in zip(queues, told, strict=True)}
    return canonical.encode({"currencies": by_currency}) + b"\n"


def _resolution(one: Resolution) -> dict[str, Any]:
    parts = {"parts": dict(one.parts)} if one.parts else {}
    return parts | {
        "mode": one.mode,
        "settled": one.settled,
        "value": one.value,
        "count": one.count,
        "upper_bound": one.upper_bound,
        "gap": one.gap,
        "optimal": one.optimal,
        "work": one.work,
        "balances": _balances(one),
    }


def _balances(one: Resolution) -> dict[str, Any]:
    if len({currency for _, currency, _ in one.balances}) < 2:
        return {name: after for name, _, after in one.balances}
    found: dict[str, dict[str, int]] = {}
    for name, currency, after in one.balances:
        found.setdefault(name, {})[currency] = after
    return found
