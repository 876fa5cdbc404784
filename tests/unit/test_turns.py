"""However many are woken at once, others have their turn in between."""

from __future__ import annotations

import asyncio

from gateway.federation.sharing import Turns


async def test_others_go_on_between_groups() -> None:
    turns, order = Turns(each=3), list[str]()

    async def one(number: int) -> None:
        await turns.take()
        order.append(str(number))

    async def other() -> None:
        for _ in range(20):
            order.append("-")
            await asyncio.sleep(0)

    await asyncio.gather(other(), *(one(number) for number in range(10)))
    taken = "".join(order)
    assert taken.replace("-", "") == "0123456789"
    assert all(len(group) <= 3 for group in taken.split("-"))


async def test_who_has_gone_takes_nobodys_turn() -> None:
    turns = Turns(each=1)
    await turns.take()
    waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting[1:])
        await turns.take()


def test_a_loop_that_ended_leaves_nobody_waiting() -> None:
    turns = Turns(each=1)
    for _ in range(3):
        asyncio.run(turns.take())
