"""What moved on a settlement account against the instructions: a table of (entries, instructions, what is wrong)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from participants.cycle.movements import (
    LATE_SECONDS,
    UNCONFIRMED_SECONDS_MAX,
    Finding,
    Movement,
    MovementFault,
    Settlement,
    findings,
    to_book,
)

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATE = NOW - timedelta(seconds=LATE_SECONDS + 1)
ONE, TWO = "2026-01-05-01", "2026-01-05-02"


def entry(
    amount: int, cycle: str | None = ONE, *, number: int = 1, sequence: int | None = None, currency: str = "EUR",
    seen_at: datetime = LATE,
) -> Movement:  # fmt: skip
    return Movement(number, currency, number if sequence is None else sequence, amount, cycle, seen_at)


def instructed(*nets: int, final: int | None = None, final_at: datetime = NOW) -> Settlement:
    """One instruction for each net; `final` is the index of the one that is."""
    names = {f"edition {number}": net for number, net in enumerate(nets)}
    return Settlement(names, None if final is None else f"edition {final}", None if final is None else final_at)


def faults(found: tuple[Finding, ...]) -> list[tuple[str, str | None, str]]:
    return [(one.fault, one.cycle, one.currency) for one in found]


FUNDED = entry(1_000, None)
EUR = (ONE, "EUR")


@pytest.mark.parametrize(
    ("movements", "settlements", "expected"),
    [
        ((), {}, []),
        ((FUNDED,), {}, []),
        ((entry(-5),), {EUR: instructed(-5)}, []),
        ((entry(-5),), {EUR: instructed(-5, final=0)}, []),
        # Nothing moves where the net is zero.
        ((), {EUR: instructed(0, final=0)}, []),
        # After a default it is the later instruction that counts.
        ((entry(-7),), {EUR: instructed(-5, -7, final=1)}, []),
        ((entry(-5),), {EUR: instructed(-5, -7, final=1)}, [(MovementFault.AMOUNT_DIFFERS, ONE, "EUR")]),
        ((entry(-6),), {EUR: instructed(-5)}, [(MovementFault.AMOUNT_DIFFERS, ONE, "EUR")]),
        ((entry(5),), {EUR: instructed(-5)}, [(MovementFault.AMOUNT_DIFFERS, ONE, "EUR")]),
        ((entry(-5, TWO),), {EUR: instructed(-5)}, [(MovementFault.NOT_INSTRUCTED, TWO, "EUR")]),
        # The agent may be quicker than the coordinator's feed.
        ((entry(-5, TWO, seen_at=NOW),), {}, []),
        (
            (entry(-5, currency="JPY"),),
            {EUR: instructed(-5, final=0)},
            [(MovementFault.NOT_INSTRUCTED, ONE, "JPY"), (MovementFault.MISSING, ONE, "EUR")],
        ),
        (
            (entry(-5), entry(-5, number=2)),
            {EUR: instructed(-5, final=0)},
            [(MovementFault.REPEATED, ONE, "EUR")],
        ),
        ((FUNDED, entry(-1, None, number=2)), {}, [(MovementFault.DEBIT_UNASKED, None, "EUR")]),
        ((entry(-5, number=3, sequence=2),), {EUR: instructed(-5)}, [(MovementFault.LEFT_OUT, ONE, "EUR")]),
        (
            (entry(-5), entry(-7, TWO, number=2, sequence=1)),
            {EUR: instructed(-5), (TWO, "EUR"): instructed(-7)},
            [(MovementFault.LEFT_OUT, TWO, "EUR")],
        ),
        ((), {EUR: instructed(-5, final=0)}, [(MovementFault.MISSING, ONE, "EUR")]),
        ((), {EUR: instructed(-5)}, []),
    ],
)
def test_what_is_wrong(
    movements: tuple[Movement, ...], settlements: dict[tuple[str, str], Settlement], expected: list[object]
) -> None:
    assert faults(findings(movements, settlements, now=NOW, complete=True)) == expected


def test_what_is_missing_is_known_once_the_agent_was_read_or_has_been_silent_for_long() -> None:
    settlements = {EUR: instructed(-5, final=0)}
    assert findings((), settlements, now=NOW, complete=False) == ()
    later = NOW + timedelta(seconds=UNCONFIRMED_SECONDS_MAX + 1)
    assert faults(findings((), settlements, now=later, complete=False)) == [(MovementFault.MISSING, ONE, "EUR")]


def test_what_moved_and_never_becomes_final_is_found() -> None:
    """The coordinator may take a settled cycle for rejected, and have its payments settled once more."""
    late = NOW - timedelta(seconds=UNCONFIRMED_SECONDS_MAX + 1)
    moved = (entry(-5, seen_at=late),)
    assert faults(findings(moved, {EUR: instructed(-5)}, now=NOW, complete=True)) == [
        (MovementFault.NOT_FINAL, ONE, "EUR")
    ]
    assert findings(moved, {EUR: instructed(-5, final=0)}, now=NOW, complete=True) == ()


def test_people_explain_a_movement_and_no_gap() -> None:
    taken = entry(-1, None, number=7, sequence=1)
    assert findings((taken,), {}, now=NOW, complete=True, explained={7}) == ()
    hidden = entry(-1, None, number=7, sequence=2)
    found = findings((hidden,), {}, now=NOW, complete=True, explained={7})
    assert faults(found) == [(MovementFault.LEFT_OUT, None, "EUR")]


@pytest.mark.parametrize(
    ("movements", "settlements", "booked"),
    [
        ((FUNDED, entry(-70, None, number=2)), {}, {1: 1_000, 2: -70}),
        # What a cycle moved, it books itself, and what differs is an alarm until people know why.
        ((entry(-5),), {EUR: instructed(-5, final=0)}, {}),
        ((entry(-6, number=4),), {EUR: instructed(-5, final=0)}, {}),
        # Of what they have explained (odd numbers), what the cycle's own net leaves.
        ((entry(-6),), {EUR: instructed(-5, final=0)}, {1: -1}),
        ((entry(-5), entry(-5, number=3)), {EUR: instructed(-5, final=0)}, {3: -5}),
        ((entry(-5, TWO),), {}, {1: -5}),
        # It may still become final.
        ((entry(-5),), {EUR: instructed(-5)}, {}),
    ],
)
def test_what_no_cycle_explains_is_booked(
    movements: tuple[Movement, ...], settlements: dict[tuple[str, str], Settlement], booked: dict[int, int]
) -> None:
    due = to_book(movements, settlements, explained={1, 3, 5})
    assert {movement.id: amount for movement, amount in due} == booked
