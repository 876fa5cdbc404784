"""Keys that nobody or everybody can sign for are refused wherever one comes in; two operators end a stolen key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, Signature
from compliance.crypto.keys import SigningKey, b64url
from compliance.statements import ActKind, Member, TrustKey, TrustList
from compliance.trust import Anchor, Signers
from gateway.coordinator.registry.lifecycle import Step
from gateway.federation.http.client import FederationClient, MemberIdentity, RemoteProblem
from gateway.federation.membership.documents import APPLICATION_TYPE, KEY_CHANGE_TYPE, KeyChange, OfferedKey
from gateway.federation.membership.trust import TrustStore
from gateway.federation.messages.participants import ParticipantView
from gateway.federation.problems import Refusal
from tests.conftest import NewDatabase
from tests.integration.running_coordinator import ALPHA, BRAVO, COORDINATOR, Bank, Coordinator, running_coordinator

P = 2**255 - 19
WEAK = {
    "small order": b64url((1).to_bytes(32, "little")),
    "not canonical": b64url((P + 3).to_bytes(32, "little")),
    "off the curve": b64url((2).to_bytes(32, "little")),
}
# Verifies for every message under the neutral element: R is that element, S is 0.
FORGED = b64url((1).to_bytes(32, "little") + bytes(32))


@pytest.fixture
async def coordinator(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with running_coordinator(await new_database("gateway.coordinator"), tmp_path) as running:
        yield running


async def listed(coordinator: Coordinator) -> TrustStore:
    store = TrustStore(Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key))
    async with FederationClient("NOBODY00", SigningKey.generate(), coordinator.url) as client:
        await store.refresh(client)
    return store


async def refused(client: FederationClient, url: str, body: object) -> tuple[int, str]:
    with pytest.raises(RemoteProblem) as problem:
        await client.post(
            url, ParticipantView, audience=None if url.endswith("participants") else COORDINATOR, json=body
        )
    return problem.value.status, problem.value.code


@pytest.mark.parametrize("x", WEAK.values(), ids=WEAK)
async def test_wherever_a_key_comes_in(coordinator: Coordinator, x: str) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    bravo = coordinator.bank(BRAVO)
    code = await coordinator.invite(BRAVO)
    sign = bravo.identity.sign
    async with coordinator.client(alpha) as client:
        # An application, whose other key is good, and one that is signed by nobody.
        good = msgspec.structs.replace(bravo.application(), invitation=code)
        for use, other in (("auth", "sign"), ("sign", "auth")):
            keys = (OfferedKey(use=use, x=x), OfferedKey(use=other, x=sign.x))
            envelope = dsse.sign(msgspec.structs.replace(good, keys=keys), sign, payload_type=APPLICATION_TYPE)
            assert await refused(client, f"{coordinator.url}/participants", envelope) == (422, "key_refused")

        # A key change, countersigned as anybody could for the neutral element.
        change = KeyChange(member=ALPHA, use="sign", x=x, replaces=alpha.identity.sign.kid)
        envelope = dsse.sign(change, alpha.identity.sign, payload_type=KEY_CHANGE_TYPE)
        both = msgspec.structs.replace(envelope, signatures=(*envelope.signatures, Signature("k", FORGED + "==")))
        assert await refused(client, f"{coordinator.url}/participants/{ALPHA}/keys", envelope) == (422, "key_refused")
        assert (await refused(client, f"{coordinator.url}/participants/{ALPHA}/keys", both))[0] == 422

    with pytest.raises(Refusal) as refusal:
        await coordinator.registry.add_client("mallory", "operator", x, by="test")
    assert refusal.value.reason == "key_refused"
    with pytest.raises(RemoteProblem) as problem:
        await coordinator.decided(ActKind.CLIENT_LET_IN, "mallory", role="operator", x=x)
    assert problem.value.code in ("act_malformed", "key_refused")
    weak = (OfferedKey(use="auth", x=x), OfferedKey(use="sign", x=sign.x))
    application = msgspec.structs.replace(alpha.application(), keys=weak)
    envelope = dsse.sign(application, sign, payload_type=APPLICATION_TYPE)
    with pytest.raises(Refusal) as refusal:
        await coordinator.registry.enrol_key(ALPHA, envelope, by="test", reason="test")
    assert refusal.value.reason == "key_refused"
    assert [key.kid for key in (await coordinator.registry.view(ALPHA)).keys] == [
        alpha.identity.auth.kid,
        alpha.identity.sign.kid,
    ]


# --- a stolen key -----------------------------------------------------------------------------------------


def as_terms(envelope: Envelope) -> str:
    return msgspec.json.encode(envelope).decode()


async def test_a_stolen_key_from_theft_to_return(coordinator: Coordinator, tmp_path: Path) -> None:
    """The drill: suspend, revoke, enrol new keys, activate; every step by two operators, none by the thief."""
    [alpha] = await coordinator.admit(ALPHA)
    sign, auth = alpha.identity.sign, alpha.identity.auth
    await coordinator.decided(ActKind.MEMBER_SUSPEND, ALPHA)
    await coordinator.decided(ActKind.KEY_REVOKE, ALPHA, kid=sign.kid)
    await coordinator.decided(ActKind.KEY_REVOKE, ALPHA, kid=auth.kid)
    store = await listed(coordinator)
    assert (store.signing_keys(ALPHA, retired=True), store.auth_key(ALPHA, auth.kid)) == ({}, None)
    revoked = {key.kid: key for key in store.current.members if key.bic == ALPHA for key in key.keys}
    assert {key.status for key in revoked.values()} == {"revoked"}
    assert all(key.not_before and key.revoked_at and key.not_before < key.revoked_at for key in revoked.values())

    enrolled = Bank(MemberIdentity.made(ALPHA, tmp_path / "enrolled"))
    stranger = dsse.sign(enrolled.application(), SigningKey.generate(), payload_type=APPLICATION_TYPE)
    for application, code in (
        (as_terms(stranger), "signature_refused"),
        (as_terms(alpha.signed_application()), "key_known"),
        (as_terms(coordinator.bank(BRAVO).signed_application()), "not_yours"),
        (json.dumps({}), "act_malformed"),
    ):
        with pytest.raises(RemoteProblem) as problem:
            await coordinator.propose_act(ActKind.KEY_ENROL, ALPHA, application=application)
        assert problem.value.code == code
    await coordinator.decided(ActKind.KEY_ENROL, ALPHA, application=as_terms(enrolled.signed_application()))
    await coordinator.decided(ActKind.MEMBER_ACTIVATE, ALPHA)
    assert set((await listed(coordinator)).signing_keys(ALPHA, retired=True)) == {enrolled.identity.sign.kid}
    async with coordinator.client(enrolled) as bank, coordinator.client(alpha) as thief:
        assert await bank.token(COORDINATOR)
        with pytest.raises(RemoteProblem, match="invalid_client"):
            await thief.token(COORDINATOR)


async def test_what_is_not_revoked(coordinator: Coordinator) -> None:
    [alpha] = await coordinator.admit(ALPHA)
    own = coordinator.base.identity.sign.kid
    for bic, kid, code in (
        (COORDINATOR, own, "step_illegal"),
        (ALPHA, own, "key_unknown"),
        ("NOBODY00", own, "participant_unknown"),
    ):
        with pytest.raises(Refusal) as refusal:
            await coordinator.registry.revoke_key(bic, kid, by="test", reason="test")
        assert refusal.value.reason == code
    await coordinator.registry.revoke_key(ALPHA, alpha.identity.sign.kid, by="test", reason="test")
    with pytest.raises(Refusal, match="key_unknown"):
        await coordinator.registry.revoke_key(ALPHA, alpha.identity.sign.kid, by="test", reason="again")
    # Nobody enrols keys for who isn't a member.
    for step in (Step.SUSPEND, Step.LEAVE):
        await coordinator.registry.step(ALPHA, step, by="test", reason="test")
    application = Bank(MemberIdentity.made(ALPHA, coordinator.directory / "new")).signed_application()
    with pytest.raises(Refusal, match="member_inactive"):
        await coordinator.registry.enrol_key(ALPHA, application, by="test", reason="test")


async def test_members_of_the_release_before_read_the_list_that_they_know(coordinator: Coordinator) -> None:
    """The same members and keys under the same version, without what they would refuse as unknown."""
    [alpha] = await coordinator.admit(ALPHA)
    await coordinator.registry.revoke_key(ALPHA, alpha.identity.sign.kid, by="test", reason="test")
    async with coordinator.client(alpha) as client:
        envelope = await client.get(f"{coordinator.url}/trust-list", Envelope, audience=None)
    assert b"not_before" not in envelope.payload_bytes()
    store = TrustStore(Anchor.of(COORDINATOR, coordinator.base.identity.sign.verifying_key))
    assert store.update(envelope)
    assert store.current.version == (await listed(coordinator)).current.version
    member = store.member(ALPHA)
    assert member is not None
    assert {key.use: key.status for key in member.keys} == {"auth": "active", "sign": "revoked"}


# --- evidence ---------------------------------------------------------------------------------------------

DAY = "2026-03-0{}T12:00:00Z"
KEY = SigningKey.generate()


@pytest.mark.parametrize(
    ("status", "times", "counts"),
    [
        ("active", {}, "at the time and later"),
        ("active", {"not_before": 1}, "at the time and later"),
        ("active", {"not_before": 4}, "at the time and later"),
        ("active", {"not_before": 6}, "never"),
        ("active", {"not_after": 2}, "later"),
        ("active", {"revoked_at": 2}, "later"),
        ("retired", {}, "later"),
        ("retired", {"not_before": 1, "not_after": 4}, "later"),
        ("retired", {"not_before": 6, "not_after": 9}, "never"),
        ("revoked", {}, "never"),
        ("revoked", {"revoked_at": 4}, "later"),
    ],
)
def test_a_key_verifies_only_what_was_signed_while_it_counted(status: str, times: dict[str, int], counts: str) -> None:
    """A document came between the third of March and the fifth; the list in force tells the times of its bank's key.

    What was signed in an earlier cycle verifies later too, by a key that is retired by then.
    """
    entry = TrustKey(
        kid=KEY.kid,
        alg="Ed25519",
        x=KEY.x,
        use="sign",
        status=status,  # type: ignore[arg-type]
        **{name: DAY.format(day) for name, day in times.items()},
    )
    bank = Member(bic=ALPHA, name="A", kind="participant", status="active", url="https://a", keys=(entry,))
    trust_list = TrustList(version=1, issuer="https://house", members=(bank,))
    since, until = (datetime.fromisoformat(DAY.format(day)) for day in (3, 5))
    signers = Signers([trust_list], scheme="CNCDXXC0.test", since=since, until=until)
    assert (KEY.kid in signers.of(ALPHA)) is (counts == "at the time and later")
    earlier = Signers([trust_list], scheme="CNCDXXC0.test", until=until, former=True)
    assert (KEY.kid in earlier.of(ALPHA)) is (counts != "never")
