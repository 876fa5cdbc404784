"""What each pass puts together, what it leaves, and what becomes of files made to be hard."""

from __future__ import annotations

import time

import msgspec
import pytest

from participants.matching.rules import Rules
from tests.matching_tables import Line, breaks, matched, matches


def rules(*passes: dict[str, object], **others: object) -> Rules:
    return msgspec.convert({"passes": list(passes), **others}, Rules)


def fates(a: list[Line], b: list[Line], with_rules: Rules | None = None) -> list[str]:
    """Return the kinds of the breaks and the passes of the matches."""
    outcome = matched(a, b, with_rules)
    return sorted(
        [kind for kind, _, _ in breaks(outcome, a, b)] + [f"= {label}" for label, _, _ in matches(outcome, a, b)]
    )


R = Line("R1", 100)
FIXED: dict[str, tuple[list[Line], list[Line], list[str]]] = {
    "equal": ([R], [R], ["= reference"]),
    "missing in b": ([R], [], ["missing_in_b"]),
    "missing in a": ([], [R], ["missing_in_a"]),
    "other payments of the same amount": ([R], [Line("R2", 100)], ["missing_in_a", "missing_in_b"]),
    "amount": ([R], [Line("R1", 101)], ["amount"]),
    "sign": ([R], [Line("R1", -100)], ["amount"]),
    "currency": ([R], [Line("R1", 100, "JPY")], ["currency"]),
    "value date": ([R], [Line("R1", 100, day=1)], ["value_date"]),
    "a value date that isn't known": ([R], [Line("R1", 100, day=None)], ["= reference"]),
    "amount before value date": ([R], [Line("R1", 101, day=1)], ["amount"]),
    "currency before amount": ([R], [Line("R1", 101, "JPY")], ["currency"]),
    "other cycle": ([Line("R1", 100, cycle="01")], [Line("R1", 100, cycle="02")], ["late"]),
    "status": ([Line("R1", 100, status="settled")], [Line("R1", 100, status="pending")], ["status"]),
    "status in other case": ([Line("R1", 100, status="BOOKED")], [Line("R1", 100, status="booked")], ["= reference"]),
    "cycle of one side alone": ([Line("R1", 100, cycle="01")], [R], ["= reference"]),
    "twice on both sides": ([R, R], [R, R], ["= reference", "= reference"]),
    "twice in a": ([R, R], [R], ["= reference", "duplicate_in_a"]),
    "three times in b": ([R], [R] * 3, ["= reference", "duplicate_in_b", "duplicate_in_b"]),
    "twice, and missing": ([R, R], [], ["duplicate_in_a", "missing_in_b"]),
    "booked again another day": ([R], [R, Line("R1", 100, day=3)], ["= reference", "duplicate_in_b"]),
    "twice under another spelling": ([R], [R, Line("r1", 100)], ["= reference", "duplicate_in_b"]),
    "the same reference, another amount": ([R], [R, Line("R1", 70)], ["= reference", "missing_in_a"]),
    "spelled otherwise": ([Line("00abc 1", 100)], [Line("ABC1", 100)], ["= reference, spelled otherwise"]),
    "letters composed otherwise": ([Line("é1", 5)], [Line("e\u03011", 5)], ["= reference, spelled otherwise"]),
    "nothing but zeros": ([Line("000", 5)], [Line("0", 5)], ["missing_in_a", "missing_in_b"]),
    "spelled otherwise, and another amount": ([Line("r1", 99)], [R], ["amount"]),
    "in two parts": ([R], [Line("R1", 40), Line("R1", 60, day=1)], ["= sum"]),
    "in two parts of one amount": ([R], [Line("R1", 50), Line("R1", 50)], ["= sum"]),
    "many to many": ([R, Line("R1", 50)], [Line("R1", 75), Line("R1", 75)], ["= sum"]),
    "parts that lack something": ([R], [Line("R1", 40), Line("R1", 59)], ["amount"]),
    "parts a week apart": ([R], [Line("R1", 40), Line("R1", 60, day=7)], ["value_date"]),
    "parts in two currencies": ([R], [Line("R1", 40), Line("R1", 60, "JPY")], ["missing_in_a"] * 2 + ["missing_in_b"]),
    "one of two is wrong": ([R, Line("R1", 50)], [R, Line("R1", 51)], ["= reference", "amount"]),
    "no reference on one side": ([R], [Line(None, 100, day=2)], ["= amount"]),
    "no reference, three days": ([R], [Line(None, 100, day=3)], ["missing_in_a", "missing_in_b"]),
    "no reference, a fee": ([R], [Line(None, 99)], ["missing_in_a", "missing_in_b"]),
    "another account": ([Line(None, 7, account="1")], [Line(None, 7, account="2")], ["missing_in_a", "missing_in_b"]),
    "the nearest day first": (
        [Line(None, 100), Line(None, 100, day=2)],
        [Line(None, 100, day=1), Line(None, 100, day=2)],
        ["= amount", "= amount"],
    ),
    "text": ([Line("R1", 100, text="Rent of Ada, May")], [Line(None, 100, day=4, text="rent of ada may")], ["= text"]),
    "a reference in the text": ([Line("INV-2041", 9)], [Line(None, 9, day=4, text="pays inv2041")], ["= text"]),
    "another text": (
        [Line("R1", 100, text="rent")],
        [Line(None, 100, day=4, text="coffee")],
        ["missing_in_a", "missing_in_b"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "expected"), FIXED.values(), ids=FIXED)
def test_fates(a: list[Line], b: list[Line], expected: list[str]) -> None:
    assert fates(a, b) == sorted(expected)


def test_parts_without_a_reference_match_if_chance_doesnt_explain_it() -> None:
    target = Line("R1", 8_317_429)
    parts = [Line(None, 3_214_111), Line(None, 5_103_318), Line(None, 77_777)]
    assert fates([target], parts) == ["= parts", "missing_in_a"]
    # Of few round amounts some always fit.
    round_parts = [Line(None, 300), Line(None, 500), Line(None, 200), Line(None, 100)]
    assert fates([Line("R1", 800)], round_parts) == ["missing_in_a"] * 4 + ["missing_in_b"]


def test_parts_that_could_be_others_are_left_open() -> None:
    ambiguous = [Line(None, 3_214_111), Line(None, 5_103_318), Line(None, 4_000_001), Line(None, 4_317_428)]
    assert fates([Line("R1", 8_317_429)], ambiguous) == ["missing_in_a"] * 4 + ["missing_in_b"]


def test_a_difference_that_isnt_material_is_a_match_that_says_so() -> None:
    by_reference = rules({"by": "reference"}, {"by": "sum"}, materiality={"EUR": "0.05"})
    a = [Line("R1", 100), Line("R2", 100), Line("R3", 100, "JPY"), Line("R4", 100)]
    b = [Line("R1", 104), Line("R2", 105), Line("R3", 101, "JPY"), Line("R4", 60), Line("R4", 41)]
    outcome = matched(a, b, by_reference)
    assert [kind for kind, _, _ in breaks(outcome, a, b)] == ["amount", "amount"]
    assert outcome.sums["EUR"].of_matches == -5
    assert outcome.sums["EUR"].of_breaks == -5


def test_amounts_within_a_tolerance_match_the_nearest() -> None:
    tolerant = rules({"by": "amount", "within": {"EUR": "5.00"}, "days": 2})
    a = [Line(None, 10_000), Line(None, 10_300)]
    b = [Line(None, 10_290), Line(None, 9_600), Line(None, 9_499)]
    outcome = matched(a, b, tolerant)
    assert [(x[0].amount, y[0].amount) for _, x, y in matches(outcome, a, b)] == [(10_000, 9_600), (10_300, 10_290)]
    assert fates(a, b, tolerant).count("missing_in_a") == 1


def test_references_that_speak_against_each_other_may_be_passed_over_by_the_rules() -> None:
    a, b = [Line("OURS", 100)], [Line("THEIRS", 100)]
    assert fates(a, b, rules({"by": "amount"})) == ["missing_in_a", "missing_in_b"]
    assert fates(a, b, rules({"by": "amount", "references": "any"})) == ["= amount"]


MANY, MORE = 20_000, 100_000
HARD: dict[str, tuple[list[Line], list[Line]]] = {
    "one reference, equal amounts": ([R] * MORE, [R] * (MORE - 1)),
    "one reference, other amounts": (
        [Line("R1", n) for n in range(MANY)],
        [Line("R1", 2 * MANY + n) for n in range(MANY)],
    ),
    "no reference, equal amounts": ([Line(None, 5)] * MORE, [Line(None, 5)] * (MORE - 1)),
    "no reference, dense amounts": (
        [Line(None, n) for n in range(MANY)],
        [Line(None, n + 300) for n in range(MANY)],
    ),
    "one amount, other texts": (
        [Line(None, 5, text=f"text {n}") for n in range(MANY)],
        [Line(None, 5, day=4, text=f"words {n}") for n in range(MANY)],
    ),
    "small windows": (
        [Line(None, n % 97, day=n // 14) for n in range(MANY)],
        [Line(None, n % 89, day=n // 14) for n in range(MANY)],
    ),
}
WIDE = rules(
    {"by": "reference"},
    {"by": "sum"},
    {"by": "amount", "within": {"EUR": "5.00"}, "days": 2},
    {"by": "parts", "chance_max": 1.0},
    {"by": "text"},
)


@pytest.mark.parametrize(("a", "b"), HARD.values(), ids=HARD)
def test_files_made_to_be_hard_take_bounded_time(a: list[Line], b: list[Line]) -> None:
    started = time.process_time()
    outcome = matched(a, b, WIDE)
    assert time.process_time() - started < 20
    assert outcome.matches + len(outcome.breaks) > 0
    assert outcome.sums


def test_rows_that_are_too_many_to_be_tried_are_counted_once() -> None:
    a = [Line("R1", 10_007), *(Line(None, 1_000 + n) for n in range(40))]
    outcome = matched(a, [Line(None, 9_001), Line(None, 50_001)])
    assert outcome.matching.not_tried == {"parts": 42}
