"""Whatever two files say: each row has one fate, sums add up, neither order nor side matters, and an oracle agrees."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, combinations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from participants.matching.pairing import Kind, mirrored
from participants.matching.rules import ByReference, BySum, Rules, default_rules
from participants.matching.subset_sum import least_zero_sum
from tests.matching_tables import Line, breaks, matched, matches, rows_by_fate

LINES = st.builds(
    Line,
    reference=st.sampled_from([None, "R1", "R2", "r1", "0R2", "R 3", "R3", "LONGREF7"]),
    amount=st.sampled_from([0, 1, 100, 100, 101, 200, 300, -100, 12_345, 10**17]),
    currency=st.sampled_from(["EUR", "EUR", "JPY"]),
    day=st.sampled_from([0, 0, 1, 2, 7, None]),
    text=st.sampled_from([None, "invoice 17", "Invoice  17", "rent Ada", "longref7 rent"]),
    cycle=st.sampled_from([None, "01", "02"]),
    status=st.sampled_from([None, "booked", "Booked", "pending"]),
)
TABLES = st.lists(LINES, max_size=12)
ANY = msgspec.convert(
    {
        "materiality": {"EUR": "0.02"},
        "passes": [
            {"by": "reference", "days": 1},
            {"by": "sum", "spelling": "normal", "rows_max": 3},
            {"by": "amount", "within": {"EUR": "1.00"}, "days": 1, "references": "any"},
            {"by": "parts", "chance_max": 1.0, "days": 2, "references": "any"},
            {"by": "text", "references": "any", "similarity": 60},
        ],
    },
    Rules,
)
RULES = st.sampled_from([default_rules(), ANY])


@settings(max_examples=80, deadline=None)
@given(TABLES, TABLES, RULES)
def test_each_row_is_in_one_match_or_one_break_and_the_sums_add_up(a: list[Line], b: list[Line], rules: Rules) -> None:
    outcome = matched(a, b, rules)
    assert rows_by_fate(outcome) == (list(range(len(a))), list(range(len(b))))
    for currency in {line.currency for line in (*a, *b)}:
        sums = outcome.sums[currency]
        assert sums.a == sum(line.amount for line in a if line.currency == currency)
        assert sums.b == sum(line.amount for line in b if line.currency == currency)
        assert sums.difference == sums.of_breaks + sums.of_matches


@settings(max_examples=80, deadline=None)
@given(TABLES, TABLES, RULES)
def test_with_the_sides_exchanged_it_is_the_same(a: list[Line], b: list[Line], rules: Rules) -> None:
    there, back = matched(a, b, rules), matched(b, a, rules)
    assert matches(there, a, b) == sorted(((label, x, y) for label, y, x in matches(back, b, a)), key=repr)
    turned = ((mirrored(Kind(kind)).value, x, y) for kind, y, x in breaks(back, b, a))
    assert breaks(there, a, b) == sorted(turned, key=repr)


@settings(max_examples=80, deadline=None)
@given(TABLES, TABLES, RULES, st.randoms(use_true_random=False))
def test_the_order_of_rows_doesnt_matter(a: list[Line], b: list[Line], rules: Rules, order: random.Random) -> None:
    first = matched(a, b, rules)
    other_a, other_b = order.sample(a, len(a)), order.sample(b, len(b))
    second = matched(other_a, other_b, rules)
    assert matches(first, a, b) == matches(second, other_a, other_b)
    assert breaks(first, a, b) == breaks(second, other_a, other_b)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, max_size=8))
def test_a_table_matches_itself_whole(lines: list[Line]) -> None:
    outcome = matched(lines, lines, default_rules())
    assert [item for item in outcome.breaks if item.a and item.b] == []
    with_reference = [line for line in lines if line.reference is not None]
    assert outcome.matches >= len(with_reference)
    assert outcome.breaks == []


PLAIN = st.lists(
    st.builds(
        Line,
        reference=st.sampled_from(["R1", "R2", "R3"]),
        amount=st.sampled_from([100, 200, 300]),
        currency=st.sampled_from(["EUR", "JPY"]),
        day=st.sampled_from([0, 1]),
    ),
    max_size=7,
)


def oracle(a: list[Line], b: list[Line]) -> Counter[str]:
    """Count by hand what comes of two tables by the passes `reference` and `sum`, one reference after the other."""
    counts: Counter[str] = Counter()
    for reference in {line.reference for line in (*a, *b)}:
        left_a, left_b = ([line for line in side if line.reference == reference] for side in (a, b))
        for same in (
            lambda x, y: x == y,
            lambda x, y: (x.amount, x.currency) == (y.amount, y.currency),
        ):
            for line in sorted(left_a, key=lambda x: x.day):
                twin = next((x for x in sorted(left_b, key=lambda x: x.day) if same(line, x)), None)
                if twin is not None:
                    left_a.remove(line)
                    left_b.remove(twin)
                    counts["match" if line.day == twin.day else "value_date"] += 1
        if len(left_a) == len(left_b) == 1:
            x, y = left_a.pop(), left_b.pop()
            counts["currency" if x.currency != y.currency else "amount"] += 1
        elif left_a and left_b and len({line.currency for line in (*left_a, *left_b)}) == 1:
            sums = [sum(line.amount for line in side) for side in (left_a, left_b)]
            if sums[0] == sums[1]:
                counts["match"] += 1
                left_a, left_b = [], []
            elif 1 in (len(left_a), len(left_b)):
                counts["amount"] += 1
                left_a, left_b = [], []
        for left, side, here, there in ((left_a, a, "a", "b"), (left_b, b, "b", "a")):
            for key, count in Counter((x.amount, x.currency) for x in left).items():
                all_alike = sum(1 for x in side if (x.reference, x.amount, x.currency) == (reference, *key))
                extra = count if all_alike > count else count - 1
                counts[f"duplicate_in_{here}"] += extra
                counts[f"missing_in_{there}"] += count - extra
    return +counts


@settings(max_examples=150, deadline=None)
@given(PLAIN, PLAIN)
def test_references_and_sums_are_as_an_oracle_has_them(a: list[Line], b: list[Line]) -> None:
    outcome = matched(a, b, Rules(passes=(ByReference(), BySum())))
    assert Counter({kind.value: count for kind, count in outcome.by_kind.items()}) + Counter(
        match=outcome.matches
    ) == oracle(a, b)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-50, 50).filter(bool), max_size=9), st.integers(2, 6))
def test_the_smallest_subset_that_sums_to_zero_is_found_if_it_is_the_only_one(
    amounts: list[int], rows_max: int
) -> None:
    places = range(len(amounts))
    subsets = chain.from_iterable(combinations(places, size) for size in range(1, rows_max + 1))
    zero = [subset for subset in subsets if sum(amounts[place] for place in subset) == 0]
    least = [subset for subset in zero if len(subset) == len(zero[0])]
    assert least_zero_sum(amounts, rows_max=rows_max) == (least[0] if len(least) == 1 else None)
