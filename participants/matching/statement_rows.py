"""Statements as a table: an entry is a row, by the readers of `participants.statements`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from participants.matching.refusals import TableReason, TableRefused
from participants.matching.table import CURRENCIES, DIGITS_MAX, SCHEMA, Table, table
from participants.statements.reading import read
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Statement

# A field of MT940 at the beginning of a line, a block of its envelope, or the first record of BAI2.
_STATEMENT = re.compile(rb"^\s*\{[1-4]:|^\s*:?(?:20|25|28C?|60F|61|94[02]):|\A\s*\d\d,", re.MULTILINE)
_HEAD_BYTES = 1 << 16
_OTHERS = ("counterparty", "counterparty_account", "counterparty_agent", "code")


def looks_like_statement(content: bytes) -> bool:
    """Tell whether text is a statement of MT940, MT942 or BAI2. A statement in CSV is read as any CSV."""
    return _STATEMENT.search(content[:_HEAD_BYTES]) is not None


def read_statements(name: str, content: bytes) -> Table:
    """Return the entries of a file of statements. Raises TableRefused."""
    try:
        return statement_table(name, read(content))
    except StatementRefused as error:
        place = error.place
        raise TableRefused(error.reason, name, line=place.line, column=place.field, detail=error.detail) from error


def statement_table(name: str, statements: Sequence[Statement]) -> Table:
    """Return the entries of statements as a table. Raises TableRefused for an amount too large to compare."""
    entries = [(statement, entry) for statement in statements for entry in statement.entries]
    for _, entry in entries:
        if entry.currency not in CURRENCIES or abs(entry.amount_minor) >= 10**DIGITS_MAX:
            is_known = entry.currency in CURRENCIES
            reason = TableReason.AMOUNT_LARGE if is_known else TableReason.CURRENCY
            detail = (
                f"more than {DIGITS_MAX} digits" if is_known else f"not an active currency: {entry.currency[:16]!r}"
            )
            raise TableRefused(reason, name, line=entry.place.line, column=entry.place.field, detail=detail)
    columns = {
        "line": [entry.place.line for _, entry in entries],
        "reference": [entry.reference for _, entry in entries],
        "amount": [entry.amount_minor for _, entry in entries],
        "currency": [entry.currency for _, entry in entries],
        "value_date": [entry.value_date or entry.booking_date for _, entry in entries],
        "text": [entry.text for _, entry in entries],
        "account": [statement.account for statement, _ in entries],
        "status": [entry.status for _, entry in entries],
        "references": [list(entry.references.values()) for _, entry in entries],
    }
    rows = pl.DataFrame(columns, schema={name: SCHEMA[name] for name in columns})
    others = {other: [getattr(entry, other) for _, entry in entries] for other in _OTHERS}
    return table(name, rows, pl.DataFrame(others, schema=dict.fromkeys(_OTHERS, pl.String)), statuses="statement")
