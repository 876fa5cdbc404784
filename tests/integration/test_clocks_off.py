"""A clock that is ten minutes off is noticed by what members answer, and named; nobody is stopped by a liar."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import formatdate

import httpx
import pytest
from hostile_peers import peer
from running_banks import Town
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR
from support import private
from test_payments_get_through import admit, pay

from gateway.federation.http.client import ASSERTION_GRANT
from gateway.federation.http.clock_watch import ClockWatch
from gateway.federation.identity.tokens import client_assertion

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTES = 60


@asynccontextmanager
async def shifted(seconds: float) -> AsyncIterator[str]:
    """Serve somebody whose clock is so far ahead."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        date = formatdate(time.time() + seconds, usegmt=True)
        writer.write(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await writer.drain()

    async with peer(answer) as url:
        yield url


async def ready(url: str, http: httpx.AsyncClient) -> httpx.Response:
    return await http.get(f"{private(url)}/health/ready")


async def test_a_member_whose_clock_is_off_is_named_and_payments_go_on(town: Town) -> None:
    async with shifted(10 * MINUTES) as url:
        await admit(town, "LATEDEF0", url)
        for _ in range(20):  # who is asked is chosen by chance
            await town.alpha.node.clock_watch.look()
            if "LATEDEF0" in (answer := await ready(town.alpha.settings.url, town.alpha.http)).json()["clocks"]:
                break
    assert answer.status_code == 200
    assert re.match(r"LATEDEF0 is (59[5-9]|60[0-5]) s ahead", answer.json()["clocks"])
    metrics = (await town.alpha.http.get(f"{private(town.alpha.settings.url)}/metrics")).text
    (offset,) = [
        float(line.rpartition(" ")[2])
        for line in metrics.splitlines()
        if line.startswith("concordat_clock_offset_seconds") and ALPHA in line and "LATEDEF0" in line
    ]
    assert 595 < offset < 605
    await town.alpha.until(await pay(town), "posted")


async def test_a_bank_whose_own_clock_is_off_by_most_members_isnt_ready(town: Town) -> None:
    async with AsyncExitStack() as stack:
        members = [
            (bic, await stack.enter_async_context(shifted(-10 * MINUTES))) for bic in (COORDINATOR, BRAVO, CARLO)
        ]
        others = ClockWatch(town.alpha.node.clocks, lambda: members)
        await others.look()
        await others.stop()
    answer = await ready(town.alpha.settings.url, town.alpha.http)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "clock: ours is 6" in answer.json()["detail"] or "clock: ours is 5" in answer.json()["detail"]
    # What the true ones answer mends it.
    for _ in range(20):
        await town.alpha.node.clock_watch.look()
        if (await ready(town.alpha.settings.url, town.alpha.http)).status_code == 200:
            return
    raise AssertionError("not ready again")


@pytest.mark.parametrize(
    ("seconds", "reason", "words"),
    [
        (-10 * MINUTES, "token_expired: the token expired at 20", "behind us"),
        (10 * MINUTES, "token_not_yet_valid: the token was issued at 20", "ahead of us"),
    ],
)
async def test_the_coordinator_names_a_member_that_signs_in_with_another_time(
    town: Town, seconds: float, reason: str, words: str
) -> None:
    """And says in its refusal what it saw."""
    bank, url = town.carlo, town.coordinator.url
    assertion = client_assertion(key=bank.node.identity.auth, client_id=CARLO, audience=url, now=time.time() + seconds)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_GRANT,
        "client_assertion": assertion,
        "resource": COORDINATOR,
    }
    refused = await bank.http.post(f"{url}/oauth/token", data=form)
    assert refused.status_code == 401
    assert reason in refused.json()["error_description"]
    assert "and here it is 20" in refused.json()["error_description"]
    answer = await ready(url, bank.http)
    assert answer.status_code == 200, answer.text
    assert f"{CARLO} is " in answer.json()["clocks"]
    assert words in answer.json()["clocks"]
