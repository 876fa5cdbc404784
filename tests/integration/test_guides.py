"""The guides work as they are written: their commands, in their order, on one machine with curl."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.processes import free_ports

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = (
    "clearing-house",
    "bank-node",
    "accounts",
    "screening",
    "import-payments",
    "operate-a-cycle",
    "audit",
    "connect-your-core",
    "analysis",
    "reconcile",
)
RUNBOOKS = ("operating/keys.md",)
"""Pages that go on where the guides end."""
TIMEOUT_S = 600
_BLOCK = re.compile(r"^```(sh|python (\S+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script_of(text: str) -> str:
    """Return a guide's commands as one script: `sh` blocks are run, `python NAME` blocks are written to NAME."""
    parts = []
    for kind, name, body in _BLOCK.findall(text):
        parts.append(body if kind == "sh" else f"cat > {name} <<'END_OF_FILE'\n{body}END_OF_FILE\n")
    return "".join(parts)


def test_the_index_has_the_guides_in_their_order() -> None:
    index = (DOCS / "guides" / "README.md").read_text("utf-8")
    assert tuple(re.findall(r"^\d+\. \[[^]]+\]\(([a-z-]+)\.md\)", index, re.MULTILINE)) == GUIDES
    assert {page.stem for page in (DOCS / "guides").glob("*.md")} == {"README", *GUIDES}


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's own: PostgreSQL may run as another user, who has to pass through.
    with tempfile.TemporaryDirectory(prefix="concordat-guides-") as name:
        yield Path(name)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guides use curl")
def test_the_guides_run(directory: Path) -> None:
    pages = [*(f"guides/{name}.md" for name in GUIDES), *RUNBOOKS]
    text = "".join(script_of((DOCS / page).read_text("utf-8")) for page in pages)
    # A program of a guide may be run again; the guides after it go on with the first cycle.
    again = "python clear.py\ncp cycle.txt kept.txt\npython clear.py\nmv kept.txt cycle.txt\n"
    assert "python clear.py\n" in text
    text = text.replace("python clear.py\n", again, 1)
    ports = sorted(set(re.findall(r"\b71\d\d\b", text)))
    for written, free in zip(ports, free_ports(len(ports)), strict=True):
        text = re.sub(rf"\b{written}\b", str(free), text)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CONCORDAT_")}
    inherited.pop("DATABASE_URL", None)
    environment = {**inherited, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
    # Where `concordat login` keeps profiles.
    environment["XDG_CONFIG_HOME"] = str(directory / "config")
    stop = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n"
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", stop + text],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate()
        pytest.fail(f"the guides didn't come to an end:\n{said}\n{_logs(directory)}")
    assert process.returncode == 0, f"{said}\n{_logs(directory)}"
    assert said.count('"status":"posted"') >= 1
    for word in ("would be taken", "taken"):
        assert f"1 payments {word} (0 held by screening), 0 known before, 1 rows refused, 1 of other banks" in said
    assert "1 payments taken (0 held by screening), 1 known before, 0 rows refused, 1 of other banks" in said
    assert "rows: 1 known, 1 taken" in said
    assert "ALDRXXA0 EUR -138750" in said  # 1,234.50 and 2.50 by curl, 50.00 released, 100.50 from the files
    assert "VERIFIED: cycle.zip" in said
    assert re.search(r"^20\d\d-\d\d-\d\d \d+ payments\nnot settled 1 payments\nreconciled$", said, re.MULTILINE)
    assert "holds: no selection is worth more than 31" in said
    assert len(re.findall(r"^sign (active|retired) ", said, re.MULTILINE)) == 2


def _logs(directory: Path) -> str:
    return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(directory.glob("*.log")))
