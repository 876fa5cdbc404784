"""Any two multisets are reconciled exactly, from wherever it was interrupted; any two lanes down to the leaf."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.crypto import merkle
from compliance.crypto.merkle import leaf_hash
from participants.reconciliation.difference import Comparison
from participants.reconciliation.lane_tree import Descent, Node, questions, whole
from participants.reconciliation.sets import IdSet, Words, records_of, root_of, symbol_bytes

SECRET = bytes(range(32))
ITEMS = st.lists(st.integers(0, 60), max_size=80)


def records(items: list[int]) -> Words:
    """Return a record for each number, the same for the same."""
    return records_of(hashlib.blake2b(b"%d" % item, digest_size=56).digest() + bytes(8) for item in items)


@settings(deadline=None, max_examples=150)
@given(ITEMS, ITEMS, st.randoms())
def test_any_two_multisets_are_reconciled_exactly(here: list[int], there: list[int], random) -> None:
    random.shuffle(there)
    ours, theirs = IdSet(SECRET, records(here)), IdSet(SECRET, records(there))
    comparison = Comparison(ours, theirs.summary)
    while needed := comparison.next():
        # What was heard before is needed no more; whoever asks for the same again is told the same.
        assert symbol_bytes(theirs.symbols(*needed)) == symbol_bytes(IdSet(SECRET, records(there)).symbols(*needed))
        comparison.take(symbol_bytes(theirs.symbols(*needed)))
    result = comparison.result
    assert result is not None
    only_here, only_there = Counter(here) - Counter(there), Counter(there) - Counter(here)
    assert Counter(here[place] for place in result.here.tolist()) == only_here
    known = {theirs.ids[n].tobytes(): there[place] for n, place in enumerate(theirs.places.tolist())}
    assert Counter(known[bytes(row)] for row in result.there) == only_there
    assert root_of(ours.changed(without=_at(ours, result.here), more=result.there)) == theirs.summary.root


def _at(ids: IdSet, places: np.ndarray) -> np.ndarray:
    """Return where records stand in the sorted ids."""
    return np.flatnonzero(np.isin(ids.places, places))


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 900),
    st.sets(st.integers(0, 899), max_size=20),
    st.booleans(),
)
def test_any_two_lanes_are_compared_down_to_the_payment(size: int, changed: set[int], interrupted: bool) -> None:
    changed = {number for number in changed if number < size}
    ours = [leaf_hash(b"%d" % n) for n in range(size)]
    theirs = [leaf_hash(b"-%d" % n) if n in changed else leaf for n, leaf in enumerate(ours)]
    descent = Descent(size, ours=merkle.root(ours), theirs=merkle.root(theirs))
    asked = 0
    while nodes := descent.next():
        if interrupted:
            assert descent.next() == nodes
        digests = [
            {node: _digest(leaves, node) for part in questions(nodes) for node in part} for leaves in (ours, theirs)
        ]
        descent.take(ours=digests[0], theirs=digests[1])
        asked += len(nodes)
    assert descent.numbers() == [number + 1 for number in sorted(changed)]
    assert all(descent.leaf(number) == theirs[number - 1] for number in descent.numbers())
    assert asked <= 16 * len(changed) * (whole(size).level // 4 + 1)


def _digest(leaves: list[bytes], node: Node) -> bytes:
    after, through = node.range(len(leaves))
    return merkle.root(leaves[after:through])


def test_a_thousand_differences_among_ten_thousand() -> None:
    rows = np.frombuffer(np.random.default_rng(5).bytes(64 * 11_000), np.uint64).reshape(-1, 8)
    ours, theirs = IdSet(SECRET, rows[:10_000]), IdSet(SECRET, rows[500:10_500])
    comparison = Comparison(ours, theirs.summary)
    while needed := comparison.next():
        comparison.take(symbol_bytes(theirs.symbols(*needed)))
    assert comparison.result is not None
    assert sorted(comparison.result.here.tolist()) == list(range(500))
    assert len(comparison.result.there) == 500
    assert comparison.heard < 2_000
