"""An analyst at a terminal: a document or a table in, and an answer or one line of refusal out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import app

COMMAND = (sys.executable, "-m", "gateway.cli")
LARGEST = 10**38 - 1
"""The largest amount."""

Source = bytes | dict[str, Any]
"""What a file holds: its bytes, or a document to be written as JSON."""


def encoded(source: Source) -> bytes:
    return source if isinstance(source, bytes) else json.dumps(source).encode()


def concordat(
    *arguments: str | Path, stdin: Source = b"", hash_seed: str = "0", exit_code: int = 0
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process of its own."""
    process = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=encoded(stdin),
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert process.returncode == exit_code, process.stderr.decode()
    return process


def answer(command: str, stdin: Source, *arguments: str | Path) -> Any:
    return json.loads(concordat(command, "-", *arguments, stdin=stdin).stdout)


def refusal(directory: Path, command: str, source: Source, *arguments: str | Path) -> str:
    """Return the one line that a command refuses a file with, the file named FILE; nothing else may be written.

    In this process: a table of many refusals would wait for the interpreter to start most of the time.
    """
    file, output = directory / "input", directory / "output"
    file.write_bytes(encoded(source))
    stderr = io.StringIO()
    with (
        output.open("w") as stdout,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as ending,
    ):
        app([command, str(file), *map(str, arguments)])
    line = stderr.getvalue()
    assert (ending.value.code, output.read_bytes()) == (2, b""), line
    assert line.startswith("concordat: ")
    assert line.count("\n") == 1
    return line.removeprefix("concordat: ").replace(str(file), "FILE")


def check_refusal(directory: Path, command: str, source: Source, reason: str, place: str) -> None:
    """Check that a command refuses a file for a reason, at a place that may be named with what follows it."""
    line = refusal(directory, command, source)
    assert line.startswith(f"{reason}: FILE: {place}" if place else f"{reason}: FILE"), line


def owe(from_: str, to: str, amount: Any = 1, **members: Any) -> dict[str, Any]:
    return {"from": from_, "to": to, "amount": amount, **members}


def pay(name: str, from_: str, to: str, amount: Any = 1, **members: Any) -> dict[str, Any]:
    return {"id": name, **owe(from_, to, amount, **members)}


def of(*records: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return a document of payments."""
    return {**members, "payments": list(records)}


def table(columns: Sequence[str], records: Iterable[dict[str, Any]]) -> bytes:
    rows = [",".join(str(record.get(name, "")) for name in columns) for record in records]
    return "\n".join([",".join(columns), *rows, ""]).encode()


def shuffled(document: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return a document with all members and records in another order."""
    chance = random.Random(seed)

    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shuffle(inner) for name, inner in chance.sample(list(value.items()), len(value))}
        if isinstance(value, list):
            return chance.sample([shuffle(inner) for inner in value], len(value))
        return value

    return {name: shuffle(value) for name, value in document.items()}


def canonical(answer: bytes) -> bytes:
    """Return the canonical form of an answer in JSON, on a line."""
    return json.dumps(json.loads(answer), sort_keys=True, separators=(",", ":")).encode() + b"\n"
