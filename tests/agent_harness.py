"""What the settlement agent's tests share: its settings, a coordinator that signs a trust list, and callers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import msgspec

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey, scheme_name
from compliance.cycle.approval import Action, ApprovalRule
from compliance.decisions import answer, cycle_act, propose
from compliance.iso20022 import SETTLEMENT_ANSWER_TYPE, SETTLEMENT_REQUEST_TYPE
from compliance.statements import (
    CurrencyResult,
    Member,
    NetPosition,
    NettingResult,
    OperatorKey,
    OperatorRegister,
    TrustKey,
    TrustList,
)
from compliance.trust import Anchor
from gateway.agent.authority import Ruling
from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.iso20022 import (
    MessageRefused,
    Movement,
    StatusReport,
    read_settlement_request,
    read_status,
    settlement_request,
)
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.settlement import SettlementOrder
from gateway.federation.settings import NodeSettings
from tests.support import confirmation

AGENT, COORDINATOR, ALFA, BETA, GAMMA = "AGNTXXS0", "CNCDXXC0", "ALFADEFF", "BETADEFF", "GAMMDEFF"
# Nobody listens there: the agent works from the trust list it has kept.
ISSUER = "http://127.0.0.1:9"
OPERATORS = ("alice", "bob")
NOBODY = ApprovalRule(mode="never", thresholds_minor={})
ALWAYS = ApprovalRule(mode="always", thresholds_minor={})


class Scheme:
    """The coordinator's keys, and a settlement agent that has its trust list."""

    def __init__(self, directory: Path, *, own_rule: ApprovalRule = NOBODY) -> None:
        """`own_rule` is what the agent's own rulebook asks for."""
        self.directory = directory
        self.rulebook = directory / "own-rulebook.json"
        self.rulebook.write_bytes(msgspec.json.encode({"approval": own_rule}))
        self.sign = SigningKey.load_or_create(directory / "coordinator" / "sign.pem")
        self.token = SigningKey.load_or_create(directory / "coordinator" / "token.pem")
        anchor = Anchor.of(COORDINATOR, self.sign.verifying_key)
        anchor.write(directory / "anchor.json")
        self.key(AGENT, "token")
        envelope = self.publish()
        store = TrustStore(anchor, path=directory / "trust-list.json")
        store.update(envelope)
        store.confirm(confirmation(envelope, self.sign))

    def key(self, member: str, use: str) -> SigningKey:
        """Return a key of the agent, a participant or an operator."""
        home = self.directory if member == AGENT else self.directory / member
        return SigningKey.load_or_create(home / "keys" / f"{use}.pem")

    def publish(self, version: int = 1, **statuses: Any) -> Envelope:
        """Return a signed trust list, in which members are active unless their status is given."""
        return dsse.sign(self._trust_list(version, statuses), self.sign)

    def _trust_list(self, version: int, statuses: dict[str, Any]) -> TrustList:
        def entry(signing: SigningKey, use: Any) -> TrustKey:
            return TrustKey(kid=signing.kid, alg="Ed25519", x=signing.x, use=use, status="active")

        def member(bic: str, kind: Any, *keys: TrustKey) -> Member:
            return Member(bic=bic, name=bic, kind=kind, status=statuses.get(bic, "active"), url=ISSUER, keys=keys)

        def own(bic: str) -> tuple[TrustKey, ...]:
            return (entry(self.key(bic, "auth"), "auth"), entry(self.key(bic, "sign"), "sign"))

        members = (
            member(COORDINATOR, "coordinator", entry(self.sign, "sign"), entry(self.token, "token")),
            member(AGENT, "agent", *own(AGENT)),
            *(member(bic, "participant", *own(bic)) for bic in (ALFA, BETA, GAMMA)),
        )
        return TrustList(version=version, issuer=ISSUER, members=members)

    # --- what the coordinator asks for, and by what right

    def order(
        self,
        message: bytes,
        *,
        moving: Sequence[Movement] | None = None,
        rule: ApprovalRule = NOBODY,
        checks: Literal["pass", "warn", "fail"] = "pass",
        approved_by: Sequence[str] = (),
        actions: Sequence[Action] = (Action.APPROVE,),
        register: int = 1,
        rulebook: bytes | None = None,
        **result: Any,
    ) -> SettlementOrder:
        """Return a settlement order around a request, over a result that comes to its movements, or to `moving`."""
        rulebook = rulebook or canonical.encode({"approval": msgspec.to_builtins(rule), "version": "test"})
        named: dict[str, Any] = {"rulebook": canonical.digest(rulebook), **result}
        document = result_of(message, moving, **named)
        sha256 = canonical.digest(canonical.encode(document))
        decisions: list[Envelope] = []
        if approved_by:
            for action in actions:
                decisions += self.decisions(action, document.cycle, sha256, *approved_by)
        return SettlementOrder(
            request=dsse.seal(message, SETTLEMENT_REQUEST_TYPE, self.sign),
            result=dsse.sign(document, self.sign),
            rulebook=rulebook.decode(),
            checks=checks,
            operators=dsse.sign(self.operators(register), self.sign) if approved_by else None,
            decisions=tuple(decisions),
        )

    def operators(self, version: int = 1, *, without: Sequence[str] = ()) -> OperatorRegister:
        """Return a register of two operators."""
        return OperatorRegister(
            coordinator=COORDINATOR,
            version=version,
            operators=tuple(
                OperatorKey(name=name, role="operator", kid=key.kid, alg="Ed25519", x=key.x, status="active")
                for name in OPERATORS
                if name not in without and (key := self.key(name, "auth"))
            ),
        )

    def decisions(self, action: Action, cycle: str, result: str, maker: str, checker: str) -> list[Envelope]:
        """Return what two people sign to decide something about a result."""
        act = cycle_act(action, cycle, result=result)
        at = "2026-01-02T16:00:00Z"
        by: dict[str, Any] = {"coordinator": COORDINATOR, "at": at, "reason": "looked at"}
        proposed = propose(act, self.key(maker, "auth"), operator=maker, **by)
        return [proposed, answer(act, proposed, self.key(checker, "auth"), operator=checker, confirm=True, **by)]

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
            "CONCORDAT_RULEBOOK": str(self.rulebook),
        }

    def settings(self, url: str, database_url: str) -> NodeSettings:
        return NodeSettings.from_env(environ=self.environment(url, database_url))


class Caller:
    """Somebody with a token at the agent."""

    def __init__(self, url: str, scheme: Scheme, token: str) -> None:
        self.scheme = scheme
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20, trust_env=False
        )

    async def post(self, asked: bytes | SettlementOrder) -> httpx.Response:
        """Ask for a settlement; of a request alone, with everything that it takes."""
        order = self.scheme.order(asked) if isinstance(asked, bytes) else asked
        content = msgspec.json.encode(order)
        return await self.http.post("/settlements", content=content, headers={"Content-Type": "application/json"})

    async def settle(self, asked: bytes | SettlementOrder) -> StatusReport:
        answer = await self.post(asked)
        assert answer.status_code == 200, answer.text
        key = self.scheme.key(AGENT, "sign").verifying_key
        signed = msgspec.json.decode(answer.content, type=Envelope)
        return read_status(dsse.open_(signed, {key.kid: key}, payload_type=SETTLEMENT_ANSWER_TYPE))

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
        self.staff = self.caller("dora", "staff", issuer=url, key=self.staff_key)
        self.coordinator = self.caller(COORDINATOR, "coordinator")

    def caller(
        self, subject: str, role: str, *, issuer: str = ISSUER, key: SigningKey | None = None, audience: str = AGENT
    ) -> Caller:
        """Return somebody with an access token, of the coordinator's unless said otherwise."""
        token = issue_access_token(
            key=key or self.scheme.token,
            issuer=issuer,
            subject=subject,
            audience=audience,
            client_id=subject,
            role=role,
        )
        return Caller(self.url, self.scheme, token)

    def member(self, bic: str) -> Caller:
        """Return a participant, who says itself who it is."""
        key = self.scheme.key(bic, "auth").within(scheme_name(COORDINATOR, self.scheme.sign.verifying_key))
        token = member_assertion(key=key, member=bic, audience=AGENT)
        return Caller(self.url, self.scheme, token)

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
    cycle = f"2026-01-02-{int(message_id) + 10}" if message_id.isdigit() else "2026-01-02-99"
    today = datetime.now(UTC).date()
    fields: dict[str, Any] = {"sender": COORDINATOR, "receiver": AGENT, "cycle": cycle, "value_date": today, **changes}
    return settlement_request(
        message_id=message_id,
        created_at=created_at or datetime(2026, 1, 2, 16, 30, tzinfo=UTC),
        movements=movements,
        **fields,
    )


def result_of(message: bytes, moving: Sequence[Movement] | None = None, **changes: Any) -> NettingResult:
    """Return a result that comes to what a request moves, or to `moving`; to nothing where there is no request."""
    fields: dict[str, Any] = {"cycle": "2026-01-02-01", "value_date": "2026-01-02"}
    try:
        asked = read_settlement_request(message)
        fields |= {"cycle": asked.cycle, "value_date": asked.value_date.isoformat()}
        moving = asked.movements if moving is None else moving
    except MessageRefused:
        pass
    positions: defaultdict[str, list[NetPosition]] = defaultdict(list)
    for movement in sorted(moving or ()):
        receives, pays = max(movement.amount, 0), max(-movement.amount, 0)
        positions[movement.currency].append(
            NetPosition(
                participant=movement.participant,
                receives_minor=str(receives),
                pays_minor=str(pays),
                net_minor=str(movement.amount),
            )
        )
    results = tuple(
        CurrencyResult(
            currency=currency,
            obligations=len(of),
            gross_minor=str(sum(int(one.receives_minor) for one in of)),
            settlement_minor=str(sum(int(one.receives_minor) for one in of)),
            positions=tuple(of),
        )
        for currency, of in sorted(positions.items())
    )
    fields |= {"rulebook": "0" * 64, "statements": (), "results": results, "carried_over": (), **changes}
    return NettingResult(**fields)


def entitled_request(message: bytes) -> Ruling:
    """Return a request to which the coordinator is entitled, for the books alone."""
    return Ruling(
        request=read_settlement_request(message),
        document=message,
        result_sha256="0" * 64,
        edition=1,
    )


def transfer(payer: str, payee: str, amount: int, currency: str = "EUR") -> tuple[Movement, Movement]:
    return Movement(payer, currency, -amount), Movement(payee, currency, amount)


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the problem's code."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    return answer.status_code, json.loads(answer.text)["code"]
