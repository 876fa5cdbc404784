"""A benchmark's row, measured or skipped."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
"""`what` is measured, `ours` in `unit` or a finding as text, beside `peer` of `peer_name`, if any, with a `note`."""

SKIPPED = "skipped"


def skipped(what: str, why: str) -> Row:
    """Return the row of what couldn't be measured here."""
    return {"what": what, "ours": SKIPPED, "peer": None, "peer_name": "", "unit": "", "note": why}
