"""The guide to reconciling files says what its commands say, and the reference lists what the program has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from msgspec.structs import fields

from participants.matching.pairing import Kind
from participants.matching.rules import (
    ByAmount,
    ByAnyReference,
    ByParts,
    ByReference,
    BySum,
    ByText,
    Columns,
    Rules,
    Side,
)
from tests.integration.test_guides import script_of
from tests.unit.test_analysis_guide import run

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "guides/reconcile.md").read_text("utf-8")
REFERENCE = (DOCS / "reference/reconciliation.md").read_text("utf-8")


def test_the_guide_runs_and_says_what_it_shows(tmp_path: Path) -> None:
    output = run(script_of(GUIDE), tmp_path)
    shown = re.findall(r"^```text\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(shown) == 4
    lines = [line for text in shown for line in text.splitlines()]
    assert [line for line in lines if line not in output] == [], output
    assert (tmp_path / "report.html").read_text("utf-8").endswith("</html>\n")


def test_the_reference_has_every_kind_in_order() -> None:
    assert re.findall(
        r"^\| `([a-z_]+)` \| (?:A's, the|A's \||B's, the|B's \||one of each)", REFERENCE, re.MULTILINE
    ) == list(Kind)


def test_the_reference_has_every_pass_and_its_settings() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (?:one|some|few) and (.*)$|^$", REFERENCE, re.MULTILINE))
    rows |= dict(re.findall(r"^\| `(reference)` \| one row and (.*)$", REFERENCE, re.MULTILINE))
    for kind in (ByReference, BySum, ByAnyReference, ByAmount, ByParts, ByText):
        row = rows[str(kind.__struct_config__.tag)]
        assert {field.name for field in fields(kind)} - {"name"} <= set(re.findall(r"`(\w+)", row)), kind


def test_the_reference_has_every_table_and_column() -> None:
    named = set(re.findall(r"`\[*(\w+)", REFERENCE))
    members = {field.name for struct in (Rules, Columns, Side) for field in fields(struct)}
    assert members <= named


def test_the_command_loads_polars_only_when_it_runs() -> None:
    code = (
        "import participants.matching.cli, gateway.cli, sys; assert not {'polars', 'numpy', 'lxml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
