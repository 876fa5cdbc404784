"""Schemathesis against the running services: whatever is sent, no answer is a 5xx or other than described."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from litestar import Litestar
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from compliance.trust import Anchor
from gateway.agent.app import build_app
from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.settings import NodeSettings
from participants.api.app import bank_app
from participants.roles import Role
from tests.agent_harness import Desk, Scheme
from tests.conftest import Live, NewDatabase
from tests.integration.running_coordinator import ALPHA, BRAVO, COORDINATOR, Coordinator, running_coordinator

EXAMPLES_PER_OPERATION = 6
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]

# What a database or a date can't hold, and what generators rarely come upon.
UNLUCKY = (
    "/accounts?kind=%00",
    "/accounts?code=%00",
    "/accounts?cursor=WyJhIl0",
    "/accounts?cursor=W10",
    "/payments?cursor=WzkyMjMzNzIwMzY4NTQ3NzU4MDhd",
    "/payments?cursor=WzkyMjMzNzIwMzY4NTQ3NzU4MDgsMF0",
    "/payments?cursor=WyJhIiwxXQ",
    "/payments?end_to_end_id=%00",
    "/payments?file=%00",
    "/payments?created_from=0001-01-01T00:00:00%2B14:00",
    "/payments?amount_from=9999999999999999",
    "/cycles/2026-03-02-01/payments?cursor=WzIxNDc0ODM2NDgsMV0",
    "/accounts/9223372036854775808/postings",
    "/balances?at=0001-01-01T00:00:00%2B14:00",
)

Tokens = Mapping[str, str]
"""An access token by role."""


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        await running.admit(ALPHA, BRAVO, caps_minor={"EUR": 1_000_000})
        await running.admit_agent()
        for name, role in (("alice", "operator"), ("carol", "auditor")):
            await running.client_key(name, role)
        yield running


def member_tokens(coordinator: Coordinator, audience: str, **subjects: str) -> Tokens:
    """Return tokens of the coordinator's issuer, by role."""
    return {
        role: issue_access_token(
            key=coordinator.base.identity.token,
            issuer=coordinator.url,
            subject=subject,
            audience=audience,
            client_id=subject,
            role=role,
        )
        for role, subject in subjects.items()
    }


async def test_the_coordinator(coordinator: Coordinator) -> None:
    tokens = member_tokens(
        coordinator, COORDINATOR, operator="alice", auditor="carol", participant=ALPHA, agent="AGNTXXC0"
    )
    await asyncio.to_thread(examine, coordinator.url, tokens)


async def test_a_bank(coordinator: Coordinator, new_database: NewDatabase, live: Live, tmp_path: Path) -> None:
    database = await new_database("participants.ledger")
    anchor = tmp_path / "anchor.json"
    Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key).write(anchor)
    # The directory in which the bank that was admitted has its keys.
    identity = coordinator.bank(ALPHA).identity

    def build(url: str) -> Litestar:
        settings = NodeSettings(
            bic=ALPHA, url=url, data_dir=tmp_path / "bank", anchor=anchor, coordinator_url=coordinator.url
        )
        settings.data_dir.mkdir()
        settings.keys_dir.symlink_to(tmp_path / ALPHA)
        return bank_app(settings, database)

    url = await asyncio.to_thread(live, build)
    tokens = {
        role.value: issue_access_token(
            key=identity.token, issuer=url, subject="dora", audience=ALPHA, client_id="dora", role=role
        )
        for role in Role
    }
    bravo = coordinator.bank(BRAVO).identity.auth.within(Anchor.read(anchor).scheme)
    tokens["participant"] = member_assertion(key=bravo, member=BRAVO, audience=ALPHA)
    await asyncio.to_thread(examine, url, tokens)
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for target in UNLUCKY:
            answer = await http.get(target, headers={"Authorization": f"Bearer {tokens['read']}"})
            assert answer.status_code == 400, (target, answer.text)
            assert answer.json()["instance"] == answer.headers["X-Correlation-ID"]


async def test_the_settlement_agent(new_database: NewDatabase, live: Live, tmp_path: Path) -> None:
    database = await new_database("gateway.agent")
    scheme = Scheme(tmp_path)
    url = await asyncio.to_thread(live, lambda url: build_app(scheme.settings(url, database), database))
    desk = Desk(scheme, url)
    await desk.open("ALFADEFF", amount=100)
    callers = {"staff": desk.staff, "coordinator": desk.coordinator, "participant": desk.member("ALFADEFF")}
    tokens = {role: caller.http.headers["Authorization"].removeprefix("Bearer ") for role, caller in callers.items()}
    await asyncio.to_thread(examine, url, tokens)


def examine(url: str, tokens: Tokens) -> None:
    """Ask every operation of a service as its roles may, as others may, and as nobody may."""
    document = httpx.get(f"{url}/schema/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    for found in schema.get_all_operations():
        operation = found.ok()
        roles = [role for security in operation.definition.raw["security"] for role in security["bearer"]]
        fuzz(operation, tokens[roles[0]] if roles else None)
        if roles:
            guarded(operation, tokens, roles)


def fuzz(operation: Any, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    @given(case=operation.as_strategy())
    @hypothesis_settings(
        max_examples=EXAMPLES_PER_OPERATION,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers_as_described(case: schemathesis.Case) -> None:
        if isinstance(case.query, dict) and "wait_s" in case.query:
            case.query["wait_s"] = 0  # a long poll of nothing
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)

    answers_as_described()


def guarded(operation: Any, tokens: Tokens, roles: list[str]) -> None:
    """Without a token it is 401, with that of another role 403; what is asked for doesn't matter."""
    path = operation.path
    for name, value in EXAMPLES.items():
        path = path.replace(f"{{{name}}}", value)
    target = f"{operation.base_url}{path}"
    with httpx.Client(trust_env=False) as http:
        answer = http.request(operation.method, target)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_missing"), operation.label
        for role in tokens.keys() - set(roles):
            answer = http.request(operation.method, target, headers={"Authorization": f"Bearer {tokens[role]}"})
            assert (answer.status_code, answer.json()["code"]) == (403, "role_not_allowed"), (operation.label, role)


EXAMPLES = {
    "cycle": "2026-03-02-01",
    "proposal": "0190a7d8-0000-7000-8000-000000000001",
    "payment_id": "0190a7d8-0000-7000-8000-000000000001",
    "entry_id": "0190a7d8-0000-7000-8000-000000000001",
    "batch_id": "0190a7d8-0000-7000-8000-000000000001",
    "bic": "ALDRXXA0",
    "currency": "EUR",
    "account_id": "1",
    "step": "approve",
    "movement": "1",
    "webhook_id": "0190a7d8-0000-7000-8000-000000000001",
}
