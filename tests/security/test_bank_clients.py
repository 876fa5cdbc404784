"""Clients of a bank sign in at its own token endpoint: whom it believes, for what, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from running_banks import RunningBank, Town, order
from running_coordinator import ALPHA, BRAVO

from compliance.crypto.keys import SigningKey
from gateway.federation.http.client import ASSERTION_GRANT, FederationClient, RemoteProblem
from gateway.federation.identity.tokens import client_assertion
from participants.access import clients
from participants.access.clients import ClientError
from participants.access.sign_in import LOOK_SECONDS
from participants.api import events
from participants.api.messages import PaymentPage
from participants.ledger.events import PaymentOrder
from participants.payments.orders import OrderOutcome
from participants.roles import Role, Scope

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def let_in(bank: RunningBank, name: str, *roles: Role, **options: Any) -> SigningKey:
    key = options.pop("key", None) or SigningKey.generate()
    async with bank.node.pool.acquire() as connection:
        await clients.register(connection, name, key.verifying_key, roles, by="tess", **options)
    return key


async def ask(bank: RunningBank, name: str, key: SigningKey, **changes: Any) -> httpx.Response:
    """Ask for a token; `assertion` and the fields of the form may be other ones."""
    assertion = changes.pop("assertion", None) or client_assertion(key=key, client_id=name, audience=bank.settings.url)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_GRANT,
        "client_assertion": assertion,
        "resource": bank.bic,
        **changes,
    }
    return await bank.http.post(f"{bank.settings.url}/oauth/token", data=form)


async def token_of(bank: RunningBank, name: str, key: SigningKey, **changes: Any) -> str:
    answer = await ask(bank, name, key, **changes)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error") or answer.json()["code"]


async def test_a_machine_signs_in_and_pays(town: Town) -> None:
    key = await let_in(town.alpha, "erp", Role.ORDERS)
    async with FederationClient("erp", key, town.alpha.settings.url) as client:
        terms = PaymentOrder(**order(10))
        outcome = await client.post(f"{client.issuer}/payments", OrderOutcome, audience=ALPHA, json=terms)
        assert outcome.status == "reserved"
        page = await client.get(f"{client.issuer}/payments", PaymentPage, audience=ALPHA)
        assert terms.id in {payment.id for payment in page.items}
        with pytest.raises(RemoteProblem, match="role_not_allowed"):
            await client.get(f"{client.issuer}/accounts", object, audience=ALPHA)


async def test_who_ordered_by_a_client_cant_release_by_another_role_of_it(town: Town) -> None:
    """One name is one person, whatever its roles: the journal has the client's name as who made the order."""
    key = await let_in(town.alpha, "both", Role.ORDERS, Role.SCREENING)
    token = await token_of(town.alpha, "both", key, scope="orders")
    sent = await town.alpha.send("POST", "/payments", order(10), token=token)
    assert sent.status_code == 201
    assert told(await town.alpha.send("GET", "/holds", token=token)) == (403, "role_not_allowed")
    other = await token_of(town.alpha, "both", key, scope="screening")
    assert (await town.alpha.send("GET", "/holds", token=other)).status_code == 200


@pytest.mark.parametrize(
    ("roles", "scopes", "asked", "error"),
    [
        ((Role.ORDERS,), (), "screening", "invalid_scope"),
        ((Role.ORDERS,), (), "orders payments", "invalid_scope"),
        ((Role.ORDERS, Role.LISTS), (), "", "invalid_scope"),
        ((Role.READ,), (Scope.PAYMENTS,), "read accounts", "invalid_scope"),
        ((Role.READ,), (Scope.PAYMENTS,), "read payments accounts", "invalid_scope"),
        ((Role.READ,), (), "read everything", "invalid_scope"),
        ((Role.READ,), (), "operator", "invalid_scope"),
    ],
)
async def test_nobody_gets_more_than_was_granted(
    town: Town, roles: Sequence[Role], scopes: Sequence[Scope], asked: str, error: str
) -> None:
    name = f"greedy-{abs(hash((tuple(roles), tuple(scopes), asked)))}"
    key = await let_in(town.alpha, name, *roles, scopes=scopes)
    assert told(await ask(town.alpha, name, key, **({"scope": asked} if asked else {}))) == (400, error)


async def test_a_reader_sees_the_books_it_was_given(town: Town) -> None:
    key = await let_in(town.alpha, "auditor", Role.READ, scopes=(Scope.PAYMENTS,))
    for asked in ({}, {"scope": "read"}, {"scope": "read payments"}):
        token = await token_of(town.alpha, "auditor", key, **asked)
        assert (await town.alpha.send("GET", "/payments", token=token)).status_code == 200
        assert told(await town.alpha.send("GET", "/accounts", token=token)) == (403, "scope_not_allowed")


async def test_an_assertion_counts_once_here_and_soon_not_at_all(town: Town) -> None:
    alpha = town.alpha
    key = await let_in(alpha, "once", Role.READ)

    def assertion(**changes: Any) -> str:
        return client_assertion(**{"key": key, "client_id": "once", "audience": alpha.settings.url, **changes})

    used = assertion()
    assert (await ask(alpha, "once", key, assertion=used)).status_code == 200
    for wrong in (
        used,
        assertion(now=datetime.now(UTC).timestamp() - 61),
        assertion(audience=town.bravo.settings.url),
        assertion(audience=town.coordinator.url),
        assertion(key=SigningKey.generate()),
        assertion(client_id="nobody"),
        assertion(client_id=BRAVO, key=town.bravo.node.identity.auth),
        town.assertion(BRAVO, ALPHA),
        await token_of(alpha, "once", key),
    ):
        assert told(await ask(alpha, "once", key, assertion=wrong)) == (401, "invalid_client")
    assert told(await ask(alpha, "once", key, resource=BRAVO)) == (400, "invalid_target")
    assert told(await ask(alpha, "once", key, resource="")) == (400, "invalid_target")
    assert told(await ask(town.bravo, "once", key)) == (401, "invalid_client")


async def test_who_is_revoked_is_out_and_so_is_every_token_of_before(town: Town) -> None:
    alpha = town.alpha
    key, spare = await let_in(alpha, "leaver", Role.ORDERS), await let_in(alpha, "leaver", Role.ORDERS)
    token, kept = await token_of(alpha, "leaver", key), await token_of(alpha, "leaver", spare)
    assert (await alpha.send("POST", "/payments", order(1), token=token)).status_code == 201
    async with alpha.node.pool.acquire() as connection:
        await clients.revoke(connection, "leaver", kid=key.kid, by="tess", reason="test")
        with pytest.raises(ClientError):
            await clients.revoke(connection, "leaver", kid=key.kid, by="tess", reason="again")
    assert told(await ask(alpha, "leaver", key)) == (401, "invalid_client")
    async with asyncio.timeout(LOOK_SECONDS * 6):
        # By the short way and by the framework's.
        for path in ("/payments", "/payments/batch"):
            while (await alpha.send("POST", path, order(1), token=token)).status_code != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    assert told(await alpha.send("GET", "/payments", token=token)) == (401, "token_withdrawn")
    assert (await alpha.send("GET", "/payments", token=kept)).status_code == 200


async def test_who_is_revoked_hears_nothing_more(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has begun ends, though its token would be good for minutes yet."""
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.2)
    alpha = town.alpha
    key = await let_in(alpha, "listener", Role.EVENTS)
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {await token_of(alpha, 'listener', key)}"}
    url = f"{alpha.settings.url}/events?after={(await alpha.get('/events'))['head']}"
    async with alpha.http.stream("GET", url, headers=headers) as answer, asyncio.timeout(LOOK_SECONDS * 6):
        lines = answer.aiter_lines()
        assert await anext(lines) == "retry: 1000"
        async with alpha.node.pool.acquire() as connection:
            await clients.revoke(connection, "listener", by="tess", reason="test")
        assert [line async for line in lines if line.startswith("data:")] == []


async def test_a_key_ends_when_it_was_said_to_and_its_tokens_with_it(town: Town) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=60)
    key = await let_in(town.alpha, "guest", Role.READ, expires_at=ends)
    answer = await ask(town.alpha, "guest", key)
    assert 0 < answer.json()["expires_in"] <= 60
    with pytest.raises(ClientError, match="is over"):
        await let_in(town.alpha, "late", Role.READ, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    soon = datetime.now(UTC) + timedelta(seconds=1)
    brief = await let_in(town.alpha, "brief", Role.READ, expires_at=soon)
    async with asyncio.timeout(20):
        while (await ask(town.alpha, "brief", brief)).status_code != 401:  # noqa: ASYNC110 - time passes
            await asyncio.sleep(0.2)


async def test_a_key_has_one_owner_for_good(town: Town) -> None:
    """Else one holder would be two people: he orders under one name and releases under the other."""
    alpha = town.alpha
    key = await let_in(alpha, "dora", Role.ORDERS)
    for name in ("dora", "erik"):
        with pytest.raises(ClientError, match="once and for all"):
            await let_in(alpha, name, Role.SCREENING, key=key)
    async with alpha.node.pool.acquire() as connection:
        await clients.revoke(connection, "dora", by="tess", reason="test")
    with pytest.raises(ClientError, match="once and for all"):
        await let_in(alpha, "dora", Role.ORDERS, key=key)


async def test_the_endpoint_says_where_and_by_which_keys(town: Town) -> None:
    url = town.alpha.settings.url
    metadata = (await town.alpha.http.get(f"{url}/.well-known/oauth-authorization-server")).json()
    assert (metadata["issuer"], metadata["token_endpoint"]) == (url, f"{url}/oauth/token")
    (key,) = (await town.alpha.http.get(metadata["jwks_uri"])).json()["keys"]
    assert key["kid"] == town.alpha.node.identity.token.kid
