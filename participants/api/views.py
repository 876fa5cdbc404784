"""What a bank's own people and systems read of its books."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import asyncpg
from msgspec import Meta

from compliance.statements import Bic, Count, CurrencyCode, CycleId, NetAmount, Reason, Timestamp
from gateway.federation.messages.base import Answer, Request, Uuid, open_words
from participants.ledger import store
from participants.ledger.books import Payment
from participants.ledger.events import AccountOpening, PaymentOrder
from participants.payments.decisions import OrderOutcome

BATCH_ITEMS_MAX = 8_192
PaymentStatus = Annotated[
    str, open_words("reserved", "held", "posted", "accepted", "declined", "refused", "disputed", "returned")
]


class OrderBatch(Request, frozen=True, kw_only=True):
    """Orders in one request; each is decided for itself, in this order."""

    payments: Annotated[tuple[PaymentOrder, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


class OrderResults(Answer, frozen=True, kw_only=True):
    """The outcome of each order of a batch, in its order."""

    results: tuple[OrderOutcome, ...]


class AccountBatch(Request, frozen=True, kw_only=True):
    """Customer accounts to open."""

    accounts: Annotated[tuple[AccountOpening, ...], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]


class Why(Request, frozen=True, kw_only=True):
    """A person's reason."""

    reason: Reason


class HoldOpinion(Request, frozen=True, kw_only=True):
    """One person's word on a held payment."""

    decision: Literal["release", "reject"]
    reason: Reason


class ListImport(Request, frozen=True, kw_only=True):
    """A sanctions list: its name, and the contents (base64) of its files by file name."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    files: Annotated[dict[str, bytes], Meta(min_length=1, max_length=8)]


class ReturnRequest(Request, frozen=True, kw_only=True):
    """The id of the payment that gives another one back; made by the client, so asking twice returns once."""

    id: Uuid
    remittance: Annotated[str, Meta(max_length=140)] = ""


class PaymentView(Answer, frozen=True, kw_only=True):
    """A payment as it stands. `sequence` is its number in its lane once accepted; `version` counts its events."""

    id: Uuid
    direction: Annotated[str, open_words("out", "in")]
    counterparty: Bic
    status: PaymentStatus
    version: Count
    currency: CurrencyCode
    amount_minor: str
    debtor_account: str
    debtor_name: str
    creditor_account: str
    creditor_name: str
    remittance: str = ""
    sequence: Count | None = None
    reason: str | None = None
    returns: Uuid | None = None


class PaymentPage(Answer, frozen=True, kw_only=True):
    """Newest first. `next` is the cursor of the following page."""

    items: tuple[PaymentView, ...]
    next: str | None = None


class AccountView(Answer, frozen=True, kw_only=True):
    """An account. `balance_minor` is debits minus credits: an asset is positive, what the bank owes negative."""

    id: Count
    kind: Annotated[str, open_words("customer", "reserved", "due_to", "due_from", "nostro", "suspense")]
    code: str
    currency: CurrencyCode
    name: str
    balance_minor: NetAmount
    version: Count


class AccountPage(Answer, frozen=True, kw_only=True):
    """Ordered by id."""

    items: tuple[AccountView, ...]
    next: str | None = None


class PostingView(Answer, frozen=True, kw_only=True):
    """One posting of an account, with the balance before and after it."""

    version: Count
    event_sequence: Count
    event_type: str
    recorded_at: Timestamp
    amount_minor: NetAmount
    previous_balance_minor: NetAmount
    balance_minor: NetAmount


class PostingPage(Answer, frozen=True, kw_only=True):
    """Newest first."""

    items: tuple[PostingView, ...]
    next: str | None = None


class LaneView(Answer, frozen=True, kw_only=True):
    """A lane: payments accepted so far and how far they are settled."""

    sender: Bic
    receiver: Bic
    currency: CurrencyCode
    last_sequence: Count
    settled_sequence: Count
    unsettled_minor: str


class CycleView(Answer, frozen=True, kw_only=True):
    """What this bank did in a cycle: whether its cut is fixed, how often it attested, what it posted."""

    cycle: CycleId
    cut: bool
    submissions: Count
    settled: tuple[CurrencyCode, ...]


def payment_view(payment: Payment) -> PaymentView:
    terms = payment.terms
    return PaymentView(
        id=payment.id,
        direction=payment.direction,
        counterparty=payment.counterparty,
        status=payment.status.value,
        version=payment.version,
        currency=terms.currency,
        amount_minor=terms.amount_minor,
        debtor_account=terms.debtor_account,
        debtor_name=terms.debtor_name,
        creditor_account=terms.creditor_account,
        creditor_name=terms.creditor_name,
        remittance=terms.remittance,
        sequence=payment.sequence,
        reason=payment.reason,
        returns=terms.returns,
    )


def timestamp(value: Any) -> str:
    """Return a timestamptz as RFC 3339 in UTC."""
    return str(value.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


PAGE_OF_PAYMENTS = """
SELECT sequence, subject::text FROM event
WHERE version = 1 AND type LIKE 'payment.%' AND ($1::bigint IS NULL OR sequence < $1)
ORDER BY sequence DESC LIMIT $2
"""
HELD = "SELECT payment_id::text FROM payment_open WHERE state = 'held' ORDER BY event_sequence LIMIT $1"
ACCOUNTS = """
SELECT a.id, a.kind, a.code, a.currency, a.name, b.balance, b.version
FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE a.id > $1 AND ($2::text IS NULL OR a.kind = $2) AND ($3::text IS NULL OR a.code = $3)
  AND ($4::text IS NULL OR a.currency = $4)
ORDER BY a.id LIMIT $5
"""
POSTINGS = """
SELECT p.version, p.event_sequence, e.type, e.recorded_at, p.amount, p.previous_balance, p.balance
FROM posting p JOIN event e ON e.sequence = p.event_sequence
WHERE p.account_id = $1 AND ($2::bigint IS NULL OR p.version < $2)
ORDER BY p.version DESC LIMIT $3
"""
LANES = """
SELECT l.sender, l.receiver, l.currency, coalesce(h.sequence, 0), coalesce(s.sequence, 0),
       coalesce(h.total, 0) - coalesce(s.total, 0)
FROM lane l
LEFT JOIN LATERAL (SELECT sequence, total FROM lane_head WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT sequence, total FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) s
    ON true
ORDER BY l.sender, l.receiver, l.currency
"""


async def payments(
    connection: asyncpg.Connection, before: int | None, limit: int
) -> tuple[list[PaymentView], int | None]:
    """Return a page of payments, newest first, and the cursor of the next one."""
    rows = await connection.fetch(PAGE_OF_PAYMENTS, before, limit)
    known = await store.read_payments(connection, [row[1] for row in rows])
    views = [payment_view(known[row[1]]) for row in rows]
    return views, rows[-1][0] if len(rows) == limit else None


async def held_payments(connection: asyncpg.Connection, limit: int) -> list[PaymentView]:
    """Return the payments that wait for people's decision, oldest first."""
    ids = [row[0] for row in await connection.fetch(HELD, limit)]
    known = await store.read_payments(connection, ids)
    return [payment_view(known[id_]) for id_ in ids]


async def accounts(
    connection: asyncpg.Connection, after: int, kind: str | None, code: str | None, currency: str | None, limit: int
) -> list[AccountView]:
    """Return a page of accounts."""
    return [
        AccountView(
            id=row[0], kind=row[1], code=row[2], currency=row[3], name=row[4], balance_minor=str(row[5]), version=row[6]
        )
        for row in await connection.fetch(ACCOUNTS, after, kind, code, currency, limit)
    ]


async def postings(connection: asyncpg.Connection, account: int, before: int | None, limit: int) -> list[PostingView]:
    """Return a page of an account's postings, newest first."""
    return [
        PostingView(
            version=row[0],
            event_sequence=row[1],
            event_type=row[2],
            recorded_at=timestamp(row[3]),
            amount_minor=str(row[4]),
            previous_balance_minor=str(row[5]),
            balance_minor=str(row[6]),
        )
        for row in await connection.fetch(POSTINGS, account, before, limit)
    ]


async def lanes(connection: asyncpg.Connection) -> list[LaneView]:
    """Return every lane of this bank."""
    return [
        LaneView(
            sender=row[0],
            receiver=row[1],
            currency=row[2],
            last_sequence=row[3],
            settled_sequence=row[4],
            unsettled_minor=str(row[5]),
        )
        for row in await connection.fetch(LANES)
    ]
