"""What must hold of an amount shared pro rata."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netting.loss_allocation.pro_rata import ProRataReason, pro_rata, room
from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError

NAMES = ("A", "B", "C", "D", "E")
amounts = st.one_of(st.integers(0, 12), st.integers(0, 10**37))
weight_sets = st.dictionaries(st.sampled_from(NAMES), amounts, min_size=1).filter(lambda w: any(w.values()))


@given(amounts, weight_sets)
def test_everything_is_shared_and_nobody_is_a_unit_away_from_its_exact_share(
    total: int, weights: dict[str, int]
) -> None:
    shares = pro_rata(total, weights)
    assert list(shares) == sorted(weights)
    assert sum(shares.values()) == total
    for name, share in shares.items():
        assert abs(share - Fraction(total * weights[name], sum(weights.values()))) < 1


@given(weight_sets, st.data())
def test_no_share_of_at_most_the_sum_exceeds_its_weight(weights: dict[str, int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights.values())))
    shares = pro_rata(total, weights)
    assert all(shares[name] <= weights[name] for name in weights)
    assert shares == pro_rata(total, weights, caps=weights)


@given(weight_sets, st.data())
def test_who_stays_below_its_cap_pays_the_same_proportion_and_nobody_above_it(
    weights: dict[str, int], data: st.DataObject
) -> None:
    caps = {name: data.draw(amounts) for name in weights}
    total = data.draw(st.integers(0, room(weights, caps)))
    shares = pro_rata(total, weights, caps=caps)
    assert sum(shares.values()) == total
    assert all(0 <= shares[name] <= caps[name] for name in weights)
    for name, rival in itertools.permutations((name for name in weights if weights[name]), 2):
        if shares[name] < caps[name]:
            # One that has room has at least the proportion of any other, to within the units of rounding.
            assert Fraction(shares[name] + 1, weights[name]) > Fraction(shares[rival] - 1, weights[rival])


@given(amounts, weight_sets, st.data())
def test_the_order_changes_nothing(total: int, weights: dict[str, int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(list(weights)))
    assert repr(pro_rata(total, {name: weights[name] for name in order})) == repr(pro_rata(total, weights))


def test_the_largest_remainders_get_the_units_that_are_left_and_ties_go_by_name() -> None:
    assert pro_rata(10, {"A": 1, "B": 1, "C": 1}) == {"A": 4, "B": 3, "C": 3}
    assert pro_rata(7, {"C": 5, "B": 2, "A": 3}) == {"A": 2, "B": 1, "C": 4}
    assert pro_rata(100, {"A": 1, "B": 1, "C": 2}, caps={"A": 10, "B": 100, "C": 100}) == {"A": 10, "B": 30, "C": 60}


REFUSED = [
    (-1, {"A": 1}, None, ProRataReason.NEGATIVE, "total"),
    (1, {"B": -1, "A": -1}, None, ProRataReason.NEGATIVE, "weight of A"),
    (1, {"A": 1}, {"A": -2}, ProRataReason.NEGATIVE, "cap of A"),
    (AMOUNT_MAX + 1, {"A": 1}, None, ProRataReason.OVERFLOW, "total"),
    (1, {"A": AMOUNT_MAX, "B": 1}, None, ProRataReason.OVERFLOW, "sum of weights"),
    (1, {"A": 1, "B": 1}, {"A": 1}, ProRataReason.CAP_MISSING, "cap of B"),
    (1, {"A": 0}, None, ProRataReason.CAPS_TOO_LOW, "total"),
    (3, {"A": 1, "B": 0}, {"A": 2, "B": 5}, ProRataReason.CAPS_TOO_LOW, "total"),
]


@pytest.mark.parametrize(("total", "weights", "caps", "reason", "place"), REFUSED)
def test_refusals(
    total: int, weights: dict[str, int], caps: dict[str, int] | None, reason: ProRataReason, place: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        pro_rata(total, weights, caps=caps)
    assert (refused.value.reason, refused.value.place) == (reason, place)
