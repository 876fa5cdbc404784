"""The dialog: what doesn't fit on a small screen can be read by keys, and nothing is sent before it is complete."""

from __future__ import annotations

from textual.app import App
from textual.containers import VerticalScroll
from textual.widgets import Button, Input

from tui.forms import Answer, Form
from tui.screens.form import FormScreen

FORM = Form("Confirm", tuple(f"line {number}" for number in range(20)), "Confirm", typed_id="c-1", ask_reason=True)


async def test_arrows_scroll_the_numbers_while_a_field_has_the_focus() -> None:
    async with App[None]().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(FormScreen(FORM))
        await pilot.pause()
        effects = pilot.app.screen.query_one("#effects", VerticalScroll)
        assert isinstance(pilot.app.focused, Input)
        await pilot.press("down", "pagedown")
        await pilot.pause()
        assert effects.scroll_y == 6
        await pilot.press("up")
        await pilot.pause()
        assert effects.scroll_y == 3


async def test_enter_goes_through_the_fields_and_sends_only_what_is_complete() -> None:
    answers: list[Answer | None] = []
    async with App[None]().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(FormScreen(FORM), answers.append)
        await pilot.press("o", "k", "enter", "c", "-", "enter")
        assert pilot.app.screen.query_one("#go", Button).disabled
        assert answers == []
        await pilot.press("1", "enter")
        await pilot.pause()
    assert answers == [Answer(typed="c-1", reason="ok")]


async def test_escape_sends_nothing() -> None:
    answers: list[Answer | None] = []
    async with App[None]().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(FormScreen(FORM), answers.append)
        await pilot.press("escape")
        await pilot.pause()
    assert answers == [None]
