"""What a place that events go to must do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.federation.messages.events import Event

AddressedEvent = tuple[Event, tuple[str, ...] | None]
"""An event, and which members it is for; None is everybody."""


class Sink(Protocol):
    """A place that events of the log go to, in their order; each sink is followed for by a `Following` of its own.

    What it is given it may be given again, after `take` raised or the process ended; an event's id tells.
    """

    name: str

    async def position(self, newest: int) -> int:
        """Return the id after which it wants to go on, where `newest` is the log's last. A durable sink stores it."""

    async def take(self, events: Sequence[AddressedEvent]) -> None:
        """Take in the events that follow the position. Raises anything: they are given again, later."""

    def interrupt(self) -> None:
        """The log can't be followed for now: nothing says that what was taken is all there is."""
