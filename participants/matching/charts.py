"""Charts as inline SVG: drawn once, without scripts, readable by a screen reader and in print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _BAR, _GAP, _LABEL = 720, 22, 8, 190


def bars(title: str, figures: Sequence[tuple[str, int, str]]) -> str:
    """Draw a bar for each (label, value, what is written beside it); the longest fills the width."""
    most = max((value for _, value, _ in figures), default=0) or 1
    height = len(figures) * (_BAR + _GAP)
    room = _WIDTH - _LABEL - 150
    parts = []
    for place, (label, value, note) in enumerate(figures):
        top = place * (_BAR + _GAP)
        length = max(1, round(room * value / most)) if value else 0
        middle = top + _BAR * 0.7
        parts.append(
            f'<text x="{_LABEL - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{top}" width="{length}" height="{_BAR}" rx="3"/>'
            f'<text x="{_LABEL + length + 8}" y="{middle:.0f}" class="note">{escape(note)}</text>'
        )
    return _figure(title, _WIDTH, height, "".join(parts))


def columns(title: str, figures: Sequence[tuple[str, int]]) -> str:
    """Draw a column for each (label, value), with the first, the last and the highest labelled."""
    most = max((value for _, value in figures), default=0) or 1
    height, base = 150, 120
    step = _WIDTH / max(1, len(figures))
    highest = max(range(len(figures)), key=lambda place: figures[place][1], default=0)
    labelled = {0: "start", len(figures) - 1: "end"} if len(figures) > 1 else {0: "start"}
    parts = []
    for place, (label, value) in enumerate(figures):
        tall = round(100 * value / most, 1) if value else 0
        left = place * step
        name = escape(f"{label}: {value:,}")
        wide = max(1.0, step * 0.8)
        parts.append(
            f'<rect x="{left:.1f}" y="{base - tall}" width="{wide:.1f}" height="{tall}"><title>{name}</title></rect>'
        )
        if place in labelled:
            at = left if labelled[place] == "start" else _WIDTH
            parts.append(f'<text x="{at:.1f}" y="{base + 18}" text-anchor="{labelled[place]}">{escape(label)}</text>')
        if place == highest:
            anchor = "start" if left < _WIDTH / 2 else "end"
            parts.append(f'<text x="{left:.1f}" y="12" text-anchor="{anchor}" class="note">{name}</text>')
    return _figure(title, _WIDTH, height, "".join(parts))


def _figure(title: str, width: int, height: int, content: str) -> str:
    name = escape(title)
    return (
        f"<figure><figcaption>{name}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}" xmlns="http://www.w3.org/2000/svg">'
        f"{content}</svg></figure>"
    )
