"""The same seed draws the same faults, of every kind, to those to whom they can happen; and only a fault excuses."""

from __future__ import annotations

import pytest

from tests.chaos.faults import FaultRecord
from tests.chaos.people import CycleRecord
from tests.chaos.proof import excuse
from tests.chaos.schedule import Cast, Fault, Kind, draw

CAST = Cast(banks=("A", "B", "C", "L"), liars=("L",))


def faults(seed: int) -> tuple[Fault, ...]:
    return draw(seed, CAST, seconds=300, every_s=5, kinds=tuple(Kind))


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_seed_draws_the_same_every_time(seed: int) -> None:
    drawn = faults(seed)
    assert drawn == faults(seed) != faults(seed + 1)
    assert {fault.kind for fault in drawn} == set(Kind)
    assert [fault.number for fault in drawn] == list(range(1, len(drawn) + 1))
    assert [fault.at_s for fault in drawn] == sorted(fault.at_s for fault in drawn)
    for fault in drawn:
        assert set(fault.whom) <= set(CAST.everybody)
        assert len(set(fault.whom)) == (2 if fault.kind is Kind.PARTED else 1)
        assert fault.whom == ("L",) or not fault.kind.is_lie


def record(kind: Kind, *whom: str, began_at: float = 10, healed_at: float | None = 20) -> FaultRecord:
    fault = Fault(number=1, at_s=0, kind=kind, whom=whom, lasting_s=1, choice=0.5)
    return FaultRecord(fault, began_at, over_at=began_at + 1, healed_at=healed_at)


@pytest.mark.parametrize(
    ("happened", "excused"),
    [
        (record(Kind.KILLED, "A"), True),
        (record(Kind.KILLED, "C"), False),
        (record(Kind.KILLED, "agent"), False),
        (record(Kind.KILLED, "coordinator"), True),
        (record(Kind.PARTED, "A", "B"), True),
        (record(Kind.PARTED, "A", "C"), False),
        (record(Kind.PARTED, "A", "coordinator"), True),
        (record(Kind.PARTED, "C", "coordinator"), False),
        (record(Kind.JUNK, "B"), True),
        # A lie costs the pair that it is about: that one is contested.
        (record(Kind.OVERSTATED, "B"), False),
        # Healed long before the cycle was opened, begun after it was netted, and never healed.
        (record(Kind.KILLED, "A", began_at=0, healed_at=4), False),
        (record(Kind.KILLED, "A", began_at=31, healed_at=40), False),
        (record(Kind.KILLED, "A", began_at=0, healed_at=None), True),
    ],
)
def test_what_excuses_a_pair_that_was_carried_over(happened: FaultRecord, excused: bool) -> None:
    cycle = CycleRecord("2026-11-27-01", opened_at=20, netted_at=30, ended_at=35)
    assert (excuse(cycle, ("A", "B"), "not_attested", [happened]) is not None) == excused


def test_a_lie_excuses_what_is_contested() -> None:
    cycle = CycleRecord("2026-11-27-01", opened_at=20, netted_at=30, ended_at=35)
    assert excuse(cycle, ("A", "B"), "cut_contested", [record(Kind.INVENTED, "B")]) is not None
