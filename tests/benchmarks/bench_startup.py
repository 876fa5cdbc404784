"""Starting: commands that need little, beside an interpreter that does nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.rows import Row

ROUNDS = 9
COMMANDS = (
    "--help",
    "coordinator --help",
    "participant --help",
    "participant token",
    "agent token",
    "console --help",
    "verify --help",
    "net --help",
    "gridlock --help",
)


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better in milliseconds."""
    program = str(Path(sys.executable).parent / "concordat")
    nothing = [sys.executable, "-c", "pass"]
    with tempfile.TemporaryDirectory(prefix="concordat-bench-") as directory:
        settings = {**os.environ, "CONCORDAT_BIC": "ALDRXXA0", "CONCORDAT_DATA_DIR": directory}
        return [_row(text, [program, *text.split()], nothing, settings) for text in COMMANDS]


def _row(text: str, command: list[str], nothing: list[str], settings: dict[str, str]) -> Row:
    """Start both by turns, so that a busy moment of the machine hits both."""
    _milliseconds(command, settings)  # writes bytecode and, the first time, a key
    times = [(_milliseconds(command, settings), _milliseconds(nothing, settings)) for _ in range(ROUNDS)]
    ours, peer = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "what": f"concordat {text}",
        "ours": ours,
        "peer": peer,
        "peer_name": "python -c pass",
        "unit": "ms",
        "note": f"best {min(time for time, _ in times):,.0f} ms of {ROUNDS}",
    }


def _milliseconds(command: list[str], settings: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=settings, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000
