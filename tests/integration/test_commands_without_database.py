"""Commands at a node's machine whose database isn't there: each says so in a line, and ends with 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import free_port

from gateway.cli import main
from gateway.federation.http.client import MemberIdentity

COMMANDS = [
    ["participant", "fsck"],
    ["participant", "journal"],
    ["participant", "journal-detach", "--out", ".", "--before", "2026-01-01"],
    ["participant", "proof", "2026-01-05-01"],
    ["participant", "position", "2026-01-05-01", "BETAFRPP", "EUR"],
    ["participant", "client", "list"],
    ["agent", "fsck"],
    ["coordinator", "status"],
    ["coordinator", "invite", "BETAFRPP"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_in_a_line_that_there_is_no_database(
    command: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    MemberIdentity.made("ALFADEFF", tmp_path / "keys")
    monkeypatch.setenv("CONCORDAT_BIC", "ALFADEFF")
    monkeypatch.setenv("CONCORDAT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CONCORDAT_DATABASE_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    monkeypatch.setattr(sys, "argv", ["concordat", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    assert said.startswith("concordat: the database can't be reached (")
