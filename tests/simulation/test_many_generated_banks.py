"""`make sim BANKS=…`: a cycle of generated banks at a real coordinator, here with few of them."""

from __future__ import annotations

import subprocess
import sys


def test_a_cycle_of_generated_banks_conserves_what_they_owe() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation.many_banks", "--banks", "5", "--currencies", "EUR,CHF"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "5 banks, 2 currencies: 20 pairs, 40 statements" in done.stdout
    assert "cycle.matched" in done.stdout
    assert "20 pairs agree" in done.stdout
    assert done.stdout.count("the nets sum to zero, each as its bank expects") == 2
