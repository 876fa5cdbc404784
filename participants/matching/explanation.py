"""Breaks in words and as documents: the rows, by how much they differ, and why; and the figures of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from gateway.federation.money import format_minor
from participants.matching.columns import day, units
from participants.matching.outcome import Break, Outcome, Sums
from participants.matching.pairing import DIFFERENCES, Kind, Rows
from participants.matching.table import CURRENCIES

Document = dict[str, Any]


class Explanation:
    """Says of some breaks of an outcome what they are; their rows are read at once."""

    def __init__(self, outcome: Outcome, breaks: Sequence[Break]) -> None:
        self._outcome = outcome
        self._a = _documents(outcome.matching.a, (row for item in breaks for row in item.a))
        self._b = _documents(outcome.matching.b, (row for item in breaks for row in item.b))
        self._known_in_a = _known(outcome.matching.a, self._b.values())
        self._known_in_b = _known(outcome.matching.b, self._a.values())

    def document(self, item: Break) -> Document:
        """Return a break as a JSON object."""
        a, b = self.rows(item)
        answer: Document = {"kind": item.kind.value, "a": a[0] if a else None, "b": b[0] if b else None}
        answer["reference"] = self.reference(item)
        answer["why"] = self.why(item)
        if (difference := self.difference(item)) is not None:
            answer["difference"] = units(*difference)
        answer |= {name: rows[1:] for name, rows in (("more_a", a), ("more_b", b)) if len(rows) > 1}
        if item.label:
            answer["pass"] = item.label
        return answer

    def rows(self, item: Break) -> tuple[list[Document], list[Document]]:
        """Return the rows of a break as documents: those of A and those of B."""
        return [self._a[row] for row in item.a], [self._b[row] for row in item.b]

    def reference(self, item: Break) -> str | None:
        """Return the reference of a break: A's, or B's if A has none."""
        return next((row["reference"] for rows in self.rows(item) for row in rows if row["reference"]), None)

    def difference(self, item: Break) -> tuple[int, str] | None:
        """Return how many minor units A has more than B by a break, and of which currency; None of two currencies."""
        matching = self._outcome.matching
        codes = {
            int(rows.currency[row]) for rows, places in ((matching.a, item.a), (matching.b, item.b)) for row in places
        }
        if len(codes) > 1:
            return None
        amount = sum(int(matching.a.amount[row]) for row in item.a) - sum(int(matching.b.amount[row]) for row in item.b)
        return amount, CURRENCIES[codes.pop()]

    def why(self, item: Break) -> str:
        """Say in a sentence what breaks."""
        a, b = self.rows(item)
        match item.kind:
            case Kind.MISSING_IN_B:
                return _why_missing(a[0], "A", "B", self._known_in_b)
            case Kind.MISSING_IN_A:
                return _why_missing(b[0], "B", "A", self._known_in_a)
            case Kind.DUPLICATE_IN_A:
                return "A has this reference, currency and amount more often than B"
            case Kind.DUPLICATE_IN_B:
                return "B has this reference, currency and amount more often than A"
        if len(a) > 1 or len(b) > 1:
            return self._why_sums(item, a, b)
        row_a, row_b = np.array(item.a, dtype=np.int64), np.array(item.b, dtype=np.int64)
        matching = self._outcome.matching
        differing = [kind for kind in DIFFERENCES if matching.differs(kind, row_a, row_b, days=0)[0]]
        texts = [_CLAUSES[kind](a[0], b[0]) for kind in differing]
        how = (
            ""
            if a[0]["reference"] == b[0]["reference"]
            else f" (the references are {a[0]['reference']!r} and {b[0]['reference']!r})"
        )
        return "; ".join(texts) + how

    def _why_sums(self, item: Break, a: list[Document], b: list[Document]) -> str:
        if item.kind is Kind.VALUE_DATE:
            days = sorted(row["value_date"] for row in (*a, *b) if row["value_date"])
            span = f"with value dates from {days[0]} to {days[-1]}"
            return f"{_count(a)} in A and {_count(b)} in B have the same sum, {span}"
        currency = a[0]["currency"]
        sums = [sum(int(rows.amount[place]) for place in places) for rows, places in self._sides(item)]
        return (
            f"{_count(a)} in A {'sum' if len(a) > 1 else 'comes'} to {format_minor(sums[0], currency)} {currency},"
            f" {_count(b)} in B to {format_minor(sums[1], currency)}: {_more(sums[0] - sums[1], currency)}"
        )

    def _sides(self, item: Break) -> tuple[tuple[Rows, tuple[int, ...]], tuple[Rows, tuple[int, ...]]]:
        return (self._outcome.matching.a, item.a), (self._outcome.matching.b, item.b)


def summary(outcome: Outcome) -> Document:
    """Return the figures of a run as a JSON object."""
    matching = outcome.matching
    sides = (("a", matching.a), ("b", matching.b))
    taken = [0, 0]
    for pairs in matching.pairs:
        matches = int((pairs.codes == 0).sum())
        taken = [taken[0] + matches, taken[1] + matches]
    for group in matching.groups:
        if group.kind is None:
            taken = [taken[0] + len(group.a), taken[1] + len(group.b)]
    return {
        **{
            name: {"file": rows.table.name, "rows": len(rows.amount), "matched_rows": count}
            for (name, rows), count in zip(sides, taken, strict=True)
        },
        "matches": outcome.matches,
        "breaks": len(outcome.breaks),
        "kinds": {kind.value: count for kind, count in outcome.by_kind.items()},
        "passes": {
            label: {"matches": matches, "breaks": breaks} for label, (matches, breaks) in outcome.by_pass.items()
        },
        "currencies": {code: _sums(code, sums) for code, sums in outcome.sums.items()},
        "not_tried": matching.not_tried,
    }


def _sums(code: str, sums: Sums) -> dict[str, str]:
    return {
        "a": units(sums.a, code),
        "b": units(sums.b, code),
        "difference": units(sums.difference, code),
        "of_breaks": units(sums.of_breaks, code),
        "of_matches": units(sums.of_matches, code),
    }


# --- sentences ---------------------------------------------------------------------------------------------


def _why_missing(row: Document, here: str, there: str, known: frozenset[str]) -> str:
    if row["reference"] is None:
        return f"no row of {there} is left that fits; this one has no reference"
    if row["reference"] in known:
        return f"{there} has this reference only in rows that match others of {here}, or that don't add up with it"
    return f"{there} has no row with this reference"


def _count(rows: list[Document]) -> str:
    return "1 row" if len(rows) == 1 else f"{len(rows)} rows"


def _more(amount: int, currency: str) -> str:
    return f"{'A' if amount > 0 else 'B'} has {format_minor(abs(amount), currency)} {currency} more"


_CLAUSES: dict[Kind, Callable[[Document, Document], str]] = {
    Kind.CURRENCY: lambda a, b: f"the currency is {a['currency']} in A, {b['currency']} in B",
    Kind.AMOUNT: lambda a, b: f"the amount is {a['amount']} {a['currency']} in A, {b['amount']} {b['currency']} in B",
    Kind.VALUE_DATE: lambda a, b: f"the value date is {a['value_date']} in A, {b['value_date']} in B",
    Kind.LATE: lambda a, b: f"the cycle is {a['cycle']} in A, {b['cycle']} in B",
    Kind.STATUS: lambda a, b: f"the status is {a['status']} in A, {b['status']} in B",
}


# --- rows --------------------------------------------------------------------------------------------------


def _documents(rows: Rows, places: Iterable[int]) -> dict[int, Document]:
    chosen = sorted(set(places))
    if not chosen:
        return {}
    table = rows.table
    kept = [name for name in ("text", "account", "cycle", "status") if table.has(name)]
    frame = table.rows[chosen].select("line", "reference", "amount", "currency", "value_date", *kept)
    others = table.others[chosen].to_dicts() if table.others.width else [{}] * len(chosen)
    documents = {}
    for place, row, other in zip(chosen, frame.iter_rows(named=True), others, strict=True):
        row["amount"] = units(row["amount"], row["currency"])
        row["value_date"] = day(row["value_date"])
        documents[place] = {**row, **{name: value for name, value in other.items() if name not in row}}
    return documents


def _known(rows: Rows, others: Iterable[Document]) -> frozenset[str]:
    """Return which references of the other side's rows a table has."""
    asked = {row["reference"] for row in others if row["reference"]}
    if not asked:
        return frozenset()
    column = rows.table.rows["reference"]
    return frozenset(column.filter(column.is_in(pl.Series(sorted(asked)).implode())).unique().to_list())
