"""The guide, the verifier's docstring and its messages number the same steps."""

from __future__ import annotations

import re
from pathlib import Path

from compliance.export.record import FILES
from compliance.screening.holds import TRANSITIONS
from compliance.verifier import verify

DOCS = Path(__file__).parents[2] / "docs"


def test_the_guide_has_the_verifiers_steps() -> None:
    guide = (DOCS / "guides/audit.md").read_text("utf-8")
    assert tuple(re.findall(r"^\d+\. (.*)$", guide, re.MULTILINE)) == verify.STEPS
    assert len(re.findall(r"^ ?\d+\. ", verify.__doc__ or "", re.MULTILINE)) == len(verify.STEPS)


def test_the_guide_names_every_file() -> None:
    guide = (DOCS / "guides/audit.md").read_text("utf-8")
    assert [name for name in FILES if f"`{name}`" not in guide] == []


def test_the_page_on_screening_has_the_table_of_holds() -> None:
    page = (DOCS / "concepts/screening.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| (\w+ \| \w+) \|$", page, re.MULTILINE))
    del rows["state"]
    states = {state for state, _ in TRANSITIONS}
    assert rows == {s: " | ".join(TRANSITIONS[s, d] for d in ("release", "reject")) for s in states}  # type: ignore[index]
