"""Applications by invitation: who has no code for its BIC leaves nothing behind, and learns nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import text

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.limits import Prefunding
from compliance.trust import Anchor
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import MemberIdentity
from gateway.federation.membership.documents import APPLICATION_TYPE
from gateway.federation.membership.trust import TrustStore
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase
from tests.integration.running_coordinator import (
    ALPHA,
    BRAVO,
    CARLO,
    COORDINATOR,
    Bank,
    Coordinator,
    running_coordinator,
)


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def apply(coordinator: Coordinator, http: httpx.AsyncClient, envelope: Envelope) -> httpx.Response:
    return await http.post(f"{coordinator.url}/participants", json=msgspec.to_builtins(envelope))


async def all_rows(coordinator: Coordinator) -> dict[str, Any]:
    """Everything that an application could leave behind."""
    tables = ("members", "member_keys", "settlement_accounts", "invitations", "trust_lists", "events", "clients")
    async with transaction(coordinator.base.engine) as conn:
        return {
            table: (await conn.execute(text(f"SELECT json_agg(t ORDER BY t::text) FROM {table} t"))).scalar_one()
            for table in tables
        }


async def listed(coordinator: Coordinator) -> TrustStore:
    store = TrustStore(Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key))
    async with await coordinator.operator("reader") as client:
        await store.refresh(client)
    return store


async def test_without_a_good_code_nothing_is_left_and_nothing_is_said(
    coordinator: Coordinator, http: httpx.AsyncClient
) -> None:
    await coordinator.admit(ALPHA)
    code = await coordinator.invite(BRAVO)
    earlier = await coordinator.invite(CARLO)
    await coordinator.invite(CARLO)
    used = await coordinator.invite("USEDDEF0")
    assert (await apply(coordinator, http, coordinator.bank("USEDDEF0").signed_application(invitation=used))).is_success
    expired = await coordinator.invite("LATEDEF0")
    async with transaction(coordinator.base.engine) as conn:
        await conn.execute(text("UPDATE invitations SET expires_at = now() WHERE bic = 'LATEDEF0'"))
    before = await all_rows(coordinator)
    assert code not in str(before), "a code is kept as a digest only"

    answers = {
        name: await apply(coordinator, http, coordinator.bank(bic).signed_application(invitation=given))
        for name, (bic, given) in {
            "no code, a stranger": ("NEWBDEF0", None),
            "no code, invited": (BRAVO, None),
            "no code, a member": (ALPHA, None),
            "no code, the coordinator": (COORDINATOR, None),
            "an empty code": (BRAVO, ""),
            "a wrong code": (BRAVO, "x" * 27),
            "another bank's code": ("NEWBDEF0", code),
            "another bank's code, a member": (ALPHA, code),
            "the code before the last": (CARLO, earlier),
            "used": ("USEDDEF0", used),
            "expired": ("LATEDEF0", expired),
            "in capitals": (BRAVO, code.swapcase()),
        }.items()
    }
    said = {(answer.status_code, answer.json()["code"], answer.json()["detail"]) for answer in answers.values()}
    assert len(said) == 1, said
    assert next(iter(said))[:2] == (403, "invitation_refused")
    assert await all_rows(coordinator) == before
    assert (await apply(coordinator, http, coordinator.bank(BRAVO).signed_application(invitation=code))).is_success


async def test_an_applicant_is_published_to_nobody(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    before = (await listed(coordinator)).current
    code = await coordinator.invite(BRAVO)
    assert (await apply(coordinator, http, coordinator.bank(BRAVO).signed_application(invitation=code))).is_success
    async with coordinator.client(alpha) as bank:
        answer = await bank.request(
            "GET", f"{coordinator.url}/events", audience=COORDINATOR, params={"limit": 1000, "after": 0}
        )
        assert BRAVO not in answer.text
    assert (await listed(coordinator)).current == before


async def test_a_refused_applicant_leaves_nothing_behind(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    """Not even its keys: it may apply with them again, once it is invited again."""
    [alpha] = await coordinator.admit(ALPHA)
    before = await all_rows(coordinator)
    bravo = coordinator.bank(BRAVO)
    for _ in range(2):
        code = await coordinator.invite(BRAVO)
        assert (await apply(coordinator, http, bravo.signed_application(invitation=code))).is_success
        await coordinator.registry.set_cap(BRAVO, "EUR", 1, by="alice", reason="test")
        refused = await coordinator.registry.step(BRAVO, Step.LEAVE, by="alice", reason="not a bank")
        assert refused.status == "left"
        after = await all_rows(coordinator)
        assert {table: rows for table, rows in after.items() if rows != before[table]}.keys() == {"events"}
        with pytest.raises(Refusal, match="participant_unknown"):
            await coordinator.registry.view(BRAVO)
    async with coordinator.client(alpha) as bank:
        answer = await bank.request("GET", f"{coordinator.url}/events", audience=COORDINATOR, params={"limit": 1000})
        # The cap's event is for the bank itself.
        assert BRAVO not in answer.text


async def test_a_bank_that_left_returns_with_new_keys(
    coordinator: Coordinator, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    [old] = await coordinator.admit(ALPHA)
    for step in (Step.SUSPEND, Step.LEAVE):
        await coordinator.registry.step(ALPHA, step, by="alice", reason="merged")
    left = (await listed(coordinator)).member(ALPHA)
    assert left is not None
    assert {key.status for key in left.keys} == {"retired"}

    # With the keys that it left with, by whoever has them since, nobody returns.
    code = await coordinator.invite(ALPHA)
    again = await apply(coordinator, http, old.signed_application(invitation=code))
    assert (again.status_code, again.json()["code"]) == (409, "key_known")

    new = Bank(MemberIdentity.made(ALPHA, tmp_path / "new"))
    assert (await apply(coordinator, http, new.signed_application(invitation=code))).is_success
    # Until somebody has approved it, it is what it was, and signs in nowhere.
    assert (await coordinator.registry.view(ALPHA)).status == "applied"
    await coordinator.admit(BRAVO)
    assert (await listed(coordinator)).member(ALPHA) == left
    async with coordinator.client(new) as bank:
        with pytest.raises(Exception, match="unauthorized_client"):
            await bank.token(COORDINATOR)
    # Refused, it has left, as before.
    await coordinator.registry.step(ALPHA, Step.LEAVE, by="alice", reason="not yet")
    await coordinator.admit(CARLO)
    assert (await listed(coordinator)).member(ALPHA) == left

    code = await coordinator.invite(ALPHA)
    assert (await apply(coordinator, http, new.signed_application(invitation=code))).is_success
    for step in (Step.APPROVE, Step.ACTIVATE):
        await coordinator.registry.step(ALPHA, step, by="alice", reason="is back")
    store = await listed(coordinator)
    assert set(store.signing_keys(ALPHA)) == {new.identity.sign.kid}
    assert set(store.signing_keys(ALPHA, retired=True)) == {new.identity.sign.kid, old.identity.sign.kid}
    async with coordinator.client(new) as bank, coordinator.client(old) as former:
        assert await bank.token(COORDINATOR)
        with pytest.raises(Exception, match="invalid_client"):
            await former.token(COORDINATOR)


async def test_a_bank_that_returns_may_owe_nothing_until_operators_say_so(
    coordinator: Coordinator, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Whoever approved its old caps approved another bank's: what it may owe is set anew, and the log tells of it."""
    await coordinator.admit(ALPHA)
    registry = coordinator.registry
    await registry.set_cap(ALPHA, "EUR", 500, by="alice", reason="its liquidity then")
    prefunding = Prefunding(participant=ALPHA, currency="EUR", prefunded_minor="900", reserved_minor="100")
    await registry.set_prefunding(prefunding, by="alice", reason="paid in")
    for step in (Step.SUSPEND, Step.LEAVE):
        await registry.step(ALPHA, step, by="alice", reason="merged")

    new = Bank(MemberIdentity.made(ALPHA, tmp_path / "new"))
    code = await coordinator.invite(ALPHA)
    assert (await apply(coordinator, http, new.signed_application(invitation=code))).is_success
    for step in (Step.APPROVE, Step.ACTIVATE):
        await registry.step(ALPHA, step, by="alice", reason="is back")
    back = await registry.view(ALPHA)
    assert [(cap.currency, cap.cap_minor) for cap in back.caps] == [("EUR", "0")]
    assert [(one.prefunded_minor, one.reserved_minor) for one in back.prefunding] == [("0", "0")]
    async with registry._transaction() as conn:
        query = "SELECT data->>'cap_minor' FROM events WHERE type = 'cap.changed' AND data->>'bic' = :bic ORDER BY id"
        told = (await conn.execute(text(query), {"bic": ALPHA})).scalars().all()
    assert told == ["500", "0"]


async def test_an_application_is_whose_key_signed_it(coordinator: Coordinator, http: httpx.AsyncClient) -> None:
    """A stolen code doesn't let a thief in under the bank's application, nor change what the bank wrote."""
    code = await coordinator.invite(BRAVO)
    bravo = coordinator.bank(BRAVO)
    application = msgspec.structs.replace(bravo.application(), invitation=code)
    forged = dsse.sign(application, SigningKey.generate(), payload_type=APPLICATION_TYPE)
    answer = await apply(coordinator, http, forged)
    assert (answer.status_code, answer.json()["code"]) == (422, "signature_refused")
    assert (await apply(coordinator, http, bravo.signed_application(invitation=code))).is_success
