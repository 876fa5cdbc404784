"""The rulebook as data: what the scheme decided about cycles, limits, checks and approval.

A cycle names its rulebook by digest, so that a verifier knows under which rules a result came about.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from compliance.calendars import SchemeCalendar, ValueDates
from compliance.crypto import canonical
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.exposure import UNSTATED_MINOR
from compliance.cycle.liquidity import LiquidityRule
from compliance.statements import CurrencyCode, TotalAmount, whole
from gateway.coordinator.default_rule import NOBODY, WaterfallRule
from gateway.federation.money import EXPONENTS
from gateway.federation.rulebook_file import RulebookError as RulebookError
from gateway.federation.rulebook_file import read_rulebook

Clock = Annotated[str, Meta(pattern=whole(r"([01][0-9]|2[0-3]):[0-5][0-9]"))]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
Percent = Annotated[int, Meta(ge=1, le=1_000_000)]
Severity = Literal["warn", "fail"]


# No default is ever left out: a rulebook's digest must not depend on what a later release takes for granted.
class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part of a rulebook."""


class Slot(Rule, frozen=True, kw_only=True):
    """A scheduled cycle of a business day: when it opens and is cut off, by the scheme's clock, and its value date.

    Cut off at a time that isn't after its opening, it is over midnight.
    """

    number: Annotated[int, Meta(ge=1, le=99)]
    opens_at: Clock
    cut_off_at: Clock
    value_date: Literal["same_day", "next_business_day"] = "same_day"

    @property
    def is_over_midnight(self) -> bool:
        return self.cut_off_at <= self.opens_at


class ScreeningRule(Rule, frozen=True, kw_only=True):
    """What a bank's screening statement must show."""

    required: bool
    list_age_max_hours: Annotated[int, Meta(ge=1)]


class AggregateFlowRule(Rule, frozen=True, kw_only=True):
    """When the total between two banks stands out: `factor_percent` of the median of the last cycles.

    Silent below `cycles_min` earlier cycles, and for totals below the currency's floor.
    """

    window_cycles: Annotated[int, Meta(ge=1, le=1_000)]
    cycles_min: Annotated[int, Meta(ge=1, le=1_000)]
    factor_percent: Percent
    floor_minor: dict[CurrencyCode, TotalAmount]


class SettlementRule(Rule, frozen=True, kw_only=True):
    """How often, and how far apart, a deferred settlement is asked again before it is abandoned."""

    retry_interval_s: Seconds
    attempts_max: Annotated[int, Meta(ge=1, le=100)]


class ExposureRule(Rule, frozen=True, kw_only=True):
    """What any bank may owe another before it is settled, where that one granted it no bilateral limit."""

    default_minor: dict[CurrencyCode, TotalAmount]


class CheckRule(Rule, frozen=True, kw_only=True):
    """How grave a failed check is: "warn" lets the cycle go on, "fail" holds it."""

    caps: Severity
    completeness: Severity
    screening: Severity
    aggregate_flow: Severity


class Rulebook(Rule, frozen=True, kw_only=True):
    """The rules of the scheme. Without slots, cycles open and are cut off on demand."""

    version: str
    currencies: Annotated[tuple[CurrencyCode, ...], Meta(min_length=1)]
    calendar: SchemeCalendar
    settlement_systems: dict[CurrencyCode, str] = {}
    time_zone: Annotated[str, Meta(max_length=64)] = "UTC"
    slots: tuple[Slot, ...]
    cut_deadline_s: Seconds
    attestation_deadline_s: Seconds
    revisions_max: Annotated[int, Meta(ge=1, le=99)]
    approval: ApprovalRule
    screening: ScreeningRule
    aggregate_flow: AggregateFlowRule
    liquidity: LiquidityRule
    settlement: SettlementRule
    default_waterfall: WaterfallRule
    exposure: ExposureRule
    checks: CheckRule

    @property
    def sha256(self) -> str:
        """The digest of the canonical form."""
        return canonical.digest(canonical.encode(self))

    @property
    def days(self) -> ValueDates:
        """Which days are business days, and on which a currency settles. Raises ValueError for what isn't known."""
        return ValueDates(self.calendar, self.settlement_systems, self.time_zone)

    def is_business_day(self, day: date) -> bool:
        return self.days.is_business_day(day)

    def business_day(self, day: date) -> date:
        """Return the first business day that isn't before `day`."""
        while not self.is_business_day(day):
            day += timedelta(days=1)
        return day


def load(path: Path | None = None) -> Rulebook:
    """Read a rulebook from a TOML or JSON file, or the one that comes with the package; raises RulebookError."""
    source = path or Path(__file__).with_name("rulebook.toml")
    rulebook = read_rulebook(source, Rulebook)
    try:
        return checked(rulebook)
    except RulebookError as error:
        raise RulebookError(f"{source}: {error}") from error


def stored(document: str) -> Rulebook:
    """Return a rulebook that was adopted, under its own digest. Those of earlier releases lack what came later."""
    rules = msgspec.json.decode(document)
    if isinstance(rules, dict):
        rules.setdefault("exposure", {"default_minor": dict.fromkeys(rules["currencies"], str(UNSTATED_MINOR))})
        rules.setdefault("default_waterfall", msgspec.to_builtins(NOBODY))
        rules.setdefault("liquidity", msgspec.to_builtins(load().liquidity))
    return msgspec.convert(rules, Rulebook)


def checked(rulebook: Rulebook) -> Rulebook:
    """Return the rulebook if its parts fit together; raises RulebookError."""
    if len(set(rulebook.currencies)) != len(rulebook.currencies):
        raise RulebookError("currencies: one is named twice")
    # A settlement message couldn't carry any other: the cycle would have no way to settle.
    if inactive := [currency for currency in rulebook.currencies if currency not in EXPONENTS]:
        raise RulebookError(f"currencies: {', '.join(inactive)} isn't an active currency of ISO 4217")
    foreign = (rulebook.approval.thresholds_minor.keys() | rulebook.aggregate_flow.floor_minor.keys()) - set(
        rulebook.currencies
    )
    foreign |= rulebook.default_waterfall.currencies - set(rulebook.currencies)
    foreign |= rulebook.exposure.default_minor.keys() - set(rulebook.currencies)
    if foreign:
        raise RulebookError(f"an amount is set for {', '.join(sorted(foreign))}, which isn't cleared")
    if unlimited := set(rulebook.currencies) - rulebook.exposure.default_minor.keys():
        raise RulebookError(f"exposure.default_minor: nothing is set for {', '.join(sorted(unlimited))}")
    if len(set(rulebook.default_waterfall.layers)) != len(rulebook.default_waterfall.layers):
        raise RulebookError("default_waterfall.layers: one is named twice")
    if strangers := rulebook.settlement_systems.keys() - set(rulebook.currencies):
        raise RulebookError(f"settlement_systems: {', '.join(sorted(strangers))} isn't cleared")
    try:
        days = rulebook.days
    except ValueError as error:
        raise RulebookError(str(error)) from error
    if days.calendar == "any_open" and not days.settlement_systems:
        raise RulebookError("calendar: any_open goes by settlement_systems, and none is named")
    _check_slots(rulebook.slots)
    return rulebook


def _check_slots(slots: tuple[Slot, ...]) -> None:
    """Check that the slots of a day follow each other. Clock times of one form sort as times do."""
    if [slot.number for slot in slots] != list(range(1, len(slots) + 1)):
        raise RulebookError("slots: numbers must run 1, 2, 3, …")
    for slot, before in zip(slots, (None, *slots), strict=False):
        overlaps = before is not None and (before.is_over_midnight or slot.opens_at < before.cut_off_at)
        if overlaps or slot.opens_at == slot.cut_off_at:
            raise RulebookError(f"slots: number {slot.number} overlaps another or is over as it begins")
        if slot.is_over_midnight and slot.value_date == "same_day":
            detail = "is cut off after midnight, when its value date is over: it needs that of the next business day"
            raise RulebookError(f"slots: number {slot.number} {detail}")
    if slots and slots[-1].is_over_midnight and slots[-1].cut_off_at > slots[0].opens_at:
        raise RulebookError(f"slots: number {slots[-1].number} overlaps the first one of the next day")
