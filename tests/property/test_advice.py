"""What must hold of scheduling advice."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netting.advice import DAY_S, AdviceReason, TimedObligation, advise
from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError

BANKS = ("A", "B", "C", "D")
pairs = st.permutations(BANKS).map(lambda names: (names[0], names[1]))
timed = st.builds(
    lambda currency, at_s, pair, amount: TimedObligation(currency, at_s, *pair, amount),
    st.sampled_from(("EUR", "USD")),
    st.one_of(st.integers(-50, 50), st.integers(0, 3 * DAY_S)),
    pairs,
    st.one_of(st.integers(1, 30), st.integers(1, 10**36)),
)
days = st.lists(timed, min_size=1, max_size=40)


@given(days, st.sets(st.integers(1, 50), min_size=1, max_size=5))
def test_every_point_is_what_the_cycles_would_have_settled(day: list[TimedObligation], numbers: set[int]) -> None:
    for curve in advise(day, candidates=sorted(numbers, reverse=True)):
        obligations = [obligation for obligation in day if obligation.currency == curve.currency]
        assert curve.gross == sum(obligation.amount for obligation in obligations)
        assert [point.cycles_a_day for point in curve.points] == sorted(numbers)
        for point in curve.points:
            nets: defaultdict[int, Counter[str]] = defaultdict(Counter)
            waited = Fraction(0)
            for obligation in obligations:
                length = Fraction(DAY_S, point.cycles_a_day)
                cycle = obligation.at_s // length
                nets[int(cycle)].update({obligation.creditor: obligation.amount})
                nets[int(cycle)].subtract({obligation.debtor: obligation.amount})
                waited += obligation.amount * ((cycle + 1) * length - obligation.at_s)
            settlement_value = sum(value for cycle in nets.values() for value in cycle.values() if value > 0)
            assert (point.settlement_value, point.saving) == (settlement_value, curve.gross - settlement_value)
            assert point.peak_net_debit == -min(value for cycle in nets.values() for value in cycle.values())
            assert point.mean_wait == waited / curve.gross
            assert 0 < point.mean_wait <= Fraction(DAY_S, point.cycles_a_day)
            assert point.mean_wait_s == int(point.mean_wait)
        assert curve.knee in numbers


@given(days)
def test_cycles_that_divide_each_other_save_less_the_more_there_are(day: list[TimedObligation]) -> None:
    for curve in advise(day, candidates=(1, 2, 4, 8, 24)):
        assert curve.monotone


@given(days, st.randoms(use_true_random=False))
def test_the_order_changes_nothing(day: list[TimedObligation], order: random.Random) -> None:
    shuffled = list(day)
    order.shuffle(shuffled)
    assert repr(advise(shuffled)) == repr(advise(day))


def test_the_knee_is_where_more_waiting_saves_nothing_more() -> None:
    # Each hour's debts cancel within the hour: 24 cycles a day save all that one a day does.
    day = [
        TimedObligation("EUR", hour * 3_600 + minute * 60, *pair, 100)
        for hour in range(24)
        for minute, pair in ((10, ("A", "B")), (50, ("B", "A")))
    ]
    (curve,) = advise(day, candidates=(1, 4, 24, 48))
    assert [point.saving for point in curve.points] == [4_800, 4_800, 4_800, 0]
    assert [point.mean_wait_s for point in curve.points] == [43_200, 10_800, 1_800, 900]
    assert [point.peak_net_debit for point in curve.points] == [0, 0, 0, 100]
    assert (curve.knee, curve.monotone) == (24, True)


REFUSED = [
    ([], (), DAY_S, AdviceReason.NO_CANDIDATE, "candidates"),
    ([], (0, 1), DAY_S, AdviceReason.CANDIDATE_NOT_POSITIVE, "candidates"),
    ([], (2, 2), DAY_S, AdviceReason.CANDIDATE_REPEATED, "candidates"),
    ([], (1,), 0, AdviceReason.DAY_NOT_POSITIVE, "day_s"),
    ([TimedObligation("EUR", 5, "A", "X", 1)], (1,), DAY_S, AdviceReason.UNKNOWN_PARTICIPANT, "A to X in EUR at 5"),
    ([TimedObligation("EUR", 5, "A", "A", 1)], (1,), DAY_S, AdviceReason.SELF_PAYMENT, "A to A in EUR at 5"),
    ([TimedObligation("EUR", 5, "A", "B", 0)], (1,), DAY_S, AdviceReason.AMOUNT_NOT_POSITIVE, "A to B in EUR at 5"),
    (
        [TimedObligation("EUR", 5, "A", "B", AMOUNT_MAX + 1)],
        (1,),
        DAY_S,
        AdviceReason.AMOUNT_OVERFLOW,
        "A to B in EUR at 5",
    ),
    (
        [TimedObligation("EUR", 5, "A", "B", AMOUNT_MAX), TimedObligation("EUR", 6, "A", "B", 1)],
        (1,),
        DAY_S,
        AdviceReason.SUM_OVERFLOW,
        "A to B in EUR at 6",
    ),
]


@pytest.mark.parametrize(("day", "candidates", "day_s", "reason", "place"), REFUSED)
def test_refusals(
    day: list[TimedObligation], candidates: tuple[int, ...], day_s: int, reason: AdviceReason, place: str
) -> None:
    for order in (day, day[::-1]):
        with pytest.raises(RefusedError) as refused:
            advise(order, candidates=candidates, day_s=day_s, participants=frozenset("AB"))
        assert (refused.value.reason, refused.value.place) == (reason, place)
