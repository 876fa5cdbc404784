"""What kind of break it is, what heals by itself, and which payments were settled apart."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.federation.messages.reconciliation import SETTLED_MAX, SettledThrough, SharedRecord
from participants.reconciliation.breaks import BreakKind, Healing, SettledApart, judge, late, settled_apart

ALFA, BETA = "ALDRXXA0", "BRCHXXB0"
ID, OTHER = "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10", "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e11"


def record(**changes: Any) -> SharedRecord:
    """Return a payment of ALFA to BETA as BETA has it, accepted under number 7."""
    fields = {"payment": ID, "sender": ALFA, "currency": "EUR", "amount_minor": "100", "leaf": "0" * 64}
    return SharedRecord(**{**fields, "status": "accepted", "sequence": 7, **changes})


POSTED = record(status="posted")
RESERVED = record(status="reserved", sequence=None)


@pytest.mark.parametrize(
    ("here", "there", "kind"),
    [
        (POSTED, record(), None),
        (None, None, None),
        (RESERVED, None, None),
        (None, record(status="declined", sequence=None), None),
        (None, record(), BreakKind.MISSING_HERE),
        (POSTED, None, BreakKind.MISSING_THERE),
        (POSTED, record(currency="USD", amount_minor="7"), BreakKind.CURRENCY),
        (POSTED, record(amount_minor="101", leaf="1" * 64), BreakKind.AMOUNT),
        (POSTED, record(leaf="1" * 64, sequence=8), BreakKind.TERMS),
        (RESERVED, record(), BreakKind.STATUS),
        (record(status="refused", sequence=None), record(), BreakKind.STATUS),
        (POSTED, record(sequence=8), BreakKind.NUMBER),
    ],
)
def test_a_payment_is_of_the_first_kind_that_it_is_of(
    here: SharedRecord | None, there: SharedRecord | None, kind: BreakKind | None
) -> None:
    judged = judge(here, there, bank=ALFA)
    assert (judged and judged.kind) == kind


def test_one_with_the_reference_of_another_is_a_duplicate() -> None:
    for here, there in ((None, record()), (POSTED, None)):
        judged = judge(here, there, bank=ALFA, twin=OTHER)
        assert judged is not None
        assert (judged.kind, judged.twin) == (BreakKind.DUPLICATE, OTHER)
    judged = judge(POSTED, record(amount_minor="7"), bank=ALFA, twin=OTHER)
    assert judged is not None
    assert (judged.kind, judged.twin) == (BreakKind.AMOUNT, None)


@pytest.mark.parametrize(
    ("here", "there", "bank", "healing"),
    [
        (RESERVED, record(), ALFA, Healing.ASKED),
        (record(), RESERVED, BETA, Healing.AWAITED),
        (record(status="cancelling", sequence=None), record(), ALFA, Healing.ASKED),
        # What ended unposted isn't posted by another bank's word.
        (record(status="refused", sequence=None), record(), ALFA, None),
        (record(status="cancelled", sequence=None), record(), ALFA, None),
        # A number that the sender says it has proves nothing to the receiver.
        (record(status="held", sequence=None), POSTED, BETA, None),
        (None, record(), ALFA, None),
    ],
)
def test_what_heals_by_itself(
    here: SharedRecord | None, there: SharedRecord | None, bank: str, healing: Healing | None
) -> None:
    judged = judge(here, there, bank=bank)
    assert judged is not None
    assert judged.healing == healing


def settled(*cycles: tuple[str, int]) -> tuple[SettledThrough, ...]:
    """Return a lane's cycles, the newest first, from (number of the cycle, last payment)."""
    return tuple(SettledThrough(cycle=cycle, sequence=number) for cycle, number in reversed(cycles))


MONDAY, LATER, TUESDAY = "2026-11-23-01", "2026-11-23-02", "2026-11-24-01"


@pytest.mark.parametrize(
    ("here", "there", "apart"),
    [
        (settled((MONDAY, 10), (LATER, 20)), settled((MONDAY, 10), (LATER, 20)), []),
        ((), (), []),
        # The word that a cycle is final hasn't come to one of them.
        (settled((MONDAY, 10), (LATER, 20)), settled((MONDAY, 10)), []),
        (settled((MONDAY, 10)), (), []),
        (settled((MONDAY, 10), (LATER, 20)), settled((MONDAY, 8), (LATER, 20)), [(9, 10, MONDAY, LATER)]),
        (settled((MONDAY, 10), (TUESDAY, 20)), settled((TUESDAY, 20)), [(1, 10, MONDAY, TUESDAY)]),
        (
            settled((MONDAY, 5), (LATER, 10)),
            settled((LATER, 5), (MONDAY, 10)),
            [(1, 5, MONDAY, LATER), (6, 10, LATER, MONDAY)],
        ),
    ],
)
def test_what_was_settled_apart(
    here: tuple[SettledThrough, ...], there: tuple[SettledThrough, ...], apart: list[tuple[int, int, str, str]]
) -> None:
    expected = [SettledApart(first=a, last=b, cycle_here=c, cycle_there=d) for a, b, c, d in apart]
    assert settled_apart(here, there) == expected


def test_before_the_oldest_cycle_of_a_list_that_is_not_whole_nothing_is_known() -> None:
    cycles = [(f"2026-11-23-{number:02}", number * 10) for number in range(1, SETTLED_MAX + 2)]
    assert settled_apart(settled(*cycles[1:]), settled(*cycles[:-1])) == []


def test_late_is_another_cycle_of_one_value_date() -> None:
    for there, kind in ((LATER, BreakKind.LATE), (TUESDAY, BreakKind.VALUE_DATE)):
        apart = SettledApart(first=7, last=7, cycle_here=MONDAY, cycle_there=there)
        found = late(apart, POSTED, record())
        assert (found.kind, found.cycle_here, found.cycle_there) == (kind, MONDAY, there)
