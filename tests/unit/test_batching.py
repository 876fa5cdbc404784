"""What comes in together is dealt with in groups of a bounded weight, in the order of coming."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.coordinator.cycles.batching import Batcher


@pytest.mark.parametrize(
    ("weights", "groups"),
    [
        ([1], [[1]]),
        ([1, 2, 3, 4, 5], [[1, 2, 3, 4], [5]]),
        ([4, 4, 4], [[4, 4], [4]]),
        # What doesn't fit keeps those behind it waiting too: nobody overtakes.
        ([9, 2, 1, 1], [[9], [2, 1, 1]]),
        # One by itself may weigh more than a group.
        ([11, 1], [[11], [1]]),
        ([1, 11, 1], [[1], [11], [1]]),
    ],
)
async def test_a_group_weighs_so_much(weights: list[int], groups: list[list[int]]) -> None:
    dealt: list[list[int]] = []

    async def work(_: str, items: Sequence[int]) -> Sequence[int | Exception]:
        dealt.append(list(items))
        return [-item for item in items]

    batcher: Batcher[int, int] = Batcher(work, batch_max=10, weigh=lambda weight: weight)
    assert await asyncio.gather(*(batcher.add("c", weight) for weight in weights)) == [-weight for weight in weights]
    assert dealt == groups


async def test_subjects_are_apart_and_an_error_is_of_its_group() -> None:
    async def work(subject: str, items: Sequence[int]) -> Sequence[int | Exception]:
        if subject == "bad":
            raise ValueError(subject)
        return items

    batcher: Batcher[int, int] = Batcher(work)
    answers = await asyncio.gather(
        *(batcher.add(subject, number) for number, subject in enumerate(("a", "bad", "a", "b"))), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["0", "bad", "2", "3"]
