"""The rulebook as data: what the scheme decided about cycles, limits, checks and approval.

A cycle names its rulebook by digest, so that a verifier knows under which rules a result came about.
"""

from __future__ import annotations

from datetime import date, time, timedelta
from pathlib import Path
from typing import Annotated, Literal

import holidays
import msgspec
from msgspec import Meta, Struct

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
    """A scheduled cycle of a business day: when it opens and is cut off, in UTC."""

    number: Annotated[int, Meta(ge=1, le=99)]
    opens_at: Clock
    cut_off_at: Clock


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
    calendar: Literal["XECB", "every_day"]
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

    def is_business_day(self, day: date) -> bool:
        if self.calendar == "every_day":
            return True
        return day.weekday() < 5 and day not in holidays.financial_holidays(self.calendar, years=day.year)

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
    if [slot.number for slot in rulebook.slots] != list(range(1, len(rulebook.slots) + 1)):
        raise RulebookError("slots: numbers must run 1, 2, 3, …")
    edge = time.min
    for slot in rulebook.slots:
        opens_at, cut_off_at = time.fromisoformat(slot.opens_at), time.fromisoformat(slot.cut_off_at)
        if not edge <= opens_at < cut_off_at:
            raise RulebookError(f"slots: number {slot.number} overlaps another or ends before it begins")
        edge = cut_off_at
    return rulebook
