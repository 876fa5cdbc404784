"""Whether a bank believes the value date of an instruction: it goes by its own cut, and by the scheme's calendar.

The calendar is the one that its own people gave it (`CONCORDAT_RULEBOOK`), or else what the coordinator shows to every
member. A coordinator that lies about both is found by the bank's own rulebook, and by the settlement agent. Days that
operators declared closed are the coordinator's word alone: by these it may put a value date off, for two weeks at most.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import structlog

from compliance.calendars import SchemeCalendar, ValueDates
from compliance.statements import SettlementInstruction
from gateway.federation.http.client import RemoteError
from gateway.federation.messages.calendar import CalendarView
from gateway.federation.rulebook_file import read_rulebook
from participants.cycle.coordinator import Coordinator
from participants.cycle.statements import InstructionReason

PATH = "/calendar"
DATE_CHARACTERS = len("2026-11-28")
TIMEOUT_SECONDS = 5.0
KEPT_SECONDS = 60.0
LATE = timedelta(hours=1)
"""So long after the cut-off a bank that was away may fix its cut; what is cut later can't settle on that day."""
DISTANCE_MAX = timedelta(days=14)
"""No calendar closes for longer."""
EARLY = timedelta(minutes=1)
"""By how much clocks may differ."""

log = structlog.get_logger(__name__)


class _Days(msgspec.Struct, frozen=True):
    """What of a rulebook says on which days what settles."""

    calendar: SchemeCalendar
    settlement_systems: dict[str, str] = msgspec.field(default_factory=dict)
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse a calendar, system or zone that isn't known. Raises ValueError."""
        _ = self.days

    @property
    def days(self) -> ValueDates:
        return ValueDates(self.calendar, self.settlement_systems, self.time_zone)


def own_days(rulebook: Path | None) -> ValueDates | None:
    """Return the days of the rulebook that the bank's own people gave it, if they did. Raises RulebookError."""
    return None if rulebook is None else read_rulebook(rulebook, _Days).days


def doubt(
    instruction: SettlementInstruction, *, cut_at: datetime, days: ValueDates | None, declared: Collection[date] = ()
) -> str | None:
    """Return what is wrong with an instruction's value date, None if nothing is.

    It is that of its cycle, which the cycle's id begins with. `declared` are the days that operators declared closed to
    the currency; without `days`, of a coordinator of an earlier release, only the distance is judged.
    """
    try:
        day = date.fromisoformat(instruction.cycle[:DATE_CHARACTERS])
    except ValueError as error:
        return str(error)
    zone = days or ValueDates("every_day")
    first, last = zone.today(cut_at - LATE), zone.today(cut_at + EARLY)
    if day < first:
        return f"{day} is before the cut, of {first}"
    if days is None:
        return f"{day} is far from the cut, of {last}" if day > last + DISTANCE_MAX else None
    if (why := days.closed(instruction.currency, day)) is not None:
        return f"{instruction.currency} doesn't settle on {day}: {why}"
    latest = last + timedelta(days=1)
    while latest in declared or not days.is_business_day(latest) or days.closed(instruction.currency, latest):
        latest += timedelta(days=1)
        if latest > last + DISTANCE_MAX:
            break
    return f"{day} is far from the cut, of {last}: the next day that settles is {latest}" if day > latest else None


class AgreedDays:
    """The scheme's calendar as this bank knows it. Belongs to one event loop."""

    def __init__(self, coordinator: Coordinator, own: ValueDates | None) -> None:
        self._coordinator = coordinator
        self._own = own
        self._shown: ValueDates | None = None
        self._declared: dict[str, set[date]] = {}
        self._ask_at = 0.0

    async def take_up(self) -> None:
        """Ask what the coordinator shows, unless that was of late; what it doesn't answer stays as it was."""
        if time.monotonic() < self._ask_at:
            return
        params = {"days": DISTANCE_MAX.days * 2}
        try:
            view = await self._coordinator.get(PATH, CalendarView, params=params, timeout_s=TIMEOUT_SECONDS)
            if view.calendar is not None:
                self._shown = msgspec.convert(msgspec.structs.asdict(view), _Days).days
            declared: dict[str, set[date]] = {}
            for closed in view.closed:
                if closed.declared is not None:
                    declared.setdefault(closed.currency, set()).add(date.fromisoformat(closed.day))
        except (RemoteError, ValueError) as error:
            log.warning("calendar not heard", error=str(error)[:200])
            return
        self._declared = declared
        self._ask_at = time.monotonic() + KEPT_SECONDS

    def refusal(self, instruction: SettlementInstruction, *, cut_at: datetime) -> InstructionReason | None:
        """Return why this bank doesn't believe an instruction's value date, and log it; None if it does.

        `cut_at` is when it fixed its cut of the cycle.
        """
        why = doubt(
            instruction,
            cut_at=cut_at,
            days=self._own or self._shown,
            declared=self._declared.get(instruction.currency, ()),
        )
        if why is None:
            return None
        log.error("value date refused", instruction=instruction.id, detail=why)
        return InstructionReason.VALUE_DATE_REFUSED
