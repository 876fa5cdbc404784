"""Text of others' making can't steer a terminal, whichever command prints it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from compliance.terminal import shown
from gateway.federation.commands import audit
from tests.unit.test_audit_cli import anchor, app, archive  # noqa: F401 - fixtures

STEERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Müller & Söhne – 東京", "Müller & Söhne – 東京"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("VERIFIED\rNOT ", r"VERIFIED\rNOT "),
        ("one\ntwo\u2028three\x85", r"one\ntwo\u2028three\x85"),
        ("safe\u202egnp.exe", r"safe\u202egnp.exe"),
        ("a\u200bb\u2066c\ufeff", r"a\u200bb\u2066c\ufeff"),
        ("\u3164\u2800\U000e0041", r"\u3164\u2800\U000e0041"),
        ("\ud800", r"\ud800"),
        ("\x9b31m", r"\x9b31m"),
        ("\xa0", r"\xa0"),
    ],
)
def test_what_is_shown(text: str, written: str) -> None:
    assert shown(text) == written
    assert len(shown(text, mark="·")) == len(text)
    shown(text).encode()


def test_a_long_text_is_cut_before_it_is_escaped() -> None:
    assert shown("a\x1b" * 5, characters_max=4) == r"a\x1ba\x1b…"
    assert shown("abcd", characters_max=4) == "abcd"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_of_an_evil_name_and_content(app: typer.Typer, anchor: Path, tmp_path: Path, as_json: bool) -> None:  # noqa: F811
    path = tmp_path / "\x1b[2J\u202ezip.VERIFIED"
    path.write_bytes(b"PK\x03\x04" + b"\x1b]0;x\x07" * 40)
    options = ["--json"] if as_json else []
    result = CliRunner().invoke(app, ["verify", str(path), "--trust", str(anchor), *options])
    assert result.exit_code == 1
    assert not STEERS.search(result.output)


def test_the_report_as_json(app: typer.Typer, anchor: Path, archive: Path) -> None:  # noqa: F811
    result = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor), "--json"])
    report = json.loads(result.output)
    assert (report["verified"], len(report["steps"]), report["cycle"]) == (True, 12, "2026-03-02-01")
    archive.write_bytes(archive.read_bytes()[:-1])
    result = CliRunner().invoke(app, ["verify", str(archive), "--trust", str(anchor), "--json"])
    refuted = json.loads(result.output)
    assert (refuted["verified"], refuted["step"], refuted["finding"]) == (False, 1, "archive_malformed")


def test_markup_in_what_a_check_of_the_books_found() -> None:
    from rich.markup import escape

    evil = "[red]x[/][link=file:///etc]y\x1b[1m"
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(escape(shown(evil)), highlight=False)
    assert "[red]x[/][link=file:///etc]y\\x1b[1m" in console.file.getvalue()  # type: ignore[attr-defined]


def test_every_command_that_prints_what_others_wrote_shows_it() -> None:
    """No command hands an error to the terminal as it is: what stands in it may be anybody's."""
    root = Path(audit.__file__).parents[3]
    bare = re.compile(r"(?:echo|print)\(.*\{(?:error|row\.detail|finding|check\.difference|refusal\.detail)\}")
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for package in ("gateway", "participants", "tui")
        for path in (root / package).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if bare.search(line)
    ]
    # Already shown where the errors are made.
    assert [line for line in found if "gateway/analysis" not in line and "gateway/demo" not in line] == []
