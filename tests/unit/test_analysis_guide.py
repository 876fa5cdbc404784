"""The guide for analysts says what its commands say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from gateway.analysis.proofs import Proof, ProofNode
from tests.integration.test_guides import script_of

GUIDE = (Path(__file__).parents[2] / "docs/guides/analysis.md").read_text("utf-8")
FRONT_PAGE = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def run(script: str, directory: Path) -> str:
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def test_the_guide_runs_and_says_what_it_shows(tmp_path: Path) -> None:
    # How much work it took is the engine's own affair, and changes with it.
    output, guide = (re.sub(r'"work":\d+', '"work":…', text) for text in (run(script_of(GUIDE), tmp_path), GUIDE))
    shown = re.findall(r"^```text\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(shown) == 11
    assert [text for text in shown if text not in output] == [], output
    answers = [line for line in output.splitlines() if line.startswith('{"balances"')]
    assert answers[0] == answers[2], "a table with its limits says the same"
    assert '"mode":"fifo"' in answers[1]


def test_the_front_page_shows_what_a_queue_resolves_to(tmp_path: Path) -> None:
    shown = re.search(
        r"^```console\n\$ (echo .*? \| concordat gridlock -)\n(.*?)\n```$", FRONT_PAGE, re.MULTILINE | re.DOTALL
    )
    assert shown is not None
    command, answer = shown.groups()
    assert answer in run(command, tmp_path)


def test_the_guide_names_every_member_of_a_proof() -> None:
    for name in (*Proof.__struct_fields__, *ProofNode.__struct_fields__):
        assert re.search(rf'[`"]{name.removesuffix("s")}s?[`"]', GUIDE), name
