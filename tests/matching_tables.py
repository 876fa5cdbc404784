"""Tables of the matching engine, made in a line each, and what came of them in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from participants.matching.engine import reconcile
from participants.matching.outcome import Outcome
from participants.matching.pairing import MATCH
from participants.matching.rules import Rules, default_rules
from participants.matching.table import SCHEMA, Table, table

DAY_ONE = date(2026, 11, 2)


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A row: reference, amount in minor units, currency, and on which day after the first; or no day."""

    reference: str | None
    amount: int
    currency: str = "EUR"
    day: int | None = 0
    text: str | None = None
    account: str | None = None
    cycle: str | None = None
    status: str | None = None


def made(lines: Sequence[Line], name: str = "A") -> Table:
    """Return lines as a table; they stand in the file from line 2 on."""
    columns = {
        "line": list(range(2, len(lines) + 2)),
        "value_date": [None if line.day is None else DAY_ONE + timedelta(days=line.day) for line in lines],
        **{
            member: [getattr(line, member) for line in lines]
            for member in ("reference", "amount", "currency", "text", "account", "cycle", "status")
        },
    }
    return table(name, pl.DataFrame(columns, schema_overrides={name: SCHEMA[name] for name in columns}))


def matched(a: Sequence[Line], b: Sequence[Line], rules: Rules | None = None) -> Outcome:
    """Match lines by rules, those of the program if none are given."""
    return reconcile(made(a, "A"), made(b, "B"), rules or default_rules())


def breaks(
    outcome: Outcome, a: Sequence[Line], b: Sequence[Line]
) -> list[tuple[str, tuple[Line, ...], tuple[Line, ...]]]:
    """Return the breaks by what their rows say, in an order of its own."""
    lines = ((item.kind.value, _lines(a, item.a), _lines(b, item.b)) for item in outcome.breaks)
    return sorted(lines, key=repr)


def matches(
    outcome: Outcome, a: Sequence[Line], b: Sequence[Line]
) -> list[tuple[str, tuple[Line, ...], tuple[Line, ...]]]:
    """Return the matches by what their rows say, in an order of its own."""
    lines = [
        (group.label, _lines(a, group.a), _lines(b, group.b)) for group in outcome.matching.groups if group.kind is None
    ]
    for pairs in outcome.matching.pairs:
        for row_a, row_b, code in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.codes.tolist(), strict=True):
            if code == MATCH:
                lines.append((pairs.label, _lines(a, [row_a]), _lines(b, [row_b])))
    return sorted(lines, key=repr)


def rows_by_fate(outcome: Outcome) -> tuple[list[int], list[int]]:
    """Return every row of A, and of B, as often as it is in a match or a break."""
    in_a, in_b = [], []
    for pairs in outcome.matching.pairs:
        in_a += pairs.a[pairs.codes == MATCH].tolist()
        in_b += pairs.b[pairs.codes == MATCH].tolist()
    for item in (*outcome.breaks, *(group for group in outcome.matching.groups if group.kind is None)):
        in_a += item.a
        in_b += item.b
    return sorted(in_a), sorted(in_b)


def _lines(lines: Sequence[Line], rows: Iterable[int]) -> tuple[Line, ...]:
    return tuple(sorted((lines[row] for row in rows), key=repr))
