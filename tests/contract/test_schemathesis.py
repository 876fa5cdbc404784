"""Schemathesis against the running services: whatever is sent, no answer is a 5xx or other than described."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from itertools import count
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
from support import uuid7

from compliance.crypto.keys import SigningKey
from compliance.trust import Anchor
from gateway.agent.app import build_app
from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.settings import NodeSettings
from participants.api.app import bank_app
from participants.roles import Role
from participants.webhooks.signing import WebhookSecrets
from tests.agent_harness import Desk, Scheme
from tests.conftest import Live, NewDatabase
from tests.integration.running_coordinator import ALPHA, BRAVO, COORDINATOR, Coordinator, running_coordinator

EXAMPLES_PER_OPERATION = 6
PATTERN_CHARACTERS_MAX = 100
WAYS, STEPS_PER_WAY = 8, 5
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
    await coordinator.client_key("bob", "operator")
    async with httpx.AsyncClient(base_url=coordinator.url, headers=bearer(tokens["operator"]), trust_env=False) as http:
        cycle = (await http.post("/cycles", json={})).raise_for_status().json()["id"]
    made = await coordinator.propose_act("member.suspend", ALPHA)
    real = {"cycle": cycle, "proposal": made.id, "bic": ALPHA, "counterparty": BRAVO, "currency": "EUR"}
    await asyncio.to_thread(examine, coordinator.url, tokens, real)


async def test_a_bank(coordinator: Coordinator, new_database: NewDatabase, live: Live, tmp_path: Path) -> None:
    database = await new_database("participants.ledger")
    anchor = tmp_path / "anchor.json"
    Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key).write(anchor)
    # The directory in which the bank that was admitted has its keys.
    identity = coordinator.bank(ALPHA).identity

    def build(url: str) -> Litestar:
        settings = NodeSettings(
            bic=ALPHA,
            url=url,
            data_dir=tmp_path / "bank",
            anchor=anchor,
            coordinator_url=coordinator.url,
            webhook_hosts=("localhost",),
            webhook_networks=("127.0.0.0/8", "::1/128"),
        )
        settings.data_dir.mkdir()
        settings.keys_dir.symlink_to(tmp_path / ALPHA)
        WebhookSecrets(settings.keys_dir).make_key()
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
    real = {"bic": BRAVO, "counterparty": BRAVO, "currency": "EUR", **await bank_work(url, identity.token, tokens)}
    await asyncio.to_thread(examine, url, tokens, real)
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
    for bic, currency in (("ALFADEFF", "JPY"), ("BETADEFF", "EUR")):
        await desk.open(bic, currency)
    await asyncio.to_thread(examine, url, tokens, {"bic": "ALFADEFF"})


async def bank_work(url: str, key: SigningKey, tokens: Tokens) -> Mapping[str, str]:
    """Have a bank's people open accounts, pay and book, and return what it is called."""
    ids = {name: uuid7() for name in ("payment_id", "batch_id", "entry_id", "webhook_id")}
    second = issue_access_token(
        key=key, issuer=url, subject="dave", audience=ALPHA, client_id="dave", role=Role.ACCOUNTS
    )
    ada = {"currency": "EUR", "name": "Ada", "opening_balance_minor": "900"}
    customers = [{"code": code, **ada} for code in ("a-1", "a-2")]
    internal = {"kind": "internal", "code": "fees", "currency": "EUR", "name": "Fees"}
    order = {
        "creditor_agent": BRAVO, "amount_minor": "100", "currency": "EUR", "debtor_account": "a-1",
        "debtor_name": "Ada", "creditor_account": "b-1", "creditor_name": "Bruno",
    }  # fmt: skip
    fee = {"kind": "fee", "account": "a-1", "currency": "EUR", "amount_minor": "1", "against": "fees", "reference": "1"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for path, token, body in (
            ("/accounts", tokens["accounts"], {"accounts": [*customers, internal]}),
            ("/accounts", second, {"accounts": customers}),
            ("/payments", tokens["orders"], {"id": ids["payment_id"], **order}),
            ("/payments/batch", tokens["orders"], {"id": ids["batch_id"], "payments": [{"id": uuid7(), **order}]}),
            ("/entries", tokens["accounts"], {"id": ids["entry_id"], **fee}),
            *(
                ("/webhooks", tokens["events"], {"id": made, "url": "https://localhost/hook"})
                for made in (ids["webhook_id"], uuid7(), uuid7())
            ),
        ):
            answer = await http.post(path, headers=bearer(token), json=body)
            assert answer.is_success, (path, answer.text)
        listed = (await http.get("/accounts?code=a-1", headers=bearer(tokens["accounts"]))).json()["items"]
    return {**ids, "account_id": str(listed[0]["id"])}


def examine(url: str, tokens: Tokens, real: Mapping[str, str]) -> None:
    """Ask every operation of a service as its roles may, as others may, and as nobody may.

    `real` are values of path parameters that are there.
    """
    document = httpx.get(f"{url}/schema/openapi.json", trust_env=False).json()
    for item in document["paths"].values():
        for operation in item.values():
            # What isn't described by its own status isn't described.
            del operation["responses"]["default"]
    unburden(document)
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    with httpx.Client(trust_env=False, base_url=url) as http:
        for found in schema.get_all_operations():
            operation = found.ok()
            roles = roles_of(operation)
            token = tokens[roles[0]] if roles else None
            fuzz(operation, token, real)
            if roles:
                guarded(http, operation, tokens, roles)
            tell(http, operation, bearer(token), {**EXAMPLES, **real})
    follow_links(schema, tokens)


def unburden(schema: Any) -> None:
    """Take the long patterns of text out: any text does, and to make one by them takes half a minute."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        unburden(value)
    if isinstance(schema, dict) and len(str(schema.get("pattern", ""))) > PATTERN_CHARACTERS_MAX:
        del schema["pattern"]


def roles_of(operation: Any) -> list[str]:
    return [role for security in operation.definition.raw["security"] for role in security["bearer"]]


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def impatient(case: schemathesis.Case) -> None:
    """Have nobody wait for an event of which there is none."""
    if isinstance(case.query, dict) and "wait_s" in case.query:
        case.query["wait_s"] = 0


def fuzz(operation: Any, token: str | None, real: Mapping[str, str]) -> None:
    turns = count()

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
        impatient(case)
        checks = CHECKS
        if isinstance(case.path_parameters, dict) and next(turns) % 2:
            names = case.path_parameters.keys() & real.keys()
            case.path_parameters |= {name: real[name] for name in names}
            if names:
                # It may have been the path that was wrong.
                checks = [check for check in CHECKS if check is not negative_data_rejection]
        case.call_and_validate(headers=bearer(token), checks=checks, timeout=20)

    answers_as_described()


def follow_links(schema: Any, tokens: Tokens) -> None:
    """Go from answer to answer by the links of the document, each operation in a role that it takes."""

    class Ways(schema.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            impatient(case)

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            roles = roles_of(case.operation)
            return {"headers": bearer(tokens[roles[0]] if roles else None), "timeout": 20}

        def validate_response(self, response: Any, case: schemathesis.Case, **_: Any) -> None:
            followed[case.operation.label] += 1
            case.validate_response(response, checks=CHECKS)

    followed: Counter[str] = Counter()
    Ways.run(
        settings=hypothesis_settings(
            max_examples=WAYS,
            stateful_step_count=STEPS_PER_WAY,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
    assert followed.total() >= WAYS


def guarded(http: httpx.Client, operation: Any, tokens: Tokens, roles: list[str]) -> None:
    """Without a token it is 401, with that of another role 403; what is asked for doesn't matter."""
    path = filled(operation.path, EXAMPLES)
    answer = http.request(operation.method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing"), operation.label
    for role in tokens.keys() - set(roles):
        answer = http.request(operation.method, path, headers=bearer(tokens[role]))
        assert (answer.status_code, answer.json()["code"]) == (403, "role_not_allowed"), (operation.label, role)


def tell(http: httpx.Client, operation: Any, headers: Mapping[str, str], values: Mapping[str, str]) -> None:
    """A body of another kind is 415, a wrong one is told all that it lacks; HEAD is GET; lists come in pages."""
    path = filled(operation.path, values)
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        refused = http.request(operation.method, path, headers={**headers, "Content-Type": "text/plain"}, content="{}")
        assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type"), operation.label
        # An envelope is judged as evidence, and of what a release before hands in nothing is read.
        if operation.path not in ("/federation/payments", "/federation/recalls", "/cycles/{cycle}/statements"):
            body = {name: [[]] for name in content["application/json"]["example"]}
            answer = http.request(operation.method, path, headers=dict(headers), json={**body, "besides": 1})
            told = {error.get("pointer", "").split("/")[1] for error in answer.json()["errors"]}
            assert told >= {*body, "besides"}, (operation.label, answer.text)
    if operation.method != "get":
        return
    names = {parameter["name"] for parameter in operation.definition.raw.get("parameters", ())}
    if "type" not in names:  # a stream of events has no end that a length could be told of
        read, head = http.get(path, headers=dict(headers)), http.head(path, headers=dict(headers))
        assert (head.status_code, head.content) == (read.status_code, b""), operation.label
    if {"cursor", "limit"} <= names and http.get(path, headers=dict(headers)).is_success:
        whole = rows(http.get(path, headers=dict(headers), params={"limit": 1000}))
        paged, following = [], f"{path}?limit=2"
        while following:
            page = http.get(following, headers=dict(headers))
            assert page.status_code == 200, page.text
            paged += rows(page)
            following = page.links.get("next", {}).get("url", "")
            assert len(paged) <= len(whole), operation.label
        assert paged == whole, operation.label


def rows(answer: httpx.Response) -> list[Any]:
    listed = answer.json()
    if isinstance(listed, dict):
        lists = {name: value for name, value in listed.items() if isinstance(value, list)}
        (listed,) = [lists["items"]] if "items" in lists else lists.values()
    return list(listed)


def filled(path: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


EXAMPLES = {
    "cycle": "2026-03-02-01",
    "proposal": "0190a7d8-0000-7000-8000-000000000001",
    "payment_id": "0190a7d8-0000-7000-8000-000000000001",
    "recall_id": "0190a7d8-0000-7000-8000-000000000001",
    "entry_id": "0190a7d8-0000-7000-8000-000000000001",
    "batch_id": "0190a7d8-0000-7000-8000-000000000001",
    "bic": "ALDRXXA0",
    "currency": "EUR",
    "account_id": "1",
    "step": "approve",
    "movement": "1",
    "webhook_id": "0190a7d8-0000-7000-8000-000000000001",
    "reconciliation_id": "0190a7d8-0000-7000-8000-000000000001",
    "session_id": "0190a7d8-0000-7000-8000-000000000001",
}
