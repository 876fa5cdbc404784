"""Every match in a file of JSON lines: the pass that found it, the lines of A and of B, and what differed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from gateway.federation.money import EXPONENTS
from participants.matching.outcome import Outcome
from participants.matching.pairing import MATCH, UNKNOWN_DAY, Matching, Pairs
from participants.matching.references import Integers
from participants.matching.table import CURRENCIES

CHUNK_ROWS = 100_000


def match_lines(outcome: Outcome) -> Iterator[bytes]:
    """Yield the lines in pieces, those of certain passes first."""
    for frame in _frames(outcome):
        yield frame.write_ndjson().encode()


def _frames(outcome: Outcome) -> Iterator[pl.DataFrame]:
    for pairs in outcome.matching.pairs:
        chosen = np.flatnonzero(pairs.codes == MATCH)
        for first in range(0, len(chosen), CHUNK_ROWS):
            yield _of_pairs(outcome.matching, pairs, chosen[first : first + CHUNK_ROWS])
    groups = [group for group in outcome.matching.groups if group.kind is None]
    if groups:
        side_a, side_b = outcome.matching.a, outcome.matching.b
        line_a, line_b = side_a.table.rows["line"], side_b.table.rows["line"]
        yield _shaped(
            pl.DataFrame(
                {
                    "pass": [group.label for group in groups],
                    "a": [line_a.gather(list(group.a)).to_list() for group in groups],
                    "b": [line_b.gather(list(group.b)).to_list() for group in groups],
                    "code": [int(side_a.currency[group.a[0]]) for group in groups],
                    "reference": [side_a.table.rows["reference"][group.a[0]] for group in groups],
                    "minor": [group.difference for group in groups],
                    "days": [_span(outcome.matching, group.a, group.b) for group in groups],
                    "score": [group.score for group in groups],
                },
                schema_overrides={"reference": pl.String, "days": pl.Int64, "score": pl.Float64},
            )
        )


def _of_pairs(matching: Matching, pairs: Pairs, chosen: Integers) -> pl.DataFrame:
    a, b = pairs.a[chosen], pairs.b[chosen]
    side_a, side_b = matching.a, matching.b
    days = side_b.day[b].astype(np.int64) - side_a.day[a]
    known = (side_a.day[a] != UNKNOWN_DAY) & (side_b.day[b] != UNKNOWN_DAY)
    reference = side_a.column("reference", a)
    frame = pl.DataFrame(
        {
            "pass": pl.repeat(pairs.label, len(a), eager=True),
            "a": side_a.table.rows["line"].gather(a),
            "b": side_b.table.rows["line"].gather(b),
            "code": side_a.currency[a],
            "reference": reference.fill_null(side_b.column("reference", b)) if reference.null_count() else reference,
            "minor": side_a.amount[a] - side_b.amount[b],
            "days": pl.Series(days).set(pl.Series(~known), None),
            "score": pl.Series([None] * len(a), dtype=pl.Float64) if pairs.scores is None else pairs.scores[chosen],
        }
    )
    return _shaped(frame.with_columns(pl.col("a", "b").reshape((-1, 1)).arr.to_list()))


def _shaped(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the difference as decimal text, and the sentence that explains the match."""
    decimals = pl.Series([EXPONENTS[code] for code in CURRENCIES], dtype=pl.Int64)
    frame = frame.with_columns(
        currency=pl.Series(CURRENCIES).gather(frame["code"]),
        places=decimals.gather(frame["code"]),
        digits=pl.col.minor.abs().cast(pl.String),
    )
    digits = pl.col.digits.str.zfill(pl.col.places + 1)
    whole = digits.str.head(pl.col.digits.str.len_chars().clip(pl.col.places + 1) - pl.col.places)
    written = pl.when(pl.col.places > 0).then(whole + "." + digits.str.tail(pl.col.places)).otherwise(digits)
    frame = frame.with_columns(
        difference=pl.when(pl.col.minor < 0).then("-" + written).otherwise(written),
    )
    several = (pl.col.a.list.len() > 1) | (pl.col.b.list.len() > 1)
    why = (
        pl.format("by {}: ", pl.col("pass"))
        + pl.when(several)
        .then(pl.format("rows of A and B ({} and {}), ", pl.col.a.list.len(), pl.col.b.list.len()))
        .otherwise(pl.lit(""))
        + pl.when(pl.col.minor == 0)
        .then(pl.lit("the same amount"))
        .otherwise(pl.format("the amount differs by {} {}, which isn't material", pl.col.difference, pl.col.currency))
        + pl.when(pl.col.days.is_null())
        .then(pl.lit(", a value date isn't known"))
        .when(pl.col.days == 0)
        .then(pl.lit(" and value date"))
        .when(pl.col.days.abs() == 1)
        .then(pl.lit(", value dates 1 day apart"))
        .otherwise(pl.format(", value dates {} days apart", pl.col.days.abs()))
        + pl.when(pl.col.score.is_null()).then(pl.lit("")).otherwise(pl.format(", {} of 100 sure", pl.col.score))
    )
    return frame.select("pass", "a", "b", "reference", "currency", "difference", "days", "score", why.alias("why"))


def _span(matching: Matching, a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    """Return how many days lie between the first and the last row of a group."""
    days = [int(matching.a.day[row]) for row in a] + [int(matching.b.day[row]) for row in b]
    return None if UNKNOWN_DAY in days else max(days) - min(days)
