"""What may be loaded by what, seen in a fresh interpreter: import rules that static analysis can't fool."""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from compliance.crypto.keys import SigningKey

SERVER = ("litestar", "sqlalchemy", "asyncpg", "alembic", "uvicorn", "apscheduler")
HEAVY = (*SERVER, "httpx", "authlib", "textual", "rich", "pygments", "lxml", "numba", "numpy")
"""None of it is needed to show help or to sign a token."""
NOT_PURE = (*SERVER, "httpx", "textual", "authlib", "jwt", "cryptography", "msgspec")


def modules(package: str) -> list[str]:
    """Name a package and every module in it. (Migrations are Alembic's to load, not Python's.)"""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    found = pkgutil.walk_packages(spec.submodule_search_locations or [], prefix=f"{package}.")
    return [package, *(module.name for module in found if ".migrations" not in module.name)]


def loaded_by(statement: str, settings: Mapping[str, str] | None = None) -> set[str]:
    """Run a statement in a fresh interpreter and return the top-level packages loaded after it."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **(settings or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


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
                "membership.trust",
                "problems",
                "money",
                "settings",
                "messages.cycles",
            )
        ),
        pytest.param(
            "import netting.gridlock, netting.multilateral, netting.explain",
            ("numba", "numpy"),
            id="netting a few needs no compiler",
        ),
    ],
)
def test_it_loads_without(statement: str, forbidden: tuple[str, ...]) -> None:
    assert not loaded_by(statement) & set(forbidden)


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "coordinator --help",
        "coordinator serve --help",
        "participant --help",
        "participant import --help",
        "participant token --role orders --subject dora",
        "agent --help",
        "agent token",
        "console --help",
        "export --help",
        "verify --help",
        "net --help",
        "gridlock --help",
        "clear --help",
        "advise --help",
        "demo --help",
    ],
)
def test_a_command_that_needs_little_loads_little(command: str, tmp_path: Path) -> None:
    """What starts in a moment is kept so by what it doesn't load: a clock would only tell how busy the machine is."""
    settings = {"CONCORDAT_BIC": "ALDRXXA0", "CONCORDAT_DATA_DIR": str(tmp_path)}
    SigningKey.generate().save(tmp_path / "keys/token.pem")
    statement = f"""
import sys
from gateway.cli import main
sys.argv = ["concordat", *{command.split()!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print()"""
    assert not loaded_by(statement, settings) & set(HEAVY)


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
