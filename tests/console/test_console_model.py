"""The console's UI-free core: what it says, counts and exports."""

from __future__ import annotations

import csv
import dataclasses
import io
import stat
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from gateway.federation.messages.attestation import BreakNotice
from gateway.federation.messages.cycles import (
    CurrencyTotal,
    Cycle,
    CycleProgress,
    CycleState,
    CycleSummary,
    LiquidityView,
    PairCounts,
    ParticipantProgress,
    Positions,
    PositionView,
)
from gateway.federation.messages.limits import BilateralLimitView, CapView, PrefundingView
from gateway.federation.messages.participants import KeyView, ParticipantView
from gateway.federation.messages.proposals import ProposalView
from tui import export, tables
from tui.actions import ACTIONS, BY_ID, applies, unlocked
from tui.forms import Answer, effects, form_for
from tui.freshness import STALE_AFTER_S, Freshness
from tui.journal import Entry, Journal
from tui.progress import gauges, liquidity, steps
from tui.snapshot import Snapshot, cycle_to_follow
from tui.text import Tone, age, bar, decimal, money, plain

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def a_cycle(number: int, state: CycleState) -> Cycle:
    return Cycle(
        id=f"2026-03-02-{number:02}",
        value_date="2026-03-02",
        number=number,
        state=state,
        currencies=("EUR", "JPY"),
        rulebook="0" * 64,
        trust_list_version=1,
        opened_at="2026-03-02T06:00:00Z",
    )


def a_view(state: CycleState = "netted", number: int = 1) -> Snapshot:
    cycle = a_cycle(number, state)
    progress = CycleProgress(
        cycle=cycle,
        participants=(
            ParticipantProgress(participant="ALPHDEFF", status="active", cut_at="2026-03-02T09:00:01Z"),
            ParticipantProgress(participant="BETAFRPP", status="active"),
            ParticipantProgress(participant="GAMMGB2L", status="suspended"),
        ),
        pairs=PairCounts(agreed=3, differing=1, missing=2),
        totals=(CurrencyTotal(currency="EUR", gross_minor="123456", settlement_minor="2345"),),
        breaks=(BreakNotice(pair=("ALPHDEFF", "BETAFRPP"), currency="EUR", revision=1, kind="different"),),
    )
    return Snapshot(cycles=(CycleSummary(cycle=cycle, pairs=progress.pairs),), selected=cycle.id, progress=progress)


def a_total() -> CurrencyTotal:
    """10.00 of 25.00 settle, at most 12.00 could."""
    return CurrencyTotal(
        currency="EUR",
        gross_minor="1000",
        bilateral_minor="500",
        settlement_minor="333",
        saving_minor="667",
        liquidity=LiquidityView(
            mode="optimal",
            matched_minor="2500",
            value_minor="1000",
            upper_bound_minor="1200",
            gap_minor="200",
            optimal=False,
        ),
    )


def a_proposal(made_by: str = "alice") -> ProposalView:
    return ProposalView(
        id="018f0000-0000-7000-8000-000000000001",
        cycle="2026-03-02-01",
        action="approve",
        reason="all checks pass",
        status="pending",
        made_by=made_by,
        made_at="2026-03-02T10:00:00Z",
    )


def a_position(net: str, cap: str | None, currency: str = "EUR", participant: str = "ALPHDEFF") -> PositionView:
    return PositionView(
        participant=participant,
        currency=currency,
        receives_minor="0",
        pays_minor="0",
        net_minor=net,
        cap_minor=cap,
        limit_minor=cap,
    )


# --- words and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s"), (2.9, "2 s"), (60, "1 min"), (7_300, "2 h"), (200_000, "2 d")]
)
def test_age(seconds: float, said: str) -> None:
    assert age(seconds) == said


@pytest.mark.parametrize(
    ("minor", "currency", "shown", "exported"),
    [
        ("123456789012345678901234567890", "EUR", "1,234,567,890,123,456,789,012,345,678.90", None),
        ("-5", "EUR", "-0.05", "-0.05"),
        ("1500", "JPY", "1,500", "1500"),
        ("1500", "KWD", "1.500", "1.500"),
        (None, "EUR", "–", ""),
    ],
)
def test_amounts_are_exact(minor: str | None, currency: str, shown: str, exported: str | None) -> None:
    assert money(minor, currency) == shown
    assert decimal(minor, currency) == (shown.replace(",", "") if exported is None else exported)


def test_text_of_others_can_not_steer_the_terminal() -> None:
    assert plain("Bank\x1b[2J\u202eevil\n") == "Bank·[2J·evil·"


@pytest.mark.parametrize(("part", "filled"), [(0, 0), (1, 1), (50, 5), (99, 9), (100, 10), (250, 10)])
def test_only_all_of_it_fills_the_bar(part: int, filled: int) -> None:
    assert bar(part, 100, 10).count("━") == filled
    assert len(bar(part, 100, 10)) == 10


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


# --- freshness ----------------------------------------------------------------------------------------------


def test_freshness_tells_the_age_of_the_screen() -> None:
    feed = Freshness()
    assert feed.words(100) == ("connecting", Tone.DIM)
    feed = feed.answered(100)
    assert feed.words(102) == ("updated 2 s ago", Tone.GOOD)
    assert feed.words(101 + STALE_AFTER_S) == ("STALE 16 s", Tone.BAD)


def test_a_lost_coordinator_is_stale_at_once_and_the_next_answer_mends_it() -> None:
    feed = Freshness().answered(100).failed("ConnectError")
    assert feed.words(101) == ("STALE 1 s · ConnectError", Tone.BAD)
    assert feed.answered(103).words(103) == ("updated 0 s ago", Tone.GOOD)


def test_freeze_counts_what_waits() -> None:
    feed = Freshness().answered(1).toggled().answered(2).answered(3)
    assert feed.words(3) == ("FROZEN · 2 waiting · space resumes", Tone.WARN)
    assert feed.toggled().rounds_waiting == 0


# --- cycles ---------------------------------------------------------------------------------------------------


def test_the_running_cycle_is_followed_then_the_open_one_then_the_newest() -> None:
    def chosen(*states: CycleState) -> str | None:
        return cycle_to_follow(
            [CycleSummary(cycle=a_cycle(9 - i, state), pairs=PairCounts()) for i, state in enumerate(states)]
        )

    assert chosen("open", "deferred", "final") == "2026-03-02-08"
    assert chosen("final", "open") == "2026-03-02-08"
    assert chosen("final", "abandoned") == "2026-03-02-09"
    assert chosen() is None


def test_the_road_of_a_cycle() -> None:
    assert [text for text, _ in steps("matched")][:5] == ["✓open", "✓cut-off", "✓attesting", "▶matched", "·netted"]
    assert ("▶HELD", Tone.WARN) in steps("held")
    assert ("▶DEFERRED", Tone.WARN) in steps("deferred")
    assert {tone for _, tone in steps("final")} == {Tone.GOOD}
    assert "ABANDONED" in steps("abandoned")[0][0]


def test_gauges_count_active_participants_only() -> None:
    progress = a_view().progress
    assert progress is not None
    cut, attested, agreed, _ = gauges(progress)
    assert cut[1:3] == (1, 2)
    assert attested[1:3] == (0, 2)
    assert agreed[1:] == (3, 6, "1 differing, 2 missing")


# --- tables and exports -------------------------------------------------------------------------------------


def test_positions_show_the_zero_sum_and_mark_caps() -> None:
    found = Positions(
        cycle="2026-03-02-01",
        provisional=False,
        positions=(
            a_position("-90", "100"),
            a_position("90", None, participant="BETAFRPP"),
            a_position("7", "1", "JPY"),
        ),
    )
    table = tables.positions(found)
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
    progress = a_view().progress
    assert progress is not None
    assert liquidity(progress) == ()
    all_of_it = LiquidityView(
        mode="optimal", matched_minor="7", value_minor="7", upper_bound_minor="7", gap_minor="0", optimal=True
    )
    jpy = CurrencyTotal(currency="JPY", gross_minor="7", liquidity=all_of_it)
    assert liquidity(msgspec.structs.replace(progress, totals=(a_total(), jpy))) == (
        "EUR settles 10.00 of at most 12.00 (gap 2.00); 25.00 matched",
    )
    assert liquidity(msgspec.structs.replace(progress, totals=(jpy,))) == (
        "All that matched settles: no limit stands in its way.",
    )


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
    found = Positions(cycle="2026-03-02-01", provisional=False, positions=(a_position("-123456", "200000"),))
    table = tables.positions(found)
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


# --- actions --------------------------------------------------------------------------------------------------


def test_read_only_leaves_actions_that_change_nothing() -> None:
    left = {action.id for action in ACTIONS if unlocked(action, operate=False)}
    assert left.isdisjoint(
        {"open_cycle", "cut_off", "approve", "hold", "release", "abandon", "unwind", "confirm", "reject"}
    )
    assert {"help", "quit", "export_csv", "freeze", "filter"} <= left


def test_keys_are_unique() -> None:
    assert len({action.key for action in ACTIONS}) == len(ACTIONS)


def test_actions_apply_by_pane_and_state() -> None:
    assert applies(BY_ID["cut_off"], pane="cycles", view=a_view("open"))
    assert not applies(BY_ID["cut_off"], pane="cycles", view=a_view("netted"))
    assert not applies(BY_ID["approve"], pane="participants", view=a_view("netted"))
    assert not applies(BY_ID["confirm"], pane="proposals", view=a_view())


def test_effects_tell_counts_totals_and_participants() -> None:
    said = "\n".join(effects("approve", a_view()))
    for part in ("2 active of 3", "3 agreed, 1 differing, 2 missing", "gross 1,234.56, to settle 23.45"):
        assert part in said


def test_confirmations_are_graded_by_consequence() -> None:
    cut_off = form_for(BY_ID["cut_off"], a_view("open"))
    assert cut_off.objection(Answer(typed="2026-03-02-02")) == "Type 2026-03-02-01 to go on."
    assert cut_off.objection(Answer(typed=" 2026-03-02-01 ")) is None

    hold = form_for(BY_ID["hold"], a_view())
    assert hold.objection(Answer(reason="  ")) == "A reason is needed."
    assert hold.objection(Answer(reason="a list is old")) is None
    assert hold.objection(Answer(reason="x" * 501)) is not None

    confirm = form_for(BY_ID["confirm"], a_view(), a_proposal("bob"))
    assert confirm.objection(Answer(reason="seen")) is not None
    assert confirm.objection(Answer(typed="2026-03-02-01")) is None
    assert any("bob proposes to approve" in line for line in confirm.lines)


def test_an_unwinding_names_who_cant_pay() -> None:
    assert applies(BY_ID["unwind"], pane="cycle", view=a_view("deferred"))
    assert not applies(BY_ID["unwind"], pane="cycle", view=a_view("netted"))
    form = form_for(BY_ID["unwind"], a_view("deferred"))
    assert form.objection(Answer(reason="insolvent")) == "Name those who can't pay."
    assert form.objection(Answer(participants="betafrpp")) == "A reason is needed."
    answer = Answer(reason="insolvent", participants=" betafrpp, ALFADEFF betafrpp ")
    assert form.objection(answer) is None
    assert answer.banks == ("ALFADEFF", "BETAFRPP")

    proposal = msgspec.structs.replace(a_proposal("bob"), action="unwind", participants=("ALFADEFF", "BETAFRPP"))
    for view in (a_view("deferred"), dataclasses.replace(a_view("deferred"), progress=None)):
        lines = form_for(BY_ID["confirm"], view, proposal).lines
        assert lines[0] == "bob proposes to unwind cycle 2026-03-02-01 without ALFADEFF, BETAFRPP:"
        assert "netted again" in lines[-1]


# --- the session log ------------------------------------------------------------------------------------------


def test_the_session_log_appends_lines_for_its_owner_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "log.jsonl")
    for outcome in ("asked", "done"):
        journal.write(
            Entry(
                at="2026-03-02T10:00:00Z",
                subject="alice",
                coordinator="CNCDXXC0",
                correlation_id="c-1",
                action="hold",
                outcome=outcome,
            )
        )
    lines = [msgspec.json.decode(line) for line in journal.path.read_bytes().splitlines()]
    assert [line["outcome"] for line in lines] == ["asked", "done"]
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
