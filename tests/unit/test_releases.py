"""Releases: each one that is named anywhere is in the changelog, and this one is what it calls unreleased."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.federation.build import VERSION, build

ROOT = Path(__file__).parents[2]
PACKAGES = ("compliance", "gateway", "netting", "participants", "tui")
TEXTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] + [p for name in PACKAGES for p in (ROOT / name).rglob("*.py")]
)
HEADINGS = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
_RELEASE = r"(\d+\.\d+(?:\.\d+(?:\.dev\d+)?)?)"
_NAMED = re.compile(
    r"\b(?:releases?|version|members? of|banks? of|agents? of|coordinators? of|programs? of|form of|from|runs|with)"
    rf"\s+{_RELEASE}"
    rf"(?:\s+and\s+{_RELEASE})?(?![\d%]|\.\d| (?:to|s|ms|kB|MB|GB|MiB|cores|µs|seconds|EUR)\b)",
    re.IGNORECASE,
)


def named(text: str) -> set[str]:
    """Return the releases that a text names, as major and minor number."""
    return {".".join(found.split(".")[:2]) for pair in _NAMED.findall(text) for found in pair if found}


def minor(release: str) -> str:
    return ".".join(release.split(".")[:2])


@pytest.mark.parametrize(
    ("text", "releases"),
    [
        ("from release 0.2 on:", {"0.2"}),
        ("From 0.1 and 0.3 that is", {"0.1", "0.3"}),
        ("as members of\n  0.2 read it", {"0.2"}),
        ("a coordinator of 0.2.1 doesn't", {"0.2"}),
        ("Version 0.1.0: complete", {"0.1"}),
        ("from 0.26 s on, with 2.5 MB, of 0.6 kB", set()),
    ],
)
def test_releases_are_read_out_of_a_text(text: str, releases: set[str]) -> None:
    assert named(text) == releases


def test_every_release_that_is_named_is_in_the_changelog() -> None:
    known = {minor(release) for heading in HEADINGS for release in re.findall(_RELEASE, heading)}
    unknown = {str(p.relative_to(ROOT)): more for p in TEXTS if (more := named(p.read_text("utf-8")) - known)}
    assert unknown == {}


def test_the_release_under_way_is_the_one_that_the_changelog_calls_unreleased() -> None:
    release, _, under_way = VERSION.partition(".dev")
    assert HEADINGS[0] == (f"Unreleased ({release})" if under_way else release)
    assert sorted(HEADINGS[1:], key=lambda name: [*map(int, name.split("."))], reverse=True) == HEADINGS[1:]


def test_the_program_and_the_package_say_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "gateway/federation/build.py"
    assert build().version == VERSION
    said = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.split()[1] == VERSION
