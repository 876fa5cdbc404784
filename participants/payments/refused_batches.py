"""What one bank refuses to answer for what it is: kept apart from all else, until each payment is known by itself."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Sequence

import msgspec

from participants.ledger.payment import Payment

PACE_SECONDS_MIN = 0.1
PACE_SECONDS_MAX = 1.0
"""Between two attempts with anything of it: whoever refuses much isn't asked more often than this for good."""
ALONE_SECONDS_MIN = 1.0
ALONE_SECONDS_MAX = 60.0


class RefusedBatches:
    """The payments of refused batches to one counterparty. Belongs to one event loop.

    A refused batch is tried again in parts: those alike together, and what is alike in halves. A payment that is
    refused alone is set aside and tried again later, each time later than the last, until the first that is answered
    says that the counterparty takes by now what it didn't.
    """

    def __init__(self) -> None:
        self.set_aside: dict[str, tuple[float, float]] = {}
        """What was refused alone: when it is due, and after how long that is."""
        self._parts: deque[list[str]] = deque()
        self._due_at = 0.0
        self._pace_s = PACE_SECONDS_MIN
        self._together_max = 1

    def ids(self) -> list[str]:
        """Return all that is kept apart."""
        return [*self.set_aside, *(id_ for part in self._parts for id_ in part)]

    def due(self) -> list[str]:
        """Return what to try now; nothing if it is too early."""
        now = time.monotonic()
        if now < self._due_at:
            return []
        if self._parts:
            return list(self._parts[0])
        return [id_ for id_, (at, _) in self.set_aside.items() if at <= now][: self._together_max]

    def due_at(self) -> float | None:
        """Tell when there is something to try, in monotonic time; None if nothing is kept apart."""
        if self._parts:
            return self._due_at
        return max(self._due_at, min(at for at, _ in self.set_aside.values())) if self.set_aside else None

    def refused(self, payments: Sequence[Payment]) -> None:
        """Keep the payments of a batch that was refused as a whole."""
        now, ids = time.monotonic(), [payment.id for payment in payments]
        self._due_at, self._pace_s = now + self._pace_s, min(self._pace_s * 2, PACE_SECONDS_MAX)
        self._leave_parts(ids)
        if len(ids) > 1 and not self.set_aside.keys() & set(ids):
            self._parts.extend(parts_of(payments))
            return
        self._together_max = 1
        for id_ in ids:
            _, delay = self.set_aside.pop(id_, (0.0, ALONE_SECONDS_MIN / 2))
            delay = min(delay * 2, ALONE_SECONDS_MAX)
            self.set_aside[id_] = (now + delay, delay)  # behind those that wait for longer

    def answered(self, ids: Collection[str]) -> None:
        """Forget payments that have an answer."""
        self._pace_s = PACE_SECONDS_MIN
        if self.set_aside.keys() & set(ids):
            self._together_max *= 2
            self.wake(list(self.set_aside))
        self.forget(ids)

    def forget(self, ids: Iterable[str]) -> None:
        """Forget payments that wait no more."""
        for id_ in ids:
            self.set_aside.pop(id_, None)
        self._leave_parts(ids)

    def wake(self, ids: Iterable[str]) -> None:
        """Try those of these payments soon that were refused alone."""
        for id_ in ids:
            if id_ in self.set_aside:
                self.set_aside[id_] = (0.0, self.set_aside[id_][1])

    def _leave_parts(self, ids: Iterable[str]) -> None:
        if self._parts and (gone := set(ids)):
            left = ([id_ for id_ in part if id_ not in gone] for part in self._parts)
            self._parts = deque(part for part in left if part)


def parts_of(payments: Sequence[Payment]) -> list[list[str]]:
    """Return what to try of a refused batch one after the other, by ids: at least two parts of two payments or more.

    Those alike say the same members: an earlier release refuses every batch with a payment that says more than it
    knows. Those that say least come first.
    """
    alike: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for payment in payments:
        alike[tuple(sorted(msgspec.to_builtins(payment.terms)))].append(payment.id)
    if len(alike) > 1:
        return [alike[members] for members in sorted(alike, key=lambda members: (len(members), members))]
    ids = [payment.id for payment in payments]
    return [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
