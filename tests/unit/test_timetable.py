"""The timetable: what is due at an instant, and what comes next."""

from datetime import UTC, date, datetime

import msgspec
import pytest

from gateway.coordinator.cycles.schedule import agenda, due, next_turn
from gateway.coordinator.rulebook import load

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
