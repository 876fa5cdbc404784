"""Large requests share the event loop: what is done for many items lets others in, large bodies are read beside it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.federation.sharing import INLINE_BYTES_MAX, SLICE_ITEMS_MAX, beside_if_large, in_slices


@pytest.mark.parametrize(
    ("items", "turns"),
    [(0, 0), (1, 0), (SLICE_ITEMS_MAX, 0), (SLICE_ITEMS_MAX + 1, 2), (16 * SLICE_ITEMS_MAX, 16)],
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


@pytest.mark.parametrize(("size", "beside"), [(0, False), (INLINE_BYTES_MAX, False), (INLINE_BYTES_MAX + 1, True)])
async def test_only_what_is_large_is_worth_a_thread(size: int, beside: bool) -> None:
    assert (await beside_if_large(size, threading.get_ident) != threading.get_ident()) is beside
