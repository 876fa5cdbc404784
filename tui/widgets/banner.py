"""The first line of the screen."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from tui.text import Tone


class Banner(Horizontal):
    """The first line: which environment this is (word and colour), who operates it, and how fresh the screen is."""

    def __init__(self, environment: str, coordinator: str) -> None:
        super().__init__()
        self.environment = environment
        self.coordinator = coordinator

    def compose(self) -> ComposeResult:
        kind = environment_kind(self.environment)
        yield Static(f" {self.environment.upper()} ", id="environment", classes=kind, markup=False)
        yield Static(f" {self.coordinator}", id="who", markup=False)
        yield Static("", id="freshness", markup=False)

    def show_operator(self, text: str) -> None:
        self.query_one("#who", Static).update(Text(f" {text} · {self.coordinator}", no_wrap=True))

    def show_freshness(self, text: str, tone: Tone) -> None:
        widget = self.query_one("#freshness", Static)
        widget.update(Text(f" {text} ", no_wrap=True, overflow="ellipsis"))
        if not widget.has_class(tone.value):
            widget.set_classes(tone.value)
        self.set_class(tone is Tone.BAD, "stale")


def environment_kind(environment: str) -> str:
    """Sort an environment by how careful one has to be in it."""
    name = environment.casefold()
    if name.startswith(("prod", "live")):
        return "production"
    return "rehearsal" if name.startswith(("demo", "train", "dev", "local")) else "test"
