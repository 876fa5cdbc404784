"""What another bank writes into its payments is judged by this bank's own rule, where it comes in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from bank_ledgers import ALFA, BETA, Bank, bank, giving_back, payment
from running_banks import Town, batch_of, terms

from compliance.crypto import dsse
from compliance.plain_text import all_plain
from gateway.federation.messages.payments import PAYMENT_BATCH_TYPE, leaf_of
from participants.ledger.rows import Evidence
from participants.payments.incoming import ReceivedPayment, ReceivePayments

IBAN = "DE89370400440532013000"
NOT_PLAIN: dict[str, dict[str, str]] = {
    "written backwards": {"debtor_name": "\u202eNITUP RIMIDALV\u202c"},
    "a control character": {"creditor_name": "Berta\x85Birch"},
    "a line separator": {"remittance": "invoice 17\u2028of today"},
    "nothing to see": {"debtor_name": "\u200b"},
    "blank": {"creditor_name": "\u3000 "},
    "of spaces": {"debtor_name": " "},
    "not composed": {"debtor_name": "Zoe\u0308"},
    "not composed at the end": {"remittance": "for Zoe\u0308"},
    "a private letter": {"creditor_name": "\ue000"},
}
PLAIN: dict[str, dict[str, str]] = {
    "ASCII": {},
    "composed": {"debtor_name": "Zoë", "creditor_name": "Ōé", "remittance": "für Åse"},
    "other scripts": {"debtor_name": "Владимир", "creditor_name": "עברית", "remittance": "株式会社"},
    "a space at the edge": {"debtor_name": " Ada"},
}


@pytest.mark.asyncio(loop_scope="module")
async def test_texts_are_judged_where_they_come_in(town: Town) -> None:
    """One payment costs itself only, before its account is looked up, and asked again it is declined again."""
    changes = [*NOT_PLAIN.values(), NOT_PLAIN["blank"] | {"creditor_account": "nobody"}, *PLAIN.values()]
    envelope = town.sealed(*(terms(10, **one) for one in changes))
    first = town.acknowledged(await town.deliver(envelope))
    declined = len(NOT_PLAIN) + 1
    assert [(o.status, o.reason) for o in first.outcomes] == (
        [("refused", "text_not_plain")] * declined + [("accepted", None)] * len(PLAIN)
    )
    assert town.acknowledged(await town.deliver(envelope)) == first


@pytest.mark.asyncio(loop_scope="module")
async def test_an_account_is_credited_by_its_one_form_only(town: Town) -> None:
    """Banks sign accounts in their normal form: another spelling is nobody's, and the money stays with its owner."""
    await town.bravo.open(IBAN, balance=0)
    spelled = [terms(10, creditor_account=account) for account in (IBAN, IBAN.lower(), "DE00" + IBAN[4:])]
    answer = town.acknowledged(await town.deliver(town.sealed(*spelled)))
    unknown = ("refused", "creditor_account_unknown")
    assert [(o.status, o.reason) for o in answer.outcomes] == [("accepted", None), unknown, unknown]
    assert await town.bravo.balance(IBAN) == 10


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_one_look_at_all(kind: str) -> None:
    texts = {"debtor_name": "Ada", "creditor_name": "Bruno", "remittance": "", **NOT_PLAIN[kind]}
    assert not all_plain(texts["debtor_name"], texts["creditor_name"], free=texts["remittance"])


async def accepted_before(one: Bank, sender: Bank, order: Any) -> None:
    """Let a bank accept a payment as releases did that didn't judge its texts."""
    leaf = leaf_of(order.terms())
    batch = batch_of(order.terms(), sender=sender.bic, receiver=one.bic)
    envelope = dsse.sign(batch, sender.key, payload_type=PAYMENT_BATCH_TYPE)
    evidence = Evidence.of("payment-batch", sender.bic, envelope)
    (outcome,) = await one.ledger.submit(ReceivePayments(evidence, [ReceivedPayment(order.terms(), leaf)]))
    assert outcome.status == "accepted"


async def test_what_was_accepted_before_stands_and_goes_back(new_database: Any) -> None:
    urls = [await new_database("participants.ledger") for _ in range(2)]
    async with bank(urls[0]) as alfa, bank(urls[1], BETA) as beta:
        await alfa.open("a-1", balance=1_000)
        await beta.open("b-1")
        orders = [msgspec.structs.replace(payment(100), debtor_name="Zoe\u0308") for _ in range(2)]
        await alfa.order(*orders)
        for order in orders:
            await accepted_before(beta, alfa, order)
        # The answers were lost: asked again, they are what they were.
        await alfa.deliver(beta)
        assert await alfa.balance("customer", "a-1") == 800
        repeats, differs = map(giving_back, orders)
        names = {"debtor_name": "Creditor b-1", "creditor_name": "Zoe\u0308"}
        await beta.order(
            msgspec.structs.replace(repeats, **names),
            msgspec.structs.replace(differs, **names | {"remittance": "\u2028"}),
        )
        await beta.deliver(alfa)
        assert await alfa.balance("customer", "a-1") == 900, "one is back, the other declined for its remittance"
        assert await alfa.balance("due_to", BETA) == 200
        assert await beta.balance("due_to", ALFA) == 100
