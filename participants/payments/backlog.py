"""What waits and isn't settled: read every few seconds beside the work, for metrics and for readiness."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
from msgspec import Struct
from prometheus_client import Gauge

from gateway.federation.supervision import Supervised
from gateway.federation.telemetry import REGISTRY

LOOK_SECONDS = 10.0
OLD_SECONDS = 300.0
"""A payment that waits for another bank for so long is worth a look of people."""
NAMED_MAX = 5
WAITING = """
SELECT w.counterparty, w.state, w.direction, w.number, e.recorded_at FROM (
    SELECT counterparty, state, direction, count(*) AS number, min(event_sequence) AS oldest
    FROM payment_open GROUP BY counterparty, state, direction
) w JOIN event e ON e.sequence = w.oldest
"""
UNSETTLED = """
SELECT l.sender, l.receiver, l.currency, coalesce(h.total, 0) - coalesce(s.total, 0)
FROM lane l
LEFT JOIN LATERAL (SELECT total FROM lane_head WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) h ON true
LEFT JOIN LATERAL (SELECT total FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) s ON true
"""

LISTS = "SELECT name, max(imported_at) FROM screening_list GROUP BY name"

QUEUED = Gauge(
    "concordat_payments_queued",
    "Payments that wait for the other bank's answer.",
    ("bank", "counterparty"),
    registry=REGISTRY,
)
QUEUED_SINCE = Gauge(
    "concordat_payments_queued_since_timestamp_seconds",
    "Unix time since when the oldest of them waits; 0 if none does.",
    ("bank", "counterparty"),
    registry=REGISTRY,
)
HELD = Gauge(
    "concordat_holds_open", "Payments held by screening, to decide on.", ("bank", "direction"), registry=REGISTRY
)
HELD_SINCE = Gauge(
    "concordat_holds_open_since_timestamp_seconds",
    "Unix time since when the oldest of them is held; 0 if none is.",
    ("bank", "direction"),
    registry=REGISTRY,
)
RECALLS = Gauge(
    "concordat_recalls_open",
    "Recalls without an answer: of this bank's payments (out), and of those that it accepted (in).",
    ("bank", "direction"),
    registry=REGISTRY,
)
UNSETTLED_MINOR = Gauge(
    "concordat_lane_unsettled_minor_units",
    "What was accepted on a lane and isn't settled, in minor units; rounded as a metric is.",
    ("sender", "receiver", "currency"),
    registry=REGISTRY,
)

LIST_IMPORTED_AT = Gauge(
    "concordat_screening_list_imported_timestamp_seconds",
    "Unix time when the sanctions list in force was imported.",
    ("bank", "list"),
    registry=REGISTRY,
)


class Waiting(Struct, frozen=True):
    """Payments of one kind that wait, and since when the oldest does."""

    number: int
    since: datetime


class Backlog:
    """Looks at what waits. Belongs to one event loop."""

    def __init__(self, bank: str, pool: asyncpg.Pool) -> None:
        self._bank = bank
        self._pool = pool
        self.queued: dict[str, Waiting] = {}
        """By counterparty."""
        self.held: dict[str, Waiting] = {}
        """By direction, `in` or `out`."""
        self.task = Supervised("backlog-watch", self._watch)

    def condition(self) -> str:
        """Tell how many payments wait for other banks, and since when the oldest does, for the node's readiness."""
        if not self.queued:
            return "none waits"
        oldest = min(waiting.since for waiting in self.queued.values())
        number = sum(waiting.number for waiting in self.queued.values())
        return f"{number} wait, the oldest since {oldest:%Y-%m-%dT%H:%M:%SZ}"

    def old(self) -> dict[str, datetime]:
        """Return the counterparties for which a payment waits for long already, and since when."""
        now = datetime.now(UTC)
        return {
            name: waiting.since
            for name, waiting in sorted(self.queued.items())
            if (now - waiting.since).total_seconds() > OLD_SECONDS
        }

    async def look(self) -> None:
        """Read what waits, and set the metrics."""
        async with self._pool.acquire() as connection:
            waiting = await connection.fetch(WAITING)
            unsettled = await connection.fetch(UNSETTLED)
            lists = await connection.fetch(LISTS)
        queued: dict[str, Waiting] = {}
        held: dict[str, Waiting] = {}
        recalls = {"in": 0, "out": 0}
        for counterparty, state, direction, number, since in waiting:
            if state == "recalled":
                recalls[direction] += number
                continue
            of_kind, name = (held, direction) if state == "held" else (queued, counterparty)
            before = of_kind.get(name)
            of_kind[name] = (
                Waiting(number, since) if before is None else Waiting(before.number + number, min(before.since, since))
            )
        for name in self.queued.keys() | queued.keys():
            _set(QUEUED.labels(self._bank, name), QUEUED_SINCE.labels(self._bank, name), queued.get(name))
        for name in ("in", "out"):
            _set(HELD.labels(self._bank, name), HELD_SINCE.labels(self._bank, name), held.get(name))
        for name, number in recalls.items():
            RECALLS.labels(self._bank, name).set(number)
        for sender, receiver, currency, minor in unsettled:
            UNSETTLED_MINOR.labels(sender, receiver, currency).set(float(minor))
        for name, imported_at in lists:
            LIST_IMPORTED_AT.labels(self._bank, name).set(imported_at.timestamp())
        self.queued, self.held = queued, held

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)


def _set(number: Gauge, since: Gauge, waiting: Waiting | None) -> None:
    number.set(0 if waiting is None else waiting.number)
    since.set(0 if waiting is None else waiting.since.timestamp())
