"""What the ledger's writer has done, as metrics: counted for each group, so a payment costs next to nothing."""

from __future__ import annotations

from collections import Counter as Tally
from operator import itemgetter

import msgspec
from msgspec import Struct
from prometheus_client import Counter, Histogram

from gateway.federation.telemetry import REGISTRY
from participants.ledger.rows import Rows

EVENTS = Counter(
    "concordat_ledger_events",
    "Events that this process has written, by type: what became of payments, and why where the event says it.",
    ("bank", "type", "reason"),
    registry=REGISTRY,
)
ORDERS_REFUSED = Counter(
    "concordat_orders_refused",
    "Orders of the bank's own customers that were refused, by reason.",
    ("bank", "reason"),
    registry=REGISTRY,
)
GROUP_EVENTS = Histogram(
    "concordat_ledger_group_events",
    "Events written in one transaction.",
    ("bank",),
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "concordat_ledger_commit_seconds",
    "Time that writing one group took, with its commit.",
    ("bank",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
WITH_A_REASON = frozenset({"payment.refused", "payment.declined"})
_type = itemgetter(3)


class _Reason(Struct):
    reason: str = ""


_decode = msgspec.json.Decoder(_Reason).decode


class LedgerFigures:
    """Counts what a bank's writer has written."""

    def __init__(self, bank: str) -> None:
        self._bank = bank
        self._groups = GROUP_EVENTS.labels(bank)
        self.commits = COMMIT_SECONDS.labels(bank)

    def count(self, rows: Rows) -> None:
        """Count one group that is written."""
        self._groups.observe(len(rows.events))
        for kind, number in Tally(map(_type, rows.events)).items():
            if kind in WITH_A_REASON:
                reasons = Tally(_decode(event[-1]).reason for event in rows.events if event[3] == kind)
            else:
                reasons = Tally({"": number})
            for reason, count in reasons.items():
                EVENTS.labels(self._bank, kind, reason).inc(count)
        for reason, count in Tally(map(itemgetter(2), rows.refusals)).items():
            ORDERS_REFUSED.labels(self._bank, reason).inc(count)
