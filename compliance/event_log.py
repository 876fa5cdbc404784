"""The coordinator's event log as evidence: numbered events, each naming the digest of the one before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from compliance.crypto import canonical
from compliance.statements import Count, CycleId, Sha256, Timestamp

GENESIS = "0" * 64
"""What the first event names as its predecessor."""


class LoggedEvent(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One event with its link. Its hash is the SHA-256 of its canonical JSON, with no member left out."""

    id: Count
    type: str
    at: Timestamp
    cycle: CycleId | None
    data: dict[str, Any]
    audience: tuple[str, ...] | None
    prev_hash: Sha256

    @property
    def hash(self) -> str:
        return canonical.digest(canonical.encode(self))


class ChainError(Exception):
    """Events that don't follow each other. `event_id` is the first that is wrong."""

    def __init__(self, event_id: int, detail: str) -> None:
        super().__init__(f"event {event_id}: {detail}")
        self.event_id = event_id


def check_chain(events: Iterable[LoggedEvent]) -> None:
    """Check that events follow each other without a gap. Raises ChainError at the first that doesn't."""
    previous: LoggedEvent | None = None
    for event in events:
        check_link(previous, event)
        previous = event


def check_link(previous: LoggedEvent | None, event: LoggedEvent) -> None:
    """Check that an event follows the one before (None: that the very first one names none). Raises ChainError."""
    if previous is None:
        if event.id == 1 and event.prev_hash != GENESIS:
            raise ChainError(1, "the first event names a predecessor")
        return
    if event.id != previous.id + 1:
        raise ChainError(previous.id + 1, f"missing: event {event.id} comes after event {previous.id}")
    if event.prev_hash != previous.hash:
        raise ChainError(event.id, f"names {event.prev_hash} as its predecessor, which is {previous.hash}")
