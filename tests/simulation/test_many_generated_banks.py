"""`make sim BANKS=…`: a cycle of generated banks at a real coordinator, here with few of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SIMULATION = [sys.executable, "-m", "tests.simulation.many_banks"]


def test_a_cycle_of_generated_banks_conserves_what_they_owe() -> None:
    done = subprocess.run(
        [*SIMULATION, "--banks", "5", "--currencies", "EUR,CHF"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "5 banks, 2 currencies: 20 pairs, 40 statements" in done.stdout
    assert "cycle.matched" in done.stdout
    assert "20 pairs agree" in done.stdout
    assert done.stdout.count("the nets sum to zero, each as its bank expects") == 2


@pytest.mark.parametrize("option", [("--banks", "1"), ("--cycles", "many")])
def test_what_no_cycle_can_be_made_of_is_refused(option: tuple[str, str]) -> None:
    done = subprocess.run([*SIMULATION, *option], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"is taken, not {option[1]!r}")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory in which a PostgreSQL server's socket has a name that isn't too long (107 bytes)."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_an_interrupted_simulation_leaves_nothing_behind(short_path: Path) -> None:
    """Ctrl-C at a terminal reaches every process of the group."""
    with subprocess.Popen(
        [*SIMULATION, "--banks", "3", "--cycles", "500"],
        env={**os.environ, "TMPDIR": str(short_path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        before = []
        for line in process.stdout:
            before.append(line)
            if "cycle.matched" in line:
                break
        begun = psutil.Process(process.pid).children(recursive=True)
        assert len(begun) >= 3, "".join(before)  # coordinator, agent, and who watches them
        os.killpg(process.pid, signal.SIGINT)
        said = process.stdout.read()
        assert process.wait(timeout=60) == 130
    assert said.splitlines()[-1] == "interrupted; every process is stopped"
    assert "Traceback" not in said
    assert [child for child in begun if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    assert list(short_path.glob("concordat-*")) == []
