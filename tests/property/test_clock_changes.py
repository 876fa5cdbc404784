"""The timetable on every day, by every clock: no slot is lost, none happens twice, and none comes before another."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.coordinator.cycles.schedule import agenda, due, next_turn
from gateway.coordinator.rulebook import Rulebook, Slot, checked, load
from gateway.coordinator.timetable import scheduled

ZONES = sorted(available_timezones())
EVERY_DAY = msgspec.structs.replace(load(), calendar="every_day", settlement_systems={})
MINUTES = 24 * 60
VALUE_DATES = st.sampled_from(["same_day", "next_business_day"])


def shown(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def timetables(draw: st.DrawFn) -> tuple[Slot, ...]:
    """Draw the slots of a day, each of five minutes or more, the last one over midnight or not."""
    edges = sorted(draw(st.sets(st.integers(0, MINUTES // 5 - 1), min_size=2, max_size=12)))
    touching = draw(st.booleans())
    times = [5 * edge for edge in edges]
    pairs = list(itertools.pairwise(times)) if touching else list(zip(times[::2], times[1::2], strict=False))
    if draw(st.booleans()):
        last = pairs[-1][1]
        pairs.append((last, draw(st.integers(0, pairs[0][0] // 5)) * 5))
    return tuple(
        Slot(
            number=number,
            opens_at=shown(opens),
            cut_off_at=shown(ends),
            value_date="next_business_day"
            if ends <= opens
            else draw(st.sampled_from(["same_day", "next_business_day"])),
        )
        for number, (opens, ends) in enumerate(pairs, 1)
    )


def rules(slots: tuple[Slot, ...], zone: str) -> Rulebook:
    return checked(msgspec.structs.replace(EVERY_DAY, slots=slots, time_zone=zone))


def clock_changes(zone: str, year: int) -> list[date]:
    """Return the days on which a zone's clocks change."""
    where = ZoneInfo(zone)
    first = datetime(year, 1, 1, tzinfo=UTC)
    offsets = [(first + timedelta(days=n)).astimezone(where) for n in range(366)]
    return [later.date() for earlier, later in itertools.pairwise(offsets) if earlier.utcoffset() != later.utcoffset()]


@settings(max_examples=150, deadline=None)
@given(timetables(), st.sampled_from(ZONES), st.integers(1975, 2037), st.data())
def test_no_slot_is_lost_or_doubled(slots: tuple[Slot, ...], zone: str, year: int, data: st.DataObject) -> None:
    rulebook = rules(slots, zone)
    changes = clock_changes(zone, year)
    middle = data.draw(st.sampled_from(changes) if changes else st.dates(date(year, 1, 2), date(year, 12, 30)))
    days = [middle + timedelta(days=n) for n in range(-2, 3)]
    cycles = [cycle for day in days for cycle in scheduled(rulebook, day)]
    lasting = [day for day in days if scheduled(rulebook, day)]
    assert len(lasting) >= 4  # all, but for a day that the date line took
    assert [cycle.number for cycle in cycles] == [slot.number for slot in slots] * len(lasting)
    assert len({(cycle.value_date, cycle.number) for cycle in cycles}) == len(cycles)
    assert all(cycle.opens_at < cycle.cut_off_at for cycle in cycles)
    assert all(one.cut_off_at <= other.opens_at for one, other in itertools.pairwise(cycles))


@settings(max_examples=60, deadline=None)
@given(timetables(), st.sampled_from(ZONES), st.integers(1975, 2037), st.data())
def test_whoever_looks_at_each_turn_does_each_once(
    slots: tuple[Slot, ...], zone: str, year: int, data: st.DataObject
) -> None:
    rulebook = rules(slots, zone)
    changes = clock_changes(zone, year)
    middle = data.draw(st.sampled_from(changes) if changes else st.dates(date(year, 1, 2), date(year, 12, 30)))
    expected = [turn for n in (-1, 0, 1) for turn in agenda(rulebook, middle + timedelta(days=n))]
    done = set(due(rulebook, expected[0].at - timedelta(seconds=1)))
    happened = []
    now = expected[0].at - timedelta(seconds=1)
    while (turn := next_turn(rulebook, now)) is not None and turn.at <= expected[-1].at:
        now = turn.at
        news = [one for one in due(rulebook, now) if one not in done]
        done.update(news)
        happened += news
    # The turns of the days around are none of these.
    assert sorted(turn for turn in happened if turn in set(expected)) == sorted(expected)


def test_every_zone_on_every_day_of_a_year_that_its_clocks_change() -> None:
    hourly = tuple(Slot(number=n + 1, opens_at=shown(60 * n), cut_off_at=shown(60 * n + 60)) for n in range(23))
    for zone in ZONES:
        rulebook = rules(hourly, zone)
        for day in clock_changes(zone, 2026):
            for near in (day, day + timedelta(days=1)):
                cycles = scheduled(rulebook, near)
                assert [cycle.number for cycle in cycles] == list(range(1, 24)), (zone, near)
                assert all(cycle.opens_at < cycle.cut_off_at for cycle in cycles), (zone, near)
