"""What the console says without a screen: numbers, times, how fresh it is, how far a cycle is."""

from __future__ import annotations

import msgspec
import pytest

from gateway.federation.messages.cycles import CurrencyTotal, CycleState, CycleSummary, LiquidityView, PairCounts
from tests.console.examples import a_cycle, a_stuck_view, a_total, a_view
from tui.freshness import STALE_AFTER_S, Freshness
from tui.progress import gauges, liquidity, steps, trouble
from tui.snapshot import cycle_to_follow
from tui.tables import cycles
from tui.text import Tone, age, bar, decimal, money, plain

# --- words and numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (2.9, "2 s"), (60, "1 min"), (7_300, "2 h"), (200_000, "2 d")]
)
def test_age(seconds: float, words: str) -> None:
    assert age(seconds) == words


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


# --- cycles -------------------------------------------------------------------------------------------------


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
    assert steps("a_newer_coordinators") == (("▶a_newer_coordinators", Tone.WARN),)


def test_gauges_count_active_participants_only() -> None:
    progress = a_view().progress
    assert progress is not None
    cut, attested, agreed, _ = gauges(progress)
    assert cut[1:3] == (1, 2)
    assert attested[1:3] == (0, 2)
    assert agreed[1:] == (3, 6, "1 differing, 2 missing")


def test_what_limits_leave_for_later_is_said() -> None:
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


def test_a_stuck_cycle_says_why_since_when_and_when_it_is_tried_again() -> None:
    view = a_stuck_view()
    assert view.progress is not None
    words = "✗ STUCK since 09:05:00: agent_inactive, failed 3 times, again at 09:06:02: no agent·[2J"
    assert trouble(view.progress) == words
    cell = cycles(view.cycles).rows[0].cells[2]
    assert (cell.text, cell.tone, cell.value) == ("approved ✗ stuck", Tone.BAD, "approved")
    fine = a_view().progress
    assert fine is not None
    assert trouble(fine) is None
    refused = msgspec.structs.replace(fine, agent_says="AC01: DOGWXXD0 EUR: no account")
    assert trouble(refused) == "✗ the settlement agent says: AC01: DOGWXXD0 EUR: no account"
