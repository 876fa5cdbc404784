"""A table as data: a list of columns, each with its title and its cell. Drawing, filter and export follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from tui.text import Tone, clock, decimal, money, plain

Item = TypeVar("Item")


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and what an export writes for it where that differs (None: the text)."""

    text: str
    tone: Tone = Tone.PLAIN
    value: str | int | None = None

    @property
    def exported(self) -> str | int:
        return self.text if self.value is None else self.value


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column: its name in an export, its title on screen, its cell for an item. `numeric` ones stand to the right."""

    key: str
    title: str
    cell: Callable[[Item], Cell]
    numeric: bool = False


Columns = tuple[Column[Item], ...]


@dataclass(frozen=True)
class Row:
    """A row with a key that stays the same from one snapshot to the next."""

    key: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A named table. `note` is the line under it."""

    name: str
    columns: Columns[Any] = ()
    rows: tuple[Row, ...] = ()
    note: str = ""

    @classmethod
    def of(
        cls, name: str, columns: Columns[Item], items: Iterable[Item], *, key: Callable[[Item], str], note: str = ""
    ) -> Table:
        """Return the table with a row for each item."""
        rows = tuple(Row(key(item), tuple(column.cell(item) for column in columns)) for item in items)
        return cls(name, columns, rows, note)

    def filtered(self, needle: str) -> Table:
        """Keep the rows that hold the needle in any cell, whatever its case."""
        folded = needle.strip().casefold()
        return replace(
            self, rows=tuple(row for row in self.rows if any(folded in cell.text.casefold() for cell in row.cells))
        )


# --- cells ------------------------------------------------------------------------------------------------


def text(content: str, tone: Tone = Tone.PLAIN) -> Cell:
    """Text of another's making."""
    return Cell(plain(content), tone)


def optional(content: str | None) -> Cell:
    """Text, or a dash where there is none."""
    return text(content) if content else Cell("–", Tone.DIM, "")


def amount(minor: str | int | None, currency: str, tone: Tone = Tone.PLAIN) -> Cell:
    return Cell(money(minor, currency), tone, decimal(minor, currency))


def count(number: int, tone: Tone = Tone.PLAIN) -> Cell:
    """A number; the tone is that of any but zero."""
    return Cell(str(number), tone if number else Tone.DIM, number)


def time(timestamp: str | None) -> Cell:
    """The time of day on screen, the whole instant in an export."""
    return Cell(clock(timestamp), Tone.PLAIN if timestamp else Tone.DIM, timestamp or "")
