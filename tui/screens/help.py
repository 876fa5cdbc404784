"""The keys, from the registry of actions: what is locked isn't listed."""

from __future__ import annotations

from rich.table import Table
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.actions import ACTIONS, unlocked

_SHOWN = {
    "space": "space",
    "slash": "/",
    "question_mark": "?",
    "right_square_bracket": "]",
    "left_square_bracket": "[",
}


def key_name(key: str) -> str:
    """The key as it stands on the keyboard."""
    return _SHOWN.get(key, key)


class HelpScreen(ModalScreen[None]):
    """Lists the actions; any of escape, q and ? closes it."""

    BINDINGS = [("escape,q,question_mark", "dismiss", "Close")]  # noqa: RUF012 (Textual's own way)

    def __init__(self, *, operate: bool) -> None:
        super().__init__()
        self.operate = operate

    def compose(self) -> ComposeResult:
        keys = Table.grid(padding=(0, 2))
        for action in ACTIONS:
            if unlocked(action, operate=self.operate):
                keys.add_row(key_name(action.key), action.label, action.help)
        keys.add_row("enter", "Choose", "On a cycle: show its progress")
        keys.add_row("ctrl+p", "Palette", "Find an action by its name; change the theme")
        keys.add_row("j k g G", "Move", "Down, up, first, last row; arrows and mouse work too")
        with VerticalScroll(id="help"):
            mode = "Operator keys are on." if self.operate else "Read only: start with --operate to act."
            yield Static(f"Keys. {mode}\n", markup=False)
            yield Static(keys)
