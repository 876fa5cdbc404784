"""Participants over HTTP: applying, being moved along, caps, accounts, keys, and the trust list that follows."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from running_coordinator import AGENT, ALPHA, BRAVO, CARLO, COORDINATOR, Coordinator, on_demand, running_coordinator
from sqlalchemy import text

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import Act, ActKind
from compliance.trust import Anchor
from gateway.coordinator.app import CoordinatorCore
from gateway.coordinator.log import events
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.membership.documents import APPLICATION_TYPE, KEY_CHANGE_TYPE, KeyChange, OfferedKey
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.events import Events
from gateway.federation.messages.limits import BilateralLimitView, PrefundingView
from gateway.federation.messages.participants import ParticipantPage, ParticipantView
from gateway.federation.problems import Refusal
from gateway.federation.storage.database import transaction
from tests.conftest import NewDatabase


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        yield running


@pytest.fixture
async def operator(coordinator: Coordinator) -> AsyncIterator[FederationClient]:
    async with await coordinator.operator() as client:
        yield client


@pytest.fixture
async def anyone() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def trust(coordinator: Coordinator) -> TrustStore:
    return TrustStore(Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key))


async def post(client: FederationClient, url: str, body: Any) -> ParticipantView:
    return await client.post(url, ParticipantView, audience=COORDINATOR, json=body)


async def refused(client: FederationClient, method: str, url: str, body: Any) -> tuple[int, str]:
    with pytest.raises(RemoteProblem) as problem:
        await client.request(method, url, audience=COORDINATOR, json=body)
    return problem.value.status, problem.value.code


async def refused_act(coordinator: Coordinator, kind: ActKind, subject: str, **terms: str) -> tuple[int, str]:
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.propose_act(kind, subject, **terms)
    return problem.value.status, problem.value.code


async def apply(coordinator: Coordinator, envelope: Envelope) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as http:
        body = {
            "payload": envelope.payload,
            "payloadType": envelope.payloadType,
            "signatures": [{"keyid": s.keyid, "sig": s.sig} for s in envelope.signatures],
        }
        return await http.post(f"{coordinator.url}/participants", json=body)


async def test_a_participants_whole_life(coordinator: Coordinator, operator: FederationClient) -> None:
    store, base = trust(coordinator), f"{coordinator.url}/participants/{ALPHA}"
    await store.refresh(operator)
    invited = coordinator.bank(ALPHA).signed_application(invitation=await coordinator.invite(ALPHA))
    assert (await apply(coordinator, invited)).status_code == 201
    await store.refresh(operator)
    assert store.member(ALPHA) is None

    for step, status in [
        (ActKind.MEMBER_APPROVE, "approved"),
        (ActKind.MEMBER_ACTIVATE, "active"),
        (ActKind.MEMBER_SUSPEND, "suspended"),
        (ActKind.MEMBER_ACTIVATE, "active"),
        (ActKind.MEMBER_SUSPEND, "suspended"),
        (ActKind.MEMBER_LEAVE, "left"),
    ]:
        before = store.current.version
        await coordinator.decided(step, ALPHA)
        assert (await operator.get(base, ParticipantView, audience=COORDINATOR)).status == status
        assert await store.refresh(operator)
        member = store.member(ALPHA)
        assert member is not None
        assert (member.status, store.current.version) == (status, before + 1)
    assert await refused_act(coordinator, ActKind.MEMBER_ACTIVATE, ALPHA) == (409, "step_illegal")

    seen = await operator.get(f"{coordinator.url}/events", Events, audience=COORDINATOR, params={"limit": 1000})
    moves = [e.data["status"] for e in seen.events if e.type == "participant.changed" and e.data["bic"] == ALPHA]
    assert moves == ["applied", "approved", "active", "suspended", "active", "suspended", "left"]
    acts = [e.data for e in seen.events if e.type == "operator.acted" and e.data["subject"] == ALPHA]
    assert (acts[0]["by"], acts[0]["action"]) == ("test", "invite")
    assert [(act["by"], act["reason"]) for act in acts[1:]] == [("alice, bob", "test")] * 6
    async with transaction(coordinator.base.engine) as conn:
        assert await events.verify_chain(conn) == len(seen.events)


async def test_applications_that_prove_nothing(coordinator: Coordinator, operator: FederationClient) -> None:
    alpha = coordinator.bank(ALPHA)
    application = msgspec.structs.replace(alpha.application(), invitation=await coordinator.invite(ALPHA))

    def signed(document: Any, key: SigningKey, payload_type: str = APPLICATION_TYPE) -> Envelope:
        return dsse.sign(document, key, payload_type=payload_type)

    one_key = OfferedKey(use="sign", x=alpha.identity.sign.x)
    twice = (one_key, OfferedKey(use="auth", x=alpha.identity.sign.x))
    change = msgspec.structs.replace
    auth_x = alpha.identity.auth.x
    # The same 32 bytes in another spelling would give the key a second name.
    bad_token = OfferedKey(use="token", x=auth_x[:-1] + chr(ord(auth_x[-1]) + 1))
    respelt = (one_key, OfferedKey(use="auth", x=auth_x[:-1] + chr(ord(auth_x[-1]) + 1)))
    for envelope, status, code in [
        (signed(application, SigningKey.generate()), 422, "signature_refused"),
        (signed(application, alpha.identity.auth), 422, "signature_refused"),
        (signed(application, alpha.identity.sign, KEY_CHANGE_TYPE), 422, "signature_refused"),
        (dsse.seal(b"{}", APPLICATION_TYPE, alpha.identity.sign), 422, "signature_refused"),
        (dsse.seal(b"\xff", APPLICATION_TYPE, alpha.identity.sign), 422, "signature_refused"),
        (signed(change(application, keys=(one_key,)), alpha.identity.sign), 422, "signature_refused"),
        (signed(change(application, keys=(one_key, one_key)), alpha.identity.sign), 422, "keys_incomplete"),
        (signed(change(application, keys=twice), alpha.identity.sign), 422, "keys_incomplete"),
        (signed(change(application, keys=respelt), alpha.identity.sign), 422, "signature_refused"),
        (
            signed(change(application, keys=(*application.keys, bad_token)), alpha.identity.sign),
            422,
            "signature_refused",
        ),
        (signed(change(application, name="A\x00B"), alpha.identity.sign), 422, "signature_refused"),
        (signed(change(application, url="ftp://a"), alpha.identity.sign), 422, "signature_refused"),
    ]:
        answer = await apply(coordinator, envelope)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await apply(coordinator, signed(application, alpha.identity.sign))).status_code == 201
    again = await apply(coordinator, signed(application, alpha.identity.sign))
    assert (again.status_code, again.json()["code"]) == (403, "invitation_refused")
    assert await refused(operator, "POST", f"{coordinator.url}/participants/{ALPHA}/invitation", {"reason": "r"}) == (
        409,
        "participant_exists",
    )
    # A key has one owner: nobody applies with another's.
    thief = msgspec.structs.replace(
        alpha.application(account=None), bic=BRAVO, invitation=await coordinator.invite(BRAVO)
    )
    stolen = await apply(coordinator, signed(thief, alpha.identity.sign))
    assert (stolen.status_code, stolen.json()["code"]) == (409, "key_known")
    page = await operator.get(f"{coordinator.url}/participants", ParticipantPage, audience=COORDINATOR)
    assert [item.bic for item in page.items] == [ALPHA]


async def test_activation_needs_a_settlement_account(coordinator: Coordinator, operator: FederationClient) -> None:
    base = f"{coordinator.url}/participants/{ALPHA}"
    code = await coordinator.invite(ALPHA)
    await apply(coordinator, coordinator.bank(ALPHA).signed_application(account=None, invitation=code))
    await coordinator.decided(ActKind.MEMBER_APPROVE, ALPHA)
    assert await refused_act(coordinator, ActKind.MEMBER_ACTIVATE, ALPHA) == (409, "activation_incomplete")
    account = {"agent": AGENT, "account": "ACC-1"}
    await coordinator.decided(ActKind.SETTLEMENT_ACCOUNT, ALPHA, **account)
    view = await operator.get(base, ParticipantView, audience=COORDINATOR)
    assert view.settlement_account == f"{AGENT}/ACC-1"
    await coordinator.decided(ActKind.MEMBER_ACTIVATE, ALPHA)
    await coordinator.admit(BRAVO)
    assert await refused_act(coordinator, ActKind.SETTLEMENT_ACCOUNT, BRAVO, **account) == (409, "account_taken")


async def test_caps(coordinator: Coordinator, operator: FederationClient) -> None:
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    base = f"{coordinator.url}/participants/{ALPHA}"
    for cap in ("0", "9" * 38):
        await coordinator.decided(ActKind.CAP, ALPHA, currency="EUR", cap_minor=cap)
        view = await operator.get(base, ParticipantView, audience=COORDINATOR)
        assert [(item.currency, item.cap_minor) for item in view.caps] == [("EUR", cap)]
    for currency, cap, expected in [
        ("XAU", "1", (422, "currency_unknown")),
        ("eur", "1", (422, "act_malformed")),
        ("EUR", "-1", (422, "act_malformed")),
        ("EUR", "1.5", (422, "act_malformed")),
        ("EUR", "NaN", (422, "act_malformed")),
        ("EUR", "1e5", (422, "act_malformed")),
    ]:
        terms = {"currency": currency, "cap_minor": cap}
        assert await refused_act(coordinator, ActKind.CAP, ALPHA, **terms) == expected, (currency, cap)
    assert await refused_act(coordinator, ActKind.CAP, ALPHA, cap_minor="1") == (422, "act_malformed")
    more = {"currency": "EUR", "cap_minor": "1", "x": "1"}
    assert await refused_act(coordinator, ActKind.CAP, ALPHA, **more) == (422, "act_malformed")

    async with coordinator.client(alpha) as own, coordinator.client(bravo) as other:
        assert (await own.get(base, ParticipantView, audience=COORDINATOR)).caps
        seen = await other.get(base, ParticipantView, audience=COORDINATOR)
        assert (seen.caps, seen.settlement_account, seen.last_seen_at) == ((), None, None)


async def test_prefunding(coordinator: Coordinator, operator: FederationClient) -> None:
    await coordinator.admit(ALPHA)
    base = f"{coordinator.url}/participants/{ALPHA}"
    terms = {"currency": "EUR", "prefunded_minor": "500", "reserved_minor": "20"}
    await coordinator.decided(ActKind.PREFUNDING, ALPHA, **terms)
    view = await operator.get(base, ParticipantView, audience=COORDINATOR)
    assert view.prefunding == (PrefundingView(currency="EUR", prefunded_minor="500", reserved_minor="20"),)
    await coordinator.decided(ActKind.PREFUNDING, ALPHA, currency="EUR", prefunded_minor="0")
    view = await operator.get(base, ParticipantView, audience=COORDINATOR)
    assert view.prefunding == (PrefundingView(currency="EUR", prefunded_minor="0", reserved_minor="0"),)
    terms = {"currency": "XAU", "prefunded_minor": "0"}
    assert await refused_act(coordinator, ActKind.PREFUNDING, ALPHA, **terms) == (422, "currency_unknown")


async def test_a_participant_limits_what_others_may_owe_it(
    coordinator: Coordinator, operator: FederationClient
) -> None:
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    base = f"{coordinator.url}/participants/{ALPHA}"
    of_bravo = f"{base}/bilateral-limits/{BRAVO}/EUR"
    body = {"limit_minor": "700", "reason": "its rating"}
    async with coordinator.client(alpha) as own, coordinator.client(bravo) as other:
        view = await own.put(of_bravo, ParticipantView, audience=COORDINATOR, json=body)
        assert view.bilateral_limits == (BilateralLimitView(counterparty=BRAVO, currency="EUR", limit_minor="700"),)
        assert await refused(other, "PUT", of_bravo, body) == (403, "not_yours")
        assert (await other.get(base, ParticipantView, audience=COORDINATOR)).bilateral_limits == ()
        assert await refused(operator, "PUT", of_bravo, body) == (403, "role_not_allowed")
        await coordinator.decided(ActKind.BILATERAL_LIMIT, ALPHA, counterparty=BRAVO, currency="EUR")
        assert (await own.get(base, ParticipantView, audience=COORDINATOR)).bilateral_limits == ()
        # Who has applied is known to operators alone: the answer is that of one who hasn't.
        code = await coordinator.invite("CHARDEFF")
        await apply(coordinator, coordinator.bank("CHARDEFF").signed_application(invitation=code))
        for counterparty in (ALPHA, AGENT, "NOBODY00", "CHARDEFF"):
            url = f"{base}/bilateral-limits/{counterparty}/EUR"
            assert await refused(own, "PUT", url, body) == (404, "participant_unknown"), counterparty
        assert await refused(own, "PUT", f"{base}/bilateral-limits/{BRAVO}/XAU", body) == (422, "currency_unknown")


@pytest.mark.parametrize("bic", [AGENT, COORDINATOR])
@pytest.mark.usefixtures("operator")
async def test_what_is_a_participants_is_set_for_nobody_else(coordinator: Coordinator, bic: str) -> None:
    await coordinator.admit(ALPHA)
    unknown, eur = (404, "participant_unknown"), {"currency": "EUR"}
    assert await refused_act(coordinator, ActKind.CAP, bic, **eur, cap_minor="1") == unknown
    assert await refused_act(coordinator, ActKind.PREFUNDING, bic, **eur, prefunded_minor="1") == unknown
    limit = {**eur, "counterparty": ALPHA, "limit_minor": "1"}
    assert await refused_act(coordinator, ActKind.BILATERAL_LIMIT, bic, **limit) == unknown
    account = {"agent": AGENT, "account": "ACC-9"}
    assert await refused_act(coordinator, ActKind.SETTLEMENT_ACCOUNT, bic, **account) == unknown
    key = await refused_act(coordinator, ActKind.KEY_REVOKE, ALPHA, kid="\x00")
    assert key == (422, "act_malformed")


async def test_only_operators_operate(
    coordinator: Coordinator, operator: FederationClient, anyone: httpx.AsyncClient
) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    base = f"{coordinator.url}/participants/{ALPHA}"
    async with coordinator.client(alpha) as bank, await coordinator.operator("rita", "auditor") as auditor:
        suspension = coordinator.deciding("alice").act(Act(kind=ActKind.MEMBER_SUSPEND, subject=ALPHA), reason="r")
        for client in (bank, auditor):
            assert await refused(client, "POST", f"{coordinator.url}/proposals", suspension) == (
                403,
                "role_not_allowed",
            )
        assert (await auditor.get(base, ParticipantView, audience=COORDINATOR)).bic == ALPHA
    assert (await anyone.get(base)).json()["code"] == "token_missing"
    assert (await anyone.post(f"{coordinator.url}/proposals", json={"reason": "r"})).status_code == 401
    for body in ({}, {"act": {"kind": "explode", "subject": ALPHA}, "reason": "r"}):
        assert await refused(operator, "POST", f"{coordinator.url}/proposals", body) == (400, "validation_failed")
    assert await refused_act(coordinator, ActKind.MEMBER_SUSPEND, CARLO) == (404, "participant_unknown")
    assert await refused_act(coordinator, ActKind.MEMBER_SUSPEND, COORDINATOR) == (409, "step_illegal")
    # One operator alone moves nobody: what had been done by one call is gone.
    for method, path in (("POST", "suspend"), ("PUT", "caps/EUR"), ("PUT", "settlement-account")):
        assert (await refused(operator, method, f"{base}/{path}", {"reason": "r"}))[0] == 404


async def test_changing_keys(coordinator: Coordinator) -> None:
    alpha, bravo = await coordinator.admit(ALPHA, BRAVO)
    url, store = f"{coordinator.url}/participants/{ALPHA}/keys", trust(coordinator)
    old, new = alpha.identity.sign, SigningKey.generate()
    rotation = KeyChange(member=ALPHA, use="sign", x=new.x, replaces=old.kid)

    def signed(change: KeyChange, *keys: SigningKey) -> Envelope:
        return dsse.sign(change, *keys, payload_type=KEY_CHANGE_TYPE)

    async with coordinator.client(alpha) as bank, coordinator.client(bravo) as other:
        for envelope, expected in [
            (signed(rotation, old), (422, "signature_refused")),
            (signed(rotation, new), (422, "signature_refused")),
            (signed(rotation, new, alpha.identity.auth), (422, "signature_refused")),
            (signed(KeyChange(member=BRAVO, use="sign", x=new.x), old, new), (403, "not_yours")),
            (
                signed(KeyChange(member=ALPHA, use="sign", x=new.x, replaces="x" * 43), old, new),
                (409, "key_unknown"),
            ),
            (
                signed(KeyChange(member=ALPHA, use="sign", x=new.x, replaces="\x00"), old, new),
                (422, "signature_refused"),
            ),
            (
                signed(KeyChange(member=ALPHA, use="auth", x=bravo.identity.auth.x), old, bravo.identity.auth),
                (409, "key_known"),
            ),
        ]:
            assert await refused(bank, "POST", url, envelope) == expected
        assert await refused(other, "POST", url, signed(rotation, old, new)) == (403, "not_yours")

        view = await post(bank, url, signed(rotation, old, new))
        assert {key.kid: key.status for key in view.keys if key.use == "sign"} == {
            old.kid: "retired",
            new.kid: "active",
        }
        await store.refresh(bank)
        assert set(store.signing_keys(ALPHA)) == {new.kid}
        assert set(store.signing_keys(ALPHA, retired=True)) == {old.kid, new.kid}
        # Said again, or by the old key, it is refused.
        assert await refused(bank, "POST", url, signed(rotation, old, new)) == (409, "key_known")
        newer = SigningKey.generate()
        by_the_old = signed(KeyChange(member=ALPHA, use="sign", x=newer.x, replaces=new.kid), old, newer)
        assert await refused(bank, "POST", url, by_the_old) == (422, "signature_refused")

        # An auth key is replaced by the sign key's word; the old one opens nothing any more.
        fresh = SigningKey.generate()
        change = KeyChange(member=ALPHA, use="auth", x=fresh.x, replaces=alpha.identity.auth.kid)
        await post(bank, url, signed(change, new, fresh))
    async with coordinator.client(alpha) as locked_out, FederationClient(ALPHA, fresh, coordinator.url) as bank:
        with pytest.raises(RemoteProblem, match="invalid_client"):
            await locked_out.token(COORDINATOR)
        assert await bank.token(COORDINATOR)


async def test_pages(coordinator: Coordinator, operator: FederationClient) -> None:
    await coordinator.admit(CARLO, ALPHA, BRAVO)
    url, found, cursor = f"{coordinator.url}/participants", [], None
    while True:
        page = await operator.get(url, ParticipantPage, audience=COORDINATOR, params={"limit": 1, "cursor": cursor})
        found += [item.bic for item in page.items]
        if page.next is None:
            break
        cursor = page.next
    assert found == [ALPHA, BRAVO, CARLO]
    with pytest.raises(RemoteProblem) as problem:
        await operator.get(url, ParticipantPage, audience=COORDINATOR, params={"cursor": "nonsense"})
    assert (problem.value.status, problem.value.code) == (400, "cursor_malformed")


async def test_a_restart_keeps_the_keys_and_publishes_a_new_address(new_database: NewDatabase, tmp_path: Path) -> None:
    url = await new_database("gateway.coordinator")
    async with running_coordinator(url, tmp_path) as first, await first.operator() as operator:
        store = trust(first)
        await store.refresh(operator)
        assert [(m.bic, m.kind, m.status, m.url) for m in store.current.members] == [
            (COORDINATOR, "coordinator", "active", first.url)
        ]
    async with running_coordinator(url, tmp_path, rulebook=on_demand(version="next")) as second:
        async with await second.operator("bob") as operator:
            await store.refresh(operator)
        assert store.current.issuer == second.url != first.url
        async with transaction(second.base.engine) as conn:
            assert (await conn.execute(text("SELECT count(*) FROM rulebooks"))).scalar_one() == 2
    MemberIdentity.made(COORDINATOR, tmp_path / "elsewhere" / "keys")
    stranger = CoordinatorCore.open(
        dataclasses.replace(first.settings, data_dir=tmp_path / "elsewhere"), url, on_demand()
    )
    with pytest.raises(Refusal, match="key_unknown"):
        await stranger.register_itself("Another clearing house")
    await stranger.engine.dispose()


async def test_one_person_has_one_name(coordinator: Coordinator) -> None:
    await coordinator.client_key("alice", "operator")
    for spelling in ("Alice", " alice", "\uff41lice"):
        with pytest.raises(Refusal) as refusal:
            await coordinator.client_key(spelling, "auditor")
        assert (refusal.value.reason, refusal.value.status) == ("name_taken", 409)
    # The very name gets a new key.
    await coordinator.client_key("alice", "operator")
