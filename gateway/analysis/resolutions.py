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
    answers = [_resolution(resolution) for resolution in resolutions]
    if len(answers) == 1:
        return canonical.encode(answers[0]) + b"\n"
    by_currency = {queue.currency or "": answer for queue, answer in zip(queues, answers, strict=True)}
    return canonical.encode({"currencies": by_currency}) + b"\n"


def _resolution(resolution: Resolution) -> dict[str, Any]:
    parts = {"parts": dict(resolution.parts)} if resolution.parts else {}
    return parts | {
        "mode": resolution.mode,
        "settled": resolution.settled,
        "value": resolution.value,
        "count": resolution.count,
        "upper_bound": resolution.upper_bound,
        "gap": resolution.gap,
        "optimal": resolution.optimal,
        "work": resolution.work,
        "balances": _balances(resolution),
    }


def _balances(resolution: Resolution) -> dict[str, Any]:
    if len({currency for _, currency, _ in resolution.balances}) < 2:
        return {name: after for name, _, after in resolution.balances}
    by_name: dict[str, dict[str, int]] = {}
    for name, currency, after in resolution.balances:
        by_name.setdefault(name, {})[currency] = after
    return by_name
