"""What a run of matching works on: the rows of two tables that no pass has taken yet, and what the passes found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from participants.matching.references import Integers
from participants.matching.table import CURRENCIES, Table

Booleans = npt.NDArray[np.bool_]
UNKNOWN_DAY = np.iinfo(np.int32).min


class Kind(StrEnum):
    """What kind of break, in order of precedence: where several things differ, the first is the kind."""

    MISSING_IN_A = "missing_in_a"
    """A row of B that has none in A."""
    MISSING_IN_B = "missing_in_b"
    """A row of A that has none in B."""
    DUPLICATE_IN_A = "duplicate_in_a"
    """A row of A whose reference, amount and currency another row of A has, and B not as often."""
    DUPLICATE_IN_B = "duplicate_in_b"
    CURRENCY = "currency"
    AMOUNT = "amount"
    VALUE_DATE = "value_date"
    LATE = "late"
    """In another cycle."""
    STATUS = "status"


DIFFERENCES = (Kind.CURRENCY, Kind.AMOUNT, Kind.VALUE_DATE, Kind.LATE, Kind.STATUS)
"""What may differ between two rows that belong together, in order of precedence."""
MATCH = 0
"""The code of a pair that is a match; `DIFFERENCES[code - 1]` is the kind of one that is a break."""


class Rows:
    """The columns of one table as arrays, and which of its rows are open."""

    def __init__(self, table: Table) -> None:
        rows = table.rows
        self.table = table
        self.amount: Integers = rows["amount"].to_numpy()
        self.currency: npt.NDArray[np.int32] = rows["currency"].to_physical().cast(pl.Int32).to_numpy()
        days = rows["value_date"].to_physical()
        self.day: npt.NDArray[np.int32] = (days.fill_null(UNKNOWN_DAY) if days.null_count() else days).to_numpy()
        self.open: Integers = np.arange(rows.height, dtype=np.int64)

    def column(self, name: str, rows: Integers | None = None) -> pl.Series:
        """Return a column, of some rows or all that are open."""
        chosen = self.open if rows is None else rows
        column = self.table.rows[name]
        return column if len(chosen) == len(column) and rows is None else column.gather(chosen)

    def close(self, taken: Integers) -> None:
        """Take rows out of those that are open."""
        if len(taken):
            still = np.zeros(len(self.amount), dtype=bool)
            still[self.open] = True
            still[taken] = False
            self.open = np.flatnonzero(still)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of A and of B that a pass put together one to one; `codes` says which are matches, `scores` how sure."""

    label: str
    a: Integers
    b: Integers
    codes: npt.NDArray[np.int8]
    scores: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a currency that a pass put together, several on one side at least; a match where `kind` is None.

    `difference` is how many minor units those of A are more than those of B.
    """

    label: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    kind: Kind | None = None
    difference: int = 0
    score: float | None = None


@dataclass(slots=True)
class Matching:
    """Both tables, and what was found so far. `material` is from which difference on an amount counts, by currency."""

    a: Rows
    b: Rows
    material: Integers
    pairs: list[Pairs] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    alone: dict[str, set[int]] = field(default_factory=dict)
    """Which rows a pass left alone because there were too many like them: those of A, and of B the complement."""
    compared: tuple[str, ...] = ()
    """Which of cycle and status both tables have, in the same words."""

    def __post_init__(self) -> None:
        a, b = self.a.table, self.b.table
        names = ("cycle", "status") if a.statuses == b.statuses else ("cycle",)
        self.compared = tuple(name for name in names if a.has(name) and b.has(name))

    @property
    def not_tried(self) -> dict[str, int]:
        """How many rows each pass left alone, of those that left any."""
        return {label: len(rows) for label, rows in self.alone.items()}

    def leave_alone(self, label: str, a: Integers, b: Integers) -> None:
        """Take down that a pass doesn't try these rows, which stay open."""
        rows = self.alone.setdefault(label, set())
        rows.update(a.tolist())
        rows.update((~b).tolist())

    @property
    def is_done(self) -> bool:
        return not len(self.a.open) or not len(self.b.open)

    def differences(self, a: Integers, b: Integers, *, days: int) -> npt.NDArray[np.int8]:
        """Return, for rows of A and of B put together, MATCH or which difference makes them a break."""
        codes = np.zeros(len(a), dtype=np.int8)
        for code in range(len(DIFFERENCES), 0, -1):
            differing = self.differs(DIFFERENCES[code - 1], a, b, days=days)
            if differing.any():
                codes[differing] = code
        return codes

    def differs(self, kind: Kind, a: Integers, b: Integers, *, days: int) -> Booleans:
        """Tell which of the rows of A and of B put together differ in a way that counts. What isn't known doesn't."""
        side_a, side_b = self.a, self.b
        differing: Booleans
        if kind is Kind.CURRENCY:
            differing = side_a.currency[a] != side_b.currency[b]
            return differing
        if kind is Kind.AMOUNT:
            difference = np.abs(side_a.amount[a] - side_b.amount[b])
            differing = (difference > 0) & (difference >= self.material[side_a.currency[a]])
            return differing
        if kind is Kind.VALUE_DATE:
            left, right = side_a.day[a].astype(np.int64), side_b.day[b]
            differing = (np.abs(left - right) > days) & (left != UNKNOWN_DAY) & (right != UNKNOWN_DAY)
            return differing
        name = "cycle" if kind is Kind.LATE else "status"
        if name not in self.compared:
            return np.zeros(len(a), dtype=bool)
        left_text, right_text = side_a.column(name, a), side_b.column(name, b)
        if kind is Kind.STATUS:
            left_text, right_text = left_text.str.to_lowercase(), right_text.str.to_lowercase()
        return (left_text != right_text).fill_null(False).to_numpy()

    def put_together(
        self,
        label: str,
        a: Integers,
        b: Integers,
        codes: npt.NDArray[np.int8],
        scores: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Take down pairs of one row each; their rows aren't open any more."""
        if len(a):
            self.pairs.append(Pairs(label, a, b, codes, scores))
            self.a.close(a)
            self.b.close(b)

    def put_groups_together(self, groups: list[Group]) -> None:
        """Take down groups; their rows aren't open any more."""
        self.groups += groups
        self.a.close(np.array([row for group in groups for row in group.a], dtype=np.int64))
        self.b.close(np.array([row for group in groups for row in group.b], dtype=np.int64))


def mirrored(kind: Kind) -> Kind:
    """Return what a kind is called when A and B change places."""
    places = {
        Kind.MISSING_IN_A: Kind.MISSING_IN_B,
        Kind.MISSING_IN_B: Kind.MISSING_IN_A,
        Kind.DUPLICATE_IN_A: Kind.DUPLICATE_IN_B,
        Kind.DUPLICATE_IN_B: Kind.DUPLICATE_IN_A,
    }
    return places.get(kind, kind)


def by_currency(minor: dict[str, int]) -> Integers:
    """Return amounts in minor units for every currency by its code; zero where none is given."""
    return np.array([minor.get(code, 0) for code in CURRENCIES], dtype=np.int64)
