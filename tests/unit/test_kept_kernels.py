"""A kernel is compiled when it's first needed, with one line to whoever waits, and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTLED_IN_GROUPS = "from netting.zero_sum import groups\ngroups([-11, -23, -41, -3, -7, -90, 5, 13, 16, 2, 50, 89])"
SETTLED_AT_ONCE = "from netting.zero_sum import groups\ngroups([-11, 11])"


def complaint(statement: str, kept_in: Path) -> str:
    """Return what a statement says on standard error when compiled kernels are kept in a directory."""
    code = (
        f"from netting.kernels import compile\ncompile.directory = lambda: compile.Path({str(kept_in)!r})\n{statement}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stderr


def test_the_first_to_need_a_kernel_is_told_and_nobody_after(tmp_path: Path) -> None:
    line = complaint(SETTLED_IN_GROUPS, tmp_path)
    assert line.startswith("Compiling the netting kernels, once for this machine")
    assert line.count("\n") == 1
    assert complaint(SETTLED_IN_GROUPS, tmp_path) == ""


def test_what_needs_no_kernel_says_nothing(tmp_path: Path) -> None:
    assert complaint(SETTLED_AT_ONCE, tmp_path / "new") == ""
    assert not (tmp_path / "new").exists()


def test_complete_is_what_was_marked_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netting.kernels import compile as kernels

    monkeypatch.setattr(kernels, "directory", lambda: tmp_path / "new")
    assert not kernels.is_complete()
    kernels.mark_complete()
    assert kernels.is_complete()
