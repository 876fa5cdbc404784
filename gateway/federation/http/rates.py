"""How many requests somebody may make: a token bucket for each, and never more buckets than there is room for."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

KEYS_MAX = 10_000
"""Beyond this the bucket that was asked longest ago is forgotten; whoever it was has a full one again."""


class Rates:
    """Buckets of `burst` tokens that fill at `per_s` tokens a second. A rate of 0 refuses nobody."""

    def __init__(
        self, per_s: float, *, burst: float, keys_max: int = KEYS_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._keys_max = keys_max
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable) -> int | None:
        """Take a token of a key's bucket; if it has none, return after how many seconds to ask again."""
        if not self._per_s:
            return None
        now = self._clock()
        level, at = self._buckets.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_s)
        if level < 1:
            return math.ceil((1 - level) / self._per_s)
        self._buckets[key] = (level - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return None


def network_of(address: str) -> str:
    """Return what one client can be expected to have: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
