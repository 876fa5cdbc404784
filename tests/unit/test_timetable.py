"""The timetable: what is due at an instant, and what comes next."""

from datetime import UTC, date, datetime

import msgspec
import pytest

from gateway.coordinator.cycles.schedule import agenda, due, next_turn
from gateway.coordinator.rulebook import Rulebook, Slot, checked, load
from gateway.coordinator.timetable import find, scheduled

RULEBOOK = load()  # slots 06-09, 09-12, 12-16
FRIDAY, MONDAY = date(2026, 11, 20), date(2026, 11, 23)


def at(day: date, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}:00+00:00")


def said(turns: object) -> list[str]:
    return [f"{turn.action} {turn.cycle_id}" for turn in turns]


def test_a_day_opens_and_cuts_off_every_slot() -> None:
    assert said(agenda(RULEBOOK, FRIDAY)) == [
        "open 2026-11-20-01",
        "cut_off 2026-11-20-01",
        "open 2026-11-20-02",
        "cut_off 2026-11-20-02",
        "open 2026-11-20-03",
        "cut_off 2026-11-20-03",
    ]
    assert agenda(RULEBOOK, date(2026, 11, 21)) == ()


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("05:59", []),
        ("06:00", ["open 2026-11-20-01"]),
        ("08:59", ["open 2026-11-20-01"]),
        # A slot that is over is cut off, never opened: an outage from 05:00 to 10:00 leaves slot 1 out.
        ("09:00", ["cut_off 2026-11-20-01", "open 2026-11-20-02"]),
        ("23:59", ["cut_off 2026-11-20-01", "cut_off 2026-11-20-02", "cut_off 2026-11-20-03"]),
    ],
)
def test_what_is_due(now: str, expected: list[str]) -> None:
    thursday = [f"cut_off 2026-11-19-0{number}" for number in (1, 2, 3)]
    assert said(due(RULEBOOK, at(FRIDAY, now))) == thursday + expected


def test_a_cycle_left_open_over_the_weekend_is_still_cut_off() -> None:
    assert said(due(RULEBOOK, at(MONDAY, "05:00"))) == [f"cut_off 2026-11-20-0{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (at(FRIDAY, "05:59"), (at(FRIDAY, "06:00"), "open")),
        (at(FRIDAY, "06:00"), (at(FRIDAY, "09:00"), "cut_off")),
        (at(FRIDAY, "16:00"), (at(MONDAY, "06:00"), "open")),
        (datetime(2026, 4, 2, 17, tzinfo=UTC), (datetime(2026, 4, 7, 6, tzinfo=UTC), "open")),
    ],
)
def test_what_comes_next(now: datetime, expected: tuple[datetime, str]) -> None:
    turn = next_turn(RULEBOOK, now)
    assert turn is not None
    assert (turn.at, turn.action) == expected


def test_on_demand_nothing_comes_by_itself() -> None:
    on_demand = msgspec.structs.replace(RULEBOOK, slots=())
    assert due(on_demand, at(FRIDAY, "10:00")) == ()
    assert next_turn(on_demand, at(FRIDAY, "10:00")) is None


def rules(*slots: Slot, time_zone: str = "Europe/Berlin", **changes: object) -> Rulebook:
    return checked(msgspec.structs.replace(RULEBOOK, slots=slots, time_zone=time_zone, **changes))


def slot(number: int, opens_at: str, cut_off_at: str, *, next_day: bool = False) -> Slot:
    value_date = "next_business_day" if next_day else "same_day"
    return Slot(number=number, opens_at=opens_at, cut_off_at=cut_off_at, value_date=value_date)


def moments(turns: object) -> list[str]:
    return [f"{turn.at:%m-%dT%H:%M} {turn.action} {turn.cycle_id}" for turn in turns]


NIGHT = rules(slot(1, "08:00", "16:00"), slot(2, "18:00", "02:00", next_day=True))


def test_slots_are_of_the_schemes_clock_and_over_midnight_of_the_next_business_day() -> None:
    assert moments(agenda(NIGHT, FRIDAY)) == [
        "11-20T07:00 open 2026-11-20-01",
        "11-20T15:00 cut_off 2026-11-20-01",
        "11-20T17:00 open 2026-11-23-02",
        "11-21T01:00 cut_off 2026-11-23-02",
    ]
    assert agenda(NIGHT, date(2026, 11, 21)) == ()


def test_a_slot_over_midnight_is_cut_off_on_the_day_after() -> None:
    saturday = datetime(2026, 11, 21, 0, 30, tzinfo=UTC)  # 01:30 in Berlin
    assert said(due(NIGHT, saturday)) == ["cut_off 2026-11-20-01", "open 2026-11-23-02"]
    turn = next_turn(NIGHT, saturday)
    assert turn is not None
    assert moments([turn]) == ["11-21T01:00 cut_off 2026-11-23-02"]
    assert said(due(NIGHT, saturday.replace(hour=1)))[-1] == "cut_off 2026-11-23-02"


def test_the_date_of_the_scheme_decides_which_day_it_is() -> None:
    tokyo = rules(slot(1, "09:00", "17:00"), time_zone="Asia/Tokyo")
    assert said(due(tokyo, datetime(2026, 11, 20, 0, 0, tzinfo=UTC)))[-1] == "open 2026-11-20-01"
    assert said(due(tokyo, datetime(2026, 11, 19, 23, 59, tzinfo=UTC)))[-1] == "cut_off 2026-11-19-01"


EVERY_HOUR = tuple(slot(n + 1, f"{n:02}:00", f"{n + 1:02}:00") for n in range(23))


def test_a_slot_in_the_hour_that_is_never_shown_lasts_a_minute_at_its_end() -> None:
    hourly = rules(*EVERY_HOUR, calendar="every_day")
    day = date(2026, 3, 29)  # at 02:00 it is 03:00
    assert moments(agenda(hourly, day))[2:8] == [
        "03-29T00:00 open 2026-03-29-02",
        "03-29T01:00 cut_off 2026-03-29-02",
        "03-29T01:00 open 2026-03-29-03",
        "03-29T01:01 cut_off 2026-03-29-03",
        "03-29T01:01 open 2026-03-29-04",
        "03-29T02:00 cut_off 2026-03-29-04",
    ]


def test_a_slot_in_the_hour_that_is_shown_twice_begins_the_first_time() -> None:
    hourly = rules(*EVERY_HOUR, calendar="every_day")
    day = date(2026, 10, 25)  # at 03:00 it is 02:00
    assert moments(agenda(hourly, day))[4:8] == [
        "10-25T00:00 open 2026-10-25-03",
        "10-25T02:00 cut_off 2026-10-25-03",
        "10-25T02:00 open 2026-10-25-04",
        "10-25T03:00 cut_off 2026-10-25-04",
    ]


def test_a_scheduled_cycle_is_found_by_its_name() -> None:
    for cycle in scheduled(NIGHT, FRIDAY):
        assert find(NIGHT, cycle.value_date, cycle.number) == cycle
    assert find(NIGHT, FRIDAY, 3) is None
    assert find(NIGHT, date(2026, 11, 21), 1) is None
