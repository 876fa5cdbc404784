"""What may be loaded by what, seen in a fresh interpreter: import rules that static analysis can't fool."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

SERVER = ("litestar", "sqlalchemy", "asyncpg", "alembic", "uvicorn", "apscheduler")
NOT_PURE = (*SERVER, "httpx", "textual", "authlib", "jwt", "cryptography", "msgspec")


def modules(package: str) -> list[str]:
    """Name a package and every module in it. (Migrations are Alembic's to load, not Python's.)"""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    found = pkgutil.walk_packages(spec.submodule_search_locations or [], prefix=f"{package}.")
    return [package, *(module.name for module in found if ".migrations" not in module.name)]


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and return the top-level packages loaded after it."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def import_all(*packages: str) -> str:
    return "import " + ", ".join(module for package in packages for module in modules(package))


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        pytest.param(import_all("netting"), NOT_PURE, id="netting is pure"),
        pytest.param(import_all("compliance"), (*SERVER, "httpx", "textual"), id="compliance has no framework"),
        pytest.param(import_all("tui"), (*SERVER, "participants"), id="the console has no server"),
        *(
            pytest.param(f"import gateway.federation.{module}", SERVER, id=f"federation.{module} is for clients")
            for module in (
                "http.client",
                "identity.tokens",
                "identity.trust",
                "http.problems",
                "money",
                "settings",
                "messages.cycles",
            )
        ),
        pytest.param("import gateway.cli", (*SERVER, "httpx", "textual"), id="the command line loads nothing yet"),
        pytest.param(
            "from gateway.cli import load; load('verify')", (*SERVER, "httpx", "textual"), id="verify needs little"
        ),
        *(
            pytest.param(
                f"from gateway.cli import load; load({command!r})",
                (*SERVER, "httpx", "textual", "numba", "numpy"),
                id=f"{command} starts fast",
            )
            for command in ("net", "gridlock", "clear", "advise")
        ),
        pytest.param(
            "import netting.gridlock, netting.multilateral, netting.explain",
            ("numba", "numpy"),
            id="netting a few needs no compiler",
        ),
        pytest.param(
            "from gateway.cli import load; load('console')", (*SERVER, "textual"), id="console's help starts fast"
        ),
    ],
)
def test_it_loads_without(statement: str, forbidden: tuple[str, ...]) -> None:
    assert not loaded_by(statement) & set(forbidden)


def test_netting_loads_only_itself_and_the_compiler() -> None:
    # numba, and what it loads: LLVM, Cython's runtime and, where it is installed, a reader of its own settings.
    allowed = (
        {"netting", "numpy", "numba", "llvmlite", "cython_runtime", "yaml"}
        | sys.stdlib_module_names
        | loaded_by("pass")
    )
    assert {name for name in loaded_by(import_all("netting")) if not name.startswith("_")} <= allowed


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("gateway.coordinator", {"participants", "tui"}),
        ("participants", {"tui"}),
    ],
)
def test_institutions_don_t_know_each_other(package: str, strangers: set[str]) -> None:
    assert not loaded_by(import_all(package)) & strangers


def test_no_participant_loads_the_coordinator() -> None:
    statement = import_all("participants")
    code = f"{statement}\nimport sys\nassert not [m for m in sys.modules if m.startswith('gateway.coordinator')]"
    loaded_by(code)
