"""Exports that earlier programs wrote verify today, and a changed byte in one is still found."""

from __future__ import annotations

from pathlib import Path

import pytest

from compliance.trust import Anchor
from compliance.verifier.verify import STEPS, VerificationError, verify_bytes

EXPORTS = Path(__file__).parents[1] / "evidence/exports-format-2"

STATES = {
    "a-clearing-day": "final",
    "equivocation": "final",
    "failed-check-released": "final",
    "held-released-approved": "final",
    "limits-bind": "final",
    "two-defaults-unwound": "final",
    "unwound-not-approved-yet": "netted",
}


def anchor_of(name: str) -> Anchor:
    return Anchor.read(EXPORTS / f"{name}.anchor.json")


def test_every_export_that_is_kept_is_looked_at() -> None:
    assert {path.stem for path in EXPORTS.glob("*.zip")} == STATES.keys()


@pytest.mark.parametrize("name", STATES)
def test_it_verifies(name: str) -> None:
    report = verify_bytes((EXPORTS / f"{name}.zip").read_bytes(), anchor_of(name))
    assert (report.state, len(report.steps)) == (STATES[name], len(STEPS))


@pytest.mark.parametrize("name", STATES)
def test_a_changed_byte_is_found(name: str) -> None:
    data = bytearray((EXPORTS / f"{name}.zip").read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(VerificationError):
        verify_bytes(bytes(data), anchor_of(name))
