"""What counterparties owe, unsettled, beside what they may: read for people, and watched for who comes near."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import structlog
from msgspec import Struct
from prometheus_client import Counter, Gauge

from gateway.federation.telemetry import REGISTRY
from participants.ledger import store
from participants.ledger.exposure import Limit
from participants.watch import Outage, Watch

WATCH_SECONDS = 2.0
NAMED_MAX = 10
OWED = """
SELECT a.code, a.currency, b.balance FROM account a JOIN account_balance b ON b.account_id = a.id
WHERE a.kind = 'due_from'
"""

NEAR = Gauge(
    "concordat_exposures_near_limit",
    "Counterparties and currencies that owe so much that they are near their limit.",
    ("bank",),
    registry=REGISTRY,
)
DECLINED = Counter(
    "concordat_payments_beyond_exposure_limit",
    "Payments of other banks declined for what those owe already.",
    ("bank",),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


class Exposure(Struct, frozen=True):
    """What a counterparty owes in a currency, unsettled, and the limit that binds. In minor units."""

    counterparty: str
    currency: str
    unsettled: int
    limit: Limit

    @property
    def near(self) -> bool:
        return self.limit.near(self.unsettled)

    @property
    def room(self) -> int:
        """How much more it may owe."""
        return max(0, self.limit.minor - self.unsettled)

    def __str__(self) -> str:
        share = f"{self.unsettled * 100 // self.limit.minor} %" if self.limit.minor else "over"
        return f"{self.counterparty} {self.currency} {share}"


async def read_exposures(connection: asyncpg.Connection) -> list[Exposure]:
    """Return what is owed and what may be, by counterparty and currency, for all that owe or that a limit names."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        limits = await store.read_limits(connection)
        owed = {(row[0], row[1]): row[2] for row in await connection.fetch(OWED)}
    return [
        Exposure(bank, currency, owed.get((bank, currency), 0), limits.of(bank, currency))
        for bank, currency in sorted(owed.keys() | limits.pairs)
    ]


class ExposureWatch:
    """Tells of counterparties that come near their limits: a line in the log for each, once, a gauge, and readiness.

    It reads the database, so it also knows what the bank's other nodes accept.
    """

    def __init__(self, bank: str, pool: asyncpg.Pool, outage: Outage) -> None:
        self._bank = bank
        self._pool = pool
        self._near: list[Exposure] = []
        self.task = Watch("exposure-watch", self.look, every_s=WATCH_SECONDS, outage=outage).task

    def condition(self) -> str:
        """Tell who is near its limit, for the node's readiness."""
        named = ", ".join(map(str, self._near[:NAMED_MAX]))
        more = len(self._near) - NAMED_MAX
        return f"near the limit: {named}" + (f" and {more} more" if more > 0 else "") if named else "within limits"

    async def look(self) -> None:
        """Read what is owed, and tell who came near since."""
        async with self._pool.acquire() as connection:
            self._tell(await read_exposures(connection))

    def _tell(self, exposures: Sequence[Exposure]) -> None:
        before = {(exposure.counterparty, exposure.currency) for exposure in self._near}
        self._near = [exposure for exposure in exposures if exposure.near]
        NEAR.labels(self._bank).set(len(self._near))
        for exposure in self._near:
            pair = (exposure.counterparty, exposure.currency)
            if pair not in before:
                share = {"counterparty": pair[0], "currency": pair[1], "set_by": exposure.limit.source}
                log.warning("a counterparty is near its limit", **share)
