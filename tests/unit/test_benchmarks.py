"""`make bench`: what it runs, what it skips and why, and what its exit code says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        env={**os.environ, "CONCORDAT_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(("--help",), 0, "CONCORDAT_DATA", id="help names the settings"),
        pytest.param(("--help",), 0, "screening", id="help names the benchmarks"),
        pytest.param(("nonsense",), 2, "no benchmark 'nonsense'", id="an unknown name is refused"),
        pytest.param(("screening",), 1, "screening is skipped: there is no", id="one without its data says so"),
        pytest.param(("screening",), 1, "set CONCORDAT_DATA", id="and what to do"),
    ],
)
def test_it_says_what_it_does(arguments: tuple[str, ...], code: int, says: str, tmp_path: Path) -> None:
    done = bench(*arguments, data=tmp_path)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
