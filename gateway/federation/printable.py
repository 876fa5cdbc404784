"""Texts of strangers, as they may be shown: no character steers a terminal, ends a line or can't be encoded."""

from __future__ import annotations


def printable(text: str, characters_max: int | None = None) -> str:
    """Return a text with what isn't printable as its escape (`\\n`, `\\u2028`, `\\ud800`), cut with an ellipsis."""
    cut = text if characters_max is None or len(text) <= characters_max else text[:characters_max] + "…"
    return cut if cut.isprintable() else "".join(map(_shown, cut))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
