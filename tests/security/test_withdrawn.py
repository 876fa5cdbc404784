"""Withdrawn is withdrawn: a token got before is good for nothing once its subject, or the key it was got by, is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from compliance.crypto import dsse
from compliance.crypto.keys import SigningKey
from compliance.statements import ActKind
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.membership.documents import KEY_CHANGE_TYPE, KeyChange
from gateway.federation.problems import Refusal
from tests.conftest import NewDatabase
from tests.integration.running_coordinator import (
    ALPHA,
    BRAVO,
    COORDINATOR,
    Bank,
    Coordinator,
    on_demand,
    running_coordinator,
)


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    """A coordinator whose registry is changed by another process than the one that answers, as by the command line."""
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def ask(http: httpx.AsyncClient, url: str, token: str, method: str = "GET") -> tuple[int, str]:
    answer = await http.request(method, url, headers={"Authorization": f"Bearer {token}"}, content=None)
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


async def refused_soon(http: httpx.AsyncClient, url: str, token: str, expected: tuple[int, str]) -> None:
    """Wait until a token is refused: within a second at a replica that hears nothing of it, and a machine's noise."""
    async with asyncio.timeout(10):
        while (got := await ask(http, url, token)) != expected:
            assert got[0] == 200, got
            await asyncio.sleep(0.05)


async def kept_token(coordinator: Coordinator, client: FederationClient) -> str:
    async with client:
        return await client.token(COORDINATOR)


async def test_a_step_by_an_operator_counts_at_the_next_request(
    coordinator: Coordinator, http: httpx.AsyncClient
) -> None:
    """Where the step is taken it counts at once: the very next request of the member is refused."""
    [alpha] = await coordinator.admit(ALPHA)
    events, cycles = f"{coordinator.url}/events", f"{coordinator.url}/cycles"
    token = await kept_token(coordinator, coordinator.client(alpha))
    assert await ask(http, cycles, token) == (200, "")
    await coordinator.decided(ActKind.MEMBER_SUSPEND, ALPHA)
    assert await ask(http, cycles, token) == (403, "member_not_active")
    assert await ask(http, f"{coordinator.url}/exposure-limits", token) == (403, "member_not_active")
    # What it needs to settle what it owes, and what the trust list tells everybody.
    assert await ask(http, f"{coordinator.url}/participants", token) == (200, "")
    assert await ask(http, events, token) == (200, "")
    assert await ask(http, f"{coordinator.url}/instructions", token) == (200, "")
    await coordinator.decided(ActKind.MEMBER_ACTIVATE, ALPHA)
    assert await ask(http, cycles, token) == (200, "")
    await coordinator.decided(ActKind.MEMBER_SUSPEND, ALPHA)
    await coordinator.decided(ActKind.MEMBER_LEAVE, ALPHA)
    for url in (cycles, events, f"{coordinator.url}/instructions"):
        assert await ask(http, url, token) == (401, "token_withdrawn")


@pytest.mark.parametrize("role", ["operator", "auditor"])
async def test_an_operators_access_is_taken_away(coordinator: Coordinator, http: httpx.AsyncClient, role: str) -> None:
    for colleague in ("alice", "bob"):
        await coordinator.client_key(colleague, "operator")
    token = await kept_token(coordinator, await coordinator.operator("mallory", role))
    url = f"{coordinator.url}/participants"
    assert await ask(http, url, token) == (200, "")
    await coordinator.registry.remove_client("mallory", by="test", reason="left the house")
    await refused_soon(http, url, token, (401, "token_withdrawn"))
    with pytest.raises(Refusal, match="client_unknown"):
        await coordinator.registry.remove_client("mallory", by="test", reason="again")
    # The name stays taken, in any spelling; let in again, the earlier token stays good for nothing.
    with pytest.raises(Refusal, match="name_taken"):
        await coordinator.client_key("Mallory", role)
    await kept_token(coordinator, await coordinator.operator("mallory", role))
    assert await ask(http, url, token) == (401, "token_withdrawn")


async def test_another_role_is_another_access(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    key = SigningKey.generate()
    await coordinator.registry.add_client("rita", "operator", key.x, by="test")
    token = await kept_token(coordinator, FederationClient("rita", key, coordinator.url))
    await coordinator.registry.add_client("rita", "auditor", key.x, by="test")
    await refused_soon(http, f"{coordinator.url}/participants", token, (401, "token_withdrawn"))


async def test_a_stolen_keys_tokens_end_with_the_key(
    coordinator: Coordinator, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Replaced by the member, revoked by operators, or replaced by enrolment: what the thief got by it ends."""
    [alpha] = await coordinator.admit(ALPHA)
    url = f"{coordinator.url}/cycles"
    stolen = await kept_token(coordinator, coordinator.client(alpha))
    fresh = SigningKey.generate()
    change = KeyChange(member=ALPHA, use="auth", x=fresh.x, replaces=alpha.identity.auth.kid)
    envelope = dsse.sign(change, alpha.identity.sign, fresh, payload_type=KEY_CHANGE_TYPE)
    await coordinator.registry.change_key(ALPHA, envelope, caller=ALPHA)
    await refused_soon(http, url, stolen, (401, "token_withdrawn"))

    second = await kept_token(coordinator, FederationClient(ALPHA, fresh, coordinator.url))
    assert await ask(http, url, second) == (200, "")
    await coordinator.registry.revoke_key(ALPHA, fresh.kid, by="test", reason="stolen")
    await refused_soon(http, url, second, (401, "token_withdrawn"))
    async with FederationClient(ALPHA, fresh, coordinator.url) as thief:
        with pytest.raises(RemoteProblem, match="invalid_client"):
            await thief.token(COORDINATOR)

    enrolled = Bank(MemberIdentity.made(ALPHA, tmp_path / "enrolled"))
    await coordinator.registry.enrol_key(ALPHA, enrolled.signed_application(), by="test", reason="new machine")
    token = await kept_token(coordinator, coordinator.client(enrolled))
    assert await ask(http, url, token) == (200, "")
    assert await ask(http, url, second) == (401, "token_withdrawn")


async def test_a_client_that_goes_on_gets_a_new_token_by_itself(coordinator: Coordinator) -> None:
    """An operator whose key was renewed isn't kept out by the token that ended with the old one."""
    async with await coordinator.operator("alice") as old, await coordinator.operator("alice") as new:
        with pytest.raises(RemoteProblem, match="invalid_client"):
            await old.request("GET", f"{coordinator.url}/participants", audience=COORDINATOR)
        assert (await new.request("GET", f"{coordinator.url}/participants", audience=COORDINATOR)).is_success


async def test_every_replica_knows_within_a_second_or_so(
    coordinator: Coordinator, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Two replicas, one database: a step taken at the one is known at the other."""
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    async with running_coordinator(coordinator.database_url, coordinator.directory, rulebook=on_demand()) as other:
        # Both speak for one issuer; which one it is doesn't matter to what a token is good for.
        token = await kept_token(other, other.client(alpha))
        url = f"{other.url}/cycles"
        assert await ask(http, url, token) == (200, "")
        await coordinator.registry.step(ALPHA, Step.SUSPEND, by="alice", reason="test")
        await refused_soon(http, url, token, (403, "member_not_active"))
        assert await ask(http, url, await kept_token(other, other.client(bravo))) == (200, "")


async def test_nobody_signs_in_while_suspended_to_change_a_key(
    coordinator: Coordinator, http: httpx.AsyncClient
) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    await coordinator.registry.step(ALPHA, Step.SUSPEND, by="alice", reason="its key is stolen")
    new = SigningKey.generate()
    change = KeyChange(member=ALPHA, use="sign", x=new.x, replaces=alpha.identity.sign.kid)
    envelope = dsse.sign(change, alpha.identity.sign, new, payload_type=KEY_CHANGE_TYPE)
    async with coordinator.client(alpha) as thief:
        with pytest.raises(RemoteProblem) as refused:
            await thief.post(f"{coordinator.url}/participants/{ALPHA}/keys", dict, audience=COORDINATOR, json=envelope)
    assert (refused.value.status, refused.value.code) == (409, "member_inactive")
    assert [key.status for key in (await coordinator.registry.view(ALPHA)).keys if key.use == "sign"] == ["active"]
