"""Sharing the event loop: work on large requests goes on beside it, or lets others in between.

Nobody waits long because of somebody else's request, and a small one costs no more than its work.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from weakref import WeakKeyDictionary

from gateway.federation.problems import Refusal, RefusalReason

T = TypeVar("T")
R = TypeVar("R")

SLICE_ITEMS_MAX = 128
"""About a millisecond of what is done for each payment."""
UNSLICED_ITEMS_MAX = 16
"""So few are worked on at once: waiting for a turn would cost more."""
TURN_REQUESTS_MAX = 32
"""Some milliseconds of what is done for each request that has to be looked at."""
INLINE_BYTES_MAX = 64 * 1024
"""A thread costs more than reading so little."""

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def in_slices(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """Return what `work` makes of the items, having let others in after every slice of them.

    However many large requests there are, the event loop works on one slice of one of them in a round: what waits for
    a moment only, as the ledger's writer does between two statements, never waits for all of them.
    """
    if len(items) <= UNSLICED_ITEMS_MAX:
        return work(items)
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    made: list[R] = []
    for start in range(0, len(items), SLICE_ITEMS_MAX):
        async with turn:
            made += work(items[start : start + SLICE_ITEMS_MAX])
            await asyncio.sleep(0)
    return made


async def beside_if_large(size: int, work: Callable[[], R]) -> R:
    """Return what `work` makes of so many bytes, having done it in a thread if they are many.

    It may touch only what is its own.
    """
    return work() if size <= INLINE_BYTES_MAX else await asyncio.to_thread(work)


class Shares:
    """Lets each caller have so many requests under way: its next one is refused, and nobody else's is.

    A share is taken before a request's body is read and given back with its answer, so that one caller's bodies, and
    what is made of them, take up as much of a node as that many of them do. Belongs to one event loop.
    """

    def __init__(self, each: int, reason: RefusalReason, requests: str) -> None:
        """`requests` is what they are called in the refusal."""
        self._each = each
        self._reason = reason
        self._requests = requests
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def share_of(self, caller: str) -> Iterator[None]:
        """Hold a share of a caller's. Raises Refusal if it has none left."""
        if self._under_way[caller] >= self._each:
            detail = f"{self._each} {self._requests} of {caller} are under way"
            raise Refusal(self._reason, detail, retry_after_s=1)
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]


class Turns:
    """Lets so many go on in each round of the event loop, in the order in which they came. For one loop at a time.

    Hundreds may be woken by one event, and what takes each of them a moment would hold up everybody else.
    """

    def __init__(self, each: int = TURN_REQUESTS_MAX) -> None:
        self._each = each
        self._left = each
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def take(self) -> None:
        """Return when it is the caller's turn, at once if few others have come in this round."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # the one before may have ended within a round
            self._loop, self._left = loop, self._each
            self._waiting.clear()
        if self._left == self._each:
            loop.call_soon(self._next)
        if self._left:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._left = self._each
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever waited may have gone
                turn.set_result(None)
                self._left -= 1
        if self._left < self._each:
            asyncio.get_running_loop().call_soon(self._next)
