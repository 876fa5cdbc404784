"""Payments with their times, and orders that were refused, as they are read to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg
import msgspec
from msgspec import Struct

from participants.ledger.events import Event, EventRow, OrderTaken, read
from participants.ledger.payment import Payment, apply

HISTORIES = """
SELECT sequence, subject::text, version, type, schema_version, data, recorded_at FROM event
WHERE subject = ANY($1::uuid[]) AND type LIKE 'payment.%' ORDER BY subject, version
"""
REFUSALS = "SELECT id, payment_id::text, recorded_at, reason, asked FROM refusal WHERE id = ANY($1::bigint[])"
# The newest of them, however often somebody asked.
REFUSALS_OF = """
SELECT id, payment_id::text, recorded_at, reason, asked FROM refusal WHERE payment_id = $1::uuid
ORDER BY id DESC LIMIT 20
"""
_decode_order = msgspec.json.Decoder(OrderTaken).decode


class Recorded(Struct, frozen=True):
    """An event of a payment, and when it was recorded."""

    event: Event
    at: datetime


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
        """When it was put into the queue or before people."""
        since = self.payment.waiting_since
        return next((recorded.at for recorded in self.history if recorded.event.sequence == since), self.created_at)


class RefusedOrder(Struct, frozen=True):
    """An order that was refused; releases before didn't keep what was asked for."""

    id: int
    payment_id: str
    at: datetime
    reason: str
    order: OrderTaken | None


async def read_known(connection: asyncpg.Connection, ids: Iterable[str]) -> dict[str, KnownPayment]:
    """Return the payments that exist under these ids. Raises EventUnreadableError, ImpossibleEventError."""
    histories: dict[str, list[Recorded]] = {}
    for row in await connection.fetch(HISTORIES, list(ids)):
        histories.setdefault(row[1], []).append(Recorded(read(EventRow(*row[:6])), row[6]))
    known = {}
    for id_, history in histories.items():
        payment: Payment | None = None
        for recorded in history:
            payment = apply(payment, recorded.event)
        if payment is not None:
            known[id_] = KnownPayment(payment, history)
    return known


async def read_refused(connection: asyncpg.Connection, numbers: Sequence[int]) -> dict[int, RefusedOrder]:
    """Return refused orders by their numbers."""
    return {row[0]: _refused(row) for row in await connection.fetch(REFUSALS, numbers)} if numbers else {}


async def refusals_of(connection: asyncpg.Connection, payment_id: str) -> list[RefusedOrder]:
    """Return the newest refusals of orders under an id, the newest first."""
    return [_refused(row) for row in await connection.fetch(REFUSALS_OF, payment_id)]


def _refused(row: asyncpg.Record) -> RefusedOrder:
    return RefusedOrder(row[0], row[1], row[2], row[3], None if row[4] is None else _decode_order(row[4]))
