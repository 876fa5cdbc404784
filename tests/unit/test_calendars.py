"""Settlement calendars against the lists that the systems publish."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from compliance.calendars import SYSTEMS, WEEKEND, ValueDates, instant, zone

PUBLISHED = {
    # Closing days that fall on Monday to Friday.
    ("TARGET", 2026): "01-01 04-03 04-06 05-01 12-25",
    ("TARGET", 2027): "01-01 03-26 03-29",
    ("FEDWIRE", 2026): "01-01 01-19 02-16 05-25 06-19 09-07 10-12 11-11 11-26 12-25",
    ("FEDWIRE", 2027): "01-01 01-18 02-15 05-31 07-05 09-06 10-11 11-11 11-25",
    ("CHAPS", 2026): "01-01 04-03 04-06 05-04 05-25 08-31 12-25 12-28",
    ("CHAPS", 2027): "01-01 03-26 03-29 05-03 05-31 08-30 12-27 12-28",
    ("BOJ-NET", 2026): (
        "01-01 01-02 01-12 02-11 02-23 03-20 04-29 05-04 05-05 05-06 07-20 08-11 09-21 09-22 09-23 10-12 11-03 11-23"
        " 12-31"
    ),
    ("SIC", 2026): "01-01 01-02 04-03 04-06 05-01 05-14 05-25 12-25",
    ("RIX", 2026): "01-01 01-06 04-03 04-06 05-01 05-14 06-19 12-24 12-25 12-31",
    ("NBO", 2026): "01-01 04-02 04-03 04-06 05-01 05-14 05-25 12-25",
    ("SORBNET", 2026): "01-01 01-06 04-06 05-01 06-04 11-11 12-24 12-25",
    ("CERTIS", 2026): "01-01 04-03 04-06 05-01 05-08 07-06 09-28 10-28 11-17 12-24 12-25",
}


def days(year: int) -> list[date]:
    first = date(year, 1, 1)
    return [first + timedelta(days=n) for n in range((date(year + 1, 1, 1) - first).days)]


@pytest.mark.parametrize(("system", "year"), PUBLISHED, ids=str)
def test_a_system_is_closed_on_the_days_that_it_publishes_and_on_weekends(system: str, year: int) -> None:
    of = SYSTEMS[system]
    closed = [day for day in days(year) if of.closed(day) is not None]
    assert {day for day in closed if day.weekday() >= 5} == {day for day in days(year) if day.weekday() >= 5}
    assert " ".join(f"{day:%m-%d}" for day in closed if day.weekday() < 5) == PUBLISHED[system, year]


def test_every_system_is_of_one_currency_and_says_what_it_goes_by() -> None:
    assert all(system.source and system.operator for system in SYSTEMS.values())
    assert len({system.currency for system in SYSTEMS.values()}) == len(SYSTEMS)


THANKSGIVING, SATURDAY, LABOUR_DAY = date(2026, 11, 26), date(2026, 11, 28), date(2026, 5, 1)


def test_a_currency_keeps_the_days_of_its_system_and_others_those_of_the_scheme() -> None:
    rules = ValueDates(calendar="XECB", settlement_systems={"USD": "FEDWIRE", "JPY": "BOJ-NET"})
    assert rules.closed("USD", THANKSGIVING) == "FEDWIRE: Thanksgiving Day"
    assert rules.closed("JPY", THANKSGIVING) is None
    assert rules.closed("KWD", THANKSGIVING) is None
    assert rules.closed("KWD", LABOUR_DAY) == "XECB: no business day"
    assert rules.closed("USD", LABOUR_DAY) is None
    assert rules.closed_of(["USD", "KWD", "JPY"], SATURDAY) == {
        "JPY": f"BOJ-NET: {WEEKEND}",
        "KWD": "XECB: no business day",
        "USD": f"FEDWIRE: {WEEKEND}",
    }


def test_a_scheme_works_while_any_system_is_open() -> None:
    rules = ValueDates(calendar="any_open", settlement_systems={"EUR": "TARGET", "USD": "FEDWIRE"})
    assert rules.is_business_day(THANKSGIVING)
    assert rules.is_business_day(LABOUR_DAY)
    assert not rules.is_business_day(SATURDAY)
    assert not rules.is_business_day(date(2026, 12, 25))


def test_without_systems_all_currencies_keep_the_schemes_days() -> None:
    assert ValueDates(calendar="every_day").closed("EUR", SATURDAY) is None
    assert ValueDates(calendar="XECB").closed("EUR", SATURDAY) == "XECB: no business day"
    assert ValueDates(calendar="XECB").closed("USD", THANKSGIVING) is None


def test_a_date_begins_at_midnight_by_the_schemes_clock() -> None:
    rules = ValueDates(calendar="XECB", time_zone="Asia/Tokyo")
    assert rules.begins_at(date(2026, 11, 27)) == datetime(2026, 11, 26, 15, tzinfo=UTC)
    assert rules.today(datetime(2026, 11, 26, 14, 59, 59, tzinfo=UTC)) == date(2026, 11, 26)
    assert rules.today(datetime(2026, 11, 26, 15, tzinfo=UTC)) == date(2026, 11, 27)


@pytest.mark.parametrize(
    ("where", "day", "at", "expected"),
    [
        ("Europe/Berlin", "2026-01-15", "02:30", "2026-01-15T01:30"),
        # Put forward at 02:00: 02:30 is never shown.
        ("Europe/Berlin", "2026-03-29", "01:59", "2026-03-29T00:59"),
        ("Europe/Berlin", "2026-03-29", "02:00", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29", "02:30", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29", "03:00", "2026-03-29T01:00"),
        # Put back at 03:00: 02:30 is shown twice.
        ("Europe/Berlin", "2026-10-25", "02:30", "2026-10-25T00:30"),
        ("Europe/Berlin", "2026-10-25", "03:00", "2026-10-25T02:00"),
        # By half an hour, and at midnight.
        ("Australia/Lord_Howe", "2026-10-04", "02:15", "2026-10-03T15:30"),
        ("America/Havana", "2026-03-08", "00:30", "2026-03-08T05:00"),
    ],
)
def test_a_clocks_time_is_one_instant(where: str, day: str, at: str, expected: str) -> None:
    found = instant(date.fromisoformat(day), time.fromisoformat(at), zone(where))
    assert f"{found:%Y-%m-%dT%H:%M:%S}" == f"{expected}:00"


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe", "/etc/localtime"])
def test_a_zone_that_isnt_known(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone(name)


@pytest.mark.parametrize(
    ("named", "complaint"),
    [({"USD": "TARGET"}, "FEDWIRE"), ({"USD": "SWISH"}, "FEDWIRE"), ({"KWD": "TARGET"}, "KWD has none")],
)
def test_a_system_is_named_for_its_own_currency_only(named: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ValueDates(calendar="XECB", settlement_systems=named)
