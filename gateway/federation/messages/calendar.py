"""The days on which currencies don't settle, as the coordinator shows them."""

from __future__ import annotations

import msgspec

from compliance.statements import CurrencyCode, Date
from gateway.federation.messages.base import Answer


class ClosedDay(Answer, frozen=True, kw_only=True):
    """A day on which a currency doesn't settle. `declared` is the reason of the operators who said so."""

    day: Date
    currency: CurrencyCode
    why: str
    declared: str | None = None


class CalendarView(Answer, frozen=True, kw_only=True):
    """What is closed from today on, by the calendars of the settlement systems and by the word of operators."""

    today: Date
    time_zone: str
    calendar: str | None = None
    """The scheme's own business days, as in the rulebook. Earlier releases don't say."""
    settlement_systems: dict[CurrencyCode, str] = msgspec.field(default_factory=dict)
    closed: tuple[ClosedDay, ...]
