"""The part of a rulebook that a verifier goes by."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from compliance.calendars import SchemeCalendar, ValueDates
from compliance.crypto import canonical
from compliance.cycle.approval import ApprovalRule
from compliance.cycle.checks import Severity
from compliance.cycle.liquidity import LiquidityRule
from compliance.export.record import CycleRecord
from compliance.verifier.findings import Finding, RefutedError


class ScreeningRule(Struct, frozen=True):
    required: bool
    list_age_max_hours: int


class AggregateFlowRule(Struct, frozen=True):
    cycles_min: int
    factor_percent: int


class CheckRule(Struct, frozen=True):
    caps: Severity
    completeness: Severity
    screening: Severity
    aggregate_flow: Severity


class SettlementRule(Struct, frozen=True):
    attempts_max: int


class Rules(Struct, frozen=True, kw_only=True):
    """What `rulebook.json` says, as far as something in an export follows from it."""

    version: str
    currencies: tuple[str, ...]
    calendar: SchemeCalendar = "every_day"
    settlement_systems: dict[str, str] = msgspec.field(default_factory=dict)
    time_zone: str | None = None
    cut_deadline_s: int
    attestation_deadline_s: int
    revisions_max: int
    approval: ApprovalRule
    liquidity: LiquidityRule
    screening: ScreeningRule
    aggregate_flow: AggregateFlowRule
    settlement: SettlementRule
    checks: CheckRule

    @property
    def days(self) -> ValueDates | None:
        """What it says of days; None in a rulebook of before, whose cycles settled on any."""
        if self.time_zone is None:
            return None
        return ValueDates(self.calendar, self.settlement_systems, self.time_zone)


def read_rules(record: CycleRecord) -> Rules:
    """Read a record's rulebook, which is canonical. Raises RefutedError."""
    try:
        canonical.decode(record.rulebook, dict[str, Any])
        return msgspec.json.decode(record.rulebook, type=Rules)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        raise RefutedError(Finding.FORMAT_VIOLATION, f"rulebook.json: {error}") from error
