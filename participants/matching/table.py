"""A table to be compared: rows with a reference, an amount in minor units, a currency and a value date."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from gateway.federation.money import EXPONENTS

CURRENCIES = tuple(sorted(EXPONENTS))
CURRENCY = pl.Enum(CURRENCIES)
DIGITS_MAX = 18
"""An amount has fewer digits than a 64-bit integer, so that a difference of two is one as well."""

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "line": pl.Int64,
    "reference": pl.String,
    "amount": pl.Int64,
    "currency": CURRENCY,
    "value_date": pl.Date,
    "text": pl.String,
    "account": pl.String,
    "cycle": pl.String,
    "status": pl.String,
    "references": pl.List(pl.String),
}
"""The columns of a table's rows. What is null isn't known; `references` are all that a row has, if it has several."""
NEEDED = ("reference", "amount", "currency", "value_date")


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows: `rows` in the form of SCHEMA, and `others`, the columns that nothing is compared by.

    `statuses` says whose words the statuses are: those of a statement mean nothing in a file of another kind.
    """

    name: str
    rows: pl.DataFrame
    others: pl.DataFrame
    statuses: str = ""

    def has(self, column: str) -> bool:
        """Tell whether any row says something in a column."""
        return self.rows.height > 0 and self.rows[column].null_count() < self.rows.height


def table(name: str, rows: pl.DataFrame, others: pl.DataFrame | None = None, *, statuses: str = "") -> Table:
    """Return a table; columns that `rows` lacks are null."""
    whole = rows.select(
        pl.col(column) if column in rows.columns else pl.lit(None, kind).alias(column)
        for column, kind in SCHEMA.items()
    )
    return Table(name, whole, pl.DataFrame() if others is None else others, statuses)
