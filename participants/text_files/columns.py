"""The columns of CSV files: what stands between them, and their names, however they are spelled."""

from __future__ import annotations

import re

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_FILLERS = re.compile(r"[\s_-]+")


def column_key(name: str) -> str:
    """Return what a column is known by, whatever the case of its name and the spaces, hyphens and underscores in it."""
    return _FILLERS.sub("", name).casefold()


def columns_of(line: str, separator: str) -> list[str]:
    """Return the names in a header."""
    return [name.strip().strip('"').strip() for name in line.split(separator)]
