"""Whose clock is off, by what members say; and what no answer can make anybody believe."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from gateway.federation.clocks import Clocks, Span, judge
from gateway.federation.problems import Refusal

FAST, SLOW = 600.0, -600.0


@pytest.mark.parametrize(
    ("offsets", "off"),
    [
        pytest.param({}, {}, id="nobody heard"),
        pytest.param({"A": 0, "B": 1, "C": -1}, {}, id="all right"),
        pytest.param({"A": FAST, "B": 0, "C": 0}, {"A": FAST}, id="one of three"),
        pytest.param({"A": FAST, "B": FAST, "C": FAST}, {"ours": SLOW}, id="ours, say all"),
        pytest.param({"A": SLOW, "B": SLOW, "C": SLOW}, {"ours": FAST}, id="ours, the other way"),
        pytest.param({"A": FAST, "B": FAST, "C": FAST, "D": 0}, {"ours": SLOW, "D": SLOW}, id="ours and another's"),
        pytest.param({"A": FAST}, {"A": FAST}, id="one alone isn't believed"),
        pytest.param({"A": FAST, "B": FAST}, {"ours": SLOW}, id="two against ours"),
        pytest.param({"A": FAST, "B": 0}, {"A": FAST}, id="one against another and ours"),
        pytest.param({"A": FAST, "B": FAST, "C": 0}, {"A": FAST, "B": FAST}, id="half of all clocks: ours counts"),
        pytest.param({"A": 10, "B": -10}, {}, id="as far off as may be"),
    ],
)
def test_the_middle_of_all_clocks_is_right(offsets: dict[str, float], off: dict[str, float]) -> None:
    assert judge(offsets).off() == off


@pytest.mark.parametrize(
    ("low", "high", "least"), [(-5, 6, 0), (590, 611, 590), (-611, -590, -590), (0, 1, 0), (-1, 0, 0)]
)
def test_what_may_be_right_is(low: float, high: float, least: float) -> None:
    assert Span(low, high).least() == least


def test_an_answer_that_took_long_is_no_false_alarm() -> None:
    """Sent, answered at once over there, and read half a minute later: the clock over there is right."""
    clocks = Clocks("TESTDEF0")
    clocks.hear_answer("A", formatdate(1_000_000, usegmt=True), sent_at=1_000_000.5, received_at=1_000_030)
    assert clocks.judgement().off() == {}


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 99 Nov 2026 00:00:00 GMT", "\0", "9" * 1_000])
def test_what_is_no_date_is_ignored(date: str | None) -> None:
    clocks = Clocks("TESTDEF0")
    clocks.hear_answer("A", date, sent_at=0, received_at=1)
    assert clocks.condition() == "nobody heard"


def test_readiness_names_a_member_and_refuses_for_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    clocks = Clocks("TESTDEF0")
    clocks.hear("A", Span(FAST, FAST + 1))
    clocks.hear("B", Span(0, 1))
    for _ in range(2):
        assert clocks.condition() == "A is 600 s ahead of us"
    clocks.hear("B", Span(FAST, FAST + 1))
    for _ in range(2):
        with pytest.raises(Refusal, match="clock: ours is 600 s behind most of the 2 members heard") as refused:
            clocks.condition()
    assert (refused.value.reason, refused.value.status) == ("not_ready", 503)
    clocks.hear("A", Span(0, 1))
    clocks.hear("B", Span(0, 1))
    assert clocks.condition() == "right by 2 members"
    # Once for each change, however often somebody asks.
    logged = "".join(capsys.readouterr())
    assert logged.count("a clock is off") == 2
    assert logged.count("a clock is right again") == 2
