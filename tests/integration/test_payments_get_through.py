"""Payments to the living go on, whatever other peers do, and what stays queued is seen and taken up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import hostile_peers
import pytest
from hostile_peers import peer
from running_banks import WAIT_S, Town, order
from running_coordinator import Bank
from support import free_port

from gateway.federation.http.client import MemberIdentity, RemoteProblem
from gateway.federation.problems import problem
from participants.payments.failures import is_of_content

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def admit(town: Town, bic: str, url: str) -> None:
    """Make a member of somebody at a URL, and wait until ALPHA knows it."""
    bank = Bank(MemberIdentity.made(bic, town.coordinator.directory / bic), url)
    await town.coordinator.registry.admit(
        bank.application(), kind="participant", caps_minor={}, by="test", reason="set up"
    )
    await until(lambda: bic in town.alpha.node.agents and town.alpha.node.trust.member(bic) is not None)


async def pay(town: Town, **changes: str) -> str:
    one = order(1, **changes)
    assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    payment_id: str = one["id"]
    return payment_id


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if true():
                return
            await asyncio.sleep(0.05)


async def test_a_hundred_silent_banks_keep_no_payment_from_a_live_one(town: Town) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(peer(hostile_peers.silence))
        for number in range(100):
            # Each its own origin, as members have: a pool is of a host and a port.
            other = url if number == 0 else await stack.enter_async_context(peer(hostile_peers.silence))
            await admit(town, f"DEAD{chr(65 + number // 26)}{chr(65 + number % 26)}00", other)
            await pay(town, creditor_agent=f"DEAD{chr(65 + number // 26)}{chr(65 + number % 26)}00")
        await asyncio.sleep(1)
        for _ in range(5):
            started = time.monotonic()
            await town.alpha.until(await pay(town), "posted")
            assert time.monotonic() - started < 5


async def test_a_bank_that_is_away_is_named_and_paid_when_it_is_back(town: Town) -> None:
    port = free_port()
    await admit(town, "AWAYDEF0", f"http://127.0.0.1:{port}")
    payment = await pay(town, creditor_agent="AWAYDEF0")
    await until(lambda: "AWAYDEF0" in town.alpha.node.outbound.undeliverable())
    assert "AWAYDEF0 since 20" in (await town.alpha.get("/health/ready"))["undeliverable"]
    calls = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.write(hostile_peers.head("Content-Length: 0", status="500 Internal Server Error"))
        await writer.drain()

    async with peer(count, port=port):
        # Once it calls, nobody waits for the back-off to be over.
        def called() -> bool:
            town.alpha.node.outbound.heard_from("AWAYDEF0")
            return calls > 0

        await until(called)
    assert (await town.alpha.send("GET", f"/payments/{payment}")).json()["status"] == "reserved"


async def test_what_another_replica_committed_is_sent_within_seconds(town: Town) -> None:
    """Its commit is learned of by nobody here: no listener is called."""
    listeners = town.alpha.node.ledger.listeners
    kept, listeners[:] = list(listeners), []
    try:
        payment = await pay(town)
        await asyncio.sleep(0.5)
        assert (await town.alpha.send("GET", f"/payments/{payment}")).json()["status"] == "reserved"
        started = time.monotonic()
        await town.alpha.until(payment, "posted")
        assert time.monotonic() - started < 10
    finally:
        listeners[:] = kept


async def test_a_sender_that_ends_by_an_error_is_begun_again_and_costs_its_own_counterparty(town: Town) -> None:
    outbound = town.alpha.node.outbound
    await town.alpha.until(await pay(town), "posted")
    # What it works with is gone: an error outside of what it expects, and again at each new beginning.
    outbound._wakes.pop("BRAVFRP0").set()
    await until(lambda: "BRAVFRP0: KeyError" in outbound.condition())
    carlo = await pay(town, creditor_agent="CARLITM0", creditor_account="c-1")
    await town.alpha.until(carlo, "posted")
    assert (await town.alpha.send("GET", "/health/ready")).status_code == 200
    await town.alpha.until(await pay(town), "posted")
    await until(lambda: "KeyError" not in outbound.condition())


@pytest.mark.parametrize(
    ("error", "of_content"),
    [
        (RemoteProblem(problem("root_differs", 400, "")), True),
        (RemoteProblem(problem("body_too_large", 413, "")), True),
        (RemoteProblem(problem("bad_signature", 422, "")), True),
        (RemoteProblem(problem("token_malformed", 401, "")), False),
        (RemoteProblem(problem("sender_not_active", 403, "")), False),
        (TimeoutError(), False),
    ],
)
async def test_only_a_refused_batch_is_halved(error: Exception, of_content: bool) -> None:
    assert is_of_content(error) is of_content
