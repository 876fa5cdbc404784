"""`make bench`: what it runs, what it skips and why, and what its exit code says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import SETTINGS
from tests.benchmarks.settings import NUMBERS_MIN, houses


def bench(*arguments: str, data: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        env={**os.environ, "CONCORDAT_DATA": str(data), **settings},
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


@pytest.mark.parametrize(
    ("setting", "text", "says"),
    [
        ("CONCORDAT_BENCH_HOUSES", "6,one", "CONCORDAT_BENCH_HOUSES takes numbers of banks from 2 to "),
        ("CONCORDAT_BENCH_HOUSES", "1", "not '1'"),
        ("CONCORDAT_BENCH_HOUSES", "6x4", "each with x2 or x3"),
        ("CONCORDAT_BENCH_HOUSES", "", "not ''"),
        ("CONCORDAT_BENCH_BANKS", "1", "CONCORDAT_BENCH_BANKS takes a whole number from 2 on, not '1'"),
        ("CONCORDAT_BENCH_BANKS", "many", "takes a whole number"),
        ("CONCORDAT_BENCH_COUNTERPARTIES", "0", "takes a whole number from 1 on"),
        ("CONCORDAT_BENCH_CYCLES", "-5", "takes a whole number from 1 on"),
    ],
)
def test_a_setting_that_nothing_can_be_measured_by_is_refused_in_one_line(
    setting: str, text: str, says: str, tmp_path: Path
) -> None:
    done = bench("cutoff", data=tmp_path, **{setting: text})
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_any_number_of_banks_is_a_house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORDAT_BENCH_HOUSES", "20,50x3,6x2")
    assert houses() == {"20": (20, ("EUR",)), "50x3": (50, ("CHF", "EUR", "USD")), "6x2": (6, ("CHF", "EUR"))}


def test_every_number_is_in_the_help() -> None:
    assert [name for name in NUMBERS_MIN if f"  {name} " not in SETTINGS] == []


def test_what_goes_into_a_pipe_is_whole_and_has_its_units(tmp_path: Path) -> None:
    done = bench("signing", data=tmp_path, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert len(rows) == 4
    for _, ours, peer, ratio, name, note in rows:
        assert ours.endswith(" ms")
        assert peer.endswith(" ms")
        assert float(ratio) == pytest.approx(1 / 499, rel=0.1)
        assert name == "one for each of 249,500 statements"
        assert note
