"""Settlement calendars: on which days the settlement system of a currency is open, and from when a day counts. Pure.

A system is closed on Saturdays and Sundays and on the holidays that it publishes. These come from the package
`holidays`, by the calendar that each system says it goes by (`source`); a holiday that is proclaimed later comes with a
newer version of that package, or from the operators, who declare days closed. A rulebook names the system of each
currency; a currency without one settles on every business day of the scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

SATURDAY, SUNDAY = 5, 6
_LANGUAGE = "en_US"
"""Of the names of holidays, whatever the machine's."""

WEEKEND = "weekend"
"""Why a system is closed on a Saturday or Sunday, whatever else the day is."""

SchemeCalendar = Literal["XECB", "any_open", "every_day"]
"""The scheme's own business days: TARGET's, those on which a system of its currencies is open, or all, for trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementSystem:
    """Where the central bank money of a currency moves. `holidays` are those of a year, by name, weekends or not."""

    name: str
    currency: str
    operator: str
    source: str
    """The published calendar that it is closed by."""
    holidays: Callable[[int], Mapping[date, str]]

    def closed(self, day: date) -> str | None:
        """Return why the system is closed on a day, None if it is open."""
        if day.weekday() >= SATURDAY:
            return WEEKEND
        return _holidays(self, day.year).get(day)


@cache
def _holidays(system: SettlementSystem, year: int) -> Mapping[date, str]:
    return system.holidays(year)


def _target(year: int) -> Mapping[date, str]:
    import holidays  # here, since most programs look at no calendar, and it takes a while

    return dict(holidays.financial_holidays("XECB", years=year, language=_LANGUAGE))


def _country(
    code: str, *, subdiv: str | None = None, categories: tuple[str, ...] = ("public",)
) -> Callable[..., dict[date, str]]:
    def of_year(year: int) -> dict[date, str]:
        import holidays

        return dict(
            holidays.country_holidays(code, subdiv=subdiv, categories=categories, years=year, language=_LANGUAGE)
        )

    return of_year


def _fedwire(year: int) -> Mapping[date, str]:
    """The federal holidays. One on a Sunday is kept on the Monday; one on a Saturday closes no Friday."""
    import holidays

    named = dict(holidays.country_holidays("US", observed=False, years=year, language=_LANGUAGE))
    return named | {day + timedelta(days=1): name for day, name in named.items() if day.weekday() == SUNDAY}


def _sic(year: int) -> Mapping[date, str]:
    """The bank holidays of Zürich, and the second of January."""
    return _country("CH", subdiv="ZH")(year) | {date(year, 1, 2): "Berchtold's Day"}


SYSTEMS: Mapping[str, SettlementSystem] = {
    system.name: system
    for system in (
        SettlementSystem(
            name="TARGET",
            currency="EUR",
            operator="Eurosystem",
            source="TARGET closing days (ECB)",
            holidays=_target,
        ),
        SettlementSystem(
            name="FEDWIRE",
            currency="USD",
            operator="Federal Reserve Banks",
            source="Federal Reserve holidays: those of the nation, on a Sunday kept on Monday, on a Saturday not kept",
            holidays=_fedwire,
        ),
        SettlementSystem(
            name="CHAPS",
            currency="GBP",
            operator="Bank of England",
            source="bank holidays of England and Wales",
            holidays=_country("GB", subdiv="ENG"),
        ),
        SettlementSystem(
            name="BOJ-NET",
            currency="JPY",
            operator="Bank of Japan",
            source="national holidays of Japan, and 31 December to 3 January",
            holidays=_country("JP", categories=("public", "bank")),
        ),
        SettlementSystem(
            name="SIC",
            currency="CHF",
            operator="Swiss National Bank, SIX Interbank Clearing",
            source="bank holidays of Zürich, and 2 January",
            holidays=_sic,
        ),
        SettlementSystem(
            name="RIX",
            currency="SEK",
            operator="Sveriges Riksbank",
            source="public holidays of Sweden, and the eves of Midsummer, Christmas and the New Year",
            holidays=_country("SE", categories=("public", "de_facto")),
        ),
        SettlementSystem(
            name="NBO",
            currency="NOK",
            operator="Norges Bank",
            source="public holidays of Norway",
            holidays=_country("NO"),
        ),
        SettlementSystem(
            name="SORBNET",
            currency="PLN",
            operator="Narodowy Bank Polski",
            source="public holidays of Poland",
            holidays=_country("PL"),
        ),
        SettlementSystem(
            name="CERTIS",
            currency="CZK",
            operator="Czech National Bank",
            source="public holidays of Czechia",
            holidays=_country("CZ"),
        ),
    )
}


class ValueDates(Struct, frozen=True):
    """What a rulebook says of days: which are the scheme's business days, and which a currency's. Pure.

    Rulebooks of before name neither zone nor systems: their clock is UTC, and all currencies keep the scheme's days.
    """

    calendar: SchemeCalendar
    settlement_systems: dict[str, str] = {}
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse what names no system of the currency, or no zone. Raises ValueError."""
        zone(self.time_zone)
        for currency, name in sorted(self.settlement_systems.items()):
            if name not in SYSTEMS or SYSTEMS[name].currency != currency:
                known = [system.name for system in SYSTEMS.values() if system.currency == currency]
                detail = f"{name} isn't one of {currency}, whose is {known[0]}" if known else f"{currency} has none"
                raise ValueError(f"settlement_systems: {detail}")

    def is_business_day(self, day: date) -> bool:
        """Tell whether the scheme works on a day."""
        match self.calendar:
            case "every_day":
                return True
            case "any_open":
                return any(SYSTEMS[name].closed(day) is None for name in self.settlement_systems.values())
        return SYSTEMS["TARGET"].closed(day) is None

    def closed(self, currency: str, day: date) -> str | None:
        """Return why a currency doesn't settle on a day, None if it does. Where every day counts, all do."""
        if self.calendar == "every_day":
            return None
        system = self.settlement_systems.get(currency)
        if system is not None:
            why = SYSTEMS[system].closed(day)
            return None if why is None else f"{system}: {why}"
        return None if self.is_business_day(day) else f"{self.calendar}: no business day"

    def closed_of(self, currencies: Iterable[str], day: date) -> dict[str, str]:
        """Return the currencies that don't settle on a day, each with why."""
        reasons = ((currency, self.closed(currency, day)) for currency in sorted(currencies))
        return {currency: why for currency, why in reasons if why is not None}

    def today(self, now: datetime) -> date:
        """Return the scheme's date at an instant."""
        return now.astimezone(zone(self.time_zone)).date()

    def begins_at(self, day: date) -> datetime:
        """Return the instant from which a date is a value date: midnight by the scheme's clock."""
        return instant(day, time.min, zone(self.time_zone))


def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name. Raises ValueError for one that isn't known."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:  # a directory of the database is an OSError
        raise ValueError(f"{name!r} is no time zone of the IANA database") from error


def instant(day: date, at: time, where: ZoneInfo) -> datetime:
    """Return when a clock shows a time, in UTC.

    A time that is shown twice, as clocks are put back, is the first; one that is never shown, as they are put forward,
    is the instant at which they are.
    """
    shown = datetime.combine(day, at)
    early = shown.replace(tzinfo=where, fold=1).astimezone(UTC)
    late = shown.replace(tzinfo=where, fold=0).astimezone(UTC)
    if late.astimezone(where).replace(tzinfo=None) == shown:
        return late
    # Never shown. By the offset of after it would be `early`, by that of before `late`; between them clocks change.
    after = late.astimezone(where).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // 2
        if middle.astimezone(where).utcoffset() == after:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)
