"""What waits and isn't settled: read every few seconds beside the work, for metrics and for readiness."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

import asyncpg
from msgspec import Struct
from prometheus_client import Gauge

from gateway.federation.telemetry import REGISTRY
from participants.watch import Outage, Watch

LOOK_SECONDS = 10.0
OLD_SECONDS = 300.0
"""A payment that waits for another bank for so long is worth a look of people."""
NAMED_MAX = 5
WAITING = """
SELECT w.counterparty, w.state, w.direction, w.elsewhere, w.number, e.recorded_at FROM (
    SELECT counterparty, state, direction, payment_id = ANY($1::uuid[]) AS elsewhere, count(*) AS number,
        min(event_sequence) AS oldest
    FROM payment_open GROUP BY 1, 2, 3, 4
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
    "Payments that wait for the other bank's answer, without those that it holds.",
    ("bank", "counterparty"),
    registry=REGISTRY,
)
QUEUED_SINCE = Gauge(
    "concordat_payments_queued_since_timestamp_seconds",
    "Unix time since when the oldest of them waits; 0 if none does.",
    ("bank", "counterparty"),
    registry=REGISTRY,
)
HELD_ELSEWHERE = Gauge(
    "concordat_payments_held_elsewhere",
    "Payments to another bank that it holds: its people have to decide.",
    ("bank", "counterparty"),
    registry=REGISTRY,
)
HELD_ELSEWHERE_SINCE = Gauge(
    "concordat_payments_held_elsewhere_since_timestamp_seconds",
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

    def __init__(
        self, bank: str, pool: asyncpg.Pool, outage: Outage, *, held_elsewhere: Callable[[], Collection[str]]
    ) -> None:
        """`held_elsewhere` names the payments that other banks have answered to hold."""
        self._bank = bank
        self._pool = pool
        self._held_elsewhere = held_elsewhere
        self.queued: dict[str, Waiting] = {}
        """By counterparty, without those that it holds."""
        self.elsewhere: dict[str, Waiting] = {}
        """Those, by counterparty."""
        self.held: dict[str, Waiting] = {}
        """By direction, `in` or `out`."""
        self.task = Watch("backlog-watch", self.look, every_s=LOOK_SECONDS, outage=outage).task

    def condition(self) -> str:
        """Tell how many payments wait for other banks, and since when the oldest does, for the node's readiness."""
        return f"{_sum(self.queued)} wait, {_oldest(self.queued)}" if self.queued else "none waits"

    def elsewhere_condition(self) -> str:
        """Tell how many payments other banks hold, by bank: nothing that this one could do about."""
        named = [f"{waiting.number} at {name}" for name, waiting in sorted(self.elsewhere.items())]
        more = [f"{len(named) - NAMED_MAX} more banks"] if len(named) > NAMED_MAX else []
        listed = ", ".join([*named[:NAMED_MAX], *more])
        return f"{listed}, {_oldest(self.elsewhere)}" if named else "none"

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
            waiting = await connection.fetch(WAITING, list(self._held_elsewhere()))
            unsettled = await connection.fetch(UNSETTLED)
            lists = await connection.fetch(LISTS)
        queued: dict[str, Waiting] = {}
        held: dict[str, Waiting] = {}
        recalls = {"in": 0, "out": 0}
        there: dict[str, Waiting] = {}
        for counterparty, state, direction, elsewhere, number, since in waiting:
            if state == "recalled":
                recalls[direction] += number
                continue
            of_kind, name = (held, direction) if state == "held" else (there if elsewhere else queued, counterparty)
            before = of_kind.get(name)
            of_kind[name] = (
                Waiting(number, since) if before is None else Waiting(before.number + number, min(before.since, since))
            )
        for name in self.queued.keys() | queued.keys():
            _set(QUEUED.labels(self._bank, name), QUEUED_SINCE.labels(self._bank, name), queued.get(name))
        for name in self.elsewhere.keys() | there.keys():
            gauges = HELD_ELSEWHERE.labels(self._bank, name), HELD_ELSEWHERE_SINCE.labels(self._bank, name)
            _set(*gauges, there.get(name))
        for name in ("in", "out"):
            _set(HELD.labels(self._bank, name), HELD_SINCE.labels(self._bank, name), held.get(name))
        for name, number in recalls.items():
            RECALLS.labels(self._bank, name).set(number)
        for sender, receiver, currency, minor in unsettled:
            UNSETTLED_MINOR.labels(sender, receiver, currency).set(float(minor))
        for name, imported_at in lists:
            LIST_IMPORTED_AT.labels(self._bank, name).set(imported_at.timestamp())
        self.queued, self.held, self.elsewhere = queued, held, there


def _sum(waiting: Mapping[str, Waiting]) -> int:
    return sum(kept.number for kept in waiting.values())


def _oldest(waiting: Mapping[str, Waiting]) -> str:
    return f"the oldest since {min(kept.since for kept in waiting.values()):%Y-%m-%dT%H:%M:%SZ}"


def _set(number: Gauge, since: Gauge, waiting: Waiting | None) -> None:
    number.set(0 if waiting is None else waiting.number)
    since.set(0 if waiting is None else waiting.since.timestamp())
