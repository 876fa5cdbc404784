"""The checks between netting and settlement, run on what a cycle has stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from compliance.cycle import checks
from compliance.cycle.limits import Limits
from compliance.cycle.matching import PairKey
from compliance.cycle.positions import Position
from compliance.statements import NettingResult, ScreeningStatement
from gateway.coordinator.cycles.flow_history import FlowHistory
from gateway.coordinator.cycles.tables import attestations, cycles
from gateway.coordinator.cycles.tables.cycles import Cycle, Participation
from gateway.coordinator.rulebook import Rulebook


@dataclass(frozen=True, kw_only=True)
class CheckInputs:
    """What the checks look at besides the result: who took part, what was screened, and earlier cycles."""

    participations: tuple[Participation, ...]
    screenings: Mapping[str, ScreeningStatement]
    cut_off_at: datetime
    history: Mapping[PairKey, Sequence[int]]


async def read(conn: AsyncConnection, cycle: Cycle, rulebook: Rulebook, history: FlowHistory) -> CheckInputs:
    """Read it."""
    return CheckInputs(
        participations=await cycles.participations(conn, cycle.id),
        screenings=await attestations.screenings(conn, cycle.id),
        cut_off_at=cycle.cut_off_at or cycle.opened_at,
        history=await history.last(conn, rulebook.aggregate_flow.window_cycles),
    )


def run(
    inputs: CheckInputs,
    rulebook: Rulebook,
    result: NettingResult,
    included: Sequence[Position],
    keeping: Limits,
) -> list[checks.Check]:
    """Return what each check says of a result, of the positions that it includes and of the limits it must keep."""
    participations = inputs.participations
    totals = {p.key: int(p.forth_minor) + int(p.back_minor) for p in included}
    rule = rulebook.aggregate_flow
    return [
        checks.conservation(result, included),
        checks.completeness(
            participants=[t.participant for t in participations],
            cuts=[t.participant for t in participations if t.cut_at is not None],
            attested=[t.participant for t in participations if t.attested_at is not None],
            result=result,
            severity=rulebook.checks.completeness,
        ),
        checks.net_debit_caps(result, keeping, severity=rulebook.checks.caps),
        checks.bilateral_limits(included, keeping, severity=rulebook.checks.caps),
        checks.screening_attested(
            included,
            inputs.screenings,
            cut_off_at=inputs.cut_off_at,
            list_age_max_hours=rulebook.screening.list_age_max_hours,
            required=rulebook.screening.required,
            severity=rulebook.checks.screening,
        ),
        checks.aggregate_flow(
            totals,
            inputs.history,
            cycles_min=rule.cycles_min,
            factor_percent=rule.factor_percent,
            floor_minor={currency: int(floor) for currency, floor in rule.floor_minor.items()},
            severity=rulebook.checks.aggregate_flow,
        ),
    ]
