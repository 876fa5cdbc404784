"""What the settlement agent's tests share: its settings, a coordinator that signs a trust list, and callers."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import Member, TrustKey, TrustList
from compliance.trust import Anchor
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.iso20022 import Movement, StatusReport, read_status, settlement_request
from gateway.federation.membership.trust import TrustStore
from gateway.federation.settings import NodeSettings
from tests.support import confirmation

AGENT, COORDINATOR, ALFA, BETA, GAMMA = "AGNTXXS0", "CNCDXXC0", "ALFADEFF", "BETADEFF", "GAMMDEFF"
# Nobody listens there: the agent works from the trust list it has kept.
ISSUER = "http://127.0.0.1:9"


class Scheme:
    """The coordinator's keys, and a settlement agent that has its trust list."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sign = SigningKey.load_or_create(directory / "coordinator" / "sign.pem")
        self.token = SigningKey.load_or_create(directory / "coordinator" / "token.pem")
        anchor = Anchor.of(COORDINATOR, self.sign.verifying_key)
        anchor.write(directory / "anchor.json")
        envelope = dsse.sign(self._trust_list(), self.sign)
        store = TrustStore(anchor, path=directory / "trust-list.json")
        store.update(envelope)
        store.confirm(confirmation(envelope, self.sign))

    def _trust_list(self) -> TrustList:
        def key(signing: SigningKey, use: Any) -> TrustKey:
            return TrustKey(kid=signing.kid, alg="Ed25519", x=signing.x, use=use, status="active")

        coordinator = Member(
            bic=COORDINATOR,
            name="Coordinator",
            kind="coordinator",
            status="active",
            url=ISSUER,
            keys=(key(self.sign, "sign"), key(self.token, "token")),
        )
        return TrustList(version=1, issuer=ISSUER, members=(coordinator,))

    def environment(self, url: str, database_url: str) -> dict[str, str]:
        port = url.rpartition(":")[2]
        return {
            "CONCORDAT_BIC": AGENT,
            "CONCORDAT_URL": url,
            "CONCORDAT_PORT": port,
            "CONCORDAT_DATA_DIR": str(self.directory),
            "CONCORDAT_DATABASE_URL": database_url,
            "CONCORDAT_ANCHOR": str(self.directory / "anchor.json"),
            "CONCORDAT_COORDINATOR_URL": ISSUER,
        }

    def settings(self, url: str, database_url: str) -> NodeSettings:
        return NodeSettings.from_env(environ=self.environment(url, database_url))


class Caller:
    """Somebody with a token at the agent."""

    def __init__(
        self, url: str, subject: str, role: str, *, issuer: str, key: SigningKey, audience: str = AGENT
    ) -> None:
        token = issue_access_token(
            key=key, issuer=issuer, subject=subject, audience=audience, client_id=subject, role=role
        )
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False
        )

    async def post(self, message: bytes, *, media_type: str = "application/xml") -> httpx.Response:
        return await self.http.post("/messages", content=message, headers={"Content-Type": media_type})

    async def settle(self, message: bytes) -> StatusReport:
        answer = await self.post(message)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("application/xml")
        return read_status(answer.content)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def balance(self, participant: str, currency: str = "EUR") -> int:
        accounts = await self.get(f"/accounts/{participant}")
        return next(int(a["balance_minor"]) for a in accounts if a["currency"] == currency)


class Desk:
    """Everybody who speaks to one running agent."""

    def __init__(self, scheme: Scheme, url: str) -> None:
        self.scheme, self.url = scheme, url
        self.staff_key = SigningKey.load_or_create(scheme.directory / "keys" / "token.pem")
        self.staff = Caller(url, "dora", "staff", issuer=url, key=self.staff_key)
        self.coordinator = self.member(COORDINATOR, "coordinator")

    def member(self, subject: str, role: str = "participant", **options: Any) -> Caller:
        return Caller(self.url, subject, role, issuer=ISSUER, key=self.scheme.token, **options)

    async def open(self, participant: str, currency: str = "EUR", *, amount: int = 0, overdraft: int = 0) -> None:
        body = {"participant": participant, "currency": currency, "overdraft_limit_minor": str(overdraft)}
        answer = await self.staff.http.post("/accounts", json=body)
        assert answer.status_code == 201, answer.text
        if amount:
            assert (await self.fund(participant, amount, currency)).status_code == 201

    async def fund(
        self, participant: str, amount: int, currency: str = "EUR", *, funding_id: str | None = None
    ) -> httpx.Response:
        body = {"id": funding_id or str(uuid4()), "currency": currency, "amount_minor": str(amount)}
        return await self.staff.http.post(f"/accounts/{participant}/funding", json=body)


def request(message_id: str, *movements: Movement, created_at: datetime | None = None, **changes: Any) -> bytes:
    """Return a settlement request of the coordinator."""
    fields: dict[str, Any] = {"sender": COORDINATOR, "receiver": AGENT, "cycle": "2026-01-02-01", **changes}
    return settlement_request(
        message_id=message_id,
        created_at=created_at or datetime(2026, 1, 2, 16, 30, tzinfo=UTC),
        value_date=date(2026, 1, 2),
        movements=movements,
        **fields,
    )


def transfer(payer: str, payee: str, amount: int, currency: str = "EUR") -> tuple[Movement, Movement]:
    return Movement(payer, currency, -amount), Movement(payee, currency, amount)


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the problem's code."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    return answer.status_code, json.loads(answer.text)["code"]
