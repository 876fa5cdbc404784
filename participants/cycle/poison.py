"""Events of the feed that can't be dealt with: whose fault that is, and what was set aside.

An event whose content is wrong stays wrong however often it is read again, so it is set aside and told of, and the feed
goes on. What is the matter with the world (network, database, disk) passes, so it is waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import asyncpg
import msgspec
import structlog
from msgspec import Struct
from prometheus_client import Counter

from compliance.crypto.dsse import EvidenceError
from gateway.federation.http.client import RemoteError, RemoteProblem
from gateway.federation.membership.trust import TrustError
from gateway.federation.problems import Refusal
from gateway.federation.storage.failures import DATABASE_ERRORS
from gateway.federation.telemetry import REGISTRY
from participants.cycle.coordinator import FINAL_ANSWERS

SET_ASIDE_MAX = 100
"""So many are remembered, the newest: nothing that a peer sends fills our memory."""

SET_ASIDE = Counter(
    "concordat_feed_events_set_aside", "Events of the coordinator's feed that were set aside.", registry=REGISTRY
)

log = structlog.get_logger(__name__)


class Fault(Enum):
    """Whose fault it is that an event couldn't be dealt with."""

    EVENT = "event"
    """Its own: asking again doesn't mend it."""
    WORLD = "world"
    """It passes."""
    UNFORESEEN = "unforeseen"
    """Nobody knows; worth a few attempts, not the whole feed."""


def fault_of(error: Exception) -> Fault:
    """Judge an error that dealing with an event ended in."""
    match error:
        case RemoteProblem():
            return Fault.EVENT if error.status in FINAL_ANSWERS else Fault.WORLD
        case Refusal():
            return Fault.EVENT if error.status < 500 else Fault.WORLD
        case EvidenceError() | TrustError() | asyncpg.DataError() | msgspec.MsgspecError():
            return Fault.EVENT
        case _ if isinstance(error, (RemoteError, *DATABASE_ERRORS)):
            return Fault.WORLD
        case ValueError() | LookupError() | TypeError() | ArithmeticError():
            return Fault.EVENT
    return Fault.UNFORESEEN


class PoisonEvent(Struct, frozen=True, kw_only=True):
    """An event that was set aside, and why."""

    id: int
    type: str
    cycle: str | None
    reason: str


class SetAside:
    """The events that were set aside since the start, by id."""

    def __init__(self) -> None:
        self._events: dict[int, PoisonEvent] = {}

    def __iter__(self) -> Iterator[PoisonEvent]:
        return iter(self._events.values())

    def __len__(self) -> int:
        return len(self._events)

    def add(self, event: PoisonEvent) -> None:
        """Remember an event, log and count it."""
        if event.id in self._events:
            return
        SET_ASIDE.inc()
        log.error("event set aside", event_id=event.id, type=event.type, cycle=event.cycle, reason=event.reason)
        self._events[event.id] = event
        while len(self._events) > SET_ASIDE_MAX:
            del self._events[min(self._events)]

    def ids(self, *, after: int) -> list[int]:
        """Return the ids of those after an event."""
        return [number for number in self._events if number > max(0, after)]

    def discard(self, number: int) -> None:
        """Forget an event that was dealt with after all."""
        self._events.pop(number, None)
