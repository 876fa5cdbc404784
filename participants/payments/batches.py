"""Batches of orders: all or nothing where that is asked for, tried without being taken, and known by an id.

A batch that has an id has a status. It is kept in the transaction that takes its orders, so what it says and what was
paid are one; several requests that name the same id make one batch, as those of a file do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

import asyncpg
import msgspec
from msgspec import Struct

from gateway.federation.problems import Refusal, RefusalReason
from participants.ledger import store
from participants.ledger.books import Books
from participants.ledger.events import PaymentOrder
from participants.ledger.payment import STATUS_AFTER
from participants.ledger.rows import BatchOrder, BatchRow
from participants.payments.orders import CheckedOrder, OrderOutcome, OrderReason, SubmitOrders, refuse_order
from participants.payments.row_identity import REFERENCES, Content, row_ids

TAKEN_BY = """
SELECT payment_id::text, batch_id::text FROM batch_order WHERE payment_id = ANY($1::uuid[]) AND outcome = 'taken'
"""
EARLIER = """
SELECT content, payment_id::text FROM earlier_order WHERE content = ANY($1::bytea[]) ORDER BY event_sequence
"""
BATCH = "SELECT id::text, name, made_by, recorded_at FROM batch WHERE id = $1::uuid"
OUTCOMES = "SELECT outcome, count(*) FROM batch_order WHERE batch_id = $1::uuid GROUP BY outcome"
# What a payment is follows from the type of the last event that moved it.
LAST_EVENT = f"""
LEFT JOIN LATERAL (
    SELECT e.type, e.data FROM subject_event e WHERE e.subject = b.payment_id
    AND e.type IN ({", ".join(map(repr, STATUS_AFTER))}) ORDER BY e.version DESC LIMIT 1
) last ON b.outcome <> 'refused'
"""  # noqa: S608 - names of ours
STATES = f"""
SELECT last.type, count(*) FROM batch_order b {LAST_EVENT} WHERE b.batch_id = $1::uuid AND last.type IS NOT NULL
GROUP BY last.type
"""  # noqa: S608 - text of ours
ORDERS = f"""
SELECT b.line, b.payment_id::text, b.outcome,
    coalesce(b.reason, CASE WHEN last.type IN ('payment.refused', 'payment.cancelled') THEN last.data->>'reason' END),
    last.type
FROM batch_order b {LAST_EVENT}
WHERE b.batch_id = $1::uuid AND ($2::text IS NULL OR b.outcome = $2) AND (b.line, b.payment_id) > ($3, $4::uuid)
    AND ($6::text[] IS NULL OR last.type = ANY($6))
ORDER BY b.line, b.payment_id LIMIT $5
"""  # noqa: S608 - text of ours
MAKER = "SELECT made_by FROM batch WHERE id = $1::uuid"


class BatchRequestReason(RefusalReason):
    """Why a request about a batch of the bank's own is refused, in order of precedence."""

    BATCH_ID_MISSING = "batch_id_missing", 400
    """It says how the batch is called or numbered, and not which one it is."""
    BATCH_LINES_DIFFER = "batch_lines_differ", 400
    """There isn't one number for each order."""
    BATCH_OF_ANOTHER = "batch_of_another", 409
    """Somebody else made it, and only its maker adds to it. No order of the request was looked at."""
    BATCH_UNKNOWN = "batch_unknown", 404


class Batch(Struct, frozen=True):
    """A batch that has an id. `lines` are the numbers of its orders, as lines of a file; `made_by` is a subject."""

    id: str
    name: str
    made_by: str
    lines: Sequence[int]


class Known(Struct, frozen=True):
    """An order of a batch whose payment an earlier release took under another id, and its number in the batch."""

    payment_id: str
    line: int


class SubmitBatch(SubmitOrders):
    """Decide on the orders of a batch: each for itself, or all or none of them."""

    def __init__(
        self,
        orders: Sequence[CheckedOrder],
        *,
        batch: Batch | None = None,
        atomic: bool = False,
        known: Iterable[Known] = (),
    ) -> None:
        super().__init__(orders)
        self._batch = batch
        self._atomic = atomic
        self._known = known

    def decide(self, books: Books) -> list[OrderOutcome]:
        outcomes = self._all_or_none(books) if self._atomic else super().decide(books)
        if self._batch is not None:
            self._keep(books, self._batch, outcomes)
        return outcomes

    def _all_or_none(self, books: Books) -> list[OrderOutcome]:
        trial = books.copy_for(self.account_keys(books))
        tried = super().decide(trial)
        if all(outcome.reason is None for outcome in tried):
            return super().decide(books)
        outcomes = []
        for checked, outcome in zip(self.orders, tried, strict=True):
            order = checked.order.value
            if outcome.replayed and order.id in books.payments:
                outcomes.append(outcome)
            else:
                reason = OrderReason.BATCH_NOT_TAKEN if outcome.reason is None else OrderReason(outcome.reason)
                outcomes.append(refuse_order(books, checked.order, reason, outcome.detail))
        return outcomes

    def _keep(self, books: Books, batch: Batch, outcomes: Sequence[OrderOutcome]) -> None:
        made = BatchRow(batch.id, batch.name, batch.made_by, books.now)
        if books.rows.batches.setdefault(batch.id, made).made_by != batch.made_by:
            return
        rows = [
            BatchOrder(batch.id, outcome.id, line, _word(outcome), outcome.reason, batch.made_by)
            for outcome, line in zip(outcomes, batch.lines, strict=True)
        ]
        rows += [
            BatchOrder(batch.id, known.payment_id, known.line, "known", None, batch.made_by) for known in self._known
        ]
        kept = books.rows.batch_orders
        for row in rows:
            # The very same request may stand in this group twice, since its answer took long.
            earlier = kept.get((row.batch_id, row.payment_id))
            if earlier is None or earlier.outcome != "taken":
                kept[row.batch_id, row.payment_id] = row


def _word(outcome: OrderOutcome) -> str:
    if outcome.reason is not None:
        return "refused"
    return "known" if outcome.replayed else "taken"


async def tried(
    connection: asyncpg.Connection, orders: Sequence[CheckedOrder], *, bank: str, agent: str, atomic: bool
) -> list[OrderOutcome]:
    """Return how orders would be decided on the books as they stand, and leave nothing. In a transaction."""
    command = SubmitBatch(orders, atomic=atomic)
    books = Books(bank, agent)
    books.clear(*await store.read_head(connection))
    books.begin(datetime.now(UTC))
    books.payments, books.detached = await store.read_into(connection, books, [command], read_all=True)
    return command.decide(books)


async def require_maker(connection: asyncpg.Connection, batch: Batch) -> None:
    """Raise Refusal BATCH_OF_ANOTHER unless a batch is new or its maker's."""
    made_by = await connection.fetchval(MAKER, batch.id)
    if made_by not in (None, batch.made_by):
        raise Refusal(BatchRequestReason.BATCH_OF_ANOTHER, f"{made_by} made batch {batch.id}", pointer="/id")


async def named_batches(connection: asyncpg.Connection, outcomes: Iterable[OrderOutcome]) -> list[OrderOutcome]:
    """Return the outcomes, those of known payments with the batch that took them in, where one did."""
    outcomes = list(outcomes)
    known = [outcome.id for outcome in outcomes if outcome.replayed]
    if not known:
        return outcomes
    taken_by = dict(await connection.fetch(TAKEN_BY, known))
    return [
        msgspec.structs.replace(outcome, batch=taken_by.get(outcome.id)) if outcome.replayed else outcome
        for outcome in outcomes
    ]


async def paid_earlier(connection: asyncpg.Connection, bank: str, orders: Iterable[PaymentOrder]) -> Mapping[str, str]:
    """Return by the ids of orders the payments that an earlier release took for the same rows of files."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM earlier_order)"):
        return {}
    # Earlier releases knew no references, so a row with some was never theirs.
    rows = (_content(bank, order) for order in orders if not any(getattr(order, member) for member in REFERENCES))
    contents = {_digest(content): content for content in rows}
    payments: dict[bytes, list[str]] = {}
    for digest, payment_id in await connection.fetch(EARLIER, list(contents)):
        payments.setdefault(digest, []).append(payment_id)
    return {
        id_: payment_id
        for digest, ids in payments.items()
        for id_, payment_id in zip(row_ids(contents[digest], len(ids)), ids, strict=True)
    }


def _content(bank: str, order: PaymentOrder) -> Content:
    return Content(
        debtor_bank=bank,
        debtor_account=order.debtor_account,
        debtor_name=order.debtor_name,
        creditor_bank=order.creditor_agent,
        creditor_account=order.creditor_account,
        creditor_name=order.creditor_name,
        amount_minor=order.amount_minor,
        currency=order.currency,
        remittance=order.remittance,
    )


def _digest(content: Content) -> bytes:
    """Return the digest of all but the debtor's bank and references, as migration 0007 makes it."""
    return sha256("\x1f".join(content[1:9]).encode()).digest()
