"""A live table keeps the operator's place: cursor and scroll stay with their row whatever comes and goes."""

from __future__ import annotations

from textual.app import App, ComposeResult

from tui.table import Cell, Column, Table
from tui.text import Tone
from tui.widgets.live_table import LiveTable

STYLES = dict.fromkeys(Tone, "")


def a_table(*names: str, amount: str = "1.00") -> Table:
    columns = (Column("name", "Name", Cell), Column("amount", "Amount", lambda _: Cell(amount), numeric=True))
    return Table.of("t", columns, names, key=str)


class Harness(App[None]):
    def compose(self) -> ComposeResult:
        yield LiveTable(id="t")

    @property
    def table(self) -> LiveTable:
        return self.query_one(LiveTable)


def drawn(table: LiveTable) -> list[str]:
    return [str(table.get_row_at(index)[0]) for index in range(table.row_count)]


async def test_the_cursor_stays_on_its_row_when_rows_come_above_and_order_changes() -> None:
    async with Harness().run_test(size=(40, 10)) as pilot:
        table = pilot.app.query_one(LiveTable)
        table.show(a_table("c", "b", "a"), STYLES)
        table.focus()
        await pilot.press("down")
        assert table.cursor_key == "b"

        table.show(a_table("e", "d", "c", "b", "a"), STYLES)
        await pilot.pause()
        assert drawn(table) == ["e", "d", "c", "b", "a"]
        assert table.cursor_key == "b"

        table.show(a_table("a", "b", "c"), STYLES)
        await pilot.pause()
        assert drawn(table) == ["a", "b", "c"]
        assert table.cursor_key == "b"

        table.show(a_table("c", "a", "b"), STYLES)
        await pilot.pause()
        assert drawn(table) == ["c", "a", "b"]
        assert table.cursor_key == "b"


async def test_the_row_stays_at_its_height_on_screen() -> None:
    names = [f"{number:03}" for number in range(200, 100, -1)]
    async with Harness().run_test(size=(40, 10)) as pilot:
        table = pilot.app.query_one(LiveTable)
        table.show(a_table(*names), STYLES)
        table.focus()
        await pilot.press(*["down"] * 30)
        await pilot.pause()
        key, height = table.cursor_key, table.cursor_row - int(table.scroll_y)
        table.show(a_table("203", "202", "201", *names), STYLES)
        await pilot.pause()
        assert table.cursor_key == key
        assert table.cursor_row - int(table.scroll_y) == height


async def test_changed_cells_are_redrawn_in_place() -> None:
    async with Harness().run_test(size=(40, 10)) as pilot:
        table = pilot.app.query_one(LiveTable)
        table.show(a_table("a", "b"), STYLES)
        table.show(a_table("a", "b", amount="22,222.00"), STYLES)
        await pilot.pause()
        assert str(table.get_row("b")[1]) == "22,222.00"
        assert table.get_row("b")[1].justify == "right"


async def test_the_row_under_the_cursor_may_vanish() -> None:
    async with Harness().run_test(size=(40, 10)) as pilot:
        table = pilot.app.query_one(LiveTable)
        table.show(a_table("a", "b", "c"), STYLES)
        table.focus()
        await pilot.press("down", "down")
        table.show(a_table("a", "b"), STYLES)
        await pilot.pause()
        assert table.cursor_key == "b"
        table.show(a_table(), STYLES)
        await pilot.pause()
        assert table.cursor_key is None
        table.show(a_table("z"), STYLES)
        await pilot.pause()
        assert drawn(table) == ["z"]
