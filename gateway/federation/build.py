"""Which build of the program this is: its version and, where that is known, the commit that it was made of."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.metadata import distribution
from typing import NamedTuple

VERSION = "0.2.0.dev0"
"""The release, or with `.dev0` the one that is under way: what CHANGELOG.md calls unreleased."""


class Build(NamedTuple):
    """A release and its commit; "" if nobody knows that."""

    version: str
    commit: str

    def __str__(self) -> str:
        return f"{self.version} ({self.commit[:12]})" if self.commit else self.version


@cache
def build() -> Build:
    """Return the build: of `CONCORDAT_COMMIT`, which an image sets, or of what an installer noted (PEP 610)."""
    commit = os.environ.get("CONCORDAT_COMMIT", "")
    if not commit:
        origin = json.loads(distribution("concordat").read_text("direct_url.json") or "{}")
        commit = str(origin.get("vcs_info", {}).get("commit_id", ""))
    return Build(VERSION, commit)
