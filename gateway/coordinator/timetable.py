"""The timetable of a rulebook: which cycles a day has, and the instants at which they open and are cut off. Pure.

A slot belongs to the business day on which it opens, by the scheme's clock; it may end on the next day. Every slot
happens once on every such day, also on the two on which clocks change: what a clock shows twice counts the first time,
and what it never shows is the instant at which it is put forward. A slot that would be over at once lasts a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from compliance.calendars import instant, zone
from gateway.coordinator.rulebook import Rulebook, Slot

DAYS_AHEAD_MAX = 14
"""No calendar closes for longer."""
OPEN_MIN = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True, order=True)
class ScheduledCycle:
    """A slot on one day: when it opens and is cut off, and for which value date."""

    opens_at: datetime
    cut_off_at: datetime
    value_date: date
    number: int


def scheduled(rulebook: Rulebook, day: date) -> tuple[ScheduledCycle, ...]:
    """Return the cycles that open on a day, in order; none on a day without business, or one that the clocks skip."""
    where = zone(rulebook.time_zone)
    tomorrow = day + timedelta(days=1)
    if not rulebook.is_business_day(day) or instant(day, time.min, where) == instant(tomorrow, time.min, where):
        return ()
    of_day: list[ScheduledCycle] = []
    edge = instant(day, time.min, where)
    for slot in rulebook.slots:
        opens, cut_off = clock_times(slot)
        opens_at = max(instant(day, opens, where), edge)
        ends_on = tomorrow if slot.is_over_midnight else day
        edge = max(instant(ends_on, cut_off, where), opens_at + OPEN_MIN)
        value_date = day if slot.value_date == "same_day" else rulebook.business_day(tomorrow)
        of_day.append(ScheduledCycle(opens_at=opens_at, cut_off_at=edge, value_date=value_date, number=slot.number))
    return tuple(of_day)


def around(rulebook: Rulebook, now: datetime) -> Iterator[ScheduledCycle]:
    """Yield the cycles of the last day of business before today, and of all days from today on, in order."""
    today = rulebook.days.today(now)
    for back in range(1, DAYS_AHEAD_MAX):
        if before := scheduled(rulebook, today - timedelta(days=back)):
            yield from before
            break
    for ahead in range(DAYS_AHEAD_MAX):
        yield from scheduled(rulebook, today + timedelta(days=ahead))


def find(rulebook: Rulebook, value_date: date, number: int) -> ScheduledCycle | None:
    """Return the scheduled cycle of a value date and number; None if the timetable has none."""
    for back in range(DAYS_AHEAD_MAX):
        for cycle in scheduled(rulebook, value_date - timedelta(days=back)):
            if (cycle.value_date, cycle.number) == (value_date, number):
                return cycle
    return None


def clock_times(slot: Slot) -> tuple[time, time]:
    """Return what the clock shows as a slot opens and is cut off."""
    return time.fromisoformat(slot.opens_at), time.fromisoformat(slot.cut_off_at)
