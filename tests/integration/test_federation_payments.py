"""Bank to bank over real sockets: what a bank answers to another one's batch, good, bad and hostile."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from typing import Any

import httpx
import msgspec
import pytest
from running_banks import Town, batch_of, envelope_bytes, order, terms
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7, with_junk

from compliance.crypto import canonical, dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.statements import ActKind
from gateway.federation.messages.payments import BATCH_ITEMS_MAX, PAYMENT_BATCH_TYPE, PaymentBatch
from participants.api.messages import BODY_BYTES_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")

LANE = (ALPHA, BRAVO, "EUR")


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return a problem document's status and code, having looked at its form."""
    assert answer.headers["Content-Type"].startswith("application/problem+json"), answer.text
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"].endswith("/" + document["code"].replace("_", "-"))
    assert document["instance"] == answer.headers["X-Correlation-ID"]
    assert document["detail"]
    return answer.status_code, document["code"]


async def lane(town: Town) -> int:
    """Return how many payments BRAVO has accepted of ALPHA."""
    lanes = await town.bravo.get("/lanes")
    found = [one["last_sequence"] for one in lanes if (one["sender"], one["receiver"], one["currency"]) == LANE]
    return sum(found)


def signed(town: Town, batch: PaymentBatch, key: SigningKey | None = None) -> Envelope:
    return dsse.sign(batch, key or town.alpha.sign, payload_type=PAYMENT_BATCH_TYPE)


def sealed_text(town: Town, text: str) -> Envelope:
    """Return an envelope of ALPHA's over bytes that no honest program would sign."""
    return dsse.seal(text.encode(), PAYMENT_BATCH_TYPE, town.alpha.sign)


def with_payload(envelope: Envelope, payload: bytes) -> Envelope:
    return Envelope(b64encode(payload).decode(), envelope.payloadType, envelope.signatures)


# --- good batches --------------------------------------------------------------------------------------------


async def test_a_batch_is_numbered_credited_and_acknowledged(town: Town) -> None:
    before, held = await lane(town), await town.bravo.balance("b-1")
    payments = [terms(101), terms(102), terms(103, creditor_account="nobody")]
    envelope = town.sealed(*payments)
    answer = town.acknowledged(await town.deliver(envelope))
    assert (answer.sender, answer.receiver) == (ALPHA, BRAVO)
    assert answer.batch == canonical.digest(envelope.payload_bytes())
    assert [(o.id, o.status, o.sequence, o.reason) for o in answer.outcomes] == [
        (payments[0].id, "accepted", before + 1, None),
        (payments[1].id, "accepted", before + 2, None),
        (payments[2].id, "refused", None, "creditor_account_unknown"),
    ]
    assert await town.bravo.balance("b-1") == held + 203


async def test_the_same_batch_again_gives_the_same_bytes(town: Town) -> None:
    body = envelope_bytes(town.sealed(terms(), terms(creditor_account="nobody"), terms(currency="USD")))
    first = await town.deliver(body)
    held = await town.bravo.balance("b-1")
    again = await asyncio.gather(*(town.deliver(body) for _ in range(5)))
    assert {answer.content for answer in again} == {first.content}
    assert await town.bravo.balance("b-1") == held


async def test_payments_in_another_batch_keep_their_outcome(town: Town) -> None:
    one, two = terms(), terms()
    first = town.acknowledged(await town.deliver(town.sealed(one)))
    second = town.acknowledged(await town.deliver(town.sealed(two, one)))
    assert second.outcomes[1] == first.outcomes[0]


async def test_an_id_stands_for_one_payment(town: Town) -> None:
    """Another amount, or another bank, under a known id is refused; the first payment stays what it is."""
    one = terms()
    accepted = town.acknowledged(await town.deliver(town.sealed(one))).outcomes[0]
    other = msgspec.structs.replace(one, amount_minor="999")
    for envelope, sender in ((town.sealed(other), ALPHA), (town.sealed(one, sender=CARLO), CARLO)):
        outcome = town.acknowledged(await town.deliver(envelope, sender=sender)).outcomes[0]
        assert (outcome.status, outcome.reason) == ("refused", "id_reused")
    assert town.acknowledged(await town.deliver(town.sealed(one))).outcomes[0] == accepted


async def test_a_currency_without_an_account_is_refused(town: Town) -> None:
    outcome = town.acknowledged(await town.deliver(town.sealed(terms(currency="USD")))).outcomes[0]
    assert (outcome.status, outcome.reason) == ("refused", "creditor_account_unknown")


async def test_a_return_of_nothing_is_refused(town: Town) -> None:
    outcome = town.acknowledged(await town.deliver(town.sealed(terms(returns=uuid7())))).outcomes[0]
    assert (outcome.status, outcome.reason) == ("refused", "return_of_unknown")


@pytest.mark.parametrize("remittance", ["sorry\nfor that", "\x00", "x" * 141])
async def test_a_return_that_can_not_be_read_is_refused_and_the_lane_goes_on(town: Town, remittance: str) -> None:
    original = order(10)
    assert (await town.alpha.send("POST", "/payments", original)).status_code == 201
    await town.bravo.until(original["id"], "accepted")
    held = await town.bravo.balance("b-1")
    path, body = f"/payments/{original['id']}/return", {"id": uuid7(), "remittance": remittance}
    refusal = await town.bravo.send("POST", path, body)
    assert problem(refusal) == (400, "validation_failed")
    assert refusal.json()["errors"][0]["pointer"] == "/remittance"
    assert (await town.bravo.get(f"/payments/{original['id']}"))["status"] == "accepted"
    assert (await town.bravo.send("GET", f"/payments/{body['id']}")).status_code == 404
    assert await town.bravo.balance("b-1") == held
    answer = await town.bravo.send("POST", path, {**body, "remittance": "sorry for that"})
    assert (answer.status_code, answer.json()["status"]) == (201, "reserved")
    for one in (town.alpha, town.bravo):
        await one.until(original["id"], "returned")
    assert await town.bravo.balance("b-1") == held - 10


class SlowKey:
    """A key as in a distant module: it signs when it is let."""

    slow = True

    def __init__(self, key: SigningKey) -> None:
        self.kid, self.algorithm, self.verifying_key = key.kid, key.algorithm, key.verifying_key
        self.scheme = key.scheme
        self.asked, self.let = threading.Event(), threading.Event()
        self._key = key

    def sign(self, message: bytes) -> bytes:
        self.asked.set()
        assert self.let.wait(20)
        return self._key.sign(message)


async def test_a_slow_key_keeps_nobody_else_waiting(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SlowKey(town.bravo.sign)
    monkeypatch.setattr(town.bravo.node.inbound, "_signer", key)
    one = terms()
    delivery = asyncio.create_task(town.deliver(town.sealed(one)))
    await asyncio.to_thread(key.asked.wait, 20)
    assert (await town.bravo.get(f"/payments/{one.id}"))["status"] == "accepted"
    await town.alpha.open("a-meanwhile", balance=0)
    other = order(1) | {"creditor_agent": ALPHA, "debtor_account": "b-1", "creditor_account": "a-meanwhile"}
    assert (await town.bravo.send("POST", "/payments", other)).status_code == 201
    assert not delivery.done()
    key.let.set()
    assert town.acknowledged(await delivery).outcomes[0].status == "accepted"


async def test_the_largest_batch(town: Town) -> None:
    payments = [terms(1) for _ in range(BATCH_ITEMS_MAX)]
    before = await lane(town)
    outcomes = town.acknowledged(await town.deliver(town.sealed(*payments))).outcomes
    assert [o.sequence for o in outcomes] == list(range(before + 1, before + BATCH_ITEMS_MAX + 1))


# --- batches that are refused as a whole ---------------------------------------------------------------------


async def test_a_batch_for_another_bank(town: Town) -> None:
    assert problem(await town.deliver(town.sealed(terms(), receiver=CARLO))) == (400, "wrong_receiver")


async def test_a_batch_signed_as_another_bank(town: Town) -> None:
    batch = batch_of(terms(), sender=CARLO)
    assert problem(await town.deliver(signed(town, batch))) == (403, "wrong_sender")


async def test_another_banks_batch_can_not_be_passed_on(town: Town) -> None:
    """CARLO's own signature doesn't help ALPHA, who calls."""
    assert problem(await town.deliver(town.sealed(terms(), sender=CARLO))) == (400, "unknown_key")


async def test_a_strangers_key(town: Town) -> None:
    assert problem(await town.deliver(signed(town, batch_of(terms()), SigningKey.generate()))) == (400, "unknown_key")


async def test_no_signature_at_all(town: Town) -> None:
    bare = Envelope(town.sealed(terms()).payload, PAYMENT_BATCH_TYPE, ())
    assert problem(await town.deliver(bare)) == (400, "unknown_key")


async def test_a_forged_signature(town: Town) -> None:
    genuine = town.sealed(terms())
    other = town.sealed(terms()).signatures
    assert problem(await town.deliver(Envelope(genuine.payload, PAYMENT_BATCH_TYPE, other))) == (400, "bad_signature")
    torn = (dsse.Signature(genuine.signatures[0].keyid, "not base64!"),)
    assert problem(await town.deliver(Envelope(genuine.payload, PAYMENT_BATCH_TYPE, torn))) == (400, "bad_signature")


async def test_junk_beside_a_good_signature(town: Town) -> None:
    """What nobody verified would stand in an append-only journal for good."""
    envelope, before = town.sealed(terms()), await lane(town)
    for junk, reason in with_junk(envelope, second=town.alpha.node.identity.auth):
        assert problem(await town.deliver(envelope_bytes(junk))) == (400, reason)
    assert await lane(town) == before
    assert town.acknowledged(await town.deliver(envelope)).outcomes[0].status == "accepted"
    digest = canonical.digest(envelope.payload_bytes())
    async with town.bravo.node.pool.acquire() as connection:
        kept = await connection.fetchval("SELECT envelope FROM evidence WHERE sha256 = $1", bytes.fromhex(digest))
    assert kept == msgspec.json.encode(envelope)


async def test_a_tampered_payload(town: Town) -> None:
    genuine = town.sealed(terms(100))
    dearer = genuine.payload_bytes().replace(b'"amount_minor":"100"', b'"amount_minor":"900"')
    assert problem(await town.deliver(with_payload(genuine, dearer))) == (400, "bad_signature")


async def test_a_payload_that_is_not_base64(town: Town) -> None:
    broken = Envelope("%%%", PAYMENT_BATCH_TYPE, town.sealed(terms()).signatures)
    assert problem(await town.deliver(broken)) == (400, "payload_malformed")


async def test_another_kind_of_document(town: Town) -> None:
    envelope = dsse.sign(batch_of(terms()), town.alpha.sign, payload_type="application/vnd.concordat.receipt.v1+json")
    assert problem(await town.deliver(envelope)) == (400, "wrong_payload_type")


async def test_signed_bytes_in_another_form_than_the_canonical(town: Town) -> None:
    """Two forms of one batch would have two digests: only one of them is a batch."""
    text = canonical.encode(batch_of(terms())).decode()
    spaced = text.replace(":", ": ", 1)
    repeated = text.replace('{"payments"', f'{{"receiver":"{CARLO}","payments"')
    for form in (spaced, repeated, text + " "):
        assert form != text
        assert problem(await town.deliver(sealed_text(town, form))) == (400, "not_canonical"), form[:60]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("amount_minor", "0"),
        ("amount_minor", "-1"),
        ("amount_minor", "1.00"),
        ("amount_minor", "1000000000000000"),
        ("amount_minor", 100),
        ("currency", "eur"),
        ("id", "one"),
        ("id", None),
        ("creditor_account", "b 1"),
        ("debtor_name", ""),
        ("remittance", "x" * 141),
        ("purpose", "unheard of"),
    ],
)
async def test_a_payment_that_is_none(town: Town, member: str, value: Any) -> None:
    batch = msgspec.to_builtins(batch_of(terms()))
    batch["payments"][0][member] = value
    answer = await town.deliver(sealed_text(town, canonical.encode(batch).decode()))
    assert problem(answer) == (400, "schema_violation")


async def test_signed_bytes_that_are_no_text(town: Town) -> None:
    payload = canonical.encode(batch_of(terms())).replace(b"Anna", b"An\xff\xfe")
    envelope = dsse.seal(payload, PAYMENT_BATCH_TYPE, town.alpha.sign)
    assert problem(await town.deliver(envelope)) == (400, "schema_violation")


async def test_an_empty_batch(town: Town) -> None:
    text = canonical.encode({**msgspec.to_builtins(batch_of(terms())), "payments": []}).decode()
    assert problem(await town.deliver(sealed_text(town, text))) == (400, "schema_violation")


async def test_one_payment_too_many(town: Town) -> None:
    before = await lane(town)
    payments = [terms(1) for _ in range(BATCH_ITEMS_MAX + 1)]
    assert problem(await town.deliver(town.sealed(*payments))) == (400, "schema_violation")
    assert await lane(town) == before


async def test_a_payment_twice_in_a_batch(town: Town) -> None:
    one = terms()
    before = await lane(town)
    answer = await town.deliver(town.sealed(terms(), one, one))
    assert problem(answer) == (400, "duplicate_in_batch")
    assert answer.json()["errors"][0]["pointer"] == "/payments/2/id"
    assert await lane(town) == before


async def test_a_root_over_other_payments(town: Town) -> None:
    answer = await town.deliver(town.sealed(terms(), terms(), root=batch_of(terms()).root))
    assert problem(answer) == (400, "root_differs")
    assert answer.json()["errors"][0]["pointer"] == "/root"


# --- bodies that are none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"payload":',
        b"\xff\xfe",
        b'{"payload":"\xff"}',
        b'{"payload":1,"payloadType":"x","signatures":[]}',
    ],
)
async def test_a_body_that_is_no_envelope(town: Town, body: bytes) -> None:
    assert problem(await town.deliver(body)) == (400, "body_malformed")


async def test_a_truncated_body(town: Town) -> None:
    """Cut off in the middle, whether the sender says so or breaks off."""
    body, before = envelope_bytes(town.sealed(terms())), await lane(town)
    assert problem(await town.deliver(body[:-40])) == (400, "body_malformed")
    reader, writer = await asyncio.open_connection("127.0.0.1", town.bravo.settings.port)
    head = (
        f"POST /federation/payments HTTP/1.1\r\nHost: bravo\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {town.assertion(ALPHA, BRAVO)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:-40])
    await writer.drain()
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert await lane(town) == before
    assert town.acknowledged(await town.deliver(body)).outcomes[0].status == "accepted"


async def test_a_huge_body(town: Town) -> None:
    """Refused by its announced length, and where it isn't announced, by what has come."""
    token, headers = town.assertion(ALPHA, BRAVO), {"Content-Type": "application/json"}
    huge = b" " * (BODY_BYTES_MAX + 1)
    assert problem(await town.deliver(huge)) == (413, "body_too_large")

    async def unannounced() -> Any:
        for start in range(0, len(huge), 2**20):
            yield huge[start : start + 2**20]

    headers["Authorization"] = f"Bearer {token}"
    url = f"{town.bravo.settings.url}/federation/payments"
    answer = await town.bravo.http.post(url, content=unannounced(), headers=headers)
    assert problem(answer) == (413, "body_too_large")


async def test_a_deeply_nested_body(town: Town) -> None:
    assert problem(await town.deliver(b"[" * 200_000)) == (400, "body_malformed")


# --- who is speaking -----------------------------------------------------------------------------------------


async def test_tokens_that_do_not_count(town: Town) -> None:
    body = envelope_bytes(town.sealed(terms()))
    bravo = town.bravo
    expired = town.assertion(ALPHA, BRAVO, now=1_700_000_000)
    foreign = town.assertion(ALPHA, CARLO)
    homemade = town.member_token(ALPHA, BRAVO, issuer=town.alpha.settings.url)
    whole = town.assertion(ALPHA, BRAVO)
    for token, code in (
        (expired, "token_expired"),
        (foreign, "token_audience_wrong"),
        (homemade, "token_key_unknown"),
        (whole[:-4] + ("AAAA" if whole[-4:] != "AAAA" else "BBBB"), "token_signature_bad"),
        ("nonsense", "token_malformed"),
        ("x" * 9_000, "token_too_large"),
        (None, "token_missing"),
    ):
        answer = await bravo.send("POST", "/federation/payments", body, token=token)
        assert problem(answer) == (401, code)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("role", ["operator", "auditor", "agent", "coordinator", "participant"])
async def test_only_participants_may_pay(town: Town, role: str) -> None:
    token = town.member_token(ALPHA, BRAVO, role=role)
    assert problem(await town.deliver(town.sealed(terms()), token=token)) == (401, "token_key_unknown")


async def test_a_banks_own_people_may_not_pose_as_another_bank(town: Town) -> None:
    answer = await town.bravo.send("POST", "/federation/payments", envelope_bytes(town.sealed(terms())))
    assert problem(answer) == (403, "role_not_allowed")


async def test_a_participant_may_not_use_the_banks_own_desk(town: Town) -> None:
    token = town.assertion(ALPHA, BRAVO)
    for method, path in (("POST", "/payments"), ("GET", "/payments"), ("GET", "/accounts"), ("GET", "/holds")):
        answer = await town.bravo.send(method, path, order() if method == "POST" else None, token=token)
        assert problem(answer) == (403, "role_not_allowed")


async def test_a_sender_that_is_no_member(town: Town) -> None:
    token = town.assertion(ALPHA, BRAVO, member="STRADEF0")
    assert problem(await town.deliver(town.sealed(terms()), token=token)) == (401, "token_key_unknown")


async def test_a_suspended_sender(town: Town) -> None:
    """A suspended bank's payments aren't taken in, nor are orders in its favour; active again, both are."""
    envelope = town.sealed(terms(), sender=CARLO)
    favour = order(creditor_agent=CARLO, creditor_account="c-1")

    async def move(kind: ActKind, expected: int) -> None:
        await town.coordinator.decided(kind, CARLO)
        async with asyncio.timeout(20):
            answer = await town.deliver(envelope, sender=CARLO)
            while answer.status_code != expected:
                await asyncio.sleep(0.05)
                answer = await town.deliver(envelope, sender=CARLO)

    await move(ActKind.MEMBER_SUSPEND, 403)
    try:
        assert problem(await town.deliver(envelope, sender=CARLO)) == (403, "sender_not_active")
        async with asyncio.timeout(20):
            while (await town.alpha.send("POST", "/payments", favour)).status_code != 422:
                favour = {**favour, "id": uuid7()}
                await asyncio.sleep(0.05)
        assert problem(await town.alpha.send("POST", "/payments", favour)) == (422, "creditor_agent_not_active")
    finally:
        await move(ActKind.MEMBER_ACTIVATE, 200)
    assert town.acknowledged(await town.deliver(envelope, sender=CARLO)).outcomes[0].status == "accepted"


# --- both ends -----------------------------------------------------------------------------------------------


async def test_an_order_arrives(town: Town) -> None:
    """From one bank's customer to the other's, over both nodes; one that is refused gives the money back."""
    await town.alpha.open("a-arrives", balance=1_000)
    await town.bravo.open("b-arrives", balance=0)
    good = order(300, debtor_account="a-arrives", creditor_account="b-arrives", remittance="thanks")
    bad = order(500, debtor_account="a-arrives", creditor_account="nobody")
    for one in (good, bad):
        assert (await town.alpha.send("POST", "/payments", one)).status_code == 201
    sent = await town.alpha.until(good["id"], "posted")
    received = await town.bravo.until(good["id"], "accepted")
    assert sent["sequence"] == received["sequence"]
    refused = await town.alpha.until(bad["id"], "refused")
    assert refused["reason"] == "creditor_account_unknown"
    assert await town.alpha.balance("a-arrives") == 700
    assert await town.bravo.balance("b-arrives") == 300
