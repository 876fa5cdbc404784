"""Write what is on screen to a file: the same rows, the same filter, byte for byte the same each time."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.federation.storage.whole_file import owner_only
from tui.table import Cell, Column, Table

Format = Literal["csv", "json"]
# A spreadsheet takes a cell that starts so for a formula (names and reasons are of others' making).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_csv(table: Table) -> bytes:
    """Return RFC 4180 CSV with a header of column keys; amounts without grouping, times in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow([_harmless(column, cell) for column, cell in zip(table.columns, row.cells, strict=True)])
    return out.getvalue().encode()


def as_json(table: Table) -> bytes:
    """Return a JSON array with an object per row, keyed by column."""
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, (cell.exported for cell in row.cells), strict=True)) for row in table.rows]
    return msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n"


def _harmless(column: Column[Any], cell: Cell) -> str:
    text = str(cell.exported)
    return "'" + text if not column.numeric and text.startswith(_FORMULA_STARTS) else text


def write(table: Table, kind: Format, directory: Path) -> Path:
    """Write the table as `<name>.<kind>`, numbered if that name is taken; return the path. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    data = as_csv(table) if kind == "csv" else as_json(table)
    for number in range(1, 1000):
        path = directory / (f"{table.name}.{kind}" if number == 1 else f"{table.name}-{number}.{kind}")
        try:
            with open(path, "xb", opener=owner_only) as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{directory}: too many exports named {table.name}")
