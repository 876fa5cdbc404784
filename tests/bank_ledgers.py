"""Two banks' ledgers on real databases, paying and settling with each other as their nodes do, without the HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import asyncpg
import pytest
from support import uuid7

from compliance.crypto import dsse, merkle
from compliance.crypto.keys import SigningKey
from compliance.cycle.positions import Position, digests, statement_of
from compliance.statements import (
    InstructionLine,
    PositionStatement,
    SettlementFinality,
    SettlementInstruction,
)
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
from participants.cycle.attestations import attest
from participants.cycle.commands import (
    FixCut,
    PostSettlement,
    RecordAttestation,
    RecordInstruction,
    RecordSignedCut,
    settled_lanes,
)
from participants.cycle.statements import positions
from participants.ledger import store
from participants.ledger.account_events import AccountOpening
from participants.ledger.accounts import AccountOutcome
from participants.ledger.command import RecordedAlreadyError
from participants.ledger.events import Hit, PaymentOrder
from participants.ledger.lanes import LaneKey
from participants.ledger.opening import AskedOpening, OpenAccounts
from participants.ledger.rows import Evidence
from participants.ledger.writer import Ledger
from participants.payments.answers import ApplyAnswers, SentPayment
from participants.payments.incoming import ReceivedPayment, ReceivePayments
from participants.payments.orders import CheckedOrder, OrderOutcome, SubmitOrders, readable

ALFA, BETA, AGENT = "ALFADEFF", "BETAFRPP", "AGNTBEB1"
HIT = Hit(party="debtor", list="TEST", entry="1", listed_name="Ivan Listed", score=100, method="exact")
QUEUED = "SELECT payment_id::text FROM payment_open WHERE state = 'queued' ORDER BY event_sequence"


@dataclass
class Bank:
    """A bank with a writer on its ledger and a connection of its own for looking."""

    bic: str
    url: str
    ledger: Ledger
    connection: asyncpg.Connection
    key: SigningKey = field(default_factory=SigningKey.generate)

    async def open(self, *accounts: str, balance: int = 0, currency: str = "EUR") -> list[AccountOutcome]:
        """Open customer accounts that hold `balance` each."""
        return await self.ledger.submit(
            OpenAccounts(
                [
                    AskedOpening(
                        AccountOpening(code=a, currency=currency, name=a, opening_balance_minor=str(balance)),
                        ("mona", "nora"),
                    )
                    for a in accounts
                ]
            )
        )

    async def order(self, *orders: PaymentOrder, hits: Sequence[Hit] = (), maker: str = "mona") -> list[OrderOutcome]:
        """Submit orders as the API does."""
        checked = [CheckedOrder(order, tuple(hits)) for order in readable(orders, maker=maker)]
        return await self.ledger.submit(SubmitOrders(checked))

    async def receive(
        self, sender: Bank, *terms: PaymentTerms, hits: Sequence[Hit] = (), withdrawn: bool = False
    ) -> list[PaymentOutcome]:
        """Receive payments that another bank signs now."""
        leaves = [leaf_of(t) for t in terms]
        root = merkle.root(leaves).hex()
        batch = PaymentBatch(sender=sender.bic, receiver=self.bic, root=root, payments=terms, withdrawn=withdrawn)
        envelope = dsse.sign(batch, sender.key, payload_type=PAYMENT_BATCH_TYPE)
        received = [ReceivedPayment.of(t, leaf, tuple(hits)) for t, leaf in zip(terms, leaves, strict=True)]
        return await self.ledger.submit(
            ReceivePayments(Evidence.of("payment-batch", sender.bic, envelope), received, withdrawn=withdrawn)
        )  # fmt: skip

    async def queued(self) -> list[str]:
        return [row[0] for row in await self.connection.fetch(QUEUED)]

    async def deliver(self, receiver: Bank, *, hits: Sequence[Hit] = ()) -> int:
        """Send what is queued to the one other bank and post its answers; return the number that ended."""
        return await self._deliver(receiver, await self.queued(), hits=hits)

    async def deliver_withdrawn(self, receiver: Bank) -> int:
        """Withdraw what is to be cancelled from the one other bank and post its answers, as `deliver` does."""
        rows = await self.connection.fetch(QUEUED.replace("queued", "cancelling"))
        return await self._deliver(receiver, [row[0] for row in rows], withdrawn=True)

    async def _deliver(
        self, receiver: Bank, ids: list[str], *, hits: Sequence[Hit] = (), withdrawn: bool = False
    ) -> int:
        if not ids:
            return 0
        by_id = await store.read_payments(self.connection, ids)
        payments = [by_id[id_] for id_ in ids]
        outcomes = await receiver.receive(self, *(p.terms for p in payments), hits=hits, withdrawn=withdrawn)
        return await self.ledger.submit(self.answers(receiver, payments, outcomes))

    def answers(
        self, receiver: Bank, payments: Sequence[store.Payment], outcomes: Iterable[PaymentOutcome]
    ) -> ApplyAnswers:
        """Return the command that applies another bank's signed answers."""
        answer = Acknowledgement(sender=self.bic, receiver=receiver.bic, batch="0" * 64, outcomes=tuple(outcomes))
        envelope = dsse.sign(answer, receiver.key, payload_type=ACKNOWLEDGEMENT_TYPE)
        sent = [SentPayment(p, leaf_of(p.terms), o) for p, o in zip(payments, answer.outcomes, strict=True)]
        return ApplyAnswers(Evidence.of("acknowledgement", receiver.bic, envelope), sent)

    async def balance(self, kind: str, code: str, currency: str = "EUR") -> int:
        """Return what an account holds (customers and other liabilities) or is owed, as a positive number."""
        found = await self.connection.fetchval(
            "SELECT balance FROM account JOIN account_balance ON account_id = id"
            " WHERE kind = $1 AND code = $2 AND currency = $3",
            kind, code, currency,
        )  # fmt: skip
        return abs(found or 0)


@asynccontextmanager
async def bank(url: str, bic: str = ALFA) -> AsyncIterator[Bank]:
    """Open a bank's ledger with a writer of its own; several may be open on one database."""
    ledger = Ledger(lambda: connect(url), bank=bic, agent=AGENT)
    await ledger.start()
    connection = await connect(url)
    try:
        yield Bank(bic, url, ledger, connection)
    finally:
        await ledger.stop()
        await connection.close()


async def connect(url: str, *, role: str | None = APP_ROLE) -> asyncpg.Connection:
    session = {"application_name": "test", "lock_timeout": "4000"}
    return await asyncpg.connect(dsn(url), server_settings=session if role is None else {**session, "role": role})


def payment(
    amount: int = 100,
    *,
    debtor: str = "a-1",
    creditor: str = "b-1",
    to: str = BETA,
    id_: str | None = None,
    currency: str = "EUR",
    returns: str | None = None,
) -> PaymentOrder:
    return PaymentOrder(
        id=id_ or uuid7(), creditor_agent=to, amount_minor=str(amount), currency=currency, debtor_account=debtor,
        debtor_name=f"Debtor {debtor}", creditor_account=creditor, creditor_name=f"Creditor {creditor}",
        returns=returns,
    )  # fmt: skip


def giving_back(original: PaymentOrder, *, to: str = ALFA, id_: str | None = None) -> PaymentOrder:
    """Return the order by which the creditor's bank gives a payment back."""
    return payment(
        int(original.amount_minor), debtor=original.creditor_account, creditor=original.debtor_account, to=to, id_=id_,
        currency=original.currency, returns=original.id,
    )  # fmt: skip


async def settle(cycle: str, *banks: Bank) -> list[PositionStatement]:
    """Take banks through a cycle from cut-off to finality; return the first one's statements.

    What the banks would hear from the coordinator, each hears from the other one's books.
    """
    coordinator = SigningKey.generate()
    cuts: dict[LaneKey, int] = {}
    for one in banks:
        receiving = await reads.receiving_lanes(one.connection, one.bic)
        currencies = {row[0] for row in await one.connection.fetch("SELECT DISTINCT currency FROM lane")}
        cut = await one.ledger.submit(FixCut(cycle, currencies, receiving))
        await one.ledger.submit(RecordSignedCut(cycle, dsse.sign(cut, one.key)))
        for lane in cut.lanes:
            cuts[LaneKey(lane.sender, one.bic, lane.currency)] = lane.last_sequence
    first: list[PositionStatement] = []
    for one in banks:
        points, unknown = await reads.points(
            one.connection, {key: cut for key, cut in cuts.items() if one.bic in (key.sender, key.receiver)}
        )
        assert not unknown
        found = positions(points)
        first = first or [statement_of(cycle, position) for position in found]
        said = attest(bank=one.bic, cycle=cycle, stated=found, screening=None, complete=True, signer=one.key)
        await one.ledger.submit(RecordAttestation(said, 1))
        for currency in sorted({position.currency for position in found}):
            await _settle_one(one, cycle, [p for p in found if p.currency == currency], coordinator)
    return first


async def _settle_one(one: Bank, cycle: str, found: Sequence[Position], coordinator: SigningKey) -> None:
    own = {digest.hex(): position for digest, position in zip(digests(cycle, found), found, strict=True)}
    instruction = instruction_on(one.bic, cycle, own)
    finality = SettlementFinality(
        cycle=cycle, result="0" * 64, settlement_agent=AGENT, agent_reference="1", settled_at="2026-10-02T12:00:00Z"
    )
    totals = await reads.totals(one.connection, settled_lanes(instruction, own))
    await one.ledger.submit(RecordInstruction(instruction, dsse.sign(instruction, coordinator)))
    await one.ledger.submit(PostSettlement(instruction, finality, own, totals))
    with pytest.raises(RecordedAlreadyError):  # as another node of the bank, that was slower, would be told
        await one.ledger.submit(PostSettlement(instruction, finality, own, totals))


def instruction_on(bank: str, cycle: str, own: Mapping[str, Position]) -> SettlementInstruction:
    """Return the instruction that follows from a bank's positions of one currency, by the digests of its statements."""
    lines, net = [], 0
    for digest, position in own.items():
        pays, receives = position.forth_minor, position.back_minor
        other = position.high
        if position.high == bank:
            pays, receives, other = receives, pays, position.low
        lines.append(InstructionLine(counterparty=other, statement=digest, receives_minor=receives, pays_minor=pays))
        net += int(receives) - int(pays)
    (currency,) = {position.currency for position in own.values()}
    return SettlementInstruction(
        id=f"{cycle}/{bank}/{currency}", cycle=cycle, participant=bank, currency=currency, net_minor=str(net),
        lines=tuple(lines), result="0" * 64, settlement_agent=AGENT,
    )  # fmt: skip


async def rewrite_times(url: str, begin: datetime, step: timedelta) -> None:
    """Let a journal have been written from `begin` on, an event every `step`."""
    connection = await connect(url, role=None)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "UPDATE event SET recorded_at = $1::timestamptz + (sequence - 1) * $2::interval", begin, step
    )
    await connection.close()
