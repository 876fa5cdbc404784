"""Banks' nodes on real sockets and real databases beside a running coordinator, for tests, and those who call them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar
from litestar.di import Provide
from litestar.types import ASGIApp
from running_coordinator import ALPHA, BRAVO, CARLO, COORDINATOR, Bank, Coordinator, running_coordinator
from support import ANY_PRIVATE_PORT, free_port, keep_private, private, uuid7

from compliance.crypto import dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.trust import Anchor
from gateway.coordinator.rulebook import Rulebook
from gateway.federation.http.client import MemberIdentity
from gateway.federation.http.node import create_app
from gateway.federation.http.serve import server
from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentTerms,
    leaf_of,
)
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants import readiness
from participants.api.app import HANDLERS, bank_app
from participants.audit import nostro
from participants.node import BankNode
from participants.roles import Role
from participants.webhooks.signing import WebhookSecrets

LISTED = "Ottoline Vantongeren-Skarsholt"
SANCTIONS = f"uid,name,type,programs,alternate_names\n1,{LISTED},individual,TEST,\n".encode()
OPENING = 1_000_000
WAIT_S = 20
PRIVATE_PATHS = ("/metrics", "/health/ready")

_numbers = count(1)


def role_for(method: str, path: str) -> Role:
    """Return a role that a request of the bank's own people takes."""
    if method == "GET":
        return Role.READ
    for start, role in (
        ("/accounts", Role.ACCOUNTS),
        ("/entries", Role.ACCOUNTS),
        ("/ceilings", Role.ACCOUNTS),
        ("/settlement-account", Role.ACCOUNTS),
        ("/screening", Role.LISTS),
        ("/holds", Role.SCREENING),
        ("/webhooks", Role.EVENTS),
    ):
        if path.startswith(start):
            return role
    return Role.ORDERS


@dataclass
class RunningBank:
    """A bank's node that serves, and its own people."""

    settings: NodeSettings
    app: Litestar
    http: httpx.AsyncClient
    plain_url: str
    """Where the same node answers without the hot path."""
    serving: AsyncExitStack
    """Closed by whoever stops it before the town does, to let a process take its place."""

    @property
    def bic(self) -> str:
        return self.settings.bic

    @property
    def node(self) -> BankNode:
        node: BankNode = self.app.state.node
        return node

    @property
    def sign(self) -> SigningKey:
        return self.node.identity.sign

    def staff_token(self, subject: str = "sam", role: str = Role.ORDERS, **options: Any) -> str:
        claims = {"issuer": self.settings.url, "audience": self.bic, "role": role, **options}
        return issue_access_token(key=self.node.identity.token, subject=subject, client_id=subject, **claims)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "staff",
        subject: str = "sam",
        plain: bool = False,
        **options: Any,
    ) -> httpx.Response:
        """Send a request: as staff in the role that it takes, with another token, or (None) without one.

        `body` is bytes or becomes JSON. What only the private port tells is asked there.
        """
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = (
                f"Bearer {self.staff_token(subject, role_for(method, path)) if token == 'staff' else token}"
            )
        content = body if body is None or isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        url = (self.plain_url if plain else self.settings.url) + path
        if path in PRIVATE_PATHS:
            url = private(self.settings.url) + path
        return await self.http.request(method, url, content=content, headers=headers, **options)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.send("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def open(self, *codes: str, currency: str = "EUR", balance: int = OPENING) -> None:
        accounts = [
            {"code": code, "currency": currency, "name": code, "opening_balance_minor": str(balance)} for code in codes
        ]
        for person in ("sam", "tom"):
            answer = await self.send("POST", "/accounts", {"accounts": accounts}, subject=person)
            if (statuses := {outcome["status"] for outcome in answer.json()}) != {"proposed"}:
                break
        assert statuses == {"opened"}, answer.text

    async def balance(self, code: str, currency: str = "EUR", kind: str = "customer") -> int:
        """Return what an account holds or is owed, as a positive number; the nostro may be overdrawn."""
        found = (await self.get("/accounts", kind=kind, code=code, currency=currency))["items"]
        balance = int(found[0]["balance_minor"]) if found else 0
        return balance if kind == "nostro" else abs(balance)

    async def nostro(self, *, late_s: float) -> nostro.NostroFindings:
        """Compare the nostro with the account at the agent, as `fsck` does."""
        async with self.node.pool.acquire() as connection, connection.transaction(readonly=True):
            return await nostro.compare(connection, self.bic, late_s=late_s)

    async def until(self, payment_id: str, *states: str) -> dict[str, Any]:
        """Wait until a payment is in one of the states here, and return it."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.send("GET", f"/payments/{payment_id}")
                if answer.status_code == 200 and answer.json()["status"] in states:
                    found: dict[str, Any] = answer.json()
                    return found
                await asyncio.sleep(0.02)


@dataclass
class Town:
    """A coordinator and three banks."""

    coordinator: Coordinator
    banks: dict[str, RunningBank]

    @property
    def alpha(self) -> RunningBank:
        return self.banks[ALPHA]

    @property
    def bravo(self) -> RunningBank:
        return self.banks[BRAVO]

    @property
    def carlo(self) -> RunningBank:
        return self.banks[CARLO]

    def assertion(self, sender: str, audience: str, **options: Any) -> str:
        """Return what a bank says to another of who it is."""
        node = self.banks[sender].node
        key = options.pop("key", node.identity.auth).within(node.trust.scheme)
        return member_assertion(**{"key": key, "member": sender, "audience": audience, **options})

    def member_token(self, sender: str, audience: str, **options: Any) -> str:
        """Return an access token of the coordinator's for a bank to call another, as banks of 0.1 do."""
        key = self.coordinator.base.identity.token
        claims = {"issuer": self.coordinator.url, "role": "participant", **options}
        return issue_access_token(key=key, subject=sender, client_id=sender, audience=audience, **claims)

    async def deliver(
        self, body: bytes | Envelope, *, sender: str = ALPHA, receiver: str = BRAVO, token: str | None = None
    ) -> httpx.Response:
        """Post to a bank's federation API as another bank does."""
        content = body if isinstance(body, bytes) else envelope_bytes(body)
        return await self.banks[receiver].send(
            "POST", "/federation/payments", content, token=token or self.assertion(sender, receiver)
        )

    def sealed(self, *payments: PaymentTerms, sender: str = ALPHA, receiver: str = BRAVO, **changes: Any) -> Envelope:
        """Return a batch that the sender signed."""
        return dsse.sign(
            batch_of(*payments, sender=sender, receiver=receiver, **changes),
            self.banks[sender].sign,
            payload_type=PAYMENT_BATCH_TYPE,
        )

    def acknowledged(self, answer: httpx.Response, *, receiver: str = BRAVO) -> Acknowledgement:
        """Return what a bank signed as its answer."""
        assert answer.status_code == 200, answer.text
        key = self.banks[receiver].sign.verifying_key
        envelope = Envelope(**{**answer.json(), "signatures": ()})
        signatures = tuple(dsse.Signature(**signature) for signature in answer.json()["signatures"])
        return dsse.verify(
            Envelope(envelope.payload, envelope.payloadType, signatures),
            Acknowledgement,
            {key.kid: key},
            payload_type=ACKNOWLEDGEMENT_TYPE,
        )


def envelope_bytes(envelope: Envelope) -> bytes:
    """Return an envelope as it travels."""
    return json.dumps(
        {
            "payload": envelope.payload,
            "payloadType": envelope.payloadType,
            "signatures": [{"keyid": s.keyid, "sig": s.sig} for s in envelope.signatures],
        }
    ).encode()


def terms(amount: int = 100, **changes: Any) -> PaymentTerms:
    """Return a payment from ALPHA's customer a-1 to BRAVO's b-1."""
    fields: dict[str, Any] = {
        "id": uuid7(),
        "amount_minor": str(amount),
        "currency": "EUR",
        "debtor_account": "a-1",
        "debtor_name": "Anna Alder",
        "creditor_account": "b-1",
        "creditor_name": "Berta Birch",
        **changes,
    }
    return PaymentTerms(**fields)


def order(amount: int = 100, **changes: Any) -> dict[str, Any]:
    """Return the JSON of an order of ALPHA's customer a-1 in favour of BRAVO's b-1."""
    return {
        "id": uuid7(),
        "creditor_agent": BRAVO,
        "amount_minor": str(amount),
        "currency": "EUR",
        "debtor_account": "a-1",
        "debtor_name": "Anna Alder",
        "creditor_account": "b-1",
        "creditor_name": "Berta Birch",
        **changes,
    }


def batch_of(*payments: PaymentTerms, sender: str = ALPHA, receiver: str = BRAVO, **changes: Any) -> PaymentBatch:
    root = merkle.root([leaf_of(one) for one in payments]).hex()
    return PaymentBatch(**{"sender": sender, "receiver": receiver, "root": root, "payments": payments, **changes})


@asynccontextmanager
async def running_town(
    server_url: str,
    directory: Path,
    bics: Sequence[str] = (ALPHA, BRAVO, CARLO),
    *,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    rulebook: Rulebook | None = None,
    house: AsyncExitStack | None = None,
) -> AsyncIterator[Town]:
    """Serve a coordinator and banks, with accounts <first letter>-1 and -2, until the block ends.

    `wrap` puts a layer around the coordinator. It stops earlier where `house`, which keeps it, is closed.
    """
    async with AsyncExitStack() as stack:
        made: list[str] = []

        async def database(package: str) -> str:
            name = f"town_{uuid7().replace('-', '')}"
            url = await create_database(server_url, name)
            made.append(name)
            await migrate(url, package)
            return url

        async def drop() -> None:
            for name in made:
                await drop_database(server_url, name)

        stack.push_async_callback(drop)
        coordinator = await (house or stack).enter_async_context(
            running_coordinator(await database("gateway.coordinator"), directory, wrap=wrap, rulebook=rulebook)
        )
        await coordinator.admit_agent()
        anchor = directory / "anchor.json"
        Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key).write(anchor)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
        town = Town(coordinator, {})
        for bic in bics:
            port = free_port()
            settings = NodeSettings(
                bic=bic,
                url=f"http://127.0.0.1:{port}",
                port=port,
                data_dir=directory / bic,
                anchor=anchor,
                coordinator_url=coordinator.url,
                webhook_hosts=("localhost", "127.0.0.1"),
                webhook_networks=("127.0.0.0/8", "::1/128"),
            )
            identity = MemberIdentity.made(bic, settings.keys_dir)
            WebhookSecrets(settings.keys_dir).make_key()
            await coordinator.registry.admit(
                Bank(identity, settings.url).application(),
                kind="participant",
                caps_minor={},
                by="test",
                reason="set up",
            )
            town.banks[bic] = await stack.enter_async_context(
                running_bank(settings, await database("participants.ledger"), http)
            )
        for bic, bank in town.banks.items():
            await bank.open(f"{bic[0].lower()}-1", f"{bic[0].lower()}-2")
        await _agree(town)
        yield town


async def _agree(town: Town) -> None:
    """Let each bank compare its lanes with all others, before tests sign in its name what it doesn't know."""
    async with asyncio.timeout(WAIT_S):
        for bic, bank in town.banks.items():
            for other in town.banks.keys() - {bic}:
                while bank.node.trust.member(other) is None:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.02)
                await bank.node.continuity.agree_with(other)


@asynccontextmanager
async def running_bank(
    settings: NodeSettings, database_url: str, http: httpx.AsyncClient
) -> AsyncIterator[RunningBank]:
    app = bank_app(settings, database_url)
    async with AsyncExitStack() as serving:
        await serving.enter_async_context(served(app, settings.port))
        port = free_port()
        await serving.enter_async_context(served(_plain(app.state.node), port))
        yield RunningBank(settings, app, http, f"http://127.0.0.1:{port}", serving)


def _plain(node: BankNode) -> Litestar:
    """Return the application of a running node without the hot path before it."""
    return create_app(
        title="without the hot path",
        version="1",
        route_handlers=HANDLERS,
        verifier=node.verifier,
        ready=partial(readiness.ready, node),
        admission=node.admit,
        dependencies={"node": Provide(lambda: node, sync_to_thread=False)},
    )


@asynccontextmanager
async def served(app: Litestar, port: int) -> AsyncIterator[None]:
    node = server(app, host="127.0.0.1", port=port, private=ANY_PRIVATE_PORT)
    serving = asyncio.create_task(node.serve())
    try:
        while not node.started:
            assert not serving.done(), "the application didn't start"
            await asyncio.sleep(0.02)
        keep_private(f"http://127.0.0.1:{port}", node.private_port)
        yield
    finally:
        node.should_exit = True
        await serving
