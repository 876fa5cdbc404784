"""Which build of the program this is: its version and, where that is known, the commit that it was made of."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.metadata import distribution
from typing import NamedTuple


class Build(NamedTuple):
    """A release and its commit; "" if nobody knows that."""

    version: str
    commit: str

    def __str__(self) -> str:
        return f"{self.version} ({self.commit[:12]})" if self.commit else self.version


@cache
def build() -> Build:
    """Return the build: of `CONCORDAT_COMMIT`, which an image sets, or of what an installer noted (PEP 610)."""
    installed = distribution("concordat")
    commit = os.environ.get("CONCORDAT_COMMIT", "")
    if not commit:
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
        commit = str(origin.get("vcs_info", {}).get("commit_id", ""))
    return Build(installed.version, commit)
