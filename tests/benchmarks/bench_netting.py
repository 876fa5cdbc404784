"""Plain netting of 10 million obligations, beside polars' group-by over the same columns in the same run.

Both get int16 indexes of currency, debtor and creditor and int64 amounts, and both use all cores. Both answer the same
question and the answers are compared: what everyone receives and pays in each currency, and what each pair
owes both ways in the order of currency, first and second bank. polars is asked in the ways it is quickest at: both
groupings of the multilateral question in one lazy query; pairs as three columns or packed into one key, whichever
is quicker. They take turns, in each of which everyone runs twice and the better time counts, so that nobody pays for
memory that the other has given back to the system; a row is the median, the note says how the turns' ratios vary.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from netting import figures
from netting.batch import Batch
from tests.benchmarks.rows import Row

OBLIGATIONS = 10_000_000
SIZES = ((8, 1_000), (4, 10_000))
"""Currencies, banks."""

TURNS = 5
SEED = 20


def run() -> list[Row]:
    """Return rows of {"what", "ours", "peer", "peer_name", "unit", "note"}; lower is better in milliseconds."""
    rows: list[Row] = []
    for currencies, banks in SIZES:
        batch = obligations(currencies, banks, OBLIGATIONS)
        checked = _milliseconds(partial(_again, batch))
        frame = pl.DataFrame(
            {"currency": batch.currency, "debtor": batch.debtor, "creditor": batch.creditor, "amount": batch.amount}
        )
        what = f"10 million obligations, {banks:,} banks, {currencies} currencies"
        _compare_nets(figures.multilateral(batch), _polars_nets(frame), banks)
        rows.append(_race(f"multilateral nets: {what}", batch, frame, figures.multilateral, [_polars_nets]))
        _compare_pairs(figures.bilateral(batch), _polars_pairs(frame), banks)
        _compare_pairs(figures.bilateral(batch), _polars_packed_pairs(frame), banks)
        rows.append(
            _race(
                "bilateral nets of the same, canonical order",
                batch,
                frame,
                figures.bilateral,
                [_polars_pairs, _polars_packed_pairs],
            )
        )
        rows.append(_row("  checking the same, once, when the batch is made", checked, None, "before either is timed"))
    return rows


def obligations(currencies: int, banks: int, count: int) -> Batch:
    """Return random obligations between random banks with lognormal amounts."""
    random = np.random.default_rng(SEED)
    debtor = random.integers(0, banks, count)
    creditor = (debtor + random.integers(1, banks, count)) % banks
    return Batch(
        currencies=tuple(f"C{at:02}" for at in range(currencies)),
        participants=tuple(f"B{at:05}" for at in range(banks)),
        currency=random.integers(0, currencies, count).astype(np.int16),
        debtor=debtor.astype(np.int16),
        creditor=creditor.astype(np.int16),
        amount=np.exp(random.normal(10, 2, count)).astype(np.int64) + 1,
    )


def _again(batch: Batch) -> Batch:
    return Batch(batch.currencies, batch.participants, batch.currency, batch.debtor, batch.creditor, batch.amount)


def _polars_nets(frame: pl.DataFrame) -> Any:
    lazy = frame.lazy()
    return pl.collect_all(
        [
            lazy.group_by("currency", "debtor").agg(pays=pl.col("amount").sum()),
            lazy.group_by("currency", "creditor").agg(receives=pl.col("amount").sum()),
        ]
    )


def _directed(frame: pl.DataFrame) -> pl.LazyFrame:
    forth = pl.col("debtor") < pl.col("creditor")
    return frame.lazy().select(
        "currency",
        first=pl.min_horizontal("debtor", "creditor"),
        second=pl.max_horizontal("debtor", "creditor"),
        forth=pl.when(forth).then("amount").otherwise(0),
        back=pl.when(forth).then(0).otherwise("amount"),
    )


def _polars_pairs(frame: pl.DataFrame) -> Any:
    keys = ("currency", "first", "second")
    return _directed(frame).group_by(keys).agg(pl.col("forth").sum(), pl.col("back").sum()).sort(keys).collect()


def _polars_packed_pairs(frame: pl.DataFrame) -> Any:
    currency, first, second = (pl.col(name).cast(pl.Int64) for name in ("currency", "first", "second"))
    packed = _directed(frame).select((currency * 2**32 + first * 2**16 + second).alias("key"), "forth", "back")
    summed = packed.group_by("key").agg(pl.col("forth").sum(), pl.col("back").sum()).sort("key")
    return summed.select(
        (pl.col("key") // 2**32).cast(pl.Int16).alias("currency"),
        (pl.col("key") // 2**16 % 2**16).cast(pl.Int16).alias("first"),
        (pl.col("key") % 2**16).cast(pl.Int16).alias("second"),
        "forth",
        "back",
    ).collect()


def _compare_nets(ours: figures.Nets, theirs: list[pl.DataFrame], banks: int) -> None:
    for own, frame, bank, figure in zip(
        (ours.pays, ours.receives), theirs, ("debtor", "creditor"), ("pays", "receives"), strict=True
    ):
        expected = np.zeros_like(own)
        expected[frame["currency"].to_numpy().astype(np.int64) * banks + frame[bank].to_numpy()] = frame[figure]
        assert np.array_equal(own, expected)
    assert int(ours.net.sum()) == 0


def _compare_pairs(ours: figures.Pairs, theirs: pl.DataFrame, banks: int) -> None:
    row = theirs["currency"].to_numpy().astype(np.int64) * banks + theirs["first"].to_numpy()
    assert np.array_equal(np.repeat(np.arange(len(ours.start) - 1), np.diff(ours.start)), row)
    for own, name in ((ours.second, "second"), (ours.forth, "forth"), (ours.back, "back")):
        assert np.array_equal(own, theirs[name].to_numpy())


def _race(
    what: str,
    batch: Batch,
    frame: pl.DataFrame,
    own: Callable[[Batch], object],
    peers: list[Callable[[pl.DataFrame], object]],
) -> Row:
    """Let both run by turns; the peer's time of a turn is its quickest way's."""
    ours, theirs = [], []
    for _ in range(TURNS):
        theirs.append(min(_milliseconds(partial(peer, frame)) for peer in peers for _ in range(2)))
        ours.append(min(_milliseconds(partial(own, batch)) for _ in range(2)))
    ratios = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    note = f"{statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f} in {TURNS} turns)"
    return _row(what, statistics.median(ours), statistics.median(theirs), note)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    result = work()
    took = (time.perf_counter() - started) * 1e3
    del result
    return took


def _row(what: str, ours: float, peer: float | None, note: str) -> Row:
    name = "polars group_by" if peer else ""
    return {"what": what, "ours": ours, "peer": peer, "peer_name": name, "unit": "ms", "note": note}


if __name__ == "__main__":
    for row in run():
        print(row)
