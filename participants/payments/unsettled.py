"""Value that no cycle settles: in a currency that the rulebook doesn't clear, or left over for days.

What is owed settles in cycles alone, so value on a lane that no cycle takes in stays owed for good, and nobody hears of
it. This looks at the lanes now and then and says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import asyncpg
import structlog
from msgspec import Struct
from prometheus_client import Gauge

from gateway.federation.telemetry import REGISTRY
from participants.ledger import store
from participants.watch import Outage, Watch

WATCH_SECONDS = 30.0
LEFT_OVER = timedelta(days=7)
"""Longer than a weekend with the longest holidays around it."""
NAMED_MAX = 10
# A lane's first payment that isn't settled, and when this bank numbered it: by its newest event, or an earlier one.
UNSETTLED = """
SELECT l.sender, l.receiver, l.currency, (
    SELECT max(recorded_at) FROM subject_event WHERE subject = e.payment_id
    AND type IN ('payment.accepted', 'payment.credited', 'payment.posted')
), now()
FROM lane l
LEFT JOIN LATERAL (SELECT sequence FROM lane_settled WHERE lane_id = l.id ORDER BY sequence DESC LIMIT 1) s ON true
JOIN lane_entry e ON e.lane_id = l.id AND e.sequence = coalesce(s.sequence, 0) + 1
ORDER BY l.sender, l.receiver, l.currency
"""

LANES_LEFT = Gauge(
    "concordat_lanes_in_no_cycle",
    "Lanes with value that no cycle settles: their currency isn't cleared, or it is left over for days.",
    ("bank",),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


class LeftReason(StrEnum):
    """Why value on a lane doesn't settle, in order of precedence."""

    CURRENCY_NOT_CLEARED = "currency_not_cleared"
    """The rulebook doesn't clear it, so no cycle takes the lane in. A return takes the payment back."""
    LEFT_OVER = "left_over"
    """Its first payment was numbered more than seven days ago, and no cycle settled it since."""


class LaneLeft(Struct, frozen=True):
    """A lane with value that no cycle settles."""

    sender: str
    receiver: str
    currency: str
    reason: LeftReason

    def __str__(self) -> str:
        return f"{self.sender} to {self.receiver} in {self.currency} {self.reason}"


def reason_left(numbered_at: datetime | None, now: datetime, *, cleared: bool) -> LeftReason | None:
    """Return why a lane's first unsettled payment, numbered at that time, doesn't settle; None if it may yet."""
    if not cleared:
        return LeftReason.CURRENCY_NOT_CLEARED
    return LeftReason.LEFT_OVER if numbered_at is not None and now - numbered_at > LEFT_OVER else None


async def read_lanes_left(connection: asyncpg.Connection) -> list[LaneLeft]:
    """Return the lanes with value that no cycle settles."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        limits = await store.read_limits(connection)
        lanes = await connection.fetch(UNSETTLED)
    return [
        LaneLeft(sender, receiver, currency, reason)
        for sender, receiver, currency, numbered_at, now in lanes
        if (reason := reason_left(numbered_at, now, cleared=limits.clears(currency))) is not None
    ]


class UnsettledWatch:
    """Tells of value that no cycle settles: a line in the log for each lane, once, a gauge, and readiness."""

    def __init__(self, bank: str, pool: asyncpg.Pool, outage: Outage) -> None:
        self._bank = bank
        self._pool = pool
        self._left: list[LaneLeft] = []
        self.task = Watch("unsettled-watch", self.look, every_s=WATCH_SECONDS, outage=outage).task

    def condition(self) -> str:
        """Tell on which lanes value is left, for the node's readiness."""
        named = ", ".join(map(str, self._left[:NAMED_MAX]))
        more = len(self._left) - NAMED_MAX
        return f"in no cycle: {named}" + (f" and {more} more" if more > 0 else "") if named else "none left over"

    async def look(self) -> None:
        """Read the lanes, and tell of those that came since."""
        async with self._pool.acquire() as connection:
            self._tell(await read_lanes_left(connection))

    def _tell(self, left: Sequence[LaneLeft]) -> None:
        before, self._left = set(self._left), list(left)
        LANES_LEFT.labels(self._bank).set(len(left))
        for lane in left:
            if lane not in before:
                named = {"sender": lane.sender, "receiver": lane.receiver, "currency": lane.currency}
                log.warning("value on a lane is in no cycle", **named, reason=lane.reason)
