"""The colours: two themes of our own beside Textual's, and what the tones look like in each."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

from tui.text import Tone

THEMES = (
    Theme(
        name="concordat",
        primary="#5b8def",
        secondary="#7aa2f7",
        accent="#e0af68",
        success="#73c991",
        warning="#e5b567",
        error="#e5534b",
        foreground="#d8dee9",
        background="#12161f",
        surface="#161b26",
        panel="#232b3b",
    ),
    Theme(
        name="concordat-contrast",
        primary="#00a2ff",
        accent="#ffff00",
        success="#00ff66",
        warning="#ffff00",
        error="#ff5555",
        foreground="#ffffff",
        background="#000000",
        surface="#000000",
        panel="#303030",
    ),
)

Styles = Mapping[Tone, str]


def styles(theme: Theme) -> Styles:
    """The colours of the tones in a theme."""
    return {
        Tone.PLAIN: "",
        Tone.GOOD: theme.success or "green",
        Tone.WARN: theme.warning or "yellow",
        Tone.BAD: f"bold {theme.error or 'red'}",
        Tone.DIM: "dim",
    }
