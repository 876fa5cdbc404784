"""The session log of the console."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec

from tui.journal import Entry, Journal


def test_the_session_log_appends_lines_for_its_owner_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "log.jsonl")
    for outcome in ("asked", "done"):
        journal.write(
            Entry(
                at="2026-03-02T10:00:00Z",
                subject="alice",
                coordinator="CNCDXXC0",
                correlation_id="c-1",
                action="hold",
                outcome=outcome,
            )
        )
    lines = [msgspec.json.decode(line) for line in journal.path.read_bytes().splitlines()]
    assert [line["outcome"] for line in lines] == ["asked", "done"]
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
