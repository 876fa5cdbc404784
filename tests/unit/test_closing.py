"""What is still waited for while a cycle attests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.coordinator.cycles.closing import is_waited_for, patience_ends_at

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("carried", "while_patient", "afterwards"),
    [
        ("", False, False),
        ("cut_missing participant_suspended", False, False),
        ("cut_contested", True, False),
        ("cut_contested cut_missing", True, False),
        ("not_attested", True, True),
        ("break", True, True),
        ("cut_contested break", True, True),
    ],
)
def test_what_is_waited_for(carried: str, while_patient: bool, afterwards: bool) -> None:
    reasons = carried.split()
    assert is_waited_for(reasons, patient=True) is while_patient  # type: ignore[arg-type]
    assert is_waited_for(reasons, patient=False) is afterwards  # type: ignore[arg-type]


def test_contested_cuts_are_waited_for_a_quarter_of_the_time() -> None:
    assert patience_ends_at(NOON + timedelta(seconds=600), 600) == NOON + timedelta(seconds=150)
    assert patience_ends_at(None, 600) is None
