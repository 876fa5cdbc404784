"""Whose clock is off: ours, or another member's.

Each member says by its answers what time it is there. No single one is believed: the right time is the middle of all
clocks, our own among them, so it takes most of them to say that ours is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import structlog
from msgspec import Struct
from prometheus_client import Gauge

from gateway.federation.identity.tokens import CLOCK_SKEW_MAX_S
from gateway.federation.problems import Refusal, ServiceReason
from gateway.federation.telemetry import REGISTRY

OFFSET_SECONDS_MAX = CLOCK_SKEW_MAX_S
"""What is further off has its tokens refused."""
HEARD_SECONDS_MAX = 600.0
"""What was heard longer ago says nothing any more."""
OURS = "ours"

OFFSET = Gauge(
    "concordat_clock_offset_seconds",
    "How far a member's clock is ahead of this node's, as it said when it was last heard.",
    ("node", "member"),
    registry=REGISTRY,
)
OWN_OFFSET = Gauge(
    "concordat_clock_own_offset_seconds",
    "How far this node's clock is ahead of the middle of all clocks.",
    ("node",),
    registry=REGISTRY,
)

log = structlog.get_logger(__name__)


class Span(Struct, frozen=True):
    """How many seconds a clock is ahead of ours: between these two, for an answer takes time and whole seconds."""

    low: float
    high: float

    def least(self) -> float:
        """Return the least that it must be off; 0 if it may be right."""
        if self.low <= 0 <= self.high:
            return 0.0
        return self.low if self.low > 0 else self.high


class Judgement(Struct, frozen=True):
    """How far each clock is ahead of the right time."""

    ours: float
    members: Mapping[str, float]

    def off(self) -> dict[str, float]:
        """Return the clocks that are further off than may be, ours first."""
        clocks = {OURS: self.ours, **dict(sorted(self.members.items()))}
        return {name: seconds for name, seconds in clocks.items() if abs(seconds) > OFFSET_SECONDS_MAX}


def judge(offsets: Mapping[str, float]) -> Judgement:
    """Judge all clocks by how far each member's is ahead of ours.

    Where an even number has two middles, the one that is nearer to our clock counts.
    """
    clocks = sorted([0.0, *offsets.values()])
    right = min(clocks[(len(clocks) - 1) // 2], clocks[len(clocks) // 2], key=abs)
    # Not -0.0, which metrics would show.
    return Judgement(0.0 - right, {member: offset - right for member, offset in offsets.items()})


class Clocks:
    """What time it is at other members, as far as a node hears of it. Belongs to one event loop."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._heard: dict[str, tuple[Span, float]] = {}
        self._named: dict[str, float] = {}

    def hear_answer(self, member: str, date: str | None, *, sent_at: float, received_at: float) -> None:
        """Take in the `Date` of an answer; `sent_at` and `received_at` are our clock's. What is no date is ignored."""
        try:
            instant = parsedate_to_datetime(date or "").replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            return
        # The whole second it names began at most one second before it was written.
        self.hear(member, Span(instant - received_at, instant + 1 - sent_at))

    def hear(self, member: str, span: Span) -> None:
        """Take in between what a member's clock is ahead of ours."""
        self._heard[member] = (span, time.monotonic())
        OFFSET.labels(self._node, member).set(span.least())

    def judgement(self) -> Judgement:
        """Judge by what was heard not long ago."""
        since = time.monotonic() - HEARD_SECONDS_MAX
        self._heard = {member: heard for member, heard in self._heard.items() if heard[1] >= since}
        return judge({member: span.least() for member, (span, _) in self._heard.items()})

    def condition(self) -> str:
        """Tell for the node's readiness whose clock is off. Raises Refusal `not_ready` if ours is."""
        off = self.tell()
        if OURS in off:
            detail = f"clock: ours is {_words(off[OURS])} most of the {len(self._heard)} members heard"
            raise Refusal(ServiceReason.NOT_READY, detail, retry_after_s=60)
        if not off:
            return f"right by {len(self._heard)} members" if self._heard else "nobody heard"
        return "; ".join(f"{member} is {_words(seconds)} us" for member, seconds in off.items())

    def tell(self) -> dict[str, float]:
        """Log whose clock is off and whose isn't any more, once for each change; return those that are off."""
        judgement = self.judgement()
        OWN_OFFSET.labels(self._node).set(judgement.ours)
        off = judgement.off()
        for name, seconds in off.items():
            if name not in self._named:
                log.error("a clock is off", whose=name, ahead_s=round(seconds), members_heard=len(self._heard))
        for name in self._named.keys() - off.keys():
            log.info("a clock is right again", whose=name)
        self._named = off
        return off


def _words(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
