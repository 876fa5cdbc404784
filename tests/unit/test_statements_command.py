"""`concordat statements read`: what it prints, its exit codes, and the page about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from statement_texts import CSV, EVERY_FORMAT, MT940
from typer.testing import CliRunner

from participants.statements.cli import app
from participants.statements.statement import Entry
from tests.integration.test_guides import script_of

PAGE = (Path(__file__).parents[2] / "docs/reference/statement-files.md").read_text("utf-8")


def read(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["read", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def objects(*arguments: object) -> tuple[int, list[dict[str, dict[str, object]]]]:
    code, output, _ = read("--json", *arguments)
    return code, [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in EVERY_FORMAT]
    for path in paths:
        path.write_bytes(EVERY_FORMAT[path.name])
    return paths


def test_every_format_is_read_without_being_told(files: list[Path]) -> None:
    code, output, errors = read(*files)
    assert (code, errors) == (0, "")
    assert [line.split(": ")[1].split(",")[0] for line in output.splitlines() if ": " in line] == [
        "MT940",
        "MT942",
        "BAI2",
        "CSV",
        "camt.053.001.08",
    ]


def test_json_has_a_line_for_each_statement_and_entry_with_its_place(files: list[Path]) -> None:
    code, lines = objects(files[0])
    assert code == 0
    assert [next(iter(line)) for line in lines] == ["statement", "entry", "entry", "summary"]
    entry = lines[1]["entry"]
    assert (entry["file"], entry["line"], entry["field"]) == (str(files[0]), 5, ":61:")
    assert (entry["amount"], entry["currency"], entry["value_date"]) == ("-12.50", "EUR", "2026-11-27")
    assert set(Entry.__struct_fields__) - {"place", "amount_minor"} <= entry.keys()
    assert lines[0]["statement"]["closing"] == {
        "amount": "995.00", "currency": "EUR", "date": "2026-11-27", "line": 8, "field": ":62F:",
    }  # fmt: skip
    assert lines[-1]["summary"] == {"files": 1, "refused": 0, "statements": 1, "entries": 2, "findings": 0}


def test_a_file_that_is_refused_ends_with_2_and_the_others_are_read(tmp_path: Path, files: list[Path]) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(MT940.replace("995,00", "995,01"))
    code, lines = objects(wrong, files[0], tmp_path / "absent")
    assert code == 2
    refused = [line["refused"] for line in lines if "refused" in line]
    assert [(said["reason"], said["line"], said["field"]) for said in refused] == [
        ("balance_wrong", 8, ":62F:"),
        ("file_unreadable", 1, ""),
    ]
    assert lines[-1]["summary"] == {"files": 3, "refused": 2, "statements": 1, "entries": 2, "findings": 0}
    code, output, errors = read(wrong)
    assert (code, output) == (2, "")
    assert "refused, line 8, :62F:" in errors


def test_nothing_in_a_file_steers_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil"
    path.write_text(CSV.replace("Ada Rossi", "Ada\x1b[2J\u202eRossi"))
    assert read(path)[1].isprintable() is False  # line ends
    assert "\x1b" not in read(path)[1]
    assert "\u202e" not in read(path)[1]


def test_a_wrong_layout_is_a_wrong_option(tmp_path: Path, files: list[Path]) -> None:
    layout = tmp_path / "layout.toml"
    layout.write_text("currency = 'EUR'\n[columns]\n")
    code, _, errors = read("--layout", layout, files[0])
    assert code == 2
    assert "either amount, or credit and debit" in errors


def test_the_page_runs_and_says_what_it_shows(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script_of(PAGE)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(shown) == 3
    assert [text for text in shown if text not in done.stdout] == [], done.stdout
    assert "exit code 2" in done.stdout


def test_the_page_names_every_finding() -> None:
    source = "\n".join(
        path.read_text("utf-8") for path in (Path(__file__).parents[2] / "participants/statements").glob("*.py")
    )
    codes = set(re.findall(r'Finding\(\s*"([a-z_]+)"', source))
    assert len(codes) > 9
    assert codes == set(re.findall(r"`([a-z_]+)`", PAGE[PAGE.index("| finding |") : PAGE.index("## What is read")]))
