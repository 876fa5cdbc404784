"""A coordinator that signs what its own rulebook's days don't allow: each such export is refused with its reason."""

from __future__ import annotations

from typing import Any

import clearing
import pytest
from clearing import refused, scheme
from msgspec.structs import replace

from compliance.crypto import canonical
from compliance.export.record import CycleRecord
from compliance.verifier.findings import Finding
from compliance.verifier.verify import verify_bytes

MONDAY, SATURDAY = "2026-03-02", "2026-03-07"
TIMES = ("AT", "DEADLINE_FOR_CUTS", "DEADLINE_TO_ATTEST", "CLOSED_AT", "SETTLED_AT")
SYSTEMS = {"EUR": "TARGET", "USD": "FEDWIRE"}


def record(**days: Any) -> CycleRecord:
    """Return the record of a cycle of today, consistent and signed, under a rulebook that says this of days."""
    rules = canonical.decode(clearing.RULEBOOK, dict[str, Any])
    said = {"calendar": "any_open", "settlement_systems": SYSTEMS, "time_zone": "Europe/Berlin", **days}
    return scheme().record(f"{clearing.AT[:10]}-01", canonical.encode({**rules, **said}))


def told(honest: CycleRecord, kind: str, **data: Any) -> CycleRecord:
    events = (replace(e, data={**e.data, **data}) if e.type == kind else e for e in honest.events)
    return replace(honest, events=clearing.chained(events))


@pytest.fixture
def on_saturday(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TIMES:
        monkeypatch.setattr(clearing, name, getattr(clearing, name).replace(MONDAY, SATURDAY))


def verified(lie: CycleRecord) -> None:
    assert verify_bytes(scheme().export(lie), scheme().anchor).cycle == lie.cycle


def found(lie: CycleRecord) -> Finding:
    finding: Finding = refused(scheme().export(lie)).finding
    return finding


def test_an_open_day() -> None:
    verified(record())
    verified(record(time_zone="Asia/Tokyo"))


def test_settled_before_the_value_date_begins() -> None:
    """Nine in the morning in London is the day before in Honolulu."""
    assert found(record(time_zone="Pacific/Honolulu")) is Finding.VALUE_DATE_DIFFERS


@pytest.mark.usefixtures("on_saturday")
@pytest.mark.parametrize("systems", [SYSTEMS, {"EUR": "TARGET"}, {"USD": "FEDWIRE"}])
def test_settled_on_a_weekend_of_a_system(systems: dict[str, str]) -> None:
    assert found(record(settlement_systems=systems)) is Finding.VALUE_DATE_DIFFERS


@pytest.mark.usefixtures("on_saturday")
def test_a_scheme_that_settles_every_day_or_by_no_system() -> None:
    verified(record(calendar="every_day"))
    verified(record(settlement_systems={}))


@pytest.mark.usefixtures("on_saturday")
def test_a_currency_that_is_called_closed_is_netted_all_the_same() -> None:
    closed = told(record(), "cycle.cut_off", closed={"EUR": "weekend", "USD": "weekend"})
    assert found(closed) is Finding.CUT_CONTRADICTED


@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_netted_on_a_day_that_the_log_calls_closed(currency: str) -> None:
    assert found(told(record(), "cycle.cut_off", closed={currency: "declared closed"})) is Finding.CUT_CONTRADICTED


def test_a_currency_that_is_not_cleared_is_called_closed() -> None:
    lie = told(record(), "cycle.cut_off", closed={"JPY": "BOJ-NET: Labor Thanksgiving Day"})
    assert found(lie) is Finding.LOG_CONTRADICTED
