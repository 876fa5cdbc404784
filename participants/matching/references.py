"""References of two tables as numbers: equal texts have equal numbers, and only they."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from participants.matching.rules import Spelling

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shared:
    """Where texts stand that both sides have: `a` and `b` pair those that stand once on each.

    The others have a number each, from 0: row `several_a[k]` of A has the text of number `numbers_a[k]`.
    """

    a: Integers
    b: Integers
    several_a: Integers
    numbers_a: Integers
    several_b: Integers
    numbers_b: Integers

    @property
    def has_several(self) -> bool:
        return len(self.several_a) > 0


def shared(a: pl.Series, b: pl.Series, *, once_as_several: bool = False) -> Shared:
    """Return where the texts stand that both sides have; with `once_as_several` all of them have numbers."""
    order, sizes = _sorted(a, b)
    starts = np.cumsum(sizes) - sizes
    of_a = len(a)
    pairs = np.flatnonzero(sizes == 2)
    left, right = order[starts[pairs]], order[starts[pairs] + 1]
    is_pair = (left < of_a) != (right < of_a)
    left, right = left[is_pair], right[is_pair]
    many = sizes > 2
    if once_as_several:
        many[pairs[is_pair]] = True
        left, right = left[:0], right[:0]
    # In the order of A.
    places = np.full(of_a, -1, dtype=np.int64)
    places[np.minimum(left, right)] = np.maximum(left, right) - of_a
    paired = np.flatnonzero(places >= 0)

    members, counts = order[np.repeat(many, sizes)], sizes[many]
    numbers = np.repeat(np.arange(len(counts)), counts)
    in_a = members < of_a
    counts_a = np.bincount(numbers[in_a], minlength=len(counts))
    in_both = ((counts_a > 0) & (counts_a < counts))[numbers]
    in_a, in_b = in_a & in_both, ~in_a & in_both
    return Shared(paired, places[paired], members[in_a], numbers[in_a], members[in_b] - of_a, numbers[in_b])


def numbered(a: pl.Series, b: pl.Series) -> tuple[Integers, Integers, int]:
    """Return a number for each text of both sides, from 0, and how many there are, which is the number of null."""
    order, sizes = _sorted(a, b)
    numbers = np.full(len(a) + len(b), len(sizes), dtype=np.int64)
    numbers[order] = np.repeat(np.arange(len(sizes)), sizes)
    return numbers[: len(a)], numbers[len(a) :], len(sizes)


def _sorted(a: pl.Series, b: pl.Series) -> tuple[Integers, Integers]:
    """Return the places of all texts of both sides that aren't null, equal ones together, and how many are equal each.

    Texts are sorted by a hash, which is faster than any join of texts, and then compared. The hash has a seed of this
    run's own, so that nobody can make texts that collide; if some do, another seed is taken.
    """
    texts = pl.concat([a, b], rechunk=True)
    places: Integers | None = None
    if texts.null_count():
        places = texts.is_not_null().arg_true().to_numpy().astype(np.int64)
        texts = texts.drop_nulls()
    if not len(texts):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    while True:
        hashes = texts.hash(seed=secrets.randbits(63)).to_numpy()
        order = np.argsort(hashes)
        ordered = hashes[order]
        is_same = ordered[1:] == ordered[:-1]
        starts = np.flatnonzero(np.concatenate([[True], ~is_same]))
        sizes = np.diff(np.append(starts, len(order)))
        firsts = np.repeat(order[starts], sizes - 1)
        others = order[1:][is_same]
        if (texts.gather(others) == texts.gather(firsts)).all():
            return order if places is None else places[order], sizes


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
