"""The page on netting says what the engine says: its examples are run, and answer as they stand there."""

from __future__ import annotations

import ast
import doctest
import os
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
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert not failed, "".join(said)


def test_the_commands_answer_as_they_stand_here(tmp_path: Path) -> None:
    """A `text` block is all that the `sh` block before it says. How much work it took is the engine's own affair."""
    said, shown = "", 0
    for kind, body in _BLOCK.findall(PAGE):
        if kind == "sh":
            said = run(body, tmp_path)
        elif kind == "text":
            assert re.sub(r'"work":\d+', '"work":…', said) == body
            shown += 1
    assert shown == 4


def run(script: str, directory: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_module_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`(netting\.\w+)`", PAGE):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name


def test_the_architecture_names_every_module_of_netting_and_what_it_imports() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    section = page[page.index("## Inside `netting/`") :].split("\n## ", 2)[0]
    told = {module: set(re.findall(r"`([\w.]+)`", uses)) for module, uses in _ROW.findall(section)}
    modules = [path for path in (ROOT / "netting").rglob("*.py") if path.stem[0] != "_"]
    sources = {".".join(path.relative_to(ROOT / "netting").with_suffix("").parts): path for path in modules}
    assert told == {module: imports(path) for module, path in sources.items()}


def imports(path: Path) -> set[str]:
    """Return the modules of netting that a module uses: by an import, or by name as a kernel to be loaded."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in ("netting", "netting.kernels"):
            package = node.module.partition(".")[2]
            found |= {".".join(filter(None, (package, alias.name))) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("netting."):
            found.add((node.module or "").removeprefix("netting."))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"netting(\.\w+)+", str(node.value)):
            found.add(str(node.value).removeprefix("netting."))
    return found
