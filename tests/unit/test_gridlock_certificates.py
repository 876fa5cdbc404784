"""What `concordat gridlock` proves: a certificate is written and holds, and every change to one is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analyst import concordat, pay
from tests.unit.test_gridlock_command import QUEUE, many


@pytest.mark.parametrize(
    ("queue", "arguments"),
    [
        (QUEUE, ()),
        (QUEUE, ("--mode", "fifo")),
        (many(40), ("--work", "100000")),
        ({"payments": [], "at": 5}, ()),
        ({**QUEUE, "at": 3}, ()),
        (many(400), ("--work", "1")),
    ],
)
def test_a_certificate_is_written_and_holds(tmp_path: Path, queue: dict[str, Any], arguments: tuple[str, ...]) -> None:
    proof = tmp_path / "proof.json"
    bound = json.loads(concordat("gridlock", "-", *arguments, "--certificate", proof, stdin=queue).stdout)[
        "upper_bound"
    ]
    statement = concordat("gridlock", "-", "--check", proof, stdin=queue).stdout.decode()
    assert statement == f"holds: no selection is worth more than {bound}\n"


def test_certificates_of_several_currencies(tmp_path: Path) -> None:
    proof = tmp_path / "proof.json"
    queue = {
        "default_limit": 9,
        "payments": [pay("E", "A", "B", 6, currency="EUR"), pay("U", "A", "B", 3, currency="USD")],
    }
    concordat("gridlock", "-", "--certificate", proof, stdin=queue)
    assert concordat("gridlock", "-", "--check", proof, stdin=queue).stdout.decode() == (
        "holds: no selection of EUR is worth more than 6\nholds: no selection of USD is worth more than 3\n"
    )
    queue["payments"] = queue["payments"][:1]  # type: ignore[index]
    assert b"other currencies" in concordat("gridlock", "-", "--check", proof, stdin=queue, exit_code=1).stderr


@pytest.mark.parametrize(
    ("change", "arguments", "objection"),
    [
        (lambda proof, _: proof.update(upper_bound=proof["upper_bound"] - 1), (), "allows"),
        (lambda proof, _: proof["rows"].pop(), (), "about other limits"),
        (lambda proof, _: proof.update(nodes=[]), (), "tree has no root"),
        (lambda proof, _: proof.update(scale=0), (), "tree has no root"),
        (lambda proof, _: proof.update(enumerated=True, nodes=[]), (), "can't have been enumerated"),
        (lambda proof, _: proof.update(currency="EUR"), (), "other currencies"),
        (lambda proof, _: proof["nodes"][-1].update(multipliers=[]), (), "multiplier"),
        (lambda _, file: file.update(at=4), (), "the moment 4"),
        (lambda _, file: None, ("--at", "4"), "no moment, and asked for is the moment 4"),
    ],
    ids=[
        *("a lower bound", "another row", "no tree", "no scale", "enumerated", "another currency", "no multipliers"),
        *("another moment", "asked for another moment"),
    ],
)
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, change: Callable[[Any, Any], Any], arguments: tuple[str, ...], objection: str
) -> None:
    proof, queue = tmp_path / "proof.json", many(40)
    concordat("gridlock", "-", "--work", "100000", "--certificate", proof, stdin=queue)
    document = json.loads(proof.read_bytes())
    change(document["proofs"][0], document)
    proof.write_text(json.dumps(document))
    process = concordat("gridlock", "-", "--check", proof, *arguments, stdin=queue, exit_code=1)
    line = process.stderr.decode()
    assert line.startswith(f"concordat: {proof}: the certificate doesn't hold: ")
    assert objection in line
    assert (process.stdout, line.count("\n")) == (b"", 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "file_empty"),
        ("{", "json_malformed"),
        ('{"proofs": [{}]}', "field_invalid"),
        ('{"proofs": [], "proofs": []}', "member_repeated"),
        ('{"proofs": [], "more": 1}', "field_invalid"),
    ],
)
def test_a_certificate_that_can_not_be_read(tmp_path: Path, text: str, reason: str) -> None:
    proof = tmp_path / "proof.json"
    proof.write_text(text)
    process = concordat("gridlock", "-", "--check", proof, stdin=QUEUE, exit_code=2)
    assert process.stderr.decode().startswith(f"concordat: {reason}: {proof}")
