"""Every operation of running nodes, asked by every kind of caller: the table says who gets in, and nobody else does."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio
from agent_harness import ALFA, ISSUER, Desk, Scheme
from running_banks import ALPHA, BRAVO, Town, running_town
from running_coordinator import AGENT, CARLO, COORDINATOR
from support import Live, NewDatabase

from compliance.crypto.keys import SigningKey
from gateway.agent.app import build_app
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.identity.tokens import issue_access_token
from gateway.federation.storage.database import migrate
from participants.roles import Role
from tests.contract.services import documents
from tests.security.access import ACCESS, ANYBODY

ROLES = ("operator", "auditor", "participant", "agent", "coordinator", "staff", *Role)
VALUES = {
    "cycle": "2026-01-01-01",
    "currency": "EUR",
    "step": "approve",
    "payment_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "proposal": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "account_id": "1",
    "bic": ALPHA,
    "counterparty": BRAVO,
    "movement": "1",
}
Operations = dict[str, tuple[str, str]]


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, Any]]:
    return documents()


def operations(document: dict[str, Any]) -> Operations:
    return {
        operation["operationId"]: (method.upper(), path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


@pytest.mark.parametrize("service", ACCESS)
def test_each_operation_has_its_row_and_lets_in_whom_the_row_names(
    described: dict[str, dict[str, Any]], service: str
) -> None:
    found = {
        operation["operationId"]: {role for way in operation["security"] for role in way["bearer"]} or {ANYBODY}
        for item in described[service]["paths"].values()
        for operation in item.values()
    }
    assert found == {name: set(row) for name, row in ACCESS[service].items()}


async def wrong(
    service: str,
    document: dict[str, Any],
    url: str,
    token_of: Callable[..., str],
    *,
    known: str = "operator",
    withdrawn: Mapping[str, str] | None = None,
) -> list[str]:
    """Ask for everything as everybody, and return what was answered otherwise than the table says.

    `known` is a role whose tokens count here; `withdrawn` are tokens of those who have no access any more.
    """
    bad: dict[str, tuple[str | None, str]] = {
        "nobody": (None, "token_missing"),
        "no token": ("a.b.c", "token_malformed"),
        "ended": (token_of(known, now=time.time() - 3_600), "token_expired"),
        "for another member": (token_of(known, audience="OTHRXXA0"), "token_audience_wrong"),
        "a replaced key": (token_of(known, key=SigningKey.generate()), "token_key_unknown"),
        **{name: (token, "token_withdrawn") for name, token in (withdrawn or {}).items()},
    }
    answered = []
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        for name, (method, template) in operations(document).items():
            row = ACCESS[service][name]
            path = re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], template)

            async def ask(token: str | None, method: str = method, path: str = path) -> tuple[int, str]:
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                answer = await http.request(method, path, headers=headers, content=b"" if method == "GET" else b"{")
                kind = answer.headers.get("Content-Type", "")
                return answer.status_code, answer.json().get("code", "") if "problem" in kind else ""

            for caller, (token, reason) in bad.items():
                status, code = await ask(token)
                if (code == reason and status == 401) == (ANYBODY in row) or status == 500:
                    answered.append(f"{name} by {caller}: {status} {code}")
            for role in ROLES:
                status, code = await ask(token_of(role))
                refused = status == 401 or code == "role_not_allowed"
                if refused == (role in row or ANYBODY in row) or status == 500:
                    answered.append(f"{name} by {role}: {status} {code}")
    return answered


def of_coordinator(town: Town, subject: str, **options: Any) -> str:
    """Return an access token of the coordinator's, or one that only looks like it."""
    claims = {"key": town.coordinator.base.identity.token, "issuer": town.coordinator.url, **options}
    return issue_access_token(subject=subject, client_id=subject, **claims)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with running_town(postgres_url, tmp_path_factory.mktemp("town"), (ALPHA, BRAVO)) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_the_coordinator_lets_in_whom_the_table_names(town: Town, described: dict[str, dict[str, Any]]) -> None:
    house = town.coordinator
    for name, role in (("alice", "operator"), ("bob", "operator"), ("otto", "auditor"), ("removed", "operator")):
        await house.client_key(name, role)
    await house.registry.remove_client("removed", by="test", reason="left")
    await house.admit(CARLO)
    await house.registry.step(CARLO, Step.SUSPEND, by="alice", reason="leaves")
    await house.registry.step(CARLO, Step.LEAVE, by="alice", reason="leaves")
    applied = house.bank("ECHOGB20")
    await house.registry.apply(applied.signed_application(invitation=await house.invite(applied.bic)))
    subjects = {"operator": "alice", "auditor": "otto", "agent": AGENT, "coordinator": COORDINATOR}

    def token_of(role: str, audience: str = COORDINATOR, *, subject: str | None = None, **options: Any) -> str:
        return of_coordinator(town, subject or subjects.get(role, ALPHA), audience=audience, role=role, **options)

    withdrawn = {
        "a removed operator": token_of("operator", subject="removed"),
        "an operator who never was": token_of("operator", subject="mallory"),
        "an operator in another role": token_of("auditor", subject="alice"),
        "a participant in another role": token_of("operator", subject=ALPHA),
        "who has left": token_of("participant", subject=CARLO),
        "who has applied": token_of("participant", subject=applied.bic),
        "who isn't known": token_of("participant", subject="OTHRXXA0"),
    }
    document = described["coordinator"]
    assert await wrong("coordinator", document, house.url, token_of, withdrawn=withdrawn) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bank_lets_in_whom_the_table_names(town: Town, described: dict[str, dict[str, Any]]) -> None:
    """Its own people by its own issuer, another bank by its own word; the coordinator's tokens are none here."""
    alpha = town.alpha

    def token_of(role: str, audience: str = ALPHA, **options: Any) -> str:
        if role in list(Role):
            claims = {"key": alpha.node.identity.token, "issuer": alpha.settings.url, "role": role, **options}
            return issue_access_token(subject="sam", client_id="sam", audience=audience, **claims)
        if role == "participant":
            return town.assertion(BRAVO, audience, **options)
        return of_coordinator(town, BRAVO, audience=audience, role=role, **options)

    assert await wrong("participant", described["participant"], alpha.settings.url, token_of, known="read") == []


async def test_the_agent_lets_in_whom_the_table_names(
    live: Live, new_database: NewDatabase, tmp_path: Any, described: dict[str, dict[str, Any]]
) -> None:
    database = await new_database()
    await migrate(database, "gateway.agent")
    scheme = Scheme(tmp_path)
    desk = Desk(scheme, live(lambda url: build_app(scheme.settings(url, database), database)))

    def token_of(role: str, audience: str = "", **options: Any) -> str:
        key, issuer = (desk.staff_key, desk.url) if role == "staff" else (scheme.token, ISSUER)
        audience = audience or scheme.settings(desk.url, database).bic
        claims = {"key": key, "issuer": issuer, "audience": audience, "role": role, **options}
        return issue_access_token(subject=ALFA, client_id=ALFA, **claims)

    assert await wrong("agent", described["agent"], desk.url, token_of) == []
