"""What all commands for analysts do alike: start fast, say in one line what is wrong, leave nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMANDS = [("net",), ("net", "--plan"), ("net", "--explain", "A"), ("gridlock",), ("clear",), ("advise",)]
DEBTS = {"payments": [{"id": "T1", "from": "A", "to": "B", "amount": 5, "time": 7}]}
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


def start(*arguments: str | Path, stdout: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gateway.cli", *map(os.fspath, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE)


def refusal(process: subprocess.Popen[bytes]) -> str:
    """Return the one line that a process refuses with."""
    out, said = process.communicate(timeout=120)
    assert (process.returncode, out or b"") == (2, b""), said.decode()
    assert said.startswith(b"concordat: ")
    assert said.endswith(b"\n")
    assert said.count(b"\n") == 1
    return said.decode().removeprefix("concordat: ").rstrip("\n")


@pytest.fixture
def debts(tmp_path: Path) -> Path:
    path = tmp_path / "debts.json"
    path.write_text(json.dumps(DEBTS))
    return path


@every_command
def test_a_reader_who_goes_away_is_told_in_one_line(command: tuple[str, ...], debts: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*command, debts, stdout=writing)
    os.close(writing)
    assert refusal(process) == "output_unwritable: standard output: Broken pipe"


@every_command
def test_an_answer_that_can_t_be_written_leaves_nothing(command: tuple[str, ...], debts: Path) -> None:
    target = debts.parent / "nowhere" / "answer.json"
    assert refusal(start(*command, debts, "--output", target)) == (
        f"output_unwritable: {target}: No such file or directory"
    )
    below = debts / "answer.json"
    assert refusal(start(*command, debts, "--output", below)) == f"output_unwritable: {below}: Not a directory"
    assert list(debts.parent.iterdir()) == [debts]


@every_command
def test_a_refusal_stays_one_line_whatever_the_input_says(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "two\nlines"
    path.write_text(r'{"a\n\u001b[31mb": []}')
    assert refusal(start(*command, path)).startswith(rf"field_invalid: {tmp_path}/two\nlines: a\n\x1b[31mb: ")
    path.write_text('"fr\nom",to,amount\n')
    assert r"line 1: fr\nom: not a column that is known" in refusal(start(*command, path))
    path.write_text("x" * 100_000)
    assert len(refusal(start(*command, path))) < 1_000
