"""What ends a command with one line, and what is a defect and shows its traceback."""

from __future__ import annotations

import errno
from typing import Any

import asyncpg
import pytest
from commands import concordat
from sqlalchemy.exc import OperationalError, ProgrammingError

from gateway import cli
from gateway.federation.settings import ConfigurationError

LOST = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConfigurationError("no key"), "no key"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/gone/a.json"), "/gone/a.json: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (LOST, "the database can't be reached: connection was closed in the middle of operation"),
        (ConnectionResetError(), "the database can't be reached: ConnectionResetError"),
        (asyncpg.DiskFullError("could not extend file"), "the database's disk is full: could not extend file"),
        (OperationalError("SELECT 1", {}, asyncpg.CannotConnectNowError("soon")), "the database can't be reached: "),
    ],
    ids=repr,
)  # fmt: skip
def test_trouble_outside_of_the_program_is_one_line(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "app", _raising(error))
    said = concordat("", {})
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"concordat: {says}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "defect",
    [KeyError("cycle"), asyncpg.UndefinedColumnError("no column"), ProgrammingError("SELEC", {}, Exception())],
    ids=repr,
)
def test_a_defect_shows_its_traceback(defect: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", _raising(defect))
    with pytest.raises(type(defect)):
        concordat("", {})


def _raising(error: Exception) -> Any:
    def app() -> None:
        raise error

    return app
