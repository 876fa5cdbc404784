"""What comes in at the same moment is dealt with together, in one transaction instead of one each.

All banks submit when a cycle is cut off. One at a time they would each wait for all those before them, with as many
commits; so while one group is dealt with the next one gathers, without any timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_Waiting = tuple[str, Item, asyncio.Future[Answer]]

BATCH_MAX = 32
"""Bounds what one transaction verifies, stores and holds up."""


def _as_one(_: object) -> int:
    return 1


class Batcher(Generic[Item, Answer]):
    """Gathers items of one subject (a cycle) and hands them to `work`, group after group, in the order of coming.

    A group weighs `batch_max` at most, or is one item that weighs more by itself.

    `work` returns for each item its answer, or the exception that its caller shall get. An exception that it raises
    goes to all callers of the group. Belongs to one event loop.
    """

    def __init__(
        self,
        work: Callable[[str, Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        batch_max: int = BATCH_MAX,
        weigh: Callable[[Item], int] = _as_one,
    ) -> None:
        self._work = work
        self._weigh = weigh
        self._batch_max = batch_max
        self._waiting: list[_Waiting[Item, Answer]] = []
        self._working: asyncio.Task[None] | None = None

    async def add(self, subject: str, item: Item) -> Answer:
        """Have an item dealt with and return its answer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((subject, item, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._run(), name="submissions")
        return await answer

    async def _run(self) -> None:
        try:
            while self._waiting:
                subject = self._waiting[0][0]
                group: list[_Waiting[Item, Answer]] = []
                later: list[_Waiting[Item, Answer]] = []
                room = self._batch_max
                for waiting in self._waiting:
                    if waiting[0] == subject:
                        room -= self._weigh(waiting[1])
                    (group if waiting[0] == subject and (room >= 0 or not group) else later).append(waiting)
                self._waiting = later
                await self._answer_batch(subject, group)
        finally:
            self._working = None

    async def _answer_batch(self, subject: str, group: Sequence[_Waiting[Item, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._work(subject, [item for _, item, _ in group])
        except Exception as error:
            # The callers' to handle, whatever it is.
            answers = [error] * len(group)
        for (_, _, future), answer in zip(group, answers, strict=True):
            # A caller that has gone waits for nothing.
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
