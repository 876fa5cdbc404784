"""Pro rata: an amount shared in proportion to weights, in whole minor units and without a remainder.

Each gets the whole part of its exact share; the units that are left go, one each, to the largest fractions, ties by
name (the method of the largest remainder: Hamilton; Balinski and Young, Fair Representation, 1982). So a share is
never a full unit away from the exact one.

With caps, a share that would exceed its cap is the cap, and the others take what it leaves, again pro rata: every
share below its cap is the same proportion of its weight, to within one unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction

from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError


class ProRataReason(StrEnum):
    """Why an amount can't be shared, in order of precedence."""

    NEGATIVE = "negative"
    OVERFLOW = "overflow"
    CAP_MISSING = "cap_missing"
    CAPS_TOO_LOW = "caps_too_low"


def pro_rata(total: int, weights: Mapping[str, int], *, caps: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return each one's share of `total`, in order of the names; the shares sum to `total`. Raises RefusedError.

    Amounts are minor units. A weight of zero gets nothing. `caps`, if given, has the most that each may get; to
    keep each share within its weight, give the weights as caps. O(n log n).
    """
    _check(total, weights, caps)
    names = sorted(weights)
    shares = dict.fromkeys(names, 0)
    open_names = [name for name in names if weights[name] > 0]
    remainder, weight = total, sum(weights.values())
    if caps is not None:
        # Whoever has the lowest cap for its weight reaches it first: once one stays below, so do all after it.
        open_names.sort(key=lambda name: (Fraction(caps[name], weights[name]), name))
        reached = 0
        for name in open_names:
            if caps[name] * weight > remainder * weights[name]:
                break
            shares[name] = caps[name]
            remainder -= caps[name]
            weight -= weights[name]
            reached += 1
        open_names = sorted(open_names[reached:])
    if open_names:
        _largest_remainder(remainder, weight, open_names, weights, shares)
    return shares


def _largest_remainder(
    total: int, weight: int, names: list[str], weights: Mapping[str, int], shares: dict[str, int]
) -> None:
    remainders: list[tuple[int, str]] = []
    units_left = total
    for name in names:
        shares[name], remainder = divmod(total * weights[name], weight)
        units_left -= shares[name]
        remainders.append((-remainder, name))
    for _, name in sorted(remainders)[:units_left]:
        shares[name] += 1


def _check(total: int, weights: Mapping[str, int], caps: Mapping[str, int] | None) -> None:
    amounts = [("total", total), *((f"weight of {name}", weights[name]) for name in sorted(weights))]
    if caps is not None:
        amounts += [(f"cap of {name}", caps[name]) for name in sorted(caps)]
    for place, amount in amounts:
        if amount < 0:
            raise RefusedError(ProRataReason.NEGATIVE, place, f"it is {amount}")
    for place, amount in (*amounts, ("sum of weights", sum(weights.values()))):
        if amount > AMOUNT_MAX:
            raise RefusedError(ProRataReason.OVERFLOW, place, "it has more than 38 digits")
    if caps is not None:
        for name in sorted(weights):
            if name not in caps:
                raise RefusedError(ProRataReason.CAP_MISSING, f"cap of {name}", "every name with a weight needs a cap")
    if total > room(weights, caps):
        detail = f"{total} can't be shared: at most {room(weights, caps)} within the caps"
        raise RefusedError(ProRataReason.CAPS_TOO_LOW, "total", detail)


def room(weights: Mapping[str, int], caps: Mapping[str, int] | None = None) -> int:
    """Return the most that can be shared: the caps of those who have a weight; nothing where nobody has one."""
    if caps is None:
        return AMOUNT_MAX if any(weights.values()) else 0
    return sum(caps[name] for name, weight in weights.items() if weight > 0)
