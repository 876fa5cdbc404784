"""A result as one hash: every bank proves its own lines by it, and learns nothing of the others'."""

from __future__ import annotations

from itertools import combinations

import pytest
from msgspec.structs import replace

from compliance.crypto import canonical, dsse, merkle
from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import SigningKey
from compliance.cycle.commitment import LEAVES_MIN, Commitment, CommittedPosition, Leaf, ProvenLeaf, commit, is_proven
from compliance.statements import CarriedOver, CurrencyResult, IncludedStatement, NetPosition, NettingResult
from gateway.federation.http.peers import ANSWER_BYTES_MAX
from participants.cycle.results import PROOF_BYTES_MAX

KEY = SigningKey.generate()
BANKS = A, B, C, D = "ALFADEFF", "BETAFRPP", "DELTESMM", "GAMAITRR"


def result(banks: tuple[str, ...] = BANKS, **changes: object) -> NettingResult:
    """Every pair in EUR settles but the last, which is carried over."""
    *included, carried = combinations(banks, 2)
    fields: dict[str, object] = {
        "cycle": "2026-01-05-01",
        "value_date": "2026-01-05",
        "rulebook": "0" * 64,
        "statements": tuple(
            IncludedStatement(pair=pair, currency="EUR", sha256=canonical.digest("/".join(pair).encode()))
            for pair in included
        ),
        "results": (
            CurrencyResult(
                currency="EUR",
                obligations=1,
                gross_minor="9",
                settlement_minor="3",
                positions=tuple(
                    NetPosition(participant=bank, receives_minor="9", pays_minor="9", net_minor="0") for bank in banks
                ),
            ),
        ),
        "carried_over": (CarriedOver(pair=carried, currency="EUR", reason="break"),),
    }
    return NettingResult(**{**fields, **changes})


def signed(document: NettingResult, key: SigningKey = KEY) -> Envelope:
    return dsse.sign(document, key)


@pytest.fixture(scope="module")
def commitment() -> Commitment:
    return commit(signed(result()))


def test_the_same_signed_result_gives_the_same_root_and_any_other_another(commitment: Commitment) -> None:
    assert commit(signed(result())).document == commitment.document
    assert commitment.document.result == canonical.digest(canonical.encode(result()))
    assert commitment.document.root == merkle.root(commitment.hashes).hex()
    roots = {
        commit(envelope).document.root
        for envelope in (
            signed(result()),
            signed(result(), SigningKey.generate()),
            signed(result(carried_over=())),
            signed(result(edition=2, supersedes="0" * 64)),
        )
    }
    assert len(roots) == 4


@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_is_shown_its_own_lines_and_each_is_proven(commitment: Commitment, bank: str) -> None:
    shown = commitment.shown_to(bank)
    assert all(bank in proven.line.about and is_proven(proven, commitment.document) for proven in shown)
    assert len(shown) == 4, "three pairs and a position"
    assert {proven.line.lane for proven in shown if proven.line.lane} == {
        ("EUR", *sorted((bank, other))) for other in BANKS if other != bank
    }


def test_a_pair_is_one_leaf_for_both_its_banks(commitment: Commitment) -> None:
    def of(bank: str) -> dict[object, ProvenLeaf]:
        return {proven.line.lane: proven for proven in commitment.shown_to(bank)}

    assert of(A)["EUR", A, B] == of(B)["EUR", A, B]
    assert of(C)["EUR", C, D] == of(D)["EUR", C, D]


def test_a_whole_view_is_every_line_once(commitment: Commitment) -> None:
    lines = [proven.line for proven in commitment.shown_to(None)]
    assert len(lines) == len(set(lines)) == 6 + 4
    assert commitment.shown_to("NOBODYXX") == ()


def test_what_was_altered_isn_t_proven(commitment: Commitment) -> None:
    first, second, *_ = commitment.shown_to(A)
    other = canonical.encode(replace(first.line, nonce="0" * 64)).decode()
    for forged in (
        replace(first, leaf=other),
        replace(first, leaf=second.leaf),
        replace(first, index=first.index ^ 1),
        replace(first, index=commitment.document.leaves + first.index),
        replace(first, path=first.path[:-1]),
        replace(first, path=(*first.path, "0" * 64)),
        replace(first, path=("0" * 64, *first.path[1:])),
    ):
        assert not is_proven(forged, commitment.document)
    assert not is_proven(first, replace(commitment.document, root="0" * 64))
    assert not is_proven(first, replace(commitment.document, leaves=2 * commitment.document.leaves))


def test_the_proof_of_a_bank_among_two_thousand_is_read(commitment: Commitment) -> None:
    """In five currencies: ten million pairs, in a tree of 24 levels."""
    deep = replace(commitment.shown_to(A)[0], index=2**24 - 1, path=("0" * 64,) * 24)
    size = len(canonical.encode(deep)) + 1
    assert ANSWER_BYTES_MAX < 5 * 2_000 * size < PROOF_BYTES_MAX


def test_an_inner_node_is_no_leaf(commitment: Commitment) -> None:
    node = merkle.node_hash(*commitment.hashes[:2]).hex()
    assert node not in {one.hex() for one in commitment.hashes}
    assert all(one.line.hash().hex() != node for one in commitment.shown_to(None))


def test_who_guesses_another_bank_s_line_can_t_tell_whether_it_is_right(commitment: Commitment) -> None:
    """All that A knows: its own leaves with their nonces, the result's digest, and everything in C's position."""
    known = {one.hex() for one in commitment.hashes}
    guess = CommittedPosition(currency="EUR", participant=C, receives_minor="9", pays_minor="9", net_minor="0")
    nonces = ["0" * 64, commitment.document.result, *(one.line.nonce for one in commitment.shown_to(A))]
    assert all(Leaf(nonce=nonce, position=guess).hash().hex() not in known for nonce in nonces)
    unsigned = Envelope(signed(result()).payload, signed(result()).payloadType, ())
    by_payload_alone = {one.line.nonce for one in commit(unsigned).shown_to(None)}
    assert by_payload_alone.isdisjoint(one.line.nonce for one in commitment.shown_to(None))


def test_the_size_doesn_t_tell_what_is_in_it() -> None:
    sizes = {
        commit(signed(document)).document.leaves
        for document in (
            result(BANKS[:2]),
            result(BANKS[:3]),
            result(),
            result(carried_over=()),
            result(statements=(), results=(), carried_over=()),
        )
    }
    assert sizes == {LEAVES_MIN}


def test_places_follow_hashes_not_names(commitment: Commitment) -> None:
    assert list(commitment.hashes) == sorted(commitment.hashes)
    assert [merkle.leaf_hash(leaf) for leaf in commitment.leaves.values()] == [
        commitment.hashes[at] for at in commitment.leaves
    ]
