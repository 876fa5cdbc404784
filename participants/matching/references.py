"""References of two tables as numbers: equal texts have equal numbers, and only they."""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt
import polars as pl

from participants.matching.rules import Spelling

Integers = npt.NDArray[np.int64]


def numbered(a: pl.Series, b: pl.Series) -> tuple[Integers, Integers, int]:
    """Return a number for each text of both sides, from 0, and how many there are, which is the number of null.

    Texts are sorted by a hash, which is faster than any join of texts, and then compared. The hash has a seed of this
    run's own, so that nobody can make texts that collide; if some do, another seed is taken. The numbers depend on it.
    """
    texts = pl.concat([a, b], rechunk=True)
    if texts.null_count():
        places = texts.is_not_null().arg_true().to_numpy()
        known, count = _numbers(texts.drop_nulls())
        numbers = np.full(len(texts), count, dtype=np.int64)
        numbers[places] = known
    else:
        numbers, count = _numbers(texts)
    return numbers[: len(a)], numbers[len(a) :], count


def _numbers(texts: pl.Series) -> tuple[Integers, int]:
    if not len(texts):
        return np.zeros(0, dtype=np.int64), 0
    while True:
        hashes = texts.hash(seed=secrets.randbits(63)).to_numpy()
        order = np.argsort(hashes)
        ordered = hashes[order]
        first = np.empty(len(ordered), dtype=bool)
        first[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
        ranks = np.cumsum(first) - 1
        numbers = np.empty(len(ordered), dtype=np.int64)
        numbers[order] = ranks
        firsts = order[first]
        others = ~first
        if (texts.gather(order[others]) == texts.gather(firsts[ranks[others]])).all():
            return numbers, len(firsts)


def spelled(references: pl.Series, spelling: Spelling) -> pl.Series:
    """Return references in the spelling that they are compared in; what nothing is left of is null."""
    if spelling is Spelling.EXACT:
        return references
    return (
        references.str.normalize("NFC")
        .str.to_uppercase()
        .str.replace_all(r"\s+", "")
        .str.strip_chars_start("0")
        .replace("", None)
    )
