"""The root over a result that its banks were shown, as the verifier finds it in an export."""

from __future__ import annotations

from clearing import export, honest, scheme

from compliance.cycle.commitment import commit
from compliance.verifier.verify import verify_bytes


def test_the_verifier_says_which_root_the_banks_of_a_result_were_shown() -> None:
    result = honest().result
    assert result is not None
    report = verify_bytes(export(), scheme().anchor)
    assert report.steps[6].detail.endswith(f"root that its banks were shown {commit(result).document.root}")
