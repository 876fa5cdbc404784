"""A bank's ledger with payments to and from many counterparties in many currencies, made as its node makes it.

Payments go through the ledger's own commands, so books, journal and lanes are whole. The counterparties have no ledger:
what they sign is signed here, all with one key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bank_ledgers import Bank, payment

from compliance.crypto import dsse, merkle
from compliance.crypto.keys import SigningKey
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentOutcome,
    leaf_of,
)
from participants.ledger import store
from participants.ledger.rows import Evidence
from participants.payments.answers import ApplyAnswers, SentPayment
from participants.payments.incoming import ReceivedPayment, ReceivePayments

CURRENCIES = ("CHF", "EUR", "GBP", "JPY", "USD")
ACCOUNT, BALANCE = "a-1", 10**12
KEY = SigningKey.generate()


def counterparties(count: int) -> list[str]:
    """Return the BICs of so many banks."""
    return [f"{number // 676:01d}{chr(65 + number // 26 % 26)}{chr(65 + number % 26)}XDEFF" for number in range(count)]


async def fill(bank: Bank, others: Sequence[str], currencies: Sequence[str], *, round_: int = 1) -> None:
    """Pay each of the others once in each currency, and be paid by it once; `round_` counts how often."""
    if round_ == 1:
        for currency in currencies:
            await bank.open(ACCOUNT, balance=BALANCE, currency=currency)
    await asyncio.gather(*(_receive(bank, other, currencies) for other in others))
    sent = await pay(bank, others, currencies)
    await asyncio.gather(*(answer(bank, other, payments, number=round_) for other, payments in sent.items()))


async def pay(bank: Bank, others: Sequence[str], currencies: Sequence[str]) -> dict[str, list[store.Payment]]:
    """Pay each of the others once in each currency; return the payments, none of which is answered."""
    orders = [payment(100, to=other, currency=currency) for other in others for currency in currencies]
    await bank.order(*orders)
    sent = await store.read_payments(bank.connection, [order.id for order in orders])
    by_bank: dict[str, list[store.Payment]] = {other: [] for other in others}
    for order in orders:
        by_bank[order.creditor_agent].append(sent[order.id])
    return by_bank


async def answer(bank: Bank, other: str, payments: Sequence[store.Payment], *, number: int) -> None:
    """Let another bank accept payments, each as the one with this number of its lane."""
    outcomes = tuple(PaymentOutcome(id=one.id, status="accepted", sequence=number) for one in payments)
    acknowledgement = Acknowledgement(sender=bank.bic, receiver=other, batch="0" * 64, outcomes=outcomes)
    evidence = Evidence.of("acknowledgement", other, dsse.sign(acknowledgement, KEY, payload_type=ACKNOWLEDGEMENT_TYPE))
    sent = [SentPayment(p, leaf_of(p.terms), o) for p, o in zip(payments, outcomes, strict=True)]
    await bank.ledger.submit(ApplyAnswers(evidence, sent))


async def _receive(bank: Bank, other: str, currencies: Sequence[str]) -> None:
    terms = tuple(
        payment(250, debtor="b-1", creditor=ACCOUNT, to=bank.bic, currency=currency).terms() for currency in currencies
    )
    leaves = [leaf_of(one) for one in terms]
    batch = PaymentBatch(sender=other, receiver=bank.bic, root=merkle.root(leaves).hex(), payments=terms)
    evidence = Evidence.of("payment-batch", other, dsse.sign(batch, KEY, payload_type=PAYMENT_BATCH_TYPE))
    received = [ReceivedPayment.of(one, leaf, ()) for one, leaf in zip(terms, leaves, strict=True)]
    outcomes = await bank.ledger.submit(ReceivePayments(evidence, received))
    assert {outcome.status for outcome in outcomes} == {"accepted"}
