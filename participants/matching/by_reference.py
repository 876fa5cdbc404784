"""Passes by reference: one row to one, some to some by their sum, and by any reference that rows have in common."""

from __future__ import annotations

import numpy as np
import polars as pl

from participants.matching.pairing import MATCH, UNKNOWN_DAY, Group, Kind, Matching, Rows
from participants.matching.references import Integers, Shared, shared, spelled
from participants.matching.rules import ByAnyReference, ByReference, BySum, Spelling


def by_reference(matching: Matching, rule: ByReference) -> None:
    """Put rows together whose reference stands once on each side; of one that stands more often, equal rows first.

    What differs between two such rows is a break: they are the same payment.
    """
    references = shared(*_references(matching, rule.spelling))
    rows_a, rows_b = matching.a.open, matching.b.open
    crowds = _crowds(matching, references) if references.has_several else None
    _pair(matching, rule, rows_a[references.a], rows_b[references.b])
    if crowds is not None:
        _pair_crowds(matching, rule, *crowds)


def by_sum(matching: Matching, rule: BySum) -> None:
    """Put all open rows of a reference together whose sums are equal. One to a few with another sum is a break."""
    references = shared(*_references(matching, rule.spelling), once_as_several=True)
    if not references.has_several:
        return
    a_sums, b_sums = (
        crowd.group_by("number").agg(
            pl.col.row.sort(),
            pl.col.amount.cast(pl.Int128).sum().alias("sum"),
            pl.col.currency.min().alias("least"),
            pl.col.currency.max().alias("greatest"),
            pl.col.day.min().alias("first"),
            pl.col.day.max().alias("last"),
        )
        for crowd in _crowds(matching, references)
    )
    first, last = (pl.min_horizontal("first", "first_b"), pl.max_horizontal("last", "last_b"))
    size_a, size_b = pl.col.row.list.len(), pl.col.row_b.list.len()
    sums = (
        a_sums.join(b_sums, on="number", suffix="_b")
        .filter(
            (pl.col.least == pl.col.greatest) & (pl.col.least == pl.col.least_b) & (pl.col.least_b == pl.col.greatest_b)
        )
        .with_columns((pl.col.sum - pl.col.sum_b).alias("difference"))
        .with_columns(
            is_few=(pl.min_horizontal(size_a, size_b) == 1) & (pl.max_horizontal(size_a, size_b) <= rule.rows_max),
            is_long=(first != UNKNOWN_DAY) & (last.cast(pl.Int64) - first > rule.days),
            is_material=(pl.col.difference != 0)
            & (pl.col.difference.abs() >= pl.lit(pl.Series(matching.material)).gather("least")),
        )
        .filter(pl.col.is_few | ~(pl.col.is_long | pl.col.is_material))
    )
    label = rule.label
    columns = sums.select("row", "row_b", "difference", "is_material", "is_long").iter_rows()
    matching.put_groups_together(
        [
            Group(label, tuple(in_a), tuple(in_b), _kind(is_material, is_long), difference)
            for in_a, in_b, difference, is_material, is_long in columns
        ]
    )


def _kind(is_material: bool, is_long: bool) -> Kind | None:
    """Return what kind of break sums by reference are, None for a match."""
    if is_material:
        return Kind.AMOUNT
    return Kind.VALUE_DATE if is_long else None


def by_any_reference(matching: Matching, rule: ByAnyReference) -> None:
    """Put one row to one that has a reference in common with it and with no other."""
    if not (matching.a.table.has("references") or matching.b.table.has("references")):
        return
    a = _all_references(matching.a).rename({"row": "a"})
    b = _all_references(matching.b).rename({"row": "b"})
    # Of a reference that several rows of a side have, nobody can say which is meant.
    pairs = (
        a.filter(pl.col.reference.is_unique())
        .join(b.filter(pl.col.reference.is_unique()), on="reference")
        .select("a", "b")
        .unique()
        .filter(pl.col.a.is_unique() & pl.col.b.is_unique())
        .sort("a")
    )
    pair_a, pair_b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    codes = matching.differences(pair_a, pair_b, days=rule.days)
    # Having some reference in common proves less than having the same one: what differs stays open.
    equal = codes == MATCH
    matching.put_together(rule.label, pair_a[equal], pair_b[equal], codes[equal])


def _references(matching: Matching, spelling: Spelling) -> tuple[pl.Series, pl.Series]:
    return spelled(matching.a.column("reference"), spelling), spelled(matching.b.column("reference"), spelling)


def _crowds(matching: Matching, references: Shared) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the open rows of references that stand several times, those of A and those of B."""
    return (
        _crowd(matching.a, matching.a.open[references.several_a], references.numbers_a),
        _crowd(matching.b, matching.b.open[references.several_b], references.numbers_b),
    )


def _crowd(rows: Rows, places: Integers, numbers: Integers) -> pl.DataFrame:
    """Return rows with the numbers of their references, equal rows in an order that isn't the file's."""
    frame = pl.DataFrame(
        {
            "row": places,
            "number": numbers,
            "currency": rows.currency[places],
            "amount": rows.amount[places],
            "day": rows.day[places],
        }
    )
    told_apart = [name for name in ("cycle", "status", "text", "account") if rows.table.has(name)]
    frame = frame.with_columns(rows.column(name, places).alias(name) for name in told_apart)
    return frame.sort("number", "currency", "amount", "day", *told_apart, "row").select(
        "row", "number", "currency", "amount", "day"
    )


def _pair(matching: Matching, rule: ByReference, a: Integers, b: Integers) -> None:
    matching.put_together(rule.label, a, b, matching.differences(a, b, days=rule.days))


def _pair_crowds(matching: Matching, rule: ByReference, a: pl.DataFrame, b: pl.DataFrame) -> None:
    """Pair rows of references that stand several times: the k-th of equal ones with the k-th, then what is left."""
    for key in (["number", "currency", "amount", "day"], ["number", "currency", "amount"]):
        places_a, places_b = (side.with_columns(place=_places(side, key)) for side in (a, b))
        pairs = places_a.join(places_b, on=[*key, "place"], suffix="_b").select("row", "row_b").sort("row")
        a, b = _paired(matching, rule, pairs, a, b)
    single_a, single_b = (side.filter(pl.len().over("number") == 1) for side in (a, b))
    pairs = single_a.join(single_b, on="number", suffix="_b").select("row", "row_b").sort("row")
    _paired(matching, rule, pairs, a, b)


def _places(crowd: pl.DataFrame, key: list[str]) -> pl.Series:
    """Return the how-manieth of those with an equal key each row is; rows with equal keys follow each other."""
    places = np.arange(crowd.height)
    is_first = np.ones(crowd.height, dtype=bool)
    values = [crowd[name].to_numpy() for name in key]
    is_first[1:] = np.logical_or.reduce([value[1:] != value[:-1] for value in values])
    return pl.Series(places - np.maximum.accumulate(np.where(is_first, places, 0)))


def _paired(
    matching: Matching, rule: ByReference, pairs: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    _pair(matching, rule, pairs["row"].to_numpy(), pairs["row_b"].to_numpy())
    return a.join(pairs, on="row", how="anti", maintain_order="left"), b.join(
        pairs, left_on="row", right_on="row_b", how="anti", maintain_order="left"
    )


def _all_references(rows: Rows) -> pl.DataFrame:
    """Return every reference of every open row, in its normal spelling, with the row."""
    own = pl.DataFrame({"row": rows.open, "reference": spelled(rows.column("reference"), Spelling.NORMAL)})
    frames = [own]
    if rows.table.has("references"):
        listed = pl.DataFrame({"row": rows.open, "reference": rows.column("references")}).explode("reference")
        frames.append(listed.with_columns(spelled(listed["reference"], Spelling.NORMAL)))
    return pl.concat(frames).drop_nulls().unique()
