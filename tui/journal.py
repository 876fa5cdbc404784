"""The session log: what an operator asked for and what came of it, one JSON line each, on disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from platformdirs import user_state_path


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. An action leaves two of one correlation id: `asked` before the request, then its outcome."""

    at: str
    subject: str
    coordinator: str
    correlation_id: str
    action: str
    outcome: str
    cycle: str | None = None
    value_date: str | None = None
    proposal: str | None = None
    reason: str | None = None
    participants: tuple[str, ...] | None = None
    code: str | None = None
    detail: str | None = None


def default_path(now: datetime) -> Path:
    """The log of today in the platform's state directory."""
    return user_state_path("concordat") / "console" / f"{now:%Y-%m-%d}.jsonl"


class Journal:
    """An append-only file, readable by its owner only. Every line is on disk before `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, entry: Entry) -> None:
        """Append a line. Raises OSError: an action that can't be logged isn't sent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def timestamp() -> str:
    """Now, as the wire writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
