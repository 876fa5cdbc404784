"""A bank that lies while sets are compared is found out, and costs no more than an honest one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import numpy as np
import pytest

from compliance.crypto import merkle
from compliance.crypto.merkle import leaf_hash
from participants.reconciliation import kernels
from participants.reconciliation.difference import Comparison
from participants.reconciliation.faults import ComparisonFault, Fault
from participants.reconciliation.lane_tree import DIFFERING_MAX, Descent, Node, cost, questions
from participants.reconciliation.sets import SYMBOLS_MAX, IdSet, Summary, as_ids, symbol_bytes

Lie = Callable[[IdSet, int, int], bytes]
SECRET = hashlib.sha256(b"a pair and a day").digest()
ROWS = np.frombuffer(np.random.default_rng(7).bytes(64 * 3_000), np.uint64).reshape(-1, 8)


def test_an_id_is_blake2b_under_the_secret() -> None:
    ids = IdSet(SECRET, ROWS[:50])
    expected = {hashlib.blake2b(row.tobytes(), key=SECRET, digest_size=16).digest() for row in ROWS[:50]}
    assert {row.tobytes() for row in ids.ids} == expected


def test_a_check_is_siphash() -> None:
    """By the vector of its authors for the message 00 01 … 0f under the key 00 01 … 0f."""
    key = np.frombuffer(bytes(range(16)) + bytes(16), np.uint64).copy()
    first, second = np.frombuffer(bytes(range(16)), np.uint64)
    assert int(kernels.check_of(key, first, second)) == 0x3F2ACC7F57C29BDB


def test_another_secret_is_another_set() -> None:
    assert IdSet(SECRET, ROWS).summary.root != IdSet(SECRET[::-1], ROWS).summary.root


def other(**changes: object) -> tuple[IdSet, Summary]:
    theirs = IdSet(SECRET, ROWS[100:2_100])
    said = {"count": len(theirs), "root": theirs.summary.root, "bits": theirs.summary.bits, **changes}
    return theirs, Summary(**said)  # type: ignore[arg-type]


def faults(ours: IdSet, theirs: IdSet, said: Summary, lie) -> Fault:
    """Return what a lie is found out as."""
    comparison = Comparison(ours, said)
    while needed := comparison.next():
        try:
            comparison.take(lie(theirs, *needed))
        except ComparisonFault as caught:
            assert comparison.result is None
            return caught.fault
    raise AssertionError("the lie was believed")


def truth(theirs: IdSet, first: int, count: int) -> bytes:
    return symbol_bytes(theirs.symbols(first, count))


def test_who_names_another_root_is_found_out() -> None:
    ours = IdSet(SECRET, ROWS[:2_000])
    theirs, said = other(root=bytes(32))
    assert faults(ours, theirs, said, truth) == Fault.ROOT_DIFFERS


def test_who_names_another_count_is_found_out() -> None:
    ours = IdSet(SECRET, ROWS[:2_000])
    theirs, said = other(count=2_005)
    assert faults(ours, theirs, said, truth) == Fault.ROOT_DIFFERS


def test_who_hides_a_payment_of_its_own_is_found_out() -> None:
    ours = IdSet(SECRET, ROWS[:2_000])
    hiding = IdSet(SECRET, ROWS[100:2_099])
    _, said = other()
    assert faults(ours, hiding, said, truth) == Fault.ROOT_DIFFERS


def test_symbols_of_nothing_end() -> None:
    ours = IdSet(SECRET, ROWS[:2_000])
    theirs, said = other()
    noise = np.random.default_rng(8)
    assert faults(ours, theirs, said, lambda _, first, count: noise.bytes(24 * count)) == Fault.TOO_MANY_DIFFERENCES


@pytest.mark.parametrize("data", [b"", b"\0" * 23, b"\0" * 24 * 5])
def test_other_symbols_than_were_asked_for_are_refused(data: bytes) -> None:
    ours = IdSet(SECRET, ROWS[:2_000])
    theirs, said = other()
    assert faults(ours, theirs, said, lambda *_: data) == Fault.SYMBOLS_MALFORMED


def test_a_distance_made_up_asks_for_no_more_symbols_than_there_are() -> None:
    far = np.full(64, 2**40)
    comparison = Comparison(IdSet(SECRET, ROWS[:2_000]), Summary(count=2**20, root=bytes(32), bits=far))
    needed = comparison.next()
    assert needed is not None
    assert sum(needed) <= SYMBOLS_MAX


def test_taking_apart_ends_whatever_somebody_wrote() -> None:
    """Each symbol is an id alone, again and again: taken out of one it comes back in another."""
    key = np.frombuffer(SECRET, np.uint64).copy()
    count = 20_000
    same = as_ids(hashlib.sha256(b"the same").digest()[:16])[0]
    symbols = np.tile(same, (count, 1))
    sums = np.full(count, kernels.check_of(key, same[0], same[1]), np.uint64)
    room = np.empty((count, 2), np.uint64)
    began = time.process_time()
    taken = kernels.take_apart(key, symbols, sums, room)
    assert taken <= count
    assert time.process_time() - began < 5


def test_draws_made_on_purpose_go_on() -> None:
    """The largest draw alone would leave an id in one symbol for ever."""
    ids, checks = np.ones((1, 2), np.uint64), np.full(1, np.uint64(2**64 - 1))
    inverse = np.uint64(pow(0xDA942042E4DD58B5, -1, 2**64))
    draws, places = checks * inverse, np.zeros(1, np.uint64)
    symbols, sums = np.zeros((100, 2), np.uint64), np.zeros(100, np.uint64)
    kernels.extend(ids, checks, draws, places, 0, symbols, sums)
    assert symbols[0, 0] == 1
    assert places[0] >= 100


# --- lanes -----------------------------------------------------------------------------------------------------


LEAVES = [leaf_hash(b"%d" % n) for n in range(300)]
THEIRS = [leaf_hash(b"other") if n == 77 else leaf for n, leaf in enumerate(LEAVES)]


def digest(leaves: list[bytes], node: Node) -> bytes:
    after, through = node.range(len(leaves))
    return merkle.root(leaves[after:through])


def test_who_shows_parts_of_another_tree_is_found_out() -> None:
    descent = Descent(300, ours=merkle.root(LEAVES), theirs=merkle.root(THEIRS))
    nodes = descent.next()
    ours = {node: digest(LEAVES, node) for node in nodes}
    with pytest.raises(ComparisonFault) as caught:
        descent.take(ours=ours, theirs={**ours, nodes[3]: leaf_hash(b"made up")})
    assert caught.value.fault == Fault.DIGESTS_CONTRADICT


def test_of_an_empty_lane_nothing_differs_whatever_is_said() -> None:
    descent = Descent(0, ours=merkle.EMPTY_ROOT, theirs=bytes(32))
    assert (descent.next(), descent.numbers()) == ([], [])


def test_numbers_that_are_shifted_end_the_descent() -> None:
    moved = [leaf_hash(b"moved"), *LEAVES[:-1]] * 40
    straight = LEAVES * 40
    descent = Descent(len(moved), ours=merkle.root(straight), theirs=merkle.root(moved))
    while nodes := descent.next():
        descent.take(
            ours={node: digest(straight, node) for node in nodes}, theirs={node: digest(moved, node) for node in nodes}
        )
    assert descent.is_shifted
    assert len(descent.differing) <= 16 * DIFFERING_MAX


def test_a_question_costs_a_bounded_number_of_leaves() -> None:
    nodes = [Node(13, index) for index in range(500)]
    assert [node for question in questions(nodes) for node in question] == nodes
    assert all(cost(question) <= 2**18 for question in questions(nodes))
