"""Positions and attestations: the same bytes as the documents, and a tree that proves one statement by itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import EvidenceError, EvidenceReason
from compliance.crypto.keys import SigningKey
from compliance.cycle import positions
from compliance.cycle.positions import Position, PositionError
from compliance.statements import Attestation

CYCLE = "2026-11-27-01"
ROOT = "ab" * 32
BASE = Position("EUR", "AAAAXXB0", "BBBBXXB0", 1, 1, 3, 2, "500", ROOT, 4, 3, 0, "0", ROOT)

bics = st.from_regex(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?", fullmatch=True)
numbers = st.integers(0, positions.NUMBER_MAX)
totals = st.integers(0, 10**38 - 1).map(str)
roots = st.binary(min_size=32, max_size=32).map(bytes.hex)
any_position = st.builds(
    Position,
    st.from_regex(r"[A-Z]{3}", fullmatch=True),
    bics,
    bics,
    st.integers(1, 99),
    *[numbers, numbers, numbers, totals, roots] * 2,
)


@given(st.lists(any_position, max_size=5))
def test_a_position_is_the_canonical_statement(rows: list[Position]) -> None:
    statements = [positions.statement_of(CYCLE, row) for row in rows]
    encoded = [canonical.encode(statement) for statement in statements]
    assert [text.encode() for text in positions.texts(CYCLE, rows)] == encoded
    assert positions.digests(CYCLE, rows) == [hashlib.sha256(data).digest() for data in encoded]
    assert [positions.of_statement(statement) for statement in statements] == rows
    assert msgspec.json.decode(msgspec.json.encode(rows), type=list[Position]) == rows


@pytest.mark.parametrize(
    "wrong",
    [
        {"currency": "eur"},
        {"currency": 'EUR","cycle":"2026-11-27-01'},
        {"low": "AAAAXXB"},
        {"high": "BBBBXXB0\n"},
        {"low": "ＡＡＡＡXXB0"},
        {"low": "\ud800"},
        {"revision": 0},
        {"revision": 100},
        {"forth_first": -1},
        {"forth_last": 2**53},
        {"back_count": 10**15 * 99},
        {"forth_minor": "05"},
        {"forth_minor": "-5"},
        {"back_minor": ""},
        {"back_minor": "9" * 39},
        {"back_minor": "٣"},
        {"forth_root": "AB" * 32},
        {"back_root": "ab" * 31},
    ],
    ids=repr,
)
def test_what_no_statement_can_say_is_named(wrong: dict[str, Any]) -> None:
    row = msgspec.structs.replace(BASE, **wrong)
    with pytest.raises(PositionError) as caught:
        positions.digests(CYCLE, [BASE, row, row])
    assert caught.value.index == 1


def test_a_row_holds_what_it_holds() -> None:
    for rows in ([["EUR", "AAAAXXB0"]], [[*msgspec.to_builtins(BASE), 1]], [[*msgspec.to_builtins(BASE)[:4], "1"]]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(rows), type=list[Position])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"low": "BBBBXXB0"}, "alphabetical"),
        ({"low": "CCCCXXB0"}, "alphabetical"),
        ({"forth_first": 0}, "runs from"),
        ({"forth_first": 5}, "runs from"),
        ({"forth_count": 4}, "counts 4 of 3"),
        ({"forth_minor": "1"}, "amounts to 1 in 2"),
        ({"back_minor": "1"}, "amounts to 1 in 0"),
    ],
)
def test_contradictions(wrong: dict[str, Any], says: str) -> None:
    assert positions.inconsistency(BASE) is None
    assert says in str(positions.inconsistency(msgspec.structs.replace(BASE, **wrong)))


def test_order() -> None:
    usd, later = msgspec.structs.replace(BASE, currency="USD"), msgspec.structs.replace(BASE, high="CCCCXXB0")
    assert positions.first_out_of_order([]) is None
    assert positions.first_out_of_order([BASE, later, usd]) is None
    assert positions.first_out_of_order([BASE, usd, later]) == 2
    assert positions.first_out_of_order([BASE, msgspec.structs.replace(BASE, revision=2)]) == 1


def test_every_leaf_of_every_tree_is_proven_and_nothing_else() -> None:
    for size in range(1, 70):
        leaves = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
        root, paths = merkle.root(leaves), merkle.Paths(leaves)
        for index, leaf in enumerate(leaves):
            path = paths.of(index)
            assert merkle.included_root(leaf, index=index, size=size, path=path) == root
            assert merkle.included_root(leaf, index=index, size=size, path=[*path, root]) is None
            assert index == size - 1 or merkle.included_root(leaf, index=index + 1, size=size, path=path) != root
            if path:
                assert merkle.included_root(leaf, index=index, size=size, path=path[:-1]) != root
    assert merkle.included_root(leaves[0], index=-1, size=1, path=[]) is None
    for beyond in (-1, len(leaves)):
        with pytest.raises(IndexError):
            merkle.Paths(leaves).of(beyond)


def test_all_statements_of_an_attestation_are_proven_at_the_cost_of_some_roots() -> None:
    digests = [b"%032d" % number for number in range(4_096)]
    envelope = _proven().attestation
    started = time.process_time()
    positions.root_over(digests)
    root = time.process_time() - started
    proofs = positions.Proofs(envelope, digests)
    for index in range(len(digests)):
        proofs.prove(index, "")
    assert time.process_time() - started < 100 * root


KEY, OTHER = SigningKey.generate(), SigningKey.generate()


def _proven(bank: str = "AAAAXXB0", cycle: str = CYCLE) -> positions.ProvenStatement:
    rows = [msgspec.structs.replace(BASE, high=f"BBBBXXB{number}") for number in range(5)]
    digests = positions.digests(CYCLE, rows)
    attestation = Attestation(cycle=cycle, participant=bank, statements=5, root=positions.root_over(digests))
    return positions.prove(dsse.sign(attestation, KEY), digests, 3, positions.texts(CYCLE, rows)[3])


def test_a_statement_is_proven_by_itself() -> None:
    attestation, statement = positions.verify_proven(_proven(), {KEY.kid: KEY.verifying_key})
    assert statement.pair == ("AAAAXXB0", "BBBBXXB3")
    assert attestation.participant == "AAAAXXB0"


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda p: msgspec.structs.replace(p, index=2), EvidenceReason.NOT_ATTESTED),
        (lambda p: msgspec.structs.replace(p, index=5), EvidenceReason.NOT_ATTESTED),
        (lambda p: msgspec.structs.replace(p, path=p.path[:-1]), EvidenceReason.NOT_ATTESTED),
        (lambda p: msgspec.structs.replace(p, statement=p.statement.replace("500", "5")), EvidenceReason.NOT_ATTESTED),
        (lambda p: msgspec.structs.replace(p, statement=p.statement + " "), EvidenceReason.NOT_CANONICAL),
        (lambda p: msgspec.structs.replace(p, statement="{}"), EvidenceReason.SCHEMA_VIOLATION),
        (lambda _: _proven(bank="CCCCXXB0"), EvidenceReason.NOT_ATTESTED),
        (lambda _: _proven(cycle="2026-11-27-02"), EvidenceReason.NOT_ATTESTED),
        (
            lambda p: msgspec.structs.replace(p, attestation=dsse.seal(p.attestation.payload_bytes(), "text/x", KEY)),
            EvidenceReason.WRONG_PAYLOAD_TYPE,
        ),
    ],
)
def test_forged_proofs(
    forge: Callable[[positions.ProvenStatement], positions.ProvenStatement], reason: EvidenceReason
) -> None:
    with pytest.raises(EvidenceError) as caught:
        positions.verify_proven(forge(_proven()), {KEY.kid: KEY.verifying_key})
    assert caught.value.reason is reason


def test_a_proof_by_another_key() -> None:
    with pytest.raises(EvidenceError) as caught:
        positions.verify_proven(_proven(), {OTHER.kid: OTHER.verifying_key})
    assert caught.value.reason is EvidenceReason.UNKNOWN_KEY
