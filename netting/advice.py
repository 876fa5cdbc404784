"""Scheduling advice: how much netting saves against how long obligations wait, for each number of cycles a day.

Rare cycles net much and let obligations wait long; frequent ones net little and settle soon. The curve shows both for
each candidate, worked out on obligations of the past, by currency:

- an obligation settles at the end of the cycle in which it falls due to be netted, so it waits until then;
- what has to move is the sum of the positive nets of all cycles; the saving is the gross value less that;
- the peak is the greatest net debit of any participant in any cycle: the liquidity or cap it takes.

More cycles never save more where each of the fewer is made of whole ones of the more; `monotone` says whether that held
for every candidate. The knee is the candidate that gives most saving for its waiting: saving and mean wait are both
put on a scale from 0, the least of any candidate, to 1, the greatest, and the knee has the greatest difference of
saving and wait; of equals, the one with the shorter wait (after Satopää and others, Finding a "Kneedle" in a
Haystack, 2011).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import groupby, pairwise

from netting.model import AMOUNT_MAX
from netting.refusal import RefusedError

DAY_S = 86_400
CANDIDATES = (1, 2, 3, 4, 6, 8, 12, 24, 48, 96)
KNEE = (
    "the number of cycles with the greatest difference of saving and mean wait, "
    "each on a scale from 0 (the least of all candidates) to 1 (the greatest)"
)


class AdviceReason(StrEnum):
    """Why no advice can be given, in order of precedence."""

    NO_CANDIDATE = "no_candidate"
    CANDIDATE_NOT_POSITIVE = "candidate_not_positive"
    CANDIDATE_REPEATED = "candidate_repeated"
    DAY_NOT_POSITIVE = "day_not_positive"
    UNKNOWN_PARTICIPANT = "unknown_participant"
    SELF_PAYMENT = "self_payment"
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    AMOUNT_OVERFLOW = "amount_overflow"
    SUM_OVERFLOW = "sum_overflow"


@dataclass(frozen=True, slots=True, order=True)
class TimedObligation:
    """`debtor` owes `creditor` an amount in minor units since `at_s`, in whole seconds on any one scale."""

    currency: str
    at_s: int
    debtor: str
    creditor: str
    amount: int


@dataclass(frozen=True, slots=True)
class Point:
    """What a number of cycles a day would have meant. Amounts are minor units.

    `mean_wait` is weighted by value, in seconds, exact.
    """

    cycles_a_day: int
    settlement_value: int
    saving: int
    mean_wait: Fraction
    peak_net_debit: int

    @property
    def mean_wait_s(self) -> int:
        """Return the mean wait in whole seconds, rounded down."""
        return self.mean_wait.numerator // self.mean_wait.denominator


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of a currency, fewest cycles first, and the cycles a day at the knee of the curve."""

    currency: str
    gross: int
    points: tuple[Point, ...]
    knee: int
    monotone: bool
    criterion: str = KNEE


def advise(
    obligations: Iterable[TimedObligation],
    *,
    candidates: Sequence[int] = CANDIDATES,
    day_s: int = DAY_S,
    opens_at_s: int = 0,
    participants: frozenset[str] | None = None,
) -> tuple[Curve, ...]:
    """Return the curve of each currency, in alphabetical order. Raises RefusedError.

    A day begins at `opens_at_s` and every `day_s` seconds after; its cycles are of equal length. What falls on the
    end of a cycle belongs to the next. A function of the bag of obligations: their order doesn't matter, and
    equal ones are as many. O(obligations · candidates).
    """
    ordered = sorted(obligations)
    numbers = sorted(candidates)
    _check_candidates(numbers, day_s)
    _check(ordered, participants)
    return tuple(
        _curve(currency, list(group), numbers, day_s, opens_at_s)
        for currency, group in groupby(ordered, lambda obligation: obligation.currency)
    )


def _curve(currency: str, obligations: list[TimedObligation], numbers: list[int], day_s: int, opens_at_s: int) -> Curve:
    gross = sum(obligation.amount for obligation in obligations)
    points = tuple(_point(obligations, gross, number, day_s, opens_at_s) for number in numbers)
    monotone = all(fewer.saving >= more.saving for fewer, more in pairwise(points))
    return Curve(currency, gross, points, _knee(points), monotone)


def _point(obligations: list[TimedObligation], gross: int, number: int, day_s: int, opens_at_s: int) -> Point:
    """Work out one candidate; `own` is in order of time, so each cycle's obligations stand together."""
    settlement_value = peak = waited = 0
    nets: dict[str, int] = {}
    cycle: int | None = None
    for obligation in obligations:
        # In units of 1/number of a second a cycle is day_s long, whatever the number.
        current, since = divmod((obligation.at_s - opens_at_s) * number, day_s)
        if current != cycle:
            settlement_value, peak = _close(nets, settlement_value, peak)
            nets, cycle = {}, current
        waited += obligation.amount * (day_s - since)
        nets[obligation.debtor] = nets.get(obligation.debtor, 0) - obligation.amount
        nets[obligation.creditor] = nets.get(obligation.creditor, 0) + obligation.amount
    settlement_value, peak = _close(nets, settlement_value, peak)
    return Point(number, settlement_value, gross - settlement_value, Fraction(waited, number * gross), peak)


def _close(nets: dict[str, int], settlement_value: int, peak: int) -> tuple[int, int]:
    return settlement_value + sum(net for net in nets.values() if net > 0), max(peak, -min(nets.values(), default=0))


def _knee(points: tuple[Point, ...]) -> int:
    savings = [point.saving for point in points]
    waits = [point.mean_wait for point in points]
    saving_range = max(savings) - min(savings)
    wait_range = max(waits) - min(waits)

    def worth(point: Point) -> tuple[Fraction, Fraction]:
        saving = Fraction(point.saving - min(savings), saving_range) if saving_range else Fraction(0)
        wait = (point.mean_wait - min(waits)) / wait_range if wait_range else Fraction(0)
        return (saving - wait, -point.mean_wait)

    return max(points, key=worth).cycles_a_day


def _check_candidates(numbers: list[int], day_s: int) -> None:
    if not numbers:
        raise RefusedError(AdviceReason.NO_CANDIDATE, "candidates", "name at least one number of cycles a day")
    if numbers[0] <= 0:
        raise RefusedError(AdviceReason.CANDIDATE_NOT_POSITIVE, "candidates", f"{numbers[0]} cycles a day")
    for candidate, following in pairwise(numbers):
        if candidate == following:
            raise RefusedError(AdviceReason.CANDIDATE_REPEATED, "candidates", f"{candidate} is named twice")
    if day_s <= 0:
        raise RefusedError(AdviceReason.DAY_NOT_POSITIVE, "day_s", f"a day of {day_s} seconds")


def _check(ordered: list[TimedObligation], participants: frozenset[str] | None) -> None:
    totals: dict[str, int] = {}
    for obligation in ordered:
        place = f"{obligation.debtor} to {obligation.creditor} in {obligation.currency} at {obligation.at_s}"
        for name in (obligation.debtor, obligation.creditor):
            if participants is not None and name not in participants:
                raise RefusedError(AdviceReason.UNKNOWN_PARTICIPANT, place, f"{name} isn't a participant")
        if obligation.debtor == obligation.creditor:
            raise RefusedError(AdviceReason.SELF_PAYMENT, place, f"{obligation.debtor} owes itself")
        if obligation.amount <= 0:
            raise RefusedError(AdviceReason.AMOUNT_NOT_POSITIVE, place, f"the amount is {obligation.amount}")
        if obligation.amount > AMOUNT_MAX:
            raise RefusedError(AdviceReason.AMOUNT_OVERFLOW, place, "the amount has more than 38 digits")
        totals[obligation.currency] = totals.get(obligation.currency, 0) + obligation.amount
        if totals[obligation.currency] > AMOUNT_MAX:
            raise RefusedError(AdviceReason.SUM_OVERFLOW, place, f"the sum of {obligation.currency} needs 39 digits")
