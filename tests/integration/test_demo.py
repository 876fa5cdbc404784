"""The demonstration as a user runs it: a whole day over processes and databases of their own, and its end by Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HEADER = "step,nameOrig,nameDest,bankOrig,bankDest,amount,isSAR"


@pytest.fixture
def keep() -> Iterator[Path]:
    """A directory for a day. pytest's own ones are closed to the account that PostgreSQL runs as under root."""
    directory = Path(tempfile.mkdtemp(prefix="concordat-test-demo-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli", "demo", *arguments]


def processes_of(directory: Path) -> list[str]:
    """Return the command lines of living processes that know the directory from their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            about = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in about and process.name != str(os.getpid()):
            found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def test_a_day_on_a_file_ends_with_everything_proven(tmp_path: Path, keep: Path) -> None:
    payments = tmp_path / "payments.csv"
    rows = [
        f"{n},{n % 17},{n % 13},bank_{n % 3:02d},bank_{(n + 1 + n // 3 % 2) % 3:02d},{n % 90 + 1}.{n % 100:02d}3,0"
        for n in range(240)
    ]
    payments.write_text("\n".join([HEADER, *rows, "1,1,2,bank_00,bank_01,nothing,0"]) + "\n")
    done = subprocess.run(
        command("--payments", str(payments), "--cycles", "2", "--keep", str(keep)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    assert "1 rows not taken, not_a_number" in done.stdout
    for what in (
        "is killed",
        "disputes a payment",
        " questions, ",
        "shortfall",
        "treasury explains it",
        "Everything holds.",
    ):
        assert what in done.stdout
    assert len(list((keep / "audit").glob("*.zip"))) == 2
    assert processes_of(keep) == []


def test_an_interrupted_day_leaves_no_process_behind(keep: Path) -> None:
    demo = subprocess.Popen(
        command("--banks", "3", "--payments-count", "100", "--cycles", "2", "--keep", str(keep)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "banks have applied" in line:
            break
    assert len(processes_of(keep)) > 2
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    give_up_at = time.monotonic() + 10
    while processes_of(keep) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    assert processes_of(keep) == []


def test_a_file_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    damaged = tmp_path / "payments.csv.gz"
    damaged.write_bytes(b"\x1f\x8bnot gzip")
    done = subprocess.run(command("--payments", str(damaged)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "damaged" in done.stderr
