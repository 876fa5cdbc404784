"""A rulebook's file, in TOML or JSON: the coordinator reads all of it, the settlement agent what it goes by."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.federation.settings import ConfigurationError

T = TypeVar("T")


class RulebookError(ConfigurationError):
    """The rulebook can't be used. The message says where and why."""


def read_rulebook(source: Path, kind: type[T]) -> T:
    """Read a rulebook as a form that says what of it is needed. Raises RulebookError."""
    try:
        if source.suffix == ".json":
            return msgspec.json.decode(source.read_bytes(), type=kind)
        return msgspec.convert(tomllib.loads(source.read_text("utf-8")), kind)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise RulebookError(f"{source}: {error}") from error
