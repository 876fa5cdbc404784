"""A default as banks live through it: their own ledgers, the coordinator and the agent, all on real sockets."""

from __future__ import annotations

import asyncio
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running_banks import SANCTIONS, WAIT_S, RunningBank, Town, order, running_town
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR

from compliance.trust import Anchor
from compliance.verifier.verify import verify_bytes
from gateway.agent.app import build_app
from gateway.coordinator.registry import members
from gateway.federation.http.client import FederationClient, MemberIdentity
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.messages.cycles import Cycle, CycleProgress, OpenCycle
from gateway.federation.messages.default import DefaultView
from gateway.federation.messages.proposals import Decision, ProposalRequest, ProposalView
from gateway.federation.messages.settlement import AccountOpening, Funding
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import transaction
from participants.audit.fsck import fsck
from tests.conftest import NewDatabase


@dataclass
class Desk:
    """Two operators of the clearing house, and one of the settlement agent."""

    town: Town
    alice: FederationClient
    bob: FederationClient
    agent: FederationClient
    agent_url: str
    agent_token: str

    async def get(self, path: str, kind: Any, **params: Any) -> Any:
        return await self.alice.get(self.town.coordinator.url + path, kind, audience=COORDINATOR, params=params)

    async def post(self, path: str, kind: Any, body: Any, who: FederationClient | None = None) -> Any:
        url = self.town.coordinator.url + path
        return await (who or self.alice).post(url, kind, audience=COORDINATOR, json=body)

    async def at_agent(self, path: str, body: Any) -> None:
        headers = {"Authorization": f"Bearer {self.agent_token}"}
        await self.agent.request("POST", self.agent_url + path, audience=None, json=body, headers=headers)

    async def decide(self, cycle: str, action: Any, *participants: str) -> None:
        request = ProposalRequest(action=action, reason="seen", participants=participants)
        made = await self.post(f"/cycles/{cycle}/proposals", ProposalView, request)
        await self.post(f"/proposals/{made.id}/decision", ProposalView, Decision(decision="confirm"), self.bob)

    async def until(self, cycle: str, state: str) -> None:
        async def state_now() -> Any:
            return (await self.get(f"/cycles/{cycle}", Cycle)).state

        await until(state_now, state)

    async def netted(self) -> str:
        """Bring a cycle to where two operators approve it."""
        cycle = (await self.get("/cycles/current", Cycle)).id
        await self.post(f"/cycles/{cycle}/cut-off", Cycle, None)
        await self.until(cycle, "netted")
        return str(cycle)


@pytest.fixture
async def desk(postgres_url: str, new_database: NewDatabase, tmp_path: Path, live: Any) -> AsyncIterator[Desk]:
    """Three banks; at the agent ALPHA has an account without money or overdraft, the others may overdraw theirs."""
    async with running_town(postgres_url, tmp_path) as town:
        coordinator = town.coordinator
        shutil.copytree(tmp_path / AGENT, tmp_path / "agent" / "keys")
        database_url = await new_database("gateway.agent")

        def build(url: str) -> Any:
            settings = NodeSettings(
                bic=AGENT,
                url=url,
                port=int(url.rpartition(":")[2]),
                data_dir=tmp_path / "agent",
                anchor=tmp_path / "anchor.json",
                coordinator_url=coordinator.url,
            )
            return build_app(settings, database_url)

        url: str = live(build)
        async with transaction(coordinator.base.engine) as conn:
            await members.set_url(conn, AGENT, url)
        identity = MemberIdentity(AGENT, tmp_path / "agent" / "keys")
        token = issue_access_token(
            key=identity.token, issuer=url, subject="dora", audience=AGENT, client_id="dora", role="staff"
        )
        async with (
            await coordinator.operator("alice") as alice,
            await coordinator.operator("bob") as bob,
            FederationClient("dora", identity.auth, url) as dora,
        ):
            one = Desk(town, alice, bob, dora, url, token)
            for bank in (ALPHA, BRAVO, CARLO):
                overdraft = "0" if bank == ALPHA else "1000000"
                opening = AccountOpening(participant=bank, currency="EUR", overdraft_limit_minor=overdraft)
                await one.at_agent("/accounts", opening)
            # Whoever screens against no list attests nothing, and the cycle would be held.
            for running in town.banks.values():
                lists = {"name": "test", "files": {"list.csv": b64encode(SANCTIONS).decode()}}
                answer = await running.send("POST", "/screening/lists", lists)
                assert answer.is_success, answer.text
            await one.post("/cycles", Cycle, OpenCycle())
            yield one


async def pay(payer: RunningBank, payee: RunningBank, amount: int) -> None:
    made = order(
        amount,
        debtor_account=f"{payer.bic[0].lower()}-1",
        creditor_agent=payee.bic,
        creditor_account=f"{payee.bic[0].lower()}-1",
    )
    assert (await payer.send("POST", "/payments", made)).status_code == 201
    await payee.until(made["id"], "accepted")


async def until(look: Callable[[], Coroutine[Any, Any, Any]], wanted: Any) -> None:
    """Look until what is seen is what is wanted."""
    seen = None
    for _ in range(WAIT_S * 20):
        if (seen := await look()) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{seen!r}, not {wanted!r}")


async def settled(bank: RunningBank, nostro: int) -> None:
    """Wait until a bank's nostro is what it should be."""
    await until(lambda: bank.balance(AGENT, kind="nostro"), nostro)


async def test_banks_post_what_settled_and_keep_what_is_carried_over(desk: Desk) -> None:
    town = desk.town
    alpha, bravo, carlo = town.alpha, town.bravo, town.carlo
    before = {bank.bic: await bank.balance(AGENT, kind="nostro") for bank in (alpha, bravo, carlo)}
    await pay(alpha, bravo, 500)
    await pay(bravo, carlo, 300)
    await pay(carlo, alpha, 100)
    cycle = await desk.netted()
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "deferred")

    seen = await desk.get(f"/cycles/{cycle}/default", DefaultView, participant=ALPHA)
    assert f"{ALPHA} EUR short by 4.00" in seen.agent_says
    assert [(c.participant, c.after_minor) for c in seen.currencies[0].unwind.changes] == [
        (BRAVO, "-300"),
        (CARLO, "300"),
    ]
    await desk.decide(cycle, "unwind", ALPHA)
    await desk.until(cycle, "netted")
    await desk.decide(cycle, "approve")
    await desk.until(cycle, "final")
    await settled(bravo, before[BRAVO] - 300)
    await settled(carlo, before[CARLO] + 300)
    assert await alpha.balance(AGENT, kind="nostro") == before[ALPHA]
    # What wasn't settled is still owed, on both sides.
    assert await bravo.balance(ALPHA, kind="due_from") == await alpha.balance(BRAVO, kind="due_to") == 500
    assert await bravo.balance(CARLO, kind="due_to") == await carlo.balance(BRAVO, kind="due_from") == 0

    # Both editions are in the bank's journal; it signed for both, and posted the second.
    async def acknowledged() -> int:
        return (await desk.get(f"/cycles/{cycle}/progress", CycleProgress)).acknowledged

    await until(acknowledged, 2)
    assert len(await bravo.get(f"/cycles/{cycle}/instructions")) == 2
    assert len(await alpha.get(f"/cycles/{cycle}/instructions")) == 1
    export = await desk.alice.request(
        "GET", f"{town.coordinator.url}/cycles/{cycle}/export", audience=COORDINATOR, timeout_s=20
    )
    report = verify_bytes(export.content, Anchor.of(COORDINATOR, town.coordinator.base.identity.sign.verifying_key))
    assert f"left out for default: {ALPHA}" in report.steps[8].detail

    # With money on the account the next cycle settles the rest by itself.
    await desk.at_agent(f"/accounts/{ALPHA}/funding", Funding(id="f" * 8 + "-0000-4000-8000-000000000000",
                                                              currency="EUR", amount_minor="400"))  # fmt: skip
    second = await desk.netted()
    await desk.decide(second, "approve")
    await desk.until(second, "final")
    await settled(alpha, before[ALPHA] - 400)
    await settled(bravo, before[BRAVO] + 200)
    await settled(carlo, before[CARLO] + 200)
    assert await bravo.balance(ALPHA, kind="due_from") == await carlo.balance(ALPHA, kind="due_to") == 0
    for bank in (alpha, bravo, carlo):
        report = await fsck(bank.node.database_url, bank.bic)
        assert [check.name for check in report.checks if not check.ok] == []
        assert report["settlements"].examined == (1 if bank is alpha else 2)
