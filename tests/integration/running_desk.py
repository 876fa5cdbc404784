"""A clearing house with everything that it takes: coordinator, settlement agent, three banks and those who run them."""

from __future__ import annotations

import asyncio
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from litestar.types import ASGIApp
from running_banks import SANCTIONS, WAIT_S, RunningBank, Town, order, running_town
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR
from support import Live

from gateway.agent.app import build_app
from gateway.coordinator.registry import members
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.http.client import FederationClient, MemberIdentity
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.messages.cycles import Cycle, OpenCycle
from gateway.federation.messages.proposals import ProposalView
from gateway.federation.messages.settlement import AccountOpening
from gateway.federation.settings import NodeSettings


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
        alice, bob = (self.town.coordinator.deciding(name) for name in ("alice", "bob"))
        result = (await self.get(f"/cycles/{cycle}", Cycle)).result
        request = alice.proposal(action, cycle, result=result, reason="seen", participants=participants)
        made = await self.post(f"/cycles/{cycle}/proposals", ProposalView, request)
        await self.post(f"/proposals/{made.id}/decision", ProposalView, bob.decision(made, "confirm"), self.bob)

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


@asynccontextmanager
async def running_desk(
    server_url: str,
    agent_database: str,
    directory: Path,
    live: Live,
    *,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    bics: Sequence[str] = (ALPHA, BRAVO, CARLO),
    rulebook: Rulebook | None = None,
) -> AsyncIterator[Desk]:
    """Serve everybody until the block ends, with a cycle open. `wrap` puts a layer around the coordinator.

    At the agent ALPHA has an account without money or overdraft, the others may overdraw theirs.
    """
    async with running_town(server_url, directory, bics, wrap=wrap, rulebook=rulebook) as town:
        coordinator = town.coordinator
        shutil.copytree(directory / AGENT, directory / "agent" / "keys")
        rules = directory / "agent" / "rulebook.json"
        rules.write_bytes(msgspec.json.encode(coordinator.base.rulebook))

        def build(url: str) -> Any:
            settings = NodeSettings(
                bic=AGENT,
                url=url,
                port=int(url.rpartition(":")[2]),
                data_dir=directory / "agent",
                anchor=directory / "anchor.json",
                coordinator_url=coordinator.url,
                rulebook=rules,
            )
            return build_app(settings, agent_database)

        identity = MemberIdentity.made(AGENT, directory / "agent" / "keys")
        url: str = live(build)
        # Published, for the banks call the agent too.
        async with coordinator.registry._publishing() as conn:
            await members.set_url(conn, AGENT, url)
        token = issue_access_token(
            key=identity.token, issuer=url, subject="dora", audience=AGENT, client_id="dora", role="staff"
        )
        async with (
            await coordinator.operator("alice") as alice,
            await coordinator.operator("bob") as bob,
            FederationClient("dora", identity.auth, url) as dora,
        ):
            one = Desk(town, alice, bob, dora, url, token)
            for bank in bics:
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
