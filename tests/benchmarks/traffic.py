"""Payments between one bank and simulated others, written into the bank's ledger as its node writes them.

Decided and journalled by the ledger's own commands, with batches and acknowledgements that the others really signed,
but without any HTTP: so a bank with hundreds of counterparties has its lanes filled in seconds.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from compliance.crypto import dsse, merkle
from compliance.cycle.positions import Position
from gateway.federation.messages.payments import (
    ACKNOWLEDGEMENT_TYPE,
    PAYMENT_BATCH_TYPE,
    Acknowledgement,
    PaymentBatch,
    PaymentOutcome,
    PaymentTerms,
    leaf_of,
)
from gateway.federation.storage.postgres import dsn
from gateway.federation.storage.sessions import APP_ROLE
from participants.cycle import reads
from participants.cycle.statements import positions
from participants.ledger import store
from participants.ledger.account_events import AccountOpening
from participants.ledger.events import PaymentOrder
from participants.ledger.lanes import LaneKey
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.rows import Evidence
from participants.ledger.writer import Ledger
from participants.payments.answers import ApplyAnswers, SentPayment
from participants.payments.incoming import ReceivedPayment, ReceivePayments
from participants.payments.orders import CheckedOrder, SubmitOrders, readable
from tests.simulated_banks import Bank
from tests.support import uuid7

ACCOUNT, OPENING_MINOR = "C-1", 10**15
RECEIVED_MINOR, SENT_MINOR = 12_345, 12_000
ORDERS_MAX = 4_000


@dataclass
class Traffic:
    """One bank's ledger and its counterparties. `last` is the last number of each lane."""

    bic: str
    ledger: Ledger
    connection: asyncpg.Connection
    counterparties: Sequence[Bank]
    currencies: Sequence[str]
    last: dict[LaneKey, int] = field(default_factory=dict)

    async def open_account(self) -> None:
        """Open the account that pays and is paid, in every currency."""
        openings = [
            AccountOpening(code=ACCOUNT, currency=currency, name="Customer", opening_balance_minor=str(OPENING_MINOR))
            for currency in self.currencies
        ]
        await self.ledger.submit(OpenAccounts([AskedOpening(opening, ("mona", "nora")) for opening in openings]))

    async def exchange(self, payments: int) -> None:
        """Let so many payments be accepted on every lane, there and back."""
        for bank in self.counterparties:
            terms = [_terms(currency) for currency in self.currencies for _ in range(payments)]
            await self._receive(bank, terms)
        orders = [
            _order(bank.bic, currency)
            for bank in self.counterparties
            for currency in self.currencies
            for _ in range(payments)
        ]
        for at in range(0, len(orders), ORDERS_MAX):
            await self._send(orders[at : at + ORDERS_MAX])

    async def positions(self) -> list[Position]:
        """Return what the bank's books say of a cycle that takes in every lane as far as it goes."""
        points, unknown = await reads.points(self.connection, self.last)
        assert not unknown
        return positions(points)

    async def _receive(self, bank: Bank, terms: Sequence[PaymentTerms]) -> None:
        leaves = [leaf_of(payment) for payment in terms]
        root = merkle.root(leaves).hex()
        batch = PaymentBatch(sender=bank.bic, receiver=self.bic, root=root, payments=tuple(terms))
        envelope = dsse.sign(batch, bank.sign, payload_type=PAYMENT_BATCH_TYPE)
        received = [ReceivedPayment.of(payment, leaf, ()) for payment, leaf in zip(terms, leaves, strict=True)]
        outcomes = await self.ledger.submit(ReceivePayments(Evidence.of("payment-batch", bank.bic, envelope), received))
        assert isinstance(outcomes, list)
        for payment, outcome in zip(terms, outcomes, strict=True):
            assert outcome.sequence is not None, outcome
            self.last[LaneKey(bank.bic, self.bic, payment.currency)] = outcome.sequence

    async def _send(self, orders: Sequence[PaymentOrder]) -> None:
        checked = [CheckedOrder(order, ()) for order in readable(orders, maker="mona")]
        assert {outcome.status for outcome in await self.ledger.submit(SubmitOrders(checked))} == {"reserved"}
        stored = await store.read_payments(self.connection, [order.id for order in orders])
        signers = {bank.bic: bank.sign for bank in self.counterparties}
        for name, group in itertools.groupby(orders, key=lambda order: order.creditor_agent):
            sent = [self._answered(name, stored[order.id]) for order in group]
            outcomes = tuple(answer.outcome for answer in sent)
            said = Acknowledgement(sender=self.bic, receiver=name, batch="0" * 64, outcomes=outcomes)
            envelope = dsse.sign(said, signers[name], payload_type=ACKNOWLEDGEMENT_TYPE)
            await self.ledger.submit(ApplyAnswers(Evidence.of("acknowledgement", name, envelope), sent))

    def _answered(self, receiver: str, payment: store.Payment) -> SentPayment:
        lane = LaneKey(self.bic, receiver, payment.terms.currency)
        self.last[lane] = sequence = self.last.get(lane, 0) + 1
        outcome = PaymentOutcome(id=payment.id, status="accepted", sequence=sequence)
        return SentPayment(payment, leaf_of(payment.terms), outcome)


@asynccontextmanager
async def traffic(
    database_url: str, bic: str, agent: str, counterparties: Sequence[Bank], currencies: Sequence[str]
) -> AsyncIterator[Traffic]:
    """Open a bank's ledger, beside its node or without one, for as long as the block lasts."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn(database_url), server_settings={"role": APP_ROLE})

    ledger = Ledger(connect, bank=bic, agent=agent)
    await ledger.start()
    connection = await connect()
    try:
        yield Traffic(bic, ledger, connection, counterparties, currencies)
    finally:
        await ledger.stop()
        await connection.close()


def _terms(currency: str) -> PaymentTerms:
    return PaymentTerms(
        id=uuid7(), amount_minor=str(RECEIVED_MINOR), currency=currency, debtor_account="X-1", debtor_name="Buyer",
        creditor_account=ACCOUNT, creditor_name="Customer",
    )  # fmt: skip


def _order(creditor_agent: str, currency: str) -> PaymentOrder:
    return PaymentOrder(
        id=uuid7(), creditor_agent=creditor_agent, amount_minor=str(SENT_MINOR), currency=currency,
        debtor_account=ACCOUNT, debtor_name="Customer", creditor_account="X-1", creditor_name="Seller",
    )  # fmt: skip
