"""The matching engine: two tables and rules in, and every row in exactly one match or one break out.

Each pass takes the rows that those before it left open; what none takes is missing on the other side, or there twice.
The answer depends on what the rows say, not on their order, and with the tables exchanged it is the same, mirrored.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl

from participants.matching.by_amount import by_amount
from participants.matching.by_parts import by_parts
from participants.matching.by_reference import by_any_reference, by_reference, by_sum
from participants.matching.by_text import by_text
from participants.matching.candidates import in_order
from participants.matching.outcome import Outcome
from participants.matching.pairing import Kind, Matching, Rows, by_currency
from participants.matching.references import Integers, numbered, spelled
from participants.matching.rules import (
    ByAmount,
    ByAnyReference,
    ByParts,
    ByReference,
    BySum,
    ByText,
    Rules,
    Spelling,
    minor_units,
)
from participants.matching.table import Table


def reconcile(a: Table, b: Table, rules: Rules, *, progress: Callable[[str], None] = lambda _: None) -> Outcome:
    """Match two tables. `progress` is told what goes on."""
    with _no_collection():
        return _reconciled(a, b, rules, progress)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let nobody search for garbage meanwhile: many groups without cycles would be walked again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _reconciled(a: Table, b: Table, rules: Rules, progress: Callable[[str], None]) -> Outcome:
    matching = Matching(Rows(a), Rows(b), by_currency(minor_units(rules.materiality)))
    for rule in rules.passes:
        if matching.is_done:
            break
        progress(f"{rule.label}: {len(matching.a.open):,} and {len(matching.b.open):,} rows are open")
        match rule:
            case ByReference():
                by_reference(matching, rule)
            case BySum():
                by_sum(matching, rule)
            case ByAnyReference():
                by_any_reference(matching, rule)
            case ByAmount():
                by_amount(matching, rule)
            case ByParts():
                by_parts(matching, rule)
            case ByText():
                by_text(matching, rule)
    return Outcome(
        matching,
        missing={Kind.MISSING_IN_B: matching.a.open, Kind.MISSING_IN_A: matching.b.open},
        duplicates={Kind.DUPLICATE_IN_A: _duplicates(matching.a), Kind.DUPLICATE_IN_B: _duplicates(matching.b)},
    )


def _duplicates(rows: Rows) -> Integers:
    """Return the open rows whose reference, currency and amount another row has, all but the first if all are open.

    The other one has its counterpart already, or is itself missing on the other side.
    """
    if not len(rows.open) or not rows.table.has("reference"):
        return np.zeros(0, dtype=np.int64)
    named = rows.column("reference").is_not_null().to_numpy()
    amounts = np.unique(rows.amount[rows.open[named]])
    like = in_order(rows, np.flatnonzero(pl.Series(rows.amount).is_in(pl.Series(amounts).implode()).to_numpy()))
    references = spelled(rows.column("reference", like), Spelling.NORMAL)
    numbers, _, unknown = numbered(references, references.clear())
    is_open = np.zeros(len(rows.amount), dtype=bool)
    is_open[rows.open] = True
    frame = pl.DataFrame(
        {
            "row": like,
            "number": numbers,
            "currency": rows.currency[like],
            "amount": rows.amount[like],
            "day": rows.day[like],
            "open": is_open[like],
        }
    ).filter(pl.col.number != unknown)
    # Those with a counterpart come first, then the earliest: the first of all is no duplicate.
    ordered = frame.sort("open", "day", maintain_order=True)
    extra = ordered.filter(pl.int_range(pl.len()).over("number", "currency", "amount") > 0)
    return extra.filter("open")["row"].sort().to_numpy()
