"""A member in good standing recalls what it may not, often, or as somebody else: nothing follows, little is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from running_banks import RunningBank, Town, envelope_bytes, terms
from running_coordinator import ALPHA, BRAVO, CARLO
from support import uuid7

from compliance.crypto import dsse
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from gateway.federation.messages.payments import PAYMENT_BATCH_TYPE
from gateway.federation.messages.recalls import RECALL_ANSWER_TYPE, RECALL_TYPE, Recall, RecallAnswer
from participants.audit.fsck import fsck
from participants.payments.recalls import RECALLS_MAX

pytestmark = pytest.mark.asyncio(loop_scope="module")


def sealed(town: Town, payment: str, *, sender: str = ALPHA, key: SigningKey | None = None, **changes: Any) -> Envelope:
    fields = {"id": uuid7(), "sender": sender, "receiver": BRAVO, "payment": payment, "reason": "FRAD", **changes}
    return dsse.sign(Recall(**fields), key or town.banks[sender].sign, payload_type=RECALL_TYPE)


async def ask(town: Town, envelope: Envelope, *, caller: str = ALPHA) -> httpx.Response:
    token = town.assertion(caller, BRAVO)
    return await town.bravo.send("POST", "/federation/recalls", envelope_bytes(envelope), token=token)


async def accepted(town: Town) -> str:
    """Return a payment of ALPHA's that BRAVO has accepted."""
    payment = terms()
    (outcome,) = town.acknowledged(await town.deliver(town.sealed(payment))).outcomes
    assert outcome.status == "accepted"
    return payment.id


async def head(bank: RunningBank) -> int:
    return int(await bank.node.pool.fetchval("SELECT sequence FROM ledger_head"))


def answer_of(town: Town, answer: httpx.Response) -> RecallAnswer:
    assert answer.status_code == 200, answer.text
    signatures = tuple(dsse.Signature(**signature) for signature in answer.json()["signatures"])
    envelope = Envelope(answer.json()["payload"], answer.json()["payloadType"], signatures)
    key = town.bravo.sign.verifying_key
    return dsse.verify(envelope, RecallAnswer, {key.kid: key}, payload_type=RECALL_ANSWER_TYPE)


async def test_what_it_may_not_recall_leaves_nothing(town: Town) -> None:
    id_ = await accepted(town)
    declined = terms(creditor_account="nobody")
    town.acknowledged(await town.deliver(town.sealed(declined)))
    before = await head(town.bravo)
    stranger = SigningKey.generate()
    wrong_type = dsse.sign(
        Recall(id=uuid7(), sender=ALPHA, receiver=BRAVO, payment=id_, reason="FRAD"),  # type: ignore[arg-type]
        town.alpha.sign,
        payload_type=PAYMENT_BATCH_TYPE,
    )
    for envelope, caller, code in (
        (sealed(town, uuid7()), ALPHA, "payment_unknown"),
        (sealed(town, declined.id), ALPHA, "payment_unknown"),
        (sealed(town, id_, sender=CARLO), CARLO, "payment_unknown"),
        (sealed(town, id_), CARLO, None),
        (sealed(town, id_, receiver=CARLO), ALPHA, "wrong_receiver"),
        (sealed(town, id_, key=stranger), ALPHA, None),
        (wrong_type, ALPHA, None),
        (sealed(town, id_, reason="XXXX"), ALPHA, "schema_violation"),
        (sealed(town, id_, text="17\u202e71"), ALPHA, "schema_violation"),
        (sealed(town, id_, text="a\u2028b"), ALPHA, "schema_violation"),
    ):
        answer = await ask(town, envelope, caller=caller)
        assert answer.status_code in (400, 403, 404), answer.text
        assert code is None or answer.json()["code"] == code
    assert (await town.bravo.send("POST", "/federation/recalls", b"x" * 20_000)).status_code in (401, 403, 413)
    assert await head(town.bravo) == before


async def test_a_flood_of_recalls_is_one_recall(town: Town) -> None:
    """The same again, or others of the same payment, at once: one is taken down, and nothing happens by itself."""
    id_ = await accepted(town)
    held = await town.bravo.balance("b-1")
    before, envelope = await head(town.bravo), sealed(town, id_)
    assert answer_of(town, await ask(town, envelope)).status == "open"
    for _ in range(5):
        answers = await asyncio.gather(
            *(ask(town, envelope) for _ in range(4)), *(ask(town, sealed(town, id_)) for _ in range(4))
        )
        assert {answer.status_code for answer in answers} <= {200, 409, 503}
    assert await head(town.bravo) == before + 1
    payment = await town.bravo.get(f"/payments/{id_}")
    assert (payment["status"], len(payment["recalls"])) == ("accepted", 1)
    assert await town.bravo.balance("b-1") == held


async def test_a_payment_is_recalled_so_often_and_no_more(town: Town) -> None:
    id_ = await accepted(town)
    for _ in range(RECALLS_MAX):
        envelope = sealed(town, id_)
        assert answer_of(town, await ask(town, envelope)).status == "open"
        recall = (await town.bravo.get(f"/payments/{id_}"))["recalls"][-1]["id"]
        path = f"/payments/{id_}/recalls/{recall}/refusal"
        assert (await town.bravo.send("POST", path, {"reason": "CUST"})).status_code == 201
        assert answer_of(town, await ask(town, envelope)).reason == "CUST"
    before = await head(town.bravo)
    assert (await ask(town, sealed(town, id_))).json()["code"] == "too_many_recalls"
    assert await head(town.bravo) == before
    report = await fsck(town.bravo.node.database_url, BRAVO)
    assert report.ok, [(c.name, c.difference) for c in report.checks if not c.ok]
