"""What README and docs promise about secrecy, four eyes and proof is in the table, with tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.security.promises import PROMISES, TRUST_MODEL

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    # The reference is made from the program; decisions say why.
    if not {"reference", "decisions"} & set(page.parts)
)
_SPEAKS_OF_IT = re.compile(
    r"four eyes|two (people|persons|operators|different people)|(second|another) person|without ever|\bsecret\b",
    re.IGNORECASE,
)


def pieces(page: str) -> list[str]:
    """Return a page's sentences and rows of tables, but its code, each on one line."""
    text = re.sub(r"^```.*?^```", "\n", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\|.*$", text, re.MULTILINE)
    prose = re.sub(r"^\|.*$", "\n", text, flags=re.MULTILINE)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", prose)]
    return [*rows, *(one for part in paragraphs for one in re.split(r"(?<=[.;])\s+", part) if one)]


@pytest.mark.parametrize("page", PROMISES)
def test_a_page_promises_what_the_table_says(page: str) -> None:
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert [quote for quote in PROMISES[page] if quote not in text] == []


def test_each_promise_has_tests_that_exist() -> None:
    named = {test for promises in PROMISES.values() for tests in promises.values() for test in tests.split()}
    missing = []
    for test in sorted(named):
        path, _, name = test.partition("::")
        file = ROOT / "tests" / path
        if not file.exists() or not re.search(rf"^(async )?def {name}\(", file.read_text("utf-8"), re.MULTILINE):
            missing.append(test)
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_a_sentence_that_speaks_of_it_is_in_the_table(page: str) -> None:
    promises = PROMISES.get(page, {})
    speaks = [piece for piece in pieces(page) if _SPEAKS_OF_IT.search(piece)]
    assert [piece for piece in speaks if not any(quote in piece for quote in promises)] == []


def test_each_row_of_the_threat_model_is_in_the_table() -> None:
    text = (ROOT / "docs/concepts/trust.md").read_text("utf-8")
    rows = [
        row
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        for row in table.splitlines()[2:]  # below the heading and its rule
    ]
    assert [row for row in rows if not any(quote in row for quote in TRUST_MODEL)] == []
    assert len(rows) > 80
