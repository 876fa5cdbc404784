"""The confirmation of an action: what it will change, and what has to be typed before its button works."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from tui.forms import Answer, Form
from tui.text import plain


class FormScreen(ModalScreen[Answer | None]):
    """Asks, and is dismissed with the answer, or None when the operator goes back."""

    BINDINGS = [  # noqa: RUF012 (Textual's own way)
        Binding("escape", "back", "Back"),
        Binding("down,pagedown", "scroll_effects(3)", show=False),
        Binding("up,pageup", "scroll_effects(-3)", show=False),
    ]

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def compose(self) -> ComposeResult:
        form = self.form
        with Vertical(id="dialog"):
            yield Static(Text(plain(form.title)), id="title")
            with VerticalScroll(id="effects", can_focus=False):
                for line in form.lines:
                    yield Static(Text(plain(line)))
            if form.ask_value_date:
                yield Input(placeholder="value date YYYY-MM-DD; empty: the next business day", id="value-date")
            if form.ask_participants:
                yield Input(placeholder="who can't pay: BICs with spaces between", id="participants")
            if form.ask_reason:
                needed = "required" if form.reason_required else "optional"
                yield Input(placeholder=f"reason ({needed})", max_length=500, id="reason")
            if form.typed_id is not None:
                yield Input(placeholder=f"type {form.typed_id} to go on", id="typed")
            yield Static("", id="objection")
            with Horizontal(id="buttons"):
                yield Button("Back", id="back")
                yield Button(form.button, id="go", variant="warning")

    def on_mount(self) -> None:
        self._check()

    @property
    def answer(self) -> Answer:
        values = {widget.id: widget.value for widget in self.query(Input)}
        return Answer(
            typed=values.get("typed", ""),
            reason=values.get("reason", ""),
            value_date=values.get("value-date", ""),
            participants=values.get("participants", ""),
        )

    @on(Input.Changed)
    def _check(self) -> None:
        objection = self.form.objection(self.answer)
        self.query_one("#objection", Static).update(Text(plain(objection or "")))
        self.query_one("#go", Button).disabled = objection is not None

    @on(Input.Submitted)
    def _next(self) -> None:
        """Enter goes to the next field, and from the last one sends a complete form."""
        fields = list(self.query(Input))
        if self.focused is not fields[-1]:
            self.focus_next(Input)
        else:
            self._go()

    @on(Button.Pressed, "#go")
    def _go(self) -> None:
        if self.form.objection(self.answer) is None:
            self.dismiss(self.answer)

    def action_scroll_effects(self, lines: int) -> None:
        """Show more of what doesn't fit: the keys go to the fields, so the text itself never has the focus."""
        self.query_one("#effects", VerticalScroll).scroll_relative(y=lines, animate=False)

    @on(Button.Pressed, "#back")
    def action_back(self) -> None:
        self.dismiss(None)
