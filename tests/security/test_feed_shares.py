"""No client keeps others, or the bank's webhooks, from hearing what happens."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from running_banks import WAIT_S, RunningBank, Town, order
from support import uuid7
from webhook_receiver import receiving

from participants.feed.feed import CLIENT_WAITING_MAX
from participants.roles import Role

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(one: RunningBank, client: str, *, stream: bool = False, **params: Any) -> httpx.Response:
    headers = {"Accept": "text/event-stream"} if stream else {}
    token = one.staff_token(client, Role.EVENTS)
    return await one.send("GET", "/events", params=params, token=token, headers=headers)


async def until_waiting(one: RunningBank, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while one.node.feed.waiting != count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


async def test_a_client_has_its_share_and_others_have_theirs(town: Town) -> None:
    """It is told so by either way; another one waits and hears, and a webhook is sent to meanwhile."""
    alpha = town.alpha
    head = (await ask(alpha, "greedy")).json()["head"]
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        webhook = {"id": uuid7(), "url": receiver.url, "types": ["payment.reserved"]}
        assert (await alpha.send("POST", "/webhooks", webhook)).status_code == 201
        for _ in range(CLIENT_WAITING_MAX // 2):
            headers = {
                "Accept": "text/event-stream",
                "Authorization": f"Bearer {alpha.staff_token('greedy', Role.EVENTS)}",
                "Last-Event-ID": str(head),
            }
            await stack.enter_async_context(alpha.http.stream("GET", f"{alpha.settings.url}/events", headers=headers))
        polls = [
            asyncio.create_task(ask(alpha, "greedy", after=head, wait_s=25)) for _ in range(CLIENT_WAITING_MAX // 2)
        ]
        await until_waiting(alpha, CLIENT_WAITING_MAX)
        for refused in (await ask(alpha, "greedy", after=head, wait_s=1), await ask(alpha, "greedy", stream=True)):
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_readers_of_client")
            assert refused.headers["Retry-After"] == "5"
        assert (await ask(alpha, "greedy", after=head)).status_code == 200, "who doesn't wait is answered"
        other = asyncio.create_task(ask(alpha, "core", after=head, wait_s=25))
        await until_waiting(alpha, CLIENT_WAITING_MAX + 1)
        one = order(7)
        assert (await alpha.send("POST", "/payments", one)).status_code == 201
        (first, *_) = (await other).json()["events"]
        assert first["payment"]["id"] == one["id"]
        await receiver.until(lambda: first["sequence"] in receiver.sequences())
        assert {answer.status_code for answer in await asyncio.gather(*polls)} == {200}
    # A place is free again once whoever had it goes.
    await until_waiting(alpha, 0)
