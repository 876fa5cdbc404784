"""How the console writes things: tones, text of others' making, times, amounts, bars. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

from compliance.terminal import shown
from gateway.federation.money import format_minor


class Tone(StrEnum):
    """How a piece of text is meant. Colour follows it, and is never the only sign of it."""

    PLAIN = "plain"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    DIM = "dim"


def plain(text: str) -> str:
    """Return text of another's making fit for a terminal: what would steer it, or can't be seen, becomes a dot."""
    return shown(text, mark="·")


def age(seconds: float) -> str:
    """Say a duration in its largest unit: "2 s", "3 min", "4 h", "5 d"."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def instant(timestamp: str) -> datetime:
    """Parse a wire timestamp (UTC)."""
    return datetime.fromisoformat(timestamp).astimezone(UTC)


def clock(timestamp: str | None) -> str:
    """Return the UTC time of day "HH:MM:SS", or a dash."""
    return "–" if timestamp is None else f"{instant(timestamp):%H:%M:%S}"


def age_of(timestamp: str | None, now: datetime) -> str:
    """Say how long ago a wire timestamp was, or a dash."""
    return "–" if timestamp is None else age((now - instant(timestamp)).total_seconds())


def money(minor: str | int | None, currency: str) -> str:
    """Return an exact amount with grouped digits, or a dash where there is none."""
    return "–" if minor is None else format_minor(int(minor), currency)


def decimal(minor: str | int | None, currency: str) -> str:
    """Return an exact amount as other programs read it: no grouping, empty where there is none."""
    return "" if minor is None else format_minor(int(minor), currency).replace(",", "")


def bar(part: int, whole: int, width: int) -> str:
    """Draw part of whole `width` wide: any part at all shows, and only all of it fills the bar."""
    if whole <= 0 or part <= 0:
        return "╌" * width
    filled = width if part >= whole else min(width - 1, max(1, part * width // whole))
    return "━" * filled + "╌" * (width - filled)
