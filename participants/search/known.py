"""Payments with their times, and orders that were refused, as they are read to be shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from participants.ledger.events import Event, EventRow, OrderTaken, read
from participants.ledger.payment import Payment, Status, apply

HISTORIES = """
SELECT sequence, subject::text, version, type, schema_version, data, recorded_at FROM subject_event
WHERE subject = ANY($1::uuid[]) AND type LIKE 'payment.%' ORDER BY subject, version
"""
REFUSALS = "SELECT id, payment_id::text, recorded_at, reason, asked FROM refusal WHERE id = ANY($1::bigint[])"
# The newest of them, however often somebody asked.
REFUSALS_OF = """
SELECT id, payment_id::text, recorded_at, reason, asked FROM refusal WHERE payment_id = $1::uuid
ORDER BY id DESC LIMIT 20
"""
_RELEASED = "payment.released"
_decode_order = msgspec.json.Decoder(OrderTaken).decode


class Recorded(Struct, frozen=True):
    """An event of a payment, when it was recorded, and how the payment stood then."""

    event: Event
    at: datetime
    status: Status


class KnownPayment(Struct, frozen=True):
    """A payment with its events, oldest first."""

    payment: Payment
    history: Sequence[Recorded]

    @property
    def created_at(self) -> datetime:
        return self.history[0].at

    @property
    def updated_at(self) -> datetime:
        return self.history[-1].at

    @property
    def waiting_since(self) -> datetime:
        """When it was put into the queue or before people, whatever was asked for since."""
        return next(
            (recorded.at for recorded in reversed(self.history) if recorded.event.type == _RELEASED), self.created_at
        )


class RefusedOrder(Struct, frozen=True):
    """An order that was refused; releases before didn't keep what was asked for."""

    id: int
    payment_id: str
    at: datetime
    reason: str
    order: OrderTaken | None


async def read_known(connection: asyncpg.Connection, ids: Iterable[str]) -> dict[str, KnownPayment]:
    """Return the payments that exist under these ids. Raises EventUnreadableError, ImpossibleEventError."""
    payments: dict[str, Payment] = {}
    histories: defaultdict[str, list[Recorded]] = defaultdict(list)
    for row in await connection.fetch(HISTORIES, list(ids)):
        event = read(EventRow(*row[:6]))
        payments[row[1]] = payment = apply(payments.get(row[1]), event)
        histories[row[1]].append(Recorded(event, row[6], payment.status))
    return {id_: KnownPayment(payment, histories[id_]) for id_, payment in payments.items()}


async def read_refused(connection: asyncpg.Connection, numbers: Sequence[int]) -> dict[int, RefusedOrder]:
    """Return refused orders by their numbers."""
    return {row[0]: _refused(row) for row in await connection.fetch(REFUSALS, numbers)} if numbers else {}


async def refusals_of(connection: asyncpg.Connection, payment_id: str) -> list[RefusedOrder]:
    """Return the newest refusals of orders under an id, the newest first."""
    return [_refused(row) for row in await connection.fetch(REFUSALS_OF, payment_id)]


def _refused(row: asyncpg.Record) -> RefusedOrder:
    return RefusedOrder(row[0], row[1], row[2], row[3], None if row[4] is None else _decode_order(row[4]))
