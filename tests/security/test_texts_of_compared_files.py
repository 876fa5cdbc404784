"""Files that `concordat reconcile` compares are others' making: what is in them is shown, and never obeyed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

HOSTILE = (
    "<script>alert(1)</script>",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31mred",
    "\u202eright to left",
    "[red]markup[/red] [link=http://x]y[/link]",
    "</td></table><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "&lt;b&gt;",
    "\U000e0041unseen",
)
COLUMNS = "reference,amount,currency,value_date,text,note\n"


class Page(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def table(amount: str) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    return COLUMNS + "".join(
        f"{quoted(text)},{amount},EUR,2026-11-02,{quoted(text)},{quoted(text)}\n" for text in HOSTILE
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "a<b>.csv").write_text(table("1.00"), "utf-8")
    (tmp_path / "b\x1b[7m.csv").write_text(table("2.00").replace(",1.00", ",3.00"), "utf-8")
    return tmp_path


def reconcile(directory: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    files = sorted(str(path) for path in directory.glob("*.csv"))
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "reconcile", *files, *options],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
        timeout=60,
    )


def obeyed(text: str) -> list[str]:
    """Return the characters that a terminal would obey or draw as nothing, besides the program's own colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return sorted({letter for letter in plain if letter != "\n" and not letter.isprintable()})


def test_a_terminal_is_shown_escapes_and_markup_as_they_stand(directory: Path) -> None:
    done = reconcile(directory)
    assert done.returncode == 1, done.stderr
    text = done.stdout.decode()
    assert obeyed(text) == []
    assert "\\x1b[2J" in text
    assert "[red]markup[/red]" in text
    assert "\x1b[31m" not in text


def test_json_is_ascii_where_a_terminal_would_obey(directory: Path) -> None:
    done = reconcile(directory, "--json")
    text = done.stdout.decode()
    assert "\x1b" not in text
    assert obeyed(text) == []
    documents = [json.loads(line) for line in text.splitlines()]
    assert {document["reference"] for document in documents[:-1]} == set(HOSTILE)


def test_a_page_has_no_element_of_a_files_making(directory: Path) -> None:
    done = reconcile(directory, "--html", str(directory / "report.html"))
    assert done.returncode == 1, done.stderr
    source = (directory / "report.html").read_text("utf-8")
    page = Page()
    page.feed(source)
    assert page.elements.isdisjoint({"script", "img", "a", "link", "iframe", "form", "base", "object"})
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.addresses == []
    assert "default-src 'none'" in source
    assert obeyed(source) == []
    assert "<script>alert(1)</script>" in page.texts
    assert any("a<b>.csv" in text for text in page.texts)
    assert "<svg" in source


def test_a_refusal_names_what_is_wrong_without_obeying_it(directory: Path) -> None:
    files = sorted(directory.glob("*.csv"))
    files[1].write_text(COLUMNS + "P,1,\x1b[2JX,2026-11-02,,\n", "utf-8")
    done = reconcile(directory)
    assert (done.returncode, done.stdout) == (2, b"")
    assert obeyed(done.stderr.decode()) == []
    assert b"currency_unknown" in done.stderr
