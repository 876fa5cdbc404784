"""A stuck cycle over HTTP, at two running coordinators of one database: who sees what of it, and who may try again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from running_coordinator import ALPHA, BRAVO, COORDINATOR, on_demand, running_coordinator
from support import private

from compliance.cycle.approval import ApprovalRule
from gateway.federation.http.client import FederationClient, RemoteProblem
from gateway.federation.messages.cycles import Cycle, CyclePage, CycleProgress, OpenCycle, RetryCycle
from gateway.federation.messages.events import Events
from tests.conftest import NewDatabase


async def event_types(client: FederationClient, url: str) -> list[str]:
    page = await client.get(f"{url}/events", Events, audience=COORDINATOR, params={"after": 0, "limit": 1000})
    return [event.type for event in page.events]


async def says_stuck(http: httpx.AsyncClient, url: str) -> bool:
    return 'concordat_cycle_stuck{reason="agent_inactive"} 1.0' in (await http.get(f"{private(url)}/metrics")).text


async def test_without_a_settlement_agent_a_cycle_waits_by_name(new_database: NewDatabase, tmp_path: Path) -> None:
    rules = on_demand(
        approval=ApprovalRule(mode="never", thresholds_minor={}), cut_deadline_s=1, attestation_deadline_s=1
    )
    database = await new_database("gateway.coordinator")
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_coordinator(database, tmp_path, rulebook=rules))
        other = await stack.enter_async_context(running_coordinator(database, tmp_path, rulebook=rules))
        alpha, _ = await one.admit(ALPHA, BRAVO)
        alice = await stack.enter_async_context(await one.operator("alice"))
        auditor = await stack.enter_async_context(await one.operator("rita", role="auditor"))
        bank = await stack.enter_async_context(one.client(alpha))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        cycle = (await alice.post(f"{one.url}/cycles", Cycle, audience=COORDINATOR, json=OpenCycle())).id
        here = f"{one.url}/cycles/{cycle}"
        await alice.post(f"{here}/cut-off", Cycle, audience=COORDINATOR)
        async with asyncio.timeout(60):
            while (view := await alice.get(here, Cycle, audience=COORDINATOR)).stuck is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (view.state, view.stuck.reason) == ("approved", "agent_inactive")
        progress = await alice.get(f"{here}/progress", CycleProgress, audience=COORDINATOR)
        assert progress.stuck_detail == "no settlement agent is active"
        page = await alice.get(f"{one.url}/cycles", CyclePage, audience=COORDINATOR)
        assert [summary.cycle.stuck is not None for summary in page.items] == [False, True]

        # A bank learns the reason, and nothing that is the operators' own.
        seen = (await bank.get(here, Cycle, audience=COORDINATOR)).stuck
        assert seen is not None
        assert seen.reason == "agent_inactive"
        assert "cycle.stuck" not in await event_types(bank, one.url)
        # Both coordinators fail at it, and tell of it once.
        assert (await event_types(alice, one.url)).count("cycle.stuck") == 1
        async with asyncio.timeout(30):
            while not await says_stuck(http, other.url):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await http.get(f"{one.url}/health/ready")).is_success

        again = RetryCycle(reason="the agent is back")
        for stranger in (auditor, bank):
            with pytest.raises(RemoteProblem) as refused:
                await stranger.post(f"{here}/retry", Cycle, audience=COORDINATOR, json=again)
            assert refused.value.status == 403
        await one.admit_agent()
        assert (await alice.post(f"{here}/retry", Cycle, audience=COORDINATOR, json=again)).id == cycle
        async with asyncio.timeout(30):
            while (view := await alice.get(here, Cycle, audience=COORDINATOR)).state != "final":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert view.stuck is None
        assert "operator.acted" in await event_types(alice, one.url)
        with pytest.raises(RemoteProblem) as refused:
            await alice.post(f"{here}/retry", Cycle, audience=COORDINATOR, json=again)
        assert refused.value.code == "action_impossible"
