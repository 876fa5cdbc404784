"""Statements as a table: an entry is a row, by the readers of `participants.statements`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from participants.matching.refusals import TableReason, TableRefused
from participants.matching.table import CURRENCIES, DIGITS_MAX, SCHEMA, Table, table

_READER = "participants.statements.reading"
_NO_STATEMENT = frozenset({"not_a_statement", "format_unknown"})


def read_statement_rows(path: Path, name: str, content: bytes) -> Table | None:
    """Return the entries of a file of statements; None for a file that is none. Raises TableRefused."""
    try:
        reader = importlib.import_module(_READER)
    except ModuleNotFoundError:
        return None
    refused = importlib.import_module("participants.statements.reasons").StatementRefused
    try:
        statements = reader.read(path)
    except refused as error:
        if error.reason.value in _NO_STATEMENT and not content.lstrip().startswith(b"<"):
            return None
        raise TableRefused(
            error.reason, name, line=error.place.line, column=error.place.field, detail=error.detail
        ) from error
    return statement_table(name, statements)


def statement_table(name: str, statements: Sequence[Any]) -> Table:
    """Return the entries of statements as a table. Raises TableRefused for an amount too large to compare."""
    entries = [(statement, entry) for statement in statements for entry in statement.entries]
    for _, entry in entries:
        if abs(entry.amount_minor) >= 10**DIGITS_MAX:
            detail = f"more than {DIGITS_MAX} digits"
            raise TableRefused(
                TableReason.AMOUNT_LARGE, name, line=entry.place.line, column=entry.place.field, detail=detail
            )
        if entry.currency not in CURRENCIES:
            detail = f"not an active ISO 4217 currency: {entry.currency[:16]!r}"
            raise TableRefused(
                TableReason.CURRENCY, name, line=entry.place.line, column=entry.place.field, detail=detail
            )
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
    names = ("counterparty", "counterparty_account", "counterparty_agent", "code")
    others = {other: [getattr(entry, other) for _, entry in entries] for other in names}
    return table(name, rows, pl.DataFrame(others, schema=dict.fromkeys(names, pl.String)))
