"""A table that lives: rows come, change and go, and the operator's place stays."""

from __future__ import annotations

from typing import Literal

from rich.text import Text
from textual.binding import Binding
from textual.widgets import DataTable

from tui.table import Row, Table
from tui.text import plain
from tui.themes import Styles


class _Drawn(Text):
    """The first cell of a row: it knows the row's key, for DataTable sorts by what is in the cells."""

    row_key: str = ""


class LiveTable(DataTable[Text]):
    """Shows one `Table` after another. Rows are matched by key, so that cursor and scroll stay where they are."""

    BINDINGS = [  # noqa: RUF012 (Textual's own way)
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g", "scroll_top", show=False),
        Binding("G", "scroll_bottom", show=False),
    ]

    def __init__(self, *, id: str, fixed: int = 1, still: bool = False) -> None:  # noqa: A002 (Textual's own name)
        """`fixed` columns stay while the others scroll; a `still` table has no cursor."""
        super().__init__(id=id, cursor_type="row", zebra_stripes=True, fixed_columns=fixed, show_cursor=not still)
        self.can_focus = not still
        self.table: Table | None = None
        self.placed_key: str | None = None
        """The row where the console put the cursor; on another one, it was the operator who moved it."""
        self._rows: dict[str, Row] = {}
        self._styles: Styles = {}

    @property
    def cursor_key(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.is_valid_row_index(self.cursor_row):
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def show(self, table: Table, styles: Styles, *, cursor: str | None = None) -> None:
        """Bring the rows up to date: change, add, remove, reorder.

        The cursor stays on its row, or goes to `cursor` unless the operator has just moved it.
        """
        if self._styles != styles:
            self._rows, self._styles = {}, styles
            self.clear(columns=True)
        if [key.value for key in self.columns] != [column.key for column in table.columns]:
            self._rows = {}
            self.clear(columns=True)
            for column in table.columns:
                self.add_column(Text(column.title, justify="right" if column.numeric else "left"), key=column.key)
        by_operator = self.placed_key is not None and self.cursor_key not in (None, self.placed_key)
        destination = self.cursor_key if by_operator or cursor is None else cursor
        offset = self.cursor_row - int(self.scroll_y)
        self._upsert(table)
        self.table = table
        if destination in self._rows:
            self._restore(self.get_row_index(destination), offset)
        if not by_operator:
            self.placed_key = self.cursor_key

    def _upsert(self, table: Table) -> None:
        rows = {row.key: row for row in table.rows}
        for key in self._rows.keys() - rows.keys():
            self.remove_row(key)
        for key, row in rows.items():
            old = self._rows.get(key)
            if old is None:
                self.add_row(*(self._drawn(table, row, index) for index in range(len(row.cells))), key=key)
            elif old != row:
                for index, column in enumerate(table.columns):
                    if old.cells[index] != row.cells[index]:
                        self.update_cell(key, column.key, self._drawn(table, row, index), update_width=True)
        drawn = [key for key in self._rows if key in rows] + [key for key in rows if key not in self._rows]
        self._rows = rows
        if drawn != list(rows):
            order = {key: index for index, key in enumerate(rows)}
            self.sort(table.columns[0].key, key=lambda cell: order[cell.row_key])

    def _restore(self, row: int, offset: int) -> None:
        if row != self.cursor_row:
            self.move_cursor(row=row, scroll=False)
            self.scroll_to(y=max(0, row - offset), animate=False)

    def _drawn(self, table: Table, row: Row, index: int) -> Text:
        cell = row.cells[index]
        justify: Literal["left", "right"] = "right" if table.columns[index].numeric else "left"
        # A newer coordinator may use a word where this one knows none: whatever it says is shown, not sent.
        shown = plain(cell.text)
        if index:
            return Text(shown, style=self._styles[cell.tone], justify=justify, no_wrap=True)
        first = _Drawn(shown, style=self._styles[cell.tone], justify=justify, no_wrap=True)
        first.row_key = row.key
        return first
