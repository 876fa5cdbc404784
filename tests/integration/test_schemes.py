"""What was signed in one scheme counts in no other, though the same keys signed it."""

from __future__ import annotations

import msgspec
import pytest
from clearing_house import ALFA, BANKS, BETA, COORDINATOR, NewHouse
from msgspec.structs import replace
from running_banks import ALPHA, BRAVO, Town, batch_of, terms

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope, EvidenceError
from compliance.crypto.keys import SigningKey, scheme_name
from compliance.cycle.states import State
from compliance.statements import Receipt, SettlementInstruction, TrustList
from compliance.trust import Anchor
from gateway.coordinator.registry.registry import read_application
from gateway.federation.http.client import ASSERTION_GRANT, MemberIdentity
from gateway.federation.identity.tokens import client_assertion, member_assertion
from gateway.federation.membership.documents import APPLICATION_TYPE, Application, OfferedKey
from gateway.federation.messages.payments import PAYMENT_BATCH_TYPE
from gateway.federation.problems import Refusal

HOUSE, TEST_HOUSE = SigningKey.generate(), SigningKey.generate()
SCHEME, TEST_SCHEME = (scheme_name(COORDINATOR, key.verifying_key) for key in (HOUSE, TEST_HOUSE))
BANK = SigningKey.generate()
RECEIPT = Receipt(instruction="x", participant=ALFA, sha256="0" * 64)


def read(envelope: Envelope, *, scheme: str | None) -> Receipt:
    return dsse.verify_submitted(envelope, Receipt, {BANK.kid: BANK.verifying_key.within(scheme)})


def test_a_document_names_its_scheme_by_the_coordinator_and_the_anchors_digest() -> None:
    assert Anchor.of(COORDINATOR, HOUSE.verifying_key).scheme == SCHEME == f"{COORDINATOR}.{HOUSE.kid}"
    envelope = dsse.sign(RECEIPT, BANK.within(SCHEME))
    assert envelope.payloadType == f"application/vnd.concordat.receipt.v1+json;scheme={SCHEME}"
    assert read(envelope, scheme=SCHEME) == RECEIPT


@pytest.mark.parametrize(
    ("payload_type", "reason"),
    [
        (f"application/vnd.concordat.receipt.v1+json;scheme={TEST_SCHEME}", "wrong_scheme"),
        (f"application/vnd.concordat.receipt.v1+json;scheme={COORDINATOR}.{HOUSE.kid[:-1]}", "wrong_scheme"),
        (f"application/vnd.concordat.receipt.v1+json;scheme={SCHEME};scheme={TEST_SCHEME}", "wrong_scheme"),
        ("application/vnd.concordat.receipt.v1+json;scheme=", "wrong_scheme"),
        (f"application/vnd.concordat.receipt.v1+json; scheme={SCHEME}", "wrong_payload_type"),
        (f"application/vnd.concordat.cycle-cut.v1+json;scheme={SCHEME}", "wrong_payload_type"),
        # The name is signed: neither put there nor taken away afterwards.
        ("application/vnd.concordat.receipt.v1+json", "bad_signature"),
    ],
    ids=["another scheme", "a name cut off", "two names", "no name", "a space", "another document", "taken away"],
)
def test_another_name_is_refused(payload_type: str, reason: str) -> None:
    envelope = replace(dsse.sign(RECEIPT, BANK.within(TEST_SCHEME)), payloadType=payload_type)
    with pytest.raises(EvidenceError) as refused:
        read(envelope, scheme=SCHEME)
    assert refused.value.reason == reason


def test_what_release_0_1_signed_is_read() -> None:
    assert read(dsse.sign(RECEIPT, BANK), scheme=SCHEME) == RECEIPT


def test_an_anchor_believes_no_trust_list_of_another_scheme() -> None:
    """The same key may have founded two schemes, under two names."""
    trust_list = dsse.sign(TrustList(version=1, issuer="http://localhost", members=()), HOUSE.within(TEST_SCHEME))
    with pytest.raises(EvidenceError) as refused:
        dsse.verify(trust_list, TrustList, Anchor.of(COORDINATOR, HOUSE.verifying_key).verifying_keys())
    assert refused.value.reason == "wrong_scheme"


def test_an_application_to_another_scheme_is_refused() -> None:
    keys = (OfferedKey(use="auth", x=SigningKey.generate().x), OfferedKey(use="sign", x=BANK.x))
    application = Application(bic=ALFA, name="Bank", url="http://localhost", keys=keys)
    envelope = dsse.sign(application, BANK.within(TEST_SCHEME), payload_type=APPLICATION_TYPE)
    assert read_application(envelope, TEST_SCHEME) == application
    with pytest.raises(Refusal, match="wrong_scheme"):
        read_application(envelope, SCHEME)


async def test_a_clearing_house_takes_nothing_of_another_and_issues_in_its_own_name(new_house: NewHouse) -> None:
    house = await new_house()
    service = house.service()
    house.pay(ALFA, BETA, "EUR", 700)
    cycle = (await service.open_on_demand(None, by="test")).id
    await service.cut_off(cycle, cause="operator", by="test")
    elsewhere = MemberIdentity.made(ALFA, house.directory / ALFA, TEST_SCHEME).sign
    cut = house.cut(cycle, ALFA)
    foreign = dsse.seal(cut.payload_bytes(), cut.document_type, elsewhere)
    with pytest.raises(Refusal) as refused:
        await service.cuts.submit(ALFA, cycle, foreign)
    assert refused.value.reason == "wrong_scheme"
    for bank in BANKS:
        await service.cuts.submit(bank, cycle, house.cut(cycle, bank))
    assert await service.advance(cycle) is State.ATTESTING
    foreign_word = house.attestation(cycle, ALFA, house.statement(cycle, (ALFA, BETA), "EUR"), signer=elsewhere)
    with pytest.raises(Refusal) as refused:
        await service.attestation.submit_attestation(ALFA, cycle, foreign_word)
    assert refused.value.reason == "wrong_scheme"
    await house.attest(service, cycle)
    assert await service.advance(cycle) is State.FINAL
    own = house.signer.scheme
    issued = [*await service.delivery.instructions(cycle, None), await service.views.finality(cycle)]
    issued += [await service.views.result(cycle), await house.registry.trust_list()]
    assert own is not None
    assert {envelope.payloadType.partition(";scheme=")[2] for envelope in issued} == {own}
    instruction = dsse.verify(
        issued[0], SettlementInstruction, {house.signer.sign.kid: house.signer.sign.verifying_key.within(own)}
    )
    receipt = Receipt(instruction=instruction.id, participant=instruction.participant, sha256="0" * 64)
    identity = MemberIdentity.made(instruction.participant, house.directory / instruction.participant, TEST_SCHEME)
    with pytest.raises(Refusal) as refused:
        await service.delivery.acknowledge(instruction.participant, dsse.sign(receipt, identity.sign))
    assert refused.value.reason == "wrong_scheme"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bank_takes_no_batch_of_another_scheme(town: Town) -> None:
    payment = terms(101)
    held = await town.bravo.balance("b-1")
    foreign = dsse.sign(batch_of(payment), town.alpha.sign.within(TEST_SCHEME), payload_type=PAYMENT_BATCH_TYPE)
    answer = await town.deliver(foreign)
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_scheme")
    assert await town.bravo.balance("b-1") == held
    answer = await town.deliver(town.sealed(payment))
    assert town.acknowledged(answer).outcomes[0].status == "accepted"
    # A node itself names the scheme in what it signs.
    assert msgspec.json.decode(answer.content, type=Envelope).payloadType.endswith(
        f";scheme={town.bravo.node.trust.anchor.scheme}"
    )


@pytest.mark.asyncio(loop_scope="module")
async def test_an_assertion_for_another_scheme_opens_no_bank_and_no_token_endpoint(town: Town) -> None:
    """A bank that has the same keys in a test house and in the real one says which of them it speaks in."""
    auth = town.bravo.node.identity.auth
    for scheme, reason in ((town.alpha.node.trust.scheme, None), (TEST_SCHEME, "token_scheme_wrong")):
        made = member_assertion(key=auth.within(scheme), member=BRAVO, audience=ALPHA)
        answer = await town.alpha.send("GET", "/federation/lanes", token=made)
        assert answer.json().get("code") == reason
        made = client_assertion(key=auth.within(scheme), client_id=BRAVO, audience=town.coordinator.url)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_GRANT,
            "client_assertion": made,
            "resource": town.coordinator.settings.bic,
        }
        said = (await town.alpha.http.post(f"{town.coordinator.url}/oauth/token", data=form)).json()
        assert ("access_token" in said) is (reason is None)
        assert reason is None or reason in said["error_description"]
    silent = SigningKey.load(town.bravo.settings.keys_dir / "auth.pem")
    answer = await town.alpha.send(
        "GET", "/federation/lanes", token=member_assertion(key=silent, member=BRAVO, audience=ALPHA)
    )
    assert answer.json()["code"] == "token_scheme_wrong"
