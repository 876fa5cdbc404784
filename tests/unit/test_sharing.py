"""Large requests share the event loop: what is done for many items lets others in, large bodies are read beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from gateway.federation.sharing import (
    INLINE_BYTES_MAX,
    SLICE_ITEMS_MAX,
    UNSLICED_ITEMS_MAX,
    beside_if_large,
    in_slices,
)


@pytest.mark.parametrize(
    ("items", "turns"),
    [(0, 0), (1, 0), (UNSLICED_ITEMS_MAX, 0), (UNSLICED_ITEMS_MAX + 1, 1), (16 * SLICE_ITEMS_MAX, 16)],
)
async def test_others_have_a_turn_after_every_slice(items: int, turns: int) -> None:
    had = 0

    async def other() -> None:
        nonlocal had
        while True:
            await asyncio.sleep(0)
            had += 1

    waiting = asyncio.create_task(other())
    await asyncio.sleep(0)
    had = 0
    assert await in_slices(lambda some: [str(item) for item in some], range(items)) == [
        str(item) for item in range(items)
    ]
    assert had == turns
    waiting.cancel()


async def test_of_many_large_requests_one_slice_is_worked_on_in_a_round() -> None:
    rounds: list[int] = []
    at = 0

    async def count_rounds() -> None:
        nonlocal at
        while True:
            await asyncio.sleep(0)
            at += 1

    def work(some: Sequence[int]) -> list[int]:
        rounds.append(at)
        return list(some)

    counting = asyncio.create_task(count_rounds())
    items = range(2 * SLICE_ITEMS_MAX)
    assert await asyncio.gather(*(in_slices(work, items) for _ in range(20))) == [list(items)] * 20
    assert len(rounds) == len(set(rounds)) == 40
    counting.cancel()


@pytest.mark.parametrize(("size", "beside"), [(0, False), (INLINE_BYTES_MAX, False), (INLINE_BYTES_MAX + 1, True)])
async def test_only_what_is_large_is_worth_a_thread(size: int, beside: bool) -> None:
    assert (await beside_if_large(size, threading.get_ident) != threading.get_ident()) is beside
