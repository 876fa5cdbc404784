"""What came of a run: matches, breaks, and the figures that prove that nothing is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from participants.matching.pairing import DIFFERENCES, MATCH, Kind, Matching, Rows
from participants.matching.references import Integers
from participants.matching.table import CURRENCIES

_KINDS = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Break:
    """Rows that break, by their place in their table: those of A, those of B, and the pass that put them together."""

    kind: Kind
    a: tuple[int, ...]
    b: tuple[int, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums of one currency in minor units. What A has more than B is what breaks and what matches differ by."""

    a: int
    b: int
    of_breaks: int
    of_matches: int

    @property
    def difference(self) -> int:
        return self.a - self.b


@dataclass
class Outcome:
    """All matches and breaks of a run; every row of both tables is in exactly one of them."""

    matching: Matching
    missing: Mapping[Kind, Integers]
    duplicates: Mapping[Kind, Integers]
    breaks: list[Break] = field(init=False)

    def __post_init__(self) -> None:
        self.breaks = sorted(self._breaks(), key=lambda item: (_KINDS[item.kind], item.a, item.b))

    @property
    def matches(self) -> int:
        """How many matches there are."""
        return sum(matches for matches, _ in self.by_pass.values())

    @cached_property
    def by_pass(self) -> dict[str, tuple[int, int]]:
        """How many matches and how many breaks each pass found that found any."""
        counts: dict[str, tuple[int, int]] = {}
        for pairs in self.matching.pairs:
            matches = int((pairs.codes == MATCH).sum())
            counts[pairs.label] = _plus(counts, pairs.label, matches, len(pairs.codes) - matches)
        groups = Counter((group.label, group.kind is None) for group in self.matching.groups)
        for (label, is_match), count in sorted(groups.items()):
            counts[label] = _plus(counts, label, count * is_match, count * (not is_match))
        return counts

    @cached_property
    def by_kind(self) -> dict[Kind, int]:
        """How many breaks of each kind there are, of those that there are, in order of precedence."""
        counts = Counter(item.kind for item in self.breaks)
        return {kind: counts[kind] for kind in Kind if counts[kind]}

    @cached_property
    def sums(self) -> dict[str, Sums]:
        """The sums of every currency that either table has."""
        broken_a = np.array([row for item in self.breaks for row in item.a], dtype=np.int64)
        broken_b = np.array([row for item in self.breaks for row in item.b], dtype=np.int64)
        all_a, all_b = _by_currency(self.matching.a), _by_currency(self.matching.b)
        breaks_a, breaks_b = _by_currency(self.matching.a, broken_a), _by_currency(self.matching.b, broken_b)
        tolerated = self._tolerated()
        sums = {
            code: Sums(
                all_a.get(code, 0),
                all_b.get(code, 0),
                breaks_a.get(code, 0) - breaks_b.get(code, 0),
                tolerated.get(code, 0),
            )
            for code in sorted(all_a.keys() | all_b.keys())
        }
        # Both sides are counted by themselves: a row left out, or in two places, would show here.
        for code, figures in sums.items():
            assert figures.difference == figures.of_breaks + figures.of_matches, f"{code} doesn't add up: {figures}"
        return sums

    def _breaks(self) -> Iterator[Break]:
        for pairs in self.matching.pairs:
            for place in np.flatnonzero(pairs.codes != MATCH).tolist():
                kind = DIFFERENCES[pairs.codes[place] - 1]
                yield Break(kind, (int(pairs.a[place]),), (int(pairs.b[place]),), pairs.label)
        for group in self.matching.groups:
            if group.kind is not None:
                yield Break(group.kind, group.a, group.b, group.label)
        for kinds in (self.missing, self.duplicates):
            for kind, rows in kinds.items():
                of_a = kind in (Kind.MISSING_IN_B, Kind.DUPLICATE_IN_A)
                twice = self.duplicates[Kind.DUPLICATE_IN_A if of_a else Kind.DUPLICATE_IN_B]
                chosen = rows if kinds is self.duplicates else rows[~np.isin(rows, twice)]
                for row in chosen.tolist():
                    yield Break(kind, (row,), ()) if of_a else Break(kind, (), (row,))

    def _tolerated(self) -> dict[str, int]:
        """Return by how much the amounts of matches differ, by currency."""
        side_a, side_b = self.matching.a, self.matching.b
        sums: Counter[str] = Counter()
        for pairs in self.matching.pairs:
            chosen = pairs.codes == MATCH
            difference = side_a.amount[pairs.a[chosen]] - side_b.amount[pairs.b[chosen]]
            places = np.flatnonzero(difference)
            for code, amount in zip(
                side_a.currency[pairs.a[chosen][places]].tolist(), difference[places].tolist(), strict=True
            ):
                sums[CURRENCIES[code]] += amount
        for group in self.matching.groups:
            if group.kind is None and group.difference:
                sums[CURRENCIES[side_a.currency[group.a[0]]]] += group.difference
        return dict(sums)


def _plus(counts: dict[str, tuple[int, int]], label: str, matches: int, breaks: int) -> tuple[int, int]:
    known = counts.get(label, (0, 0))
    return known[0] + matches, known[1] + breaks


def _by_currency(rows: Rows, chosen: Integers | None = None) -> dict[str, int]:
    amount, currency = rows.table.rows["amount"], rows.table.rows["currency"]
    if chosen is not None:
        amount, currency = amount.gather(chosen), currency.gather(chosen)
    # In two halves, neither of which overflows a sum of fewer than 2^31 rows.
    halves = pl.DataFrame({"currency": currency, "high": amount // 2**32, "low": amount % 2**32})
    summed = halves.group_by("currency").agg(pl.col.high.sum(), pl.col.low.sum())
    return {code: high * 2**32 + low for code, high, low in summed.iter_rows()}
