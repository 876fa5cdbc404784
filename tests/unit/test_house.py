"""The house is kept in order: files that one sitting reads, reasons with their status, names that say something."""

from __future__ import annotations

import ast
import gc
import importlib
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.federation.problems import RefusalReason

ROOT = Path(__file__).parents[2]
PACKAGES = ("compliance", "gateway", "netting", "participants", "tui")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LINES_MAX = 400
TEST_LINES_MAX = 500
# Longer, and why.
LONGER: dict[str, str] = {
    "compliance/statements.py": "the contract on one page: every document that somebody signs",
    "compliance/verifier/account.py": "one list: what each kind of event must say of the record",
    "compliance/verifier/log.py": "every reading of a log's events, each a few lines",
    "gateway/coordinator/cycles/tables/cycles.py": "one table: every statement on cycles",
    "gateway/federation/http/client.py": "one call: token, retry, answer and its checks",
    "participants/api/messages.py": "what a bank's API takes and answers, on one page",
    "gateway/coordinator/registry/registry.py": "every change of who is a member, each a transaction of a few lines",
    "gateway/federation/identity/tokens.py": "issuing and verifying are twins: each claim is written and checked here",
    "participants/api/routes.py": "a bank's operations, a few lines each, in the order of the reference",
    "participants/node.py": "all that a bank's node runs on, made, started and stopped in one place",
    "participants/ledger/events.py": "the journal's contract: every event and the versions before it",
    "tui/app.py": "the application's wiring: one short method for each message and action",
    "tests/forgeries/test_export_lies.py": "one table of lies",
    "tests/security/test_settlement_forgeries.py": "settlement under every forgery, at one desk",
    "tests/forgeries/clearing.py": "an honest clearing day, whole, so that each lie is one line",
}

# What a reader learns nothing from: puns, participles and pronouns as names of values, functions and classes.
SAYS_NOTHING = frozenset({"found", "one", "told", "placing", "together", "happening", "wanted", "foundation", "lay"})

# What goes on in the background is begun by `Supervised`, which begins it again. Tasks besides, and why.
TASKS = {
    "gateway/federation/supervision.py": "the one that all others go through",
    "gateway/coordinator/cycles/batching.py": "ends with the callers that wait for it",
    "gateway/coordinator/cycles/kernels.py": "tried once; without it the netting itself compiles",
    "gateway/coordinator/log/feed.py": "one wait, for the end of the process",
    "gateway/demo/day.py": "awaited where it is begun",
    "gateway/federation/http/serve.py": "the application's start, which the end of the process may cut short",
    "participants/api/single_orders.py": "answers whoever asked, if only why it can't",
    "participants/continuity/continuity.py": "a question that all who need its answer wait for",
    "participants/ledger/writer.py": "each write is awaited where it is begun; the writer is a condition",
    "tui/feed.py": "awaited where it is begun",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(("paths", "lines_max"), [(SOURCES, LINES_MAX), (TESTS, TEST_LINES_MAX)], ids=["code", "tests"])
def test_one_sitting_reads_a_file(paths: list[Path], lines_max: int) -> None:
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {name: count for name, count in lines.items() if count > lines_max and name not in LONGER} == {}


def test_every_package_says_what_it_is_and_holds_something() -> None:
    for package in {path.parent for path in SOURCES if "migrations" not in path.parts}:
        docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
        assert docstring, f"{package} doesn't say what it is"
        assert [path for path in package.rglob("*.py") if path.name != "__init__.py"], f"{package} is empty"


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the parser, which in CPython 3.11 may fail when it runs there (gh-106905)."""
    gc.disable()
    yield
    gc.enable()


def bound_names(tree: ast.AST) -> set[tuple[str, int]]:
    """Return every name that a module gives to something, and where."""
    names: set[tuple[str, int]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add((node.id, node.lineno))
        elif isinstance(node, ast.arg):
            names.add((node.arg, node.lineno))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add((node.name, node.lineno))
    return names


def test_names_say_something() -> None:
    mute = [
        f"{name_of(path)}:{line}: {name}"
        for path in SOURCES
        for name, line in sorted(bound_names(ast.parse(path.read_text("utf-8"))))
        if name.strip("_").lower() in SAYS_NOTHING
    ]
    assert mute == []


def reason_enums() -> list[type[StrEnum]]:
    enums: dict[str, type[StrEnum]] = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Reason")]
        if names:
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            enums.update((name, kind) for name in names if issubclass(kind := getattr(module, name), StrEnum))
    return list(enums.values())


def test_a_reason_that_a_request_is_refused_for_has_its_status_beside_it() -> None:
    """Whatever is handed to `Refusal` is a member of such an enumeration: no reason is a bare string."""
    bare = [
        f"{name_of(path)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Refusal", "refusal")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]
    assert bare == []
    with_status = [enum for enum in reason_enums() if issubclass(enum, RefusalReason)]
    assert len(with_status) > 8
    assert all(400 <= reason.status < 600 for enum in with_status for reason in enum)


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert numbers[0] == 1
    assert all(after == before + 1 for before, after in pairwise(numbers))


def test_a_wait_with_a_limit_can_be_cancelled() -> None:
    """`asyncio.wait_for` of Python 3.11 loses a cancellation that comes as its wait ends; `asyncio.timeout` doesn't."""
    assert not [name_of(path) for path in SOURCES if "asyncio.wait_for(" in path.read_text("utf-8")]


def test_what_goes_on_in_the_background_is_supervised() -> None:
    """An error would end it, and nobody would know."""
    begun = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id)
        in ("create_task", "ensure_future", "TaskGroup", "run_coroutine_threadsafe")
    }
    assert begun == TASKS.keys()
