"""The console's tables: what they show, how they are filtered, what an export holds."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest

from gateway.federation.messages.cycles import Checks, CheckView, CurrencyTotal, Positions
from gateway.federation.messages.limits import BilateralLimitView, CapView, PrefundingView
from gateway.federation.messages.participants import KeyView, ParticipantView
from tests.console.examples import NOW, a_position, a_proposal, a_total
from tui import export, tables
from tui.text import Tone


@pytest.mark.parametrize(
    ("net", "limit", "percent"),
    [
        ("100", "1000", 0),
        ("-1", "1000", 1),
        ("-999", "1000", 100),
        ("-1001", "1000", 101),
        ("-5", None, None),
        ("-1", "0", 999),
    ],
)
def test_limit_use_never_hides_a_breach(net: str, limit: str | None, percent: int | None) -> None:
    assert tables.limit_use(net, limit) == percent


def test_positions_show_the_zero_sum_and_mark_caps() -> None:
    positions = Positions(
        cycle="2026-03-02-01",
        provisional=False,
        positions=(
            a_position("-90", "100"),
            a_position("90", None, participant="BETAFRPP"),
            a_position("7", "1", "JPY"),
        ),
    )
    table = tables.positions(positions)
    assert table.note == "2026-03-02-01 · as netted · sum of nets: EUR 0.00, JPY 7 ✗"
    assert table.rows[0].cells[2].text.endswith("90 %!")
    assert table.rows[0].cells[2].tone is Tone.WARN
    assert [row.key for row in table.rows] == ["EUR/ALPHDEFF", "EUR/BETAFRPP", "JPY/ALPHDEFF"]


def test_what_netting_saved() -> None:
    table = tables.totals("c", (a_total(),))
    assert [cell.text for cell in table.rows[0].cells[:5]] == ["EUR", "10.00", "3.33", "66.7 %", "5.00"]
    provisional = tables.totals("c", (CurrencyTotal(currency="EUR", gross_minor="1000"),))
    assert [cell.text for cell in provisional.rows[0].cells] == ["EUR", "10.00", *["–"] * 6]


def test_what_settles_of_what_at_most_could() -> None:
    cells = tables.totals("c", (a_total(),)).rows[0].cells
    assert [(cell.text, cell.tone) for cell in cells[5:]] == [
        ("25.00", Tone.PLAIN),
        ("12.00", Tone.PLAIN),
        ("2.00", Tone.WARN),
    ]


def test_filter_keeps_rows_with_the_text_in_any_cell() -> None:
    table = tables.proposals([a_proposal(), msgspec.structs.replace(a_proposal("bob"), reason="Hold on")], "alice")
    assert [row.cells[3].text for row in table.filtered(" hold ").rows] == ["bob"]
    assert table.filtered("").rows == table.rows
    assert table.rows[0].cells[3].text == "alice (you)"


def test_keys_age_is_that_of_the_oldest_active_key() -> None:
    member = ParticipantView(
        bic="ALPHDEFF",
        name="Alpha",
        status="active",
        url="https://alpha.example",
        since="2026-03-01T00:00:00Z",
        keys=(
            KeyView(kid="a", use="sign", status="active", since="2026-03-01T12:00:00Z"),
            KeyView(kid="b", use="sign", status="active", since="2026-02-20T12:00:00Z"),
            KeyView(kid="c", use="sign", status="retired", since="2025-02-20T12:00:00Z"),
        ),
    )
    assert tables.participants([member], NOW).rows[0].cells[4].text == "sign 10 d"


def test_limits_stand_beside_each_other() -> None:
    member = ParticipantView(
        bic="ALPHDEFF",
        name="Alpha",
        status="active",
        url="https://alpha.example",
        since="2026-03-01T00:00:00Z",
        caps=(CapView(currency="EUR", cap_minor="10000"), CapView(currency="JPY", cap_minor="5")),
        prefunding=(PrefundingView(currency="EUR", prefunded_minor="900", reserved_minor="100"),),
        bilateral_limits=(BilateralLimitView(counterparty="BETAFRPP", currency="EUR", limit_minor="700"),),
    )
    cells = [cell.text for cell in tables.participants([member], NOW).rows[0].cells]
    assert cells[5:7] == ["EUR 100.00 + 8.00 prefunded, JPY 5", "BETAFRPP EUR 7.00"]


def test_exports_hold_exact_amounts_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    positions = Positions(cycle="2026-03-02-01", provisional=False, positions=(a_position("-123456", "200000"),))
    table = tables.positions(positions)
    rows = list(csv.DictReader(io.StringIO(export.as_csv(table).decode())))
    assert rows[0]["net"] == "-1234.56"
    assert rows[0]["cap_use_percent"] == "62"
    assert msgspec.json.decode(export.as_json(table))[0]["cap"] == "2000.00"
    first, second = export.write(table, "csv", tmp_path), export.write(table, "csv", tmp_path)
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_an_export_is_no_formula() -> None:
    table = tables.proposals([msgspec.structs.replace(a_proposal(), reason="=HYPERLINK(1)")], "")
    assert b"'=HYPERLINK(1)" in export.as_csv(table)


def test_words_of_a_newer_coordinator_are_shown_as_they_are() -> None:
    checks = Checks(cycle="c", checks=(CheckView(name="new", verdict="unsure", detail="", evidence=("a",)),))
    assert [row.cells[1].text for row in tables.checks(checks).rows] == ["unsure", ""]
    proposal = msgspec.structs.replace(a_proposal(), action="postpone", status="withdrawn")
    assert [cell.text for cell in tables.proposals([proposal], "bob").rows[0].cells[1:3]] == ["postpone", "withdrawn"]
