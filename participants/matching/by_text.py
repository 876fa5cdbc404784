"""The pass by text: one row to one of the same amount whose remittance is like it, or has its reference in it."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import polars as pl
from rapidfuzz import fuzz, process, utils

from participants.matching.candidates import allowed, in_order, shared_keys
from participants.matching.pairing import UNKNOWN_DAY, Matching
from participants.matching.references import Integers, spelled
from participants.matching.rules import ByText, Spelling

BLOCK_PAIRS_MAX = 250_000
"""Rows of one amount are compared if they are no more pairs than this: texts can't tell more apart."""
PAIRS_MAX = 5_000_000
REFERENCE_LENGTH_MIN = 6
"""A shorter reference may stand in a text by chance."""
ROUNDS_MAX = 16
_GAPS = re.compile(r"[^0-9a-z]+")


def by_text(matching: Matching, rule: ByText) -> None:
    """Put rows together that are each other's likest."""
    if not (matching.a.table.has("text") or matching.b.table.has("text")):
        return
    compared = 0
    for a, b in allowed(matching, rule.references):
        blocks = _blocks(matching, in_order(matching.a, a), in_order(matching.b, b))
        likest: list[tuple[int, int, float]] = []
        for block_a, block_b in blocks:
            pairs = len(block_a) * len(block_b)
            if pairs > BLOCK_PAIRS_MAX or compared + pairs > PAIRS_MAX:
                matching.leave_alone(rule.label, block_a, block_b)
                continue
            compared += pairs
            likest += _likest(matching, rule, block_a, block_b)
        rows_a, rows_b = (np.array([pair[side] for pair in likest], dtype=np.int64) for side in (0, 1))
        scores = np.array([pair[2] for pair in likest], dtype=np.float64)
        matching.put_together(rule.label, rows_a, rows_b, np.zeros(len(likest), dtype=np.int8), scores)


def _blocks(matching: Matching, a: Integers, b: Integers) -> list[tuple[Integers, Integers]]:
    """Return the rows that share currency, account and amount, smallest blocks first."""
    key_a, key_b = shared_keys(matching, a, b)
    sides = [
        pl.DataFrame({"row": rows, "key": key, "amount": side.amount[rows]})
        .group_by("key", "amount", maintain_order=True)
        .agg(pl.col.row)
        for rows, key, side in ((a, key_a, matching.a), (b, key_b, matching.b))
    ]
    joined = (
        sides[0]
        .join(sides[1], on=["key", "amount"], suffix="_b")
        .sort(pl.col.row.list.len() * pl.col.row_b.list.len(), "key", "amount")
    )
    return [
        (np.array(rows_a, dtype=np.int64), np.array(rows_b, dtype=np.int64))
        for rows_a, rows_b in joined.select("row", "row_b").iter_rows()
    ]


def _likest(matching: Matching, rule: ByText, a: Integers, b: Integers) -> list[tuple[int, int, float]]:
    """Return rows of a block that are each other's likest, with how alike they are."""
    score = _scores(matching, a, b)
    days = np.abs(matching.a.day[a].astype(np.int64)[:, None] - matching.b.day[b].astype(np.int64)[None, :])
    unknown = (matching.a.day[a] == UNKNOWN_DAY)[:, None] | (matching.b.day[b] == UNKNOWN_DAY)[None, :]
    days[unknown] = rule.days
    # Likest first, then nearest in time. What is left equal is told apart by the order of what rows say.
    worth = np.where((score >= rule.similarity) & (days <= rule.days), score * 1_000 - days, -1.0)
    likest = []
    for _ in range(ROUNDS_MAX):
        best_b, best_a = worth.argmax(axis=1), worth.argmax(axis=0)
        places = np.flatnonzero((worth.max(axis=1) >= 0) & (best_a[best_b] == np.arange(len(a))))
        if not len(places):
            break
        likest += [(int(a[at]), int(b[best_b[at]]), round(float(score[at, best_b[at]]), 1)) for at in places]
        worth[places, :] = -1.0
        worth[:, best_b[places]] = -1.0
    return likest


def _scores(matching: Matching, a: Integers, b: Integers) -> npt.NDArray[np.float64]:
    texts_a, texts_b = _texts(matching.a.column("text", a)), _texts(matching.b.column("text", b))
    score = process.cdist(texts_a, texts_b, scorer=fuzz.token_sort_ratio, dtype=np.float64)
    score[[not text for text in texts_a], :] = 0
    score[:, [not text for text in texts_b]] = 0
    for references, texts, turned in (
        (_references(matching.a.column("reference", a)), texts_b, score),
        (_references(matching.b.column("reference", b)), texts_a, score.T),
    ):
        squeezed = [_GAPS.sub("", text) for text in texts]
        for place, reference in enumerate(references):
            if len(reference) >= REFERENCE_LENGTH_MIN:
                turned[place, [reference in text for text in squeezed]] = 100
    return score


def _texts(texts: pl.Series) -> list[str]:
    return [utils.default_process(text or "") for text in texts]


def _references(references: pl.Series) -> list[str]:
    return [_GAPS.sub("", (text or "").lower()) for text in spelled(references, Spelling.NORMAL)]
