"""Two files of a million payments compared in four passes, files read included, beside plain polars code for the same.

Of A's rows 90 % are in B as they are, 4 % there have no reference and the next day's value date, 2 % no reference and a
fee less, 0.5 % another amount, 2 % come in two to five parts, and the others are missing; B has half a percent more of
its own. Both do four passes: equal rows, the same reference with another amount, sums by reference, and the nearest
within 5.00 and two days on the same account, each the other's best; and both must find the same. The peer is what
somebody would write in an afternoon: it reads amounts as floats, columns as what they seem to be, and refuses nothing.

They take turns in one process; a row is the median of wall time, the note has processor time and the most memory.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import psutil

from participants.matching.engine import reconcile
from participants.matching.pairing import Kind
from participants.matching.reading import read_tables
from participants.matching.rules import Rules, default_rules
from tests.benchmarks.meters import forget_memory_peak, memory_peak_mib
from tests.benchmarks.rows import Row, skipped

ROWS = int(os.environ.get("CONCORDAT_BENCH_ROWS", "1000000"))
TURNS = 5
SEED = 13
FOUR_PASSES = msgspec.convert(
    {
        "passes": [
            {"by": "reference"},
            {"by": "sum"},
            {"by": "amount", "within": {"EUR": "5.00", "USD": "5.00"}, "days": 2, "references": "any"},
        ]
    },
    Rules,
)


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better in seconds."""
    with tempfile.TemporaryDirectory() as directory:
        a, b = Path(directory) / "a.csv", Path(directory) / "b.csv"
        write_files(a, b, ROWS)
        ways: dict[str, Callable[[], Any]] = {
            "ours": lambda: ours(a, b, FOUR_PASSES),
            "peer": lambda: plain_polars(a, b),
            "all passes": lambda: ours(a, b, default_rules()),
        }
        measured: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
        answers = {}
        for _ in range(TURNS):
            for way, work in ways.items():
                figures, answers[way] = _measured(work)
                measured[way].append(figures)
    assert answers["ours"] == answers["peer"], (answers["ours"], answers["peer"])
    what = f"{ROWS:,} rows against {ROWS * 104 // 100:,}, files read included"
    return [
        _row(f"four passes: {what}", measured["ours"], measured["peer"]),
        _row("the same, by the program's own rules", measured["all passes"], None),
        skipped("beside DuckDB and pandas", "neither is in the lock of the benchmarks"),
    ]


def _measured(work: Callable[[], Any]) -> tuple[tuple[float, float, float], Any]:
    process = psutil.Process()
    forget_memory_peak(process)
    before = memory_peak_mib(process)
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return (time.perf_counter() - wall, time.process_time() - cpu, memory_peak_mib(process) - before), answer


def _row(what: str, ours: list[tuple[float, float, float]], peer: list[tuple[float, float, float]] | None) -> Row:
    wall, cpu, memory = (statistics.median(turn[part] for turn in ours) for part in range(3))
    note = f"CPU {cpu:.2f} s, memory +{memory:,.0f} MiB"
    if peer is not None:
        ratios = sorted(turn[1] / other[1] for turn, other in zip(ours, peer, strict=True))
        cpu, memory = (statistics.median(turn[part] for turn in peer) for part in (1, 2))
        note += f"; polars {cpu:.2f} s, +{memory:,.0f} MiB; CPU ratio {ratios[0]:.2f} to {ratios[-1]:.2f}"
    return {
        "what": what,
        "ours": wall,
        "peer": None if peer is None else statistics.median(turn[0] for turn in peer),
        "peer_name": "" if peer is None else "plain polars",
        "unit": "s",
        "note": note,
    }


def ours(a: Path, b: Path, rules: Rules) -> tuple[int, int, int, int]:
    """Compare as the command does; return how many rows of A each of the four passes took."""
    outcome = reconcile(*read_tables(a, b, rules), rules)
    matches = {label: count for label, (count, _) in outcome.by_pass.items()}
    assert outcome.sums
    return (
        matches.get("reference", 0),
        outcome.by_kind.get(Kind.AMOUNT, 0),
        matches.get("sum", 0),
        matches.get("amount", 0),
    )


# --- the peer ----------------------------------------------------------------------------------------------


def plain_polars(a: Path, b: Path) -> tuple[int, int, int, int]:
    """Do the same four passes in plain polars."""
    left, right = (
        pl.read_csv(path, try_parse_dates=True)
        .with_columns((pl.col.amount * 100).round().cast(pl.Int64), pl.col.value_date.to_physical().alias("day"))
        .with_row_index("row")
        for path in (a, b)
    )
    exact = left.join(right, on=["reference", "currency", "amount"], suffix="_b").select("row", "row_b")
    left, right = _without(left, right, exact)
    single = right.filter(pl.len().over("reference") == 1)
    amount = left.join(single, on=["reference", "currency"], suffix="_b").select("row", "row_b")
    left, right = _without(left, right, amount)
    sums = right.drop_nulls("reference").group_by("reference", "currency").agg(pl.col.amount.sum(), pl.col.row)
    parts = left.join(sums, on=["reference", "currency", "amount"], suffix="_b").select("row", "row_b")
    left, right = _without(left, right, parts.explode("row_b"))
    near = 0
    for _ in range(3):
        pairs = _nearest(left, right)
        near += pairs.height
        left, right = _without(left, right, pairs)
    return exact.height, amount.height, parts.height, near


def _nearest(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
    """Return rows that are each other's nearest, by buckets of amounts."""
    key = pl.col.amount // 500
    buckets = pl.concat([right.with_columns((key + step).alias("bucket")) for step in (-1, 0, 1)])
    pairs = (
        left.with_columns(key.alias("bucket"))
        .join(buckets, on=["account", "currency", "bucket"], suffix="_b")
        .with_columns(
            (pl.col.amount - pl.col.amount_b).abs().alias("apart"), (pl.col.day - pl.col.day_b).abs().alias("days")
        )
        .filter((pl.col.apart <= 500) & (pl.col.days <= 2))
        .sort("apart", "days", "row", "row_b")
    )
    best_a, best_b = (pairs.unique(side, keep="first", maintain_order=True) for side in ("row", "row_b"))
    return best_a.join(best_b, on=["row", "row_b"]).select("row", "row_b")


def _without(left: pl.DataFrame, right: pl.DataFrame, pairs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return left.join(pairs, on="row", how="anti"), right.join(pairs, left_on="row", right_on="row_b", how="anti")


# --- the files ---------------------------------------------------------------------------------------------


def write_files(a: Path, b: Path, rows: int) -> None:
    """Write two files of payments that differ as the page says."""
    draw = random.Random(SEED)
    ours_rows, theirs = [], []
    for number in range(rows):
        reference, amount, day = f"R{number:09}", draw.randrange(10_000, 100_000_000), draw.randrange(1, 27)
        rest = f"{'EUR' if number % 5 else 'USD'},2026-11-{day:02},ACC{draw.randrange(20_000):05}"
        ours_rows.append(_line(reference, amount, rest))
        fate = draw.random()
        if fate < 0.90:
            theirs.append(_line(reference, amount, rest))
        elif fate < 0.94:
            theirs.append(_line("", amount, rest.replace(f"-{day:02},", f"-{day + 1:02},")))
        elif fate < 0.96:
            theirs.append(_line("", amount - draw.randrange(1, 400), rest))
        elif fate < 0.965:
            theirs.append(_line(reference, amount + draw.randrange(1, 10_000), rest))
        elif fate < 0.985:
            cuts = sorted(draw.sample(range(1, amount), draw.randrange(1, 5)))
            theirs += [
                _line(reference, last - first, rest) for first, last in zip([0, *cuts], [*cuts, amount], strict=True)
            ]
    for number in range(rows // 200):
        account = f"ACC{draw.randrange(20_000):05}"
        theirs.append(_line(f"X{number:09}", draw.randrange(10_000, 100_000_000), f"EUR,2026-11-27,{account}"))
    draw.shuffle(theirs)
    for path, lines in ((a, ours_rows), (b, theirs)):
        path.write_text("reference,amount,currency,value_date,account\n" + "".join(lines))


def _line(reference: str, amount: int, rest: str) -> str:
    return f"{reference},{amount // 100}.{amount % 100:02},{rest}\n"
