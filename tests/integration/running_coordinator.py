"""A coordinator on a real socket and a real database, for tests, and the members that talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
from litestar.types import ASGIApp
from support import ANY_PRIVATE_PORT, free_port, keep_private

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Act, ActKind
from gateway.coordinator.app import CoordinatorCore, build
from gateway.coordinator.registry.registry import Registry
from gateway.coordinator.rulebook import Rulebook, load
from gateway.federation.http.client import FederationClient, MemberIdentity
from gateway.federation.http.serve import server
from gateway.federation.identity.deciding import DecidingKey
from gateway.federation.membership.before import with_before
from gateway.federation.membership.documents import APPLICATION_TYPE, Application, OfferedKey, SettlementAccount
from gateway.federation.messages.proposals import ProposalView
from gateway.federation.settings import NodeSettings

COORDINATOR = "CNCDXXC0"
ALPHA, BRAVO, CARLO = "ALPHDEF0", "BRAVFRP0", "CARLITM0"
AGENT = "AGNTXXC0"


def on_demand(**changes: object) -> Rulebook:
    """The package's rulebook without a timetable, and with business on every day, whichever it is."""
    return msgspec.structs.replace(load(), **{"slots": (), "calendar": "every_day", **changes})


@dataclass
class Bank:
    """An institution with its own keys."""

    identity: MemberIdentity
    url: str = "http://127.0.0.1:1"

    @property
    def bic(self) -> str:
        return self.identity.bic

    def application(self, *, account: str | None = "default") -> Application:
        keys = (OfferedKey(use="auth", x=self.identity.auth.x), OfferedKey(use="sign", x=self.identity.sign.x))
        settlement = None
        if account is not None:
            settlement = SettlementAccount(agent=AGENT, account=f"ACC-{self.bic}" if account == "default" else account)
        return Application(bic=self.bic, name=f"Bank {self.bic}", url=self.url, keys=keys, settlement=settlement)

    def signed_application(self, *, account: str | None = "default", invitation: str | None = None) -> Envelope:
        application = msgspec.structs.replace(self.application(account=account), invitation=invitation)
        return dsse.sign(application, self.identity.sign, payload_type=APPLICATION_TYPE)


@dataclass
class Coordinator:
    """A running coordinator."""

    settings: NodeSettings
    base: CoordinatorCore
    database_url: str
    directory: Path
    keys: dict[str, SigningKey] = field(default_factory=dict)
    """Of operators and auditors."""

    @property
    def url(self) -> str:
        return self.settings.url

    @property
    def registry(self) -> Registry:
        return self.base.registry

    def bank(self, bic: str) -> Bank:
        return Bank(MemberIdentity.made(bic, self.directory / bic))

    async def invite(self, bic: str) -> str:
        return (await self.registry.invite(bic, by="test", reason="set up")).code

    async def admit(self, *bics: str, caps_minor: dict[str, int] | None = None) -> list[Bank]:
        banks = [self.bank(bic) for bic in bics]
        for bank in banks:
            await self.registry.admit(
                bank.application(), kind="participant", caps_minor=caps_minor or {}, by="test", reason="set up"
            )
        return banks

    async def admit_agent(self) -> Bank:
        agent = self.bank(AGENT)
        await self.registry.admit(
            agent.application(account=None), kind="agent", caps_minor={}, by="test", reason="set up"
        )
        return agent

    async def client_key(self, client_id: str, role: str) -> SigningKey:
        key = SigningKey.generate()
        await self.registry.add_client(client_id, role, key.x, by="test")
        self.keys[client_id] = key
        return key

    def deciding(self, client_id: str) -> DecidingKey:
        """Return an operator's key at work."""
        return DecidingKey(operator=client_id, coordinator=COORDINATOR, key=self.keys[client_id])

    async def decided(self, kind: ActKind, subject: str, **terms: str) -> None:
        """Let alice propose a change of the registry, and bob confirm it."""
        for name in {"alice", "bob"} - self.keys.keys():
            await self.client_key(name, "operator")
        made = await self.propose_act(kind, subject, **terms)
        await self.answer(made)

    async def propose_act(self, kind: ActKind, subject: str, *, maker: str = "alice", **terms: str) -> ProposalView:
        async with FederationClient(maker, self.keys[maker], self.url) as client:

            async def get(path: str, form: type[Any]) -> Any:
                return await client.get(self.url + path, form, audience=COORDINATOR)

            act = await with_before(Act(kind=kind, subject=subject, terms=terms), get)
            request = self.deciding(maker).act(act, reason="test")
            return await client.post(f"{self.url}/proposals", ProposalView, audience=COORDINATOR, json=request)

    async def answer(
        self, made: ProposalView, decision: Literal["confirm", "reject"] = "confirm", *, checker: str = "bob"
    ) -> ProposalView:
        signed = self.deciding(checker).decision(made, decision, reason="seen")
        async with FederationClient(checker, self.keys[checker], self.url) as client:
            url = f"{self.url}/proposals/{made.id}/decision"
            return await client.post(url, ProposalView, audience=COORDINATOR, json=signed)

    async def operator(self, client_id: str = "alice", role: str = "operator") -> FederationClient:
        return FederationClient(client_id, await self.client_key(client_id, role), self.url)

    def client(self, bank: Bank) -> FederationClient:
        return FederationClient(bank.bic, bank.identity.auth, self.url)


@asynccontextmanager
async def running_coordinator(
    database_url: str,
    directory: Path,
    *,
    rulebook: Rulebook | None = None,
    port: int | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
) -> AsyncIterator[Coordinator]:
    """Serve a coordinator on a free port until the block ends; `wrap` puts a layer around it."""
    port = port or free_port()
    settings = NodeSettings(
        bic=COORDINATOR, url=f"http://127.0.0.1:{port}", port=port, data_dir=directory / "coordinator"
    )
    MemberIdentity.made(settings.bic, settings.keys_dir)
    rules = rulebook or on_demand()
    app = build(settings, database_url, rules, name="Clearing house")
    if wrap is not None:
        app.asgi_handler = wrap(app.asgi_handler)
    node = server(app, host="127.0.0.1", port=port, private=ANY_PRIVATE_PORT)
    serving = asyncio.create_task(node.serve())
    base = CoordinatorCore.open(settings, database_url, rules)
    try:
        await _until_live(settings.url, serving)
        keep_private(settings.url, node.private_port)
        yield Coordinator(settings, base, database_url, directory)
    finally:
        node.should_exit = True
        await serving
        await base.engine.dispose()


async def _until_live(url: str, serving: asyncio.Task[None]) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            if serving.done():
                raise RuntimeError("the coordinator didn't start")
            try:
                if (await http.get(f"{url}/health/live")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.02)
