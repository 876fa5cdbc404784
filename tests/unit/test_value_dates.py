"""The value date of an instruction against the bank's own cut and the calendar: a table of all four."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from compliance.calendars import ValueDates
from compliance.statements import SettlementInstruction
from gateway.federation.rulebook_file import RulebookError
from participants.cycle.value_dates import doubt, own_days

DAYS = ValueDates("any_open", {"EUR": "TARGET", "USD": "FEDWIRE"}, "Europe/Berlin")
FRIDAY = datetime(2026, 11, 27, 12, tzinfo=UTC)


def instruction(day: str, currency: str = "EUR") -> SettlementInstruction:
    cycle = f"{day}-01"
    return SettlementInstruction(
        id=f"{cycle}/ALFADEFF/{currency}",
        cycle=cycle,
        participant="ALFADEFF",
        currency=currency,
        net_minor="1",
        lines=(),
        result="ab" * 32,
        settlement_agent="AGNTBEB1",
    )


@pytest.mark.parametrize(
    ("currency", "day", "cut_at", "wrong"),
    [
        ("EUR", "2026-11-27", FRIDAY, None),
        # The next business day's value date, over the weekend, and on the weekend itself.
        ("EUR", "2026-11-30", FRIDAY, None),
        ("EUR", "2026-11-30", datetime(2026, 11, 28, 1, tzinfo=UTC), None),
        ("EUR", "2026-11-28", FRIDAY, "TARGET: weekend"),
        ("USD", "2026-11-26", datetime(2026, 11, 26, 12, tzinfo=UTC), "FEDWIRE: Thanksgiving"),
        ("EUR", "2026-11-26", datetime(2026, 11, 26, 12, tzinfo=UTC), None),
        ("EUR", "2026-12-25", datetime(2026, 12, 24, 12, tzinfo=UTC), "TARGET: Christmas"),
        ("EUR", "2026-12-28", datetime(2026, 12, 24, 12, tzinfo=UTC), None),
        ("EUR", "2026-11-26", FRIDAY, "before the cut"),
        ("EUR", "2026-12-01", FRIDAY, "far from the cut"),
        ("EUR", "2099-12-28", FRIDAY, "far from the cut"),
        ("EUR", "2026-13-28", FRIDAY, "month must be in 1..12"),
        # A bank that was away a little fixes its cut after midnight by the scheme's clock; and a clock may be ahead.
        ("EUR", "2026-11-26", datetime(2026, 11, 26, 23, 30, tzinfo=UTC), None),
        ("EUR", "2026-11-26", datetime(2026, 11, 27, 0, 30, tzinfo=UTC), "before the cut"),
        ("EUR", "2026-11-30", datetime(2026, 11, 26, 22, 59, 30, tzinfo=UTC), None),
    ],
)
def test_a_value_date_is_the_day_of_the_cut_or_the_next_that_settles(
    currency: str, day: str, cut_at: datetime, wrong: str | None
) -> None:
    said = doubt(instruction(day, currency), cut_at=cut_at, days=DAYS)
    assert said is None if wrong is None else wrong in str(said)


def test_days_that_operators_declared_closed_put_the_next_one_off() -> None:
    tuesday = instruction("2026-12-01")
    assert "far from the cut" in str(doubt(tuesday, cut_at=FRIDAY, days=DAYS))
    assert doubt(tuesday, cut_at=FRIDAY, days=DAYS, declared=[date(2026, 11, 30)]) is None


def test_without_a_calendar_the_distance_is_judged() -> None:
    """As beside a coordinator of an earlier release, which doesn't show one."""
    assert doubt(instruction("2026-11-28"), cut_at=FRIDAY, days=None) is None
    assert "before the cut" in str(doubt(instruction("2026-11-26"), cut_at=FRIDAY, days=None))
    assert "far from the cut" in str(doubt(instruction("2026-12-25"), cut_at=FRIDAY, days=None))


def test_a_bank_may_be_given_the_rulebook(tmp_path: Path) -> None:
    rulebook = tmp_path / "rulebook.toml"
    rulebook.write_text('version = "1"\ncalendar = "XECB"\nsettlement_systems = {EUR = "TARGET"}\n')
    days = own_days(rulebook)
    assert days == ValueDates("XECB", {"EUR": "TARGET"})
    assert "TARGET: weekend" in str(doubt(instruction("2026-11-28"), cut_at=FRIDAY, days=days))
    assert own_days(None) is None
    rulebook.write_text('calendar = "XECB"\nsettlement_systems = {EUR = "FEDWIRE"}\n')
    with pytest.raises(RulebookError, match="FEDWIRE isn't one of EUR"):
        own_days(rulebook)
