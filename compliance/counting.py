"""Numbers of things in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with what it is of: "1 request", "2 requests"; `plural` where that isn't the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
