"""Every operation of running nodes, asked by every kind of caller: the table says who gets in, and nobody else does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from running_banks import ALPHA, BRAVO, Town, running_town, served
from running_coordinator import AGENT, CARLO, COORDINATOR
from support import free_port

from compliance.crypto import dsse
from compliance.crypto.keys import Signer, SigningKey
from gateway.agent.app import build_app
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import MemberIdentity
from gateway.federation.identity.tokens import issue_access_token, member_assertion
from gateway.federation.membership.documents import KEY_CHANGE_TYPE, KeyChange
from gateway.federation.settings import NodeSettings
from gateway.federation.storage.database import migrate
from gateway.federation.storage.postgres import create_database, drop_database
from participants.roles import Role
from tests.contract.services import documents
from tests.security.access import ACCESS, ANYBODY, REFUSED, answers

DELTA, ECHO, FOXTROT, GOLF, NOBODY = "DELTESM0", "ECHOGB20", "FOXTSES0", "GOLFNLA0", "OTHRXXA0"
VALUES = {
    "cycle": "2026-01-01-01",
    "currency": "EUR",
    "batch_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "payment_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "recall_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "proposal": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "account_id": "1",
    "entry_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "counterparty": CARLO,
    "movement": "1",
    "webhook_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "reconciliation_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "session_id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
}
BODIES = {
    "changeKey": {"payload": "", "payloadType": "x", "signatures": []},
    "setBilateralLimit": {"limit_minor": "1", "reason": "asked"},
}
"""Where whom it concerns is looked at only once the body has its form."""
MEMBERS = {
    "participant": ALPHA,
    "another": BRAVO,
    "suspended": CARLO,
    "approved": DELTA,
    "applied": ECHO,
    "left": FOXTROT,
    "replaced": GOLF,
    "unknown": NOBODY,
    "agent": AGENT,
    "coordinator": COORDINATOR,
}
Tokens = dict[str, str | None]


@dataclass
class Federation:
    """A coordinator, a bank (ALPHA) and a settlement agent that serve, and members of every standing."""

    town: Town
    agent: NodeSettings
    auth: dict[str, SigningKey]
    tokens_got: dict[str, str]
    """What members were given by the coordinator before their standing changed."""

    @property
    def scheme(self) -> str:
        return self.town.alpha.node.trust.scheme

    def assertion(self, caller: str, audience: str) -> str:
        member = MEMBERS[caller]
        return member_assertion(key=self.auth[member].within(self.scheme), member=member, audience=audience)

    def by_coordinator(self, role: str, subject: str, audience: str, **options: Any) -> str:
        """Return an access token that the coordinator signed, or that only looks like it."""
        house = self.town.coordinator
        claims = {"key": house.base.identity.token, "issuer": house.url, **options}
        return issue_access_token(subject=subject, client_id=subject, audience=audience, role=role, **claims)

    def of_bank(self, role: str, audience: str, *, issuer: str | None = None, **options: Any) -> str:
        """Return a token of ALPHA's own issuer."""
        alpha = self.town.alpha
        claims = {"key": alpha.node.identity.token, "issuer": issuer or alpha.settings.url, **options}
        return issue_access_token(subject="sam", client_id="sam", audience=audience, role=role, **claims)

    def of_agent(self, audience: str, **options: Any) -> str:
        claims = {"key": MemberIdentity.made(AGENT, self.agent.keys_dir).token, "issuer": self.agent.url, **options}
        return issue_access_token(subject="dora", client_id="dora", audience=audience, role="staff", **claims)


async def _members(stack: AsyncExitStack, town: Town) -> dict[str, str]:
    """Let members and operators get into every standing; return the tokens that they had before."""
    house = town.coordinator
    for name, role in (("alice", "operator"), ("bob", "operator"), ("otto", "auditor")):
        await house.client_key(name, role)
    removed = await stack.enter_async_context(await house.operator("removed"))
    tokens = {"a removed operator": await removed.token(COORDINATOR)}
    await house.registry.remove_client("removed", by="test", reason="left")
    banks = {bank.bic: bank for bank in await house.admit(BRAVO, CARLO, FOXTROT, GOLF)}
    for caller in ("suspended", "left", "replaced"):
        client = await stack.enter_async_context(house.client(banks[MEMBERS[caller]]))
        tokens[caller] = await client.token(COORDINATOR)
    for bic in (DELTA, ECHO):
        await house.registry.apply(house.bank(bic).signed_application(invitation=await house.invite(bic)))
    for bic, step in ((DELTA, Step.APPROVE), (CARLO, Step.SUSPEND), (FOXTROT, Step.SUSPEND), (FOXTROT, Step.LEAVE)):
        await house.registry.step(bic, step, by="alice", reason="test")
    golf = banks[GOLF].identity
    new = SigningKey.generate()
    change = KeyChange(member=GOLF, use="auth", x=new.x, replaces=golf.auth.kid)
    signers: tuple[Signer, ...] = (golf.sign, new)
    await house.registry.change_key(GOLF, dsse.sign(change, *signers, payload_type=KEY_CHANGE_TYPE), caller=GOLF)
    return tokens


async def _agent(stack: AsyncExitStack, town: Town, server_url: str) -> NodeSettings:
    house, port = town.coordinator, free_port()
    settings = NodeSettings(
        bic=AGENT,
        url=f"http://127.0.0.1:{port}",
        port=port,
        data_dir=house.directory / "agent",
        anchor=house.directory / "anchor.json",
        coordinator_url=house.url,
    )
    MemberIdentity.made(AGENT, settings.keys_dir)
    name = "access_agent"
    database = await create_database(server_url, name)
    stack.push_async_callback(drop_database, server_url, name)
    await migrate(database, "gateway.agent")
    await stack.enter_async_context(served(build_app(settings, database), port))
    return settings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with AsyncExitStack() as stack:
        town = await stack.enter_async_context(
            running_town(postgres_url, tmp_path_factory.mktemp("federation"), (ALPHA,))
        )
        tokens = await _members(stack, town)
        agent = await _agent(stack, town, postgres_url)
        house = town.coordinator
        auth = {bic: house.bank(bic).identity.auth for bic in MEMBERS.values()}
        auth |= {ALPHA: town.alpha.node.identity.auth, COORDINATOR: house.base.identity.auth}
        newest = town.alpha.node.trust
        async with asyncio.timeout(60):
            while (golf := newest.member(GOLF)) is None or len(golf.keys) < 3:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
            while not (await http.get(f"{agent.url}/health/ready")).is_success:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield Federation(town, agent, auth, tokens)


@pytest.fixture(scope="module")
def described() -> dict[str, dict[str, Any]]:
    return documents()


def no_ones(good: Callable[..., str]) -> Tokens:
    """Return what nobody gets in by, made of a token that would do."""
    return {
        "nobody": None,
        "somebody with no token": "a.b.c",
        "somebody whose token expired": good(now=time.time() - 3_600),
        "somebody with a token for another member": good(audience=NOBODY),
        "somebody who signed the token himself": good(key=SigningKey.generate()),
    }


def at_coordinator(of: Federation) -> Tokens:
    def good(audience: str = COORDINATOR, **options: Any) -> str:
        return of.by_coordinator("operator", "alice", audience, **options)

    participants = {
        caller: of.by_coordinator("participant", MEMBERS[caller], COORDINATOR)
        for caller in ("participant", "another", "approved", "applied", "unknown")
    }
    return {
        **no_ones(good),
        **participants,
        **of.tokens_got,
        "operator": good(),
        "auditor": of.by_coordinator("auditor", "otto", COORDINATOR),
        "agent": of.by_coordinator("agent", AGENT, COORDINATOR),
        "coordinator": of.by_coordinator("coordinator", COORDINATOR, COORDINATOR),
        "an operator in another role": of.by_coordinator("auditor", "alice", COORDINATOR),
        "a participant in another role": of.by_coordinator("operator", ALPHA, COORDINATOR),
        "a participant by an assertion for another bank": of.assertion("another", COORDINATOR),
        "staff": of.of_agent(COORDINATOR),
        **{role: of.of_bank(role, COORDINATOR) for role in Role},
    }


def at_bank(of: Federation) -> Tokens:
    def good(audience: str = ALPHA, **options: Any) -> str:
        return of.of_bank(Role.READ, audience, **options)

    stranger = SigningKey.generate()
    standings = ("suspended", "approved", "applied", "left", "replaced", "unknown", "agent", "coordinator")
    return {
        **no_ones(good),
        **{caller: of.assertion(caller, ALPHA) for caller in standings},
        "participant": of.assertion("another", ALPHA),
        "operator": of.by_coordinator("operator", "alice", ALPHA),
        "auditor": of.by_coordinator("auditor", "otto", ALPHA),
        "a participant by the coordinator's word": of.by_coordinator("participant", BRAVO, ALPHA),
        "people of another bank": of.of_bank(Role.READ, ALPHA, issuer="http://127.0.0.1:9", key=stranger),
        "staff": of.of_bank("staff", ALPHA),
        **{role: of.of_bank(role, ALPHA) for role in Role},
    }


def at_agent(of: Federation) -> Tokens:
    def good(audience: str = AGENT, **options: Any) -> str:
        return of.by_coordinator("coordinator", COORDINATOR, audience, **options)

    standings = ("participant", "another", "suspended", "approved", "applied", "left", "replaced", "unknown", "agent")
    return {
        **no_ones(good),
        **{caller: of.assertion(caller, AGENT) for caller in standings},
        "coordinator": good(),
        "operator": of.by_coordinator("operator", "alice", AGENT),
        "auditor": of.by_coordinator("auditor", "otto", AGENT),
        "a participant by the coordinator's word": of.by_coordinator("participant", ALPHA, AGENT),
        "staff": of.of_agent(AGENT),
        **{role: of.of_bank(role, AGENT) for role in Role},
    }


def test_each_operation_has_its_row_and_lets_in_whom_the_row_names(described: dict[str, dict[str, Any]]) -> None:
    standings = {"suspended", "approved"}
    for service, rows in ACCESS.items():
        found = {
            operation["operationId"]: {role for way in operation["security"] for role in way["bearer"]} or {ANYBODY}
            for item in described[service]["paths"].values()
            for operation in item.values()
        }
        assert found == {name: set(row) - standings for name, row in rows.items()}
        assert all(set(Role) - set(row) for row in rows.values()), "no role may be all of them"
        assert all(reason for row in rows.values() for reason in row.values())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("service", ACCESS)
async def test_everybody_gets_what_the_table_says(
    federation: Federation, described: dict[str, dict[str, Any]], service: str
) -> None:
    url, tokens = {
        "coordinator": (federation.town.coordinator.url, at_coordinator),
        "participant": (federation.town.alpha.settings.url, at_bank),
        "agent": (federation.agent.url, at_agent),
    }[service]
    callers = tokens(federation)
    assert callers.keys() == REFUSED[service].keys()
    otherwise = []
    codes = {*REFUSED[service].values(), "token_missing", "not_yours", "role_not_allowed", "scope_not_allowed"}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        for path, item in described[service]["paths"].items():
            for method, operation in item.items():
                name = operation["operationId"]
                for caller, token in callers.items():
                    status, code = await _ask(http, method.upper(), path, name, caller, token)
                    expected = answers(service, name, caller)
                    let_in = status not in (401, 403, 500) or code not in codes | {"unauthorized", "forbidden", ""}
                    if status == 500 or (code not in expected if expected else not let_in):
                        otherwise.append(f"{name} by {caller}: {status} {code}, not {expected or 'let in'}")
    assert otherwise == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("service", ACCESS)
async def test_no_operation_passes_over_what_it_does_not_know(
    federation: Federation, described: dict[str, dict[str, Any]], service: str
) -> None:
    url, tokens = {
        "coordinator": (federation.town.coordinator.url, at_coordinator),
        "participant": (federation.town.alpha.settings.url, at_bank),
        "agent": (federation.agent.url, at_agent),
    }[service]
    callers: Tokens = {**tokens(federation), ANYBODY: None}
    taken = []
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        for template, item in described[service]["paths"].items():
            path = re.sub(r"\{(\w+)\}", lambda match: {**VALUES, "bic": ALPHA}[match[1]], template)
            options = await http.options(path)
            methods = {*map(str.upper, item), "OPTIONS"} | ({"HEAD"} if "get" in item else set())
            assert (options.status_code, set(options.headers["Allow"].split(", "))) == (204, methods), path
            for method, operation in item.items():
                token = callers[next(iter(ACCESS[service][operation["operationId"]]))]
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                body: dict[str, Any] = {"json": {}} if "requestBody" in operation else {}
                if operation["operationId"] == "requestToken":
                    body = {"data": {"grant_type": "client_credentials"}}
                asked = [("parameter", "besides", {"params": {"besides": 1}, **body})]
                if not body:
                    asked.append(("pointer", "", {"json": {"reason": "besides"}}))
                for place, name, said in asked:
                    answer = await http.request(method, path, headers=headers, **said)
                    errors = answer.json().get("errors", ()) if answer.status_code == 400 else ()
                    if not any(error.get(place) == name for error in errors):
                        taken.append(f"{method} {path} with {name or 'a body'}: {answer.status_code} {answer.text}")
    assert taken == []


async def _ask(
    http: httpx.AsyncClient, method: str, template: str, name: str, caller: str, token: str | None
) -> tuple[int, str]:
    """Ask for what is the caller's own; another participant, and who is none, for ALPHA's."""
    own = MEMBERS.get(caller, ALPHA) if caller != "another" else ALPHA
    path = re.sub(r"\{(\w+)\}", lambda match: {**VALUES, "bic": own}[match[1]], template)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body: dict[str, Any] = {} if method == "GET" else {"json": BODIES[name]} if name in BODIES else {"content": b"{"}
    answer = await http.request(method, path, headers=headers, **body)
    problem = "problem" in answer.headers.get("Content-Type", "")
    return answer.status_code, answer.json().get("code", "") if problem else ""
