"""The page on netting says what the engine says: its examples are run, and answer as they stand there."""

from __future__ import annotations

import ast
import doctest
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/concepts/netting.md").read_text("utf-8")
_BLOCK = re.compile(r"^```(sh|text|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `([\w.]+)` \| .+? \| (.*?) ?\|$", re.MULTILINE)


def test_the_examples_in_python_answer_as_they_stand_here() -> None:
    """One session for the whole page: an example may use names of those before."""
    session = "".join(body for kind, body in _BLOCK.findall(PAGE) if kind == "python")
    examples = doctest.DocTestParser().get_doctest(session, {}, "docs/concepts/netting.md", None, 0)
    assert len(examples.examples) > 50
    differences: list[str] = []
    failures, _ = doctest.DocTestRunner(verbose=False).run(examples, out=differences.append)
    assert not failures, "".join(differences)


def test_the_commands_answer_as_they_stand_here(tmp_path: Path) -> None:
    """A `text` block is all that the `sh` block before it says. How much work it took is the engine's own affair."""
    output, shown = "", 0
    for kind, body in _BLOCK.findall(PAGE):
        if kind == "sh":
            output = run(body, tmp_path)
        elif kind == "text":
            assert re.sub(r'"work":\d+', '"work":…', output) == body
            shown += 1
    assert shown == 4


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


def test_everything_of_netting_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`(netting(?:\.\w+)+)`", PAGE):
        assert pkgutil.resolve_name(name)


def test_the_reference_names_every_module_of_netting_and_what_it_imports() -> None:
    page = (ROOT / "docs/reference/netting-modules.md").read_text("utf-8")
    listed = {module: set(re.findall(r"`([\w.]+)`", uses)) for module, uses in _ROW.findall(page)}
    modules = [path for path in (ROOT / "netting").rglob("*.py") if path.stem[0] != "_"]
    sources = {".".join(path.relative_to(ROOT / "netting").with_suffix("").parts): path for path in modules}
    assert listed == {module: imports(path) for module, path in sources.items()}


def imports(path: Path) -> set[str]:
    """Return the modules of netting that a module uses: by an import, or by name as a kernel to be loaded."""
    modules = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "netting":
            place = ROOT / (node.module or "").replace(".", "/")
            names = [f"{node.module}.{alias.name}" for alias in node.names] if place.is_dir() else [node.module or ""]
            modules |= {name.removeprefix("netting.") for name in names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"netting(\.\w+)+", str(node.value)):
            modules.add(str(node.value).removeprefix("netting."))
    return modules
