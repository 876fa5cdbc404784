"""Which payments a cycle takes in, and whether statements and cuts say so."""

from __future__ import annotations

import pytest

from compliance.cycle.cuts import Bounds, Lane, behind, bounds_of, misfit, pairs_taken_in, taken_in
from compliance.cycle.positions import Position, statement_of
from compliance.statements import CycleCut, Flow, LaneCut, PositionStatement
from participants.cycle.statements import LanePoint
from participants.ledger.books import LaneKey

A, B, C = "ALFADEFF", "BETAFRPP", "GAMAITRR"
CYCLE = "2026-03-02-01"
FORTH, BACK = (A, B, "EUR"), (B, A, "EUR")


def cut(receiver: str, **lanes: int) -> CycleCut:
    given = tuple(LaneCut(sender=sender, currency="EUR", last_sequence=last) for sender, last in lanes.items())
    return CycleCut(cycle=CYCLE, receiver=receiver, lanes=given)


def flow(lane: Lane, first: int, last: int) -> Flow:
    count = last - first + 1
    return Flow(
        sender=lane[0],
        receiver=lane[1],
        first_sequence=first,
        last_sequence=last,
        count=count,
        amount_minor=str(count),
        root="0" * 64,
    )


def statement(forth: tuple[int, int], back: tuple[int, int]) -> PositionStatement:
    return PositionStatement(
        cycle=CYCLE, currency="EUR", pair=(A, B), revision=1, flows=(flow(FORTH, *forth), flow(BACK, *back))
    )


BOTH = Bounds(delivered={A, B}, cuts={FORTH: 5, BACK: 2}, settled={FORTH: 3})


@pytest.mark.parametrize(
    ("bounds", "forth", "back", "wrong"),
    [
        (BOTH, (4, 5), (1, 2), None),
        (BOTH, (4, 5), (1, 3), "ends with 3, cut at 2"),
        (BOTH, (4, 4), (1, 2), "ends with 4, cut at 5"),
        (BOTH, (3, 5), (1, 2), "begins with 3, settled through 3"),
        (BOTH, (5, 5), (1, 2), "begins with 5, settled through 3"),
        (BOTH, (4, 5), (2, 2), "begins with 2, settled through 0"),
        # A lane that isn't in its receiver's cut: nothing was accepted.
        (Bounds(delivered={A, B}, cuts={FORTH: 5}), (1, 5), (1, 0), None),
        (Bounds(delivered={A, B}, cuts={FORTH: 5}), (1, 5), (1, 1), "ends with 1, cut at 0"),
        # Without its receiver's cut a flow may end anywhere.
        (Bounds(delivered={A}, cuts={BACK: 2}), (1, 99), (1, 2), None),
        (Bounds(delivered={A}, cuts={BACK: 2}), (1, 99), (1, 3), "ends with 3, cut at 2"),
        # Who doesn't know what is settled believes the beginnings.
        (bounds_of([cut(B, **{A: 5}), cut(A, **{B: 2})]), (4, 5), (2, 2), None),
        (bounds_of([cut(B, **{A: 5}), cut(A, **{B: 2})]), (4, 6), (2, 2), "ends with 6, cut at 5"),
        (bounds_of([cut(A, **{B: 2})]), (4, 6), (2, 2), None),
    ],
)
def test_a_statement_within_bounds(
    bounds: Bounds, forth: tuple[int, int], back: tuple[int, int], wrong: str | None
) -> None:
    found = misfit(statement(forth, back), bounds)
    assert found is None if wrong is None else found is not None and found.endswith(wrong)


@pytest.mark.parametrize(("settled", "number", "empty"), [(0, 0, True), (0, 1, False), (5, 5, True), (5, 9, False)])
def test_what_a_bank_derives_is_what_the_coordinator_expects(settled: int, number: int, empty: bool) -> None:
    assert taken_in(settled=settled, cut=number).empty is empty
    derived = LanePoint(LaneKey(*FORTH), number, number, b"\0" * 32, settled, settled).flow()
    row = Position("EUR", A, B, 1, *derived, *(1, 0, 0, "0", "0" * 64))
    bounds = Bounds(delivered={A, B}, cuts={FORTH: number}, settled={FORTH: settled})
    assert misfit(statement_of(CYCLE, row), bounds) is None
    assert pairs_taken_in(bounds.cuts, bounds.settled or {}) == (set() if empty else {("EUR", A, B)})


@pytest.mark.parametrize(
    ("settled", "wrong"),
    [
        ({}, None),
        ({FORTH: 5}, None),
        ({FORTH: 6}, f"{A} EUR: cut at 5, settled through 6"),
        ({(C, B, "EUR"): 1}, f"{C} EUR: cut at 0, settled through 1"),
        ({(A, B, "USD"): 1}, f"{A} USD: cut at 0, settled through 1"),
        ({BACK: 9}, None),
    ],
)
def test_a_cut_that_goes_back(settled: dict[Lane, int], wrong: str | None) -> None:
    assert behind(cut(B, **{A: 5}), settled) == wrong
