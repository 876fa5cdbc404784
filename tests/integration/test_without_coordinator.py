"""Banks pay each other while the coordinator is away, for as long as their trust lists are fresh enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_banks import WAIT_S, RunningBank, Town, order, running_bank, running_town, terms
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, on_demand, running_coordinator
from support import free_port, uuid7

from gateway.coordinator.app import CoordinatorCore
from gateway.coordinator.registry.lifecycle import Step

A_DAY_AND_MORE = 90_000


async def pay(sender: RunningBank, receiver: str, amount: int = 1) -> str:
    first, other = sender.bic[0].lower(), receiver[0].lower()
    one = order(amount, creditor_agent=receiver, debtor_account=f"{first}-1", creditor_account=f"{other}-1")
    answer = await sender.send("POST", "/payments", one)
    assert answer.status_code == 201, answer.text
    payment_id: str = one["id"]
    return payment_id


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(3 * WAIT_S):
        while True:
            if true():
                return
            await asyncio.sleep(0.05)


def coordinator_is_away(town: Town) -> None:
    """No token of the coordinator is left with anybody, as after five minutes."""
    for bank in town.banks.values():
        assert bank.node.client._tokens.keys() <= {COORDINATOR}
        bank.node.client._tokens.clear()
        bank.node.peers._tokens.clear()
        bank.node.verifier.forget()


async def test_payments_go_on_without_the_coordinator_until_the_list_is_too_old(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as house, running_town(postgres_url, tmp_path, house=house) as town:
        alpha, bravo, carlo = town.alpha, town.bravo, town.carlo
        await alpha.until(await pay(alpha, BRAVO), "posted")
        await house.aclose()
        with pytest.raises(httpx.TransportError):
            await alpha.http.get(f"{town.coordinator.url}/health/live")
        coordinator_is_away(town)

        # 1. Payments go on in every direction, and readiness says what doesn't.
        monkeypatch.setattr("participants.readiness.SILENCE_SECONDS_MAX", 0.0)
        for sender, receiver in ((alpha, BRAVO), (bravo, ALPHA), (carlo, ALPHA), (bravo, CARLO)):
            await sender.until(await pay(sender, receiver), "posted")
        ready = await alpha.get("/health/ready")
        assert ready["status"] == "degraded"
        assert ready["coordinator_feed"].startswith("behind: ")
        assert "confirmed " in ready["trust_list"]

        # 2. A node that is started meanwhile goes on by the list that it kept.
        port = free_port()
        settings = replace(alpha.settings, port=port, url=f"http://127.0.0.1:{port}")
        async with running_bank(settings, alpha.node.database_url, alpha.http) as started:
            await started.until(await pay(started, BRAVO), "posted")
            assert started.node.trust.confirmed_at == alpha.node.trust.confirmed_at

        # 3. A member suspended meanwhile is paid by whoever can't hear of it.
        core = CoordinatorCore.open(town.coordinator.settings, town.coordinator.database_url, on_demand())
        await core.registry.step(CARLO, Step.SUSPEND, by="test", reason="a test")
        await core.engine.dispose()
        await alpha.until(await pay(alpha, CARLO), "posted")

        # 4. A day later nobody pays by the list, or is paid; orders wait.
        for bank in town.banks.values():
            bank.node.trust.confirmed_at -= A_DAY_AND_MORE
        to_bravo, to_carlo = await pay(alpha, BRAVO), await pay(alpha, CARLO)
        refused = await town.deliver(town.sealed(terms()))
        assert (refused.status_code, refused.json()["code"]) == (503, "trust_list_too_old")
        assert int(refused.headers["Retry-After"]) > 0
        unready = await alpha.send("GET", "/health/ready")
        assert (unready.status_code, unready.json()["code"]) == (503, "not_ready")
        assert unready.json()["detail"].startswith("trust_list: version ")
        metrics = (await bravo.send("GET", "/metrics")).text
        gauge = f'concordat_trust_list_confirmed_timestamp_seconds{{member="{BRAVO}"}} '
        assert float(metrics.partition(gauge)[2].split()[0]) == bravo.node.trust.confirmed_at
        await until(lambda: BRAVO in alpha.node.outbound.undeliverable())
        for payment in (to_bravo, to_carlo):
            assert (await alpha.get(f"/payments/{payment}"))["status"] == "reserved"

        # 5. The coordinator is back: all goes on by itself, but for the member that was suspended.
        again = await house.enter_async_context(
            running_coordinator(
                town.coordinator.database_url, town.coordinator.directory, port=town.coordinator.settings.port
            )
        )
        await until(lambda: all(bank.node.trust.fresh for bank in town.banks.values()))
        await alpha.until(to_bravo, "posted")
        assert (await alpha.get("/health/ready"))["trust_list"].startswith("version ")
        for refuser in (ALPHA, BRAVO):
            envelope = town.sealed(terms(), sender=CARLO, receiver=refuser)
            answer = await town.deliver(envelope, sender=CARLO, receiver=refuser)
            assert (answer.status_code, answer.json()["code"]) == (403, "sender_not_active")
        assert (await alpha.get(f"/payments/{to_carlo}"))["status"] == "reserved"
        one = order(1, creditor_agent=CARLO, creditor_account="c-1", id=uuid7())
        assert (await alpha.send("POST", "/payments", one)).json()["code"] == "creditor_agent_not_active"

        # 6. Active again, it is paid what waited for it.
        await again.registry.step(CARLO, Step.ACTIVATE, by="test", reason="a test")
        await until(lambda: alpha.node.agents[CARLO] is None and carlo.node.trust.current.version > 0)
        await carlo.until(await pay(carlo, ALPHA), "posted")
        await alpha.until(to_carlo, "posted")
        await house.aclose()
