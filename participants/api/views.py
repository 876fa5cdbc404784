"""What a bank's own people and systems read of its books."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

import asyncpg
import msgspec

from compliance.crypto.dsse import Envelope
from gateway.federation.problems import Refusal, RefusalReason
from participants import bookkeeping, proposals
from participants.api.messages import (
    AccountView,
    BatchOrderView,
    BatchView,
    CeilingView,
    EntryView,
    ExposureView,
    GivenBackView,
    LaneView,
    MovementPage,
    MovementView,
    PaymentView,
    PostingView,
    RecallView,
    SettlementAccountState,
    SettlementFinding,
    WaitingView,
)
from participants.cycle.settlement_account import SettlementAccount
from participants.feed.public import timestamp
from participants.ledger import store
from participants.ledger.account_changes import ChangeReason
from participants.ledger.account_events import ENTRY_TYPES
from participants.ledger.events import ExposureLimit, subject_id
from participants.ledger.exposure import CEILINGS
from participants.ledger.own_entries import EntryReason
from participants.ledger.partitions import DETACHED_UNTIL, FLOOR, detached
from participants.ledger.payment import STATUS_AFTER, AskedBack, Payment
from participants.payments import batches
from participants.payments.exposures import read_exposures


class RequestReason(RefusalReason):
    """Why a bank's node refuses a request of its own people, in order of precedence."""

    PAYMENT_UNKNOWN = "payment_unknown", 404
    CYCLE_UNKNOWN = "cycle_unknown", 404
    """This bank has cut nothing off for such a cycle."""
    INSTANT_MALFORMED = "instant_malformed", 400


def _recall_view(recall: AskedBack) -> RecallView:
    answer = recall.answer
    if answer is None:
        return RecallView(id=recall.id, reason=recall.reason, text=recall.text, state="open")
    return RecallView(
        id=recall.id,
        reason=recall.reason,
        text=recall.text,
        state=answer.answer,
        returned_by=answer.returned_by,
        refusal=answer.reason,
        refusal_text=answer.text,
        answered_by=answer.person,
    )


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
        return_reason=terms.return_reason,
        end_to_end_id=terms.end_to_end_id,
        instruction_id=terms.instruction_id,
        uetr=terms.uetr,
        expires_at=terms.expires_at,
        ordered_by=payment.maker,
        cancelled_by=payment.cancelled_by,
        returned_minor=str(payment.returned) if payment.given_back else None,
        given_back=tuple(GivenBackView(by=part.by, amount_minor=str(part.amount)) for part in payment.given_back),
        recalls=tuple(map(_recall_view, payment.recalls)),
    )


ACCOUNTS = """
SELECT a.id, a.kind, a.code, a.currency, coalesce(b.name, a.name), b.balance, b.version, b.state
FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE a.id > $1 AND ($2::text IS NULL OR a.kind = $2) AND ($3::text IS NULL OR a.code = $3)
  AND ($4::text IS NULL OR a.currency = $4)
ORDER BY a.id LIMIT $5
"""
ACCOUNT = """
SELECT a.id, a.kind, a.code, a.currency, coalesce(b.name, a.name), b.balance, b.version, b.state
FROM account a JOIN account_balance b ON b.account_id = a.id WHERE a.id = $1
"""
POSTINGS = """
SELECT p.version, p.event_sequence, e.type, e.recorded_at, e.effective_at, p.amount, p.previous_balance, p.balance,
    a.code, CASE WHEN e.type LIKE 'payment.%' THEN e.subject::text END
FROM posting p JOIN event e ON e.sequence = p.event_sequence JOIN account a ON a.id = p.account_id
WHERE p.account_id = $1 AND ($2::bigint IS NULL OR p.version < $2)
  AND p.event_sequence >= (SELECT sequence FROM journal_floor)
ORDER BY p.version DESC LIMIT $3
"""
CARRIED = "SELECT EXISTS (SELECT FROM carried_balance WHERE account_id = $1)"
LANES = """
SELECT l.sender, l.receiver, l.currency, coalesce(h.sequence, 0), coalesce(s.sequence, 0),
       (coalesce(h.total, 0) - coalesce(s.total, 0))::text
FROM lane l
LEFT JOIN LATERAL (SELECT sequence, total FROM lane_head WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT sequence, total FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) s
    ON true
ORDER BY l.sender, l.receiver, l.currency
"""


async def payment(pool: asyncpg.Pool, payment_id: str) -> PaymentView:
    """Return a payment as it stands. Raises Refusal `payment_unknown`."""
    async with pool.acquire() as connection:
        payments = await store.read_payments(connection, [payment_id])
    if payment_id not in payments:
        raise Refusal(RequestReason.PAYMENT_UNKNOWN, f"no payment {payment_id}")
    return payment_view(payments[payment_id])


async def left_of(pool: asyncpg.Pool, payment: PaymentView, return_id: str) -> str:
    """Return how much of a payment a return of all that is left gives back: what it did, if it is known already.

    Where nothing is left, the ledger refuses any amount.
    """
    async with pool.acquire() as connection:
        known = (await store.read_payments(connection, [return_id])).get(return_id)
    if known is not None:
        return known.terms.amount_minor
    left = int(payment.amount_minor) - int(payment.returned_minor or 0)
    return str(left or payment.amount_minor)


async def accounts(
    connection: asyncpg.Connection, after: int, kind: str | None, code: str | None, currency: str | None, limit: int
) -> list[AccountView]:
    """Return a page of accounts."""
    return [_account_view(row) for row in await connection.fetch(ACCOUNTS, after, kind, code, currency, limit)]


async def account(connection: asyncpg.Connection, account_id: int) -> AccountView:
    """Return an account. Raises Refusal `account_unknown`."""
    row = await connection.fetchrow(ACCOUNT, account_id)
    if row is None:
        raise Refusal(ChangeReason.ACCOUNT_UNKNOWN, f"no account {account_id}")
    return _account_view(row)


def _account_view(row: asyncpg.Record) -> AccountView:
    return AccountView(
        id=row[0],
        kind=row[1],
        code=row[2],
        currency=row[3],
        name=row[4],
        balance_minor=str(row[5]),
        version=row[6],
        state=row[7],
    )


async def entry(connection: asyncpg.Connection, entry_id: str) -> EntryView:
    """Return an entry of the bank's own. Raises Refusal `entry_unknown`."""
    event = await bookkeeping.entry(connection, entry_id)
    if event is None:
        raise Refusal(EntryReason.ENTRY_UNKNOWN, f"no entry {entry_id}")
    data = event.data
    return EntryView(
        id=data.id,
        kind=next(kind for kind, type_ in ENTRY_TYPES.items() if type_ == event.type),
        account=data.account,
        currency=data.currency,
        amount_minor=data.amount_minor,
        against=data.against,
        reference=data.reference,
        text=data.text,
        event_sequence=event.sequence,
        made_by=data.people,
    )


async def postings(connection: asyncpg.Connection, account: int, before: int | None, limit: int) -> list[PostingView]:
    """Return a page of an account's postings, newest first. Raises JournalDetached where all of it is detached."""
    rows = await connection.fetch(POSTINGS, account, before, limit)
    if not rows and (before is None or before > 1) and await connection.fetchval(CARRIED, account):
        newest = await connection.fetchval(FLOOR) - 1
        raise await detached(connection, f"the postings of account {account} before are", event=newest)
    return [
        PostingView(
            version=row[0],
            event_sequence=row[1],
            event_type=row[2],
            recorded_at=timestamp(row[3]),
            effective_at=None if row[4] is None else timestamp(row[4]),
            amount_minor=str(row[5]),
            previous_balance_minor=str(row[6]),
            balance_minor=str(row[7]),
            account=row[8],
            payment_id=row[9],
        )
        for row in rows
    ]


async def detached_until(connection: asyncpg.Connection) -> str | None:
    """Return until when the journal is detached, None if all of it is here."""
    until = await connection.fetchval(DETACHED_UNTIL)
    return None if until is None else timestamp(until)


async def exposures(connection: asyncpg.Connection) -> list[ExposureView]:
    """Return what every counterparty owes, and what it may."""
    return [
        ExposureView(
            counterparty=exposure.counterparty,
            currency=exposure.currency,
            unsettled_minor=str(exposure.unsettled),
            limit_minor=str(exposure.limit.minor),
            set_by=exposure.limit.source.value,
            room_minor=str(exposure.room),
            near=exposure.near,
        )
        for exposure in await read_exposures(connection)
    ]


def ceilings(limits: Iterable[ExposureLimit]) -> list[CeilingView]:
    return [
        CeilingView(currency=limit.currency, limit_minor=limit.limit_minor, counterparty=limit.counterparty)
        for limit in limits
    ]


async def waiting(
    connection: asyncpg.Connection, before: int | None, limit: int, *, shown: Collection[str] | None
) -> tuple[list[WaitingView], int | None]:
    """Return what waits for a second person, newest first, and after which number the next page begins.

    What exactly is proposed stands in those of the kinds that are `shown`, or in all.
    """
    waits = await proposals.waiting(connection, limit, ceilings=subject_id(CEILINGS), before=before)
    listed = [
        WaitingView(
            kind=proposal.kind,
            subject=proposal.subject,
            person=proposal.person,
            proposed_at=timestamp(proposal.proposed_at),
            content=dict(proposal.content) if shown is None or proposal.kind in shown else {},
        )
        for proposal in waits
    ]
    return listed, waits[-1].id if len(waits) == limit else None


MOVEMENTS = """
SELECT m.id, m.currency, m.sequence, m.amount, m.cycle, m.reference, m.seen_at, e.reason, e.explained_by, m.signed
FROM settlement_movement m LEFT JOIN movement_explanation e ON e.agent = m.agent AND e.id = m.id
WHERE m.agent = $1 AND m.id > $2 ORDER BY m.id LIMIT $3
"""


def settlement_account(account: SettlementAccount) -> SettlementAccountState:
    """Return how this bank's settlement account is."""
    listed = tuple(
        SettlementFinding(
            fault=finding.fault.value,
            currency=finding.currency,
            cycle=finding.cycle,
            movement=finding.movement,
            detail=finding.detail,
        )
        for finding in account.findings
    )
    return SettlementAccountState(agent=account.agent, condition=account.condition(), findings=listed)


async def movements(connection: asyncpg.Connection, agent: str, after: int, limit: int) -> MovementPage:
    """Return a page of what moved on this bank's account at an agent."""
    listed = tuple(
        MovementView(
            id=row[0],
            currency=row[1],
            sequence=row[2],
            amount_minor=str(row[3]),
            cycle=row[4],
            reference=row[5],
            seen_at=timestamp(row[6]),
            explanation=row[7],
            explained_by=row[8],
            signed=msgspec.json.decode(row[9], type=Envelope),
        )
        for row in await connection.fetch(MOVEMENTS, agent, after, limit)
    )
    return MovementPage(movements=listed, next=listed[-1].id if listed else after)


async def lanes(connection: asyncpg.Connection, undeliverable: Mapping[str, datetime]) -> list[LaneView]:
    """Return every lane of this bank; `undeliverable` says which counterparties can't be paid since when."""
    return [
        LaneView(
            sender=row[0],
            receiver=row[1],
            currency=row[2],
            last_sequence=row[3],
            settled_sequence=row[4],
            unsettled_minor=row[5],
            undeliverable_since=None if (since := undeliverable.get(row[1])) is None else f"{since:%Y-%m-%dT%H:%M:%SZ}",
        )
        for row in await connection.fetch(LANES)
    ]


async def batch(connection: asyncpg.Connection, batch_id: str) -> BatchView | None:
    """Return what became of a batch; None if there is none under this id."""
    row = await connection.fetchrow(batches.BATCH, batch_id)
    if row is None:
        return None
    payments: dict[str, int] = {}
    for type_, count in await connection.fetch(batches.STATES, batch_id):
        status = STATUS_AFTER[type_].value
        payments[status] = payments.get(status, 0) + count
    return BatchView(
        id=row[0],
        name=row[1],
        made_by=row[2],
        recorded_at=timestamp(row[3]),
        outcomes=dict(await connection.fetch(batches.OUTCOMES, batch_id)),
        payments=payments,
        detached_until=await detached_until(connection),
    )


async def batch_orders(
    connection: asyncpg.Connection,
    batch_id: str,
    outcome: str | None,
    status: str | None,
    after: tuple[int, str],
    limit: int,
) -> list[BatchOrderView]:
    """Return a page of a batch's orders."""
    types = None if status is None else [type_ for type_, after_ in STATUS_AFTER.items() if after_ == status]
    return [
        BatchOrderView(
            line=row[0],
            id=row[1],
            outcome=row[2],
            reason=row[3],
            status=None if row[4] is None else STATUS_AFTER[row[4]].value,
        )
        for row in await connection.fetch(batches.ORDERS, batch_id, outcome, *after, limit, types)
    ]
