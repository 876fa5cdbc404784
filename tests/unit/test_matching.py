"""Matching what two banks signed."""

from __future__ import annotations

import itertools

import pytest

from compliance.cycle.matching import Attested, Match, Placement, carry_reason, in_order, match, placement_of

A, B = "ALFADEFF", "BETAFRPP"
KEY = ("EUR", A, B)


def test_pairs_are_put_in_order() -> None:
    keys = [(currency, low, high) for currency in ("USD", "EUR") for low in "CBA" for high in "FED"]
    assert list(in_order(keys, lambda key: key)) == sorted(keys)


def signed(**by_bank: str) -> list[Attested]:
    """`signed(a="x y", b="x")`: bank A signed x as its revision 1 and y as its revision 2."""
    banks = {"a": A, "b": B}
    return [
        Attested(KEY, banks[bank], revision, digest)
        for bank, digests in by_bank.items()
        for revision, digest in enumerate(digests.split(), 1)
        if digest != "-"
    ]


MATCHES = [
    (signed(a="x", b="x"), Match(KEY, "agreed", 1, sha256="x")),
    (signed(a="x", b="y"), Match(KEY, "different", 1, differed=True)),
    (signed(a="x"), Match(KEY, "missing", 1, missing_from=B)),
    (signed(b="x"), Match(KEY, "missing", 1, missing_from=A)),
    (signed(a="x z", b="y"), Match(KEY, "missing", 2, missing_from=B, differed=True)),
    (signed(a="x z", b="y z"), Match(KEY, "agreed", 2, sha256="z")),
    (signed(a="x z", b="y w"), Match(KEY, "different", 2, differed=True)),
    # B was away for revision 1 and signs revision 2 only.
    (signed(a="x z", b="- z"), Match(KEY, "agreed", 2, sha256="z")),
    (signed(a="x z", b="- y"), Match(KEY, "different", 2, differed=True)),
    # The same bytes under different revisions can't be: the revision is in the bytes. They don't match here either.
    (signed(a="x z", b="z"), Match(KEY, "missing", 2, missing_from=B, differed=True)),
]


@pytest.mark.parametrize(("attested", "expected"), MATCHES)
def test_a_pair(attested: list[Attested], expected: Match) -> None:
    for order in itertools.permutations(attested):
        assert match(order) == {KEY: expected}


def test_pairs_and_currencies_are_apart() -> None:
    other = ("JPY", A, B)
    found = match([*signed(a="x", b="x"), Attested(other, A, 1, "x")])
    assert [one.status for one in found.values()] == ["agreed", "missing"]


PLACES = [
    # revision, digest, own, theirs
    (1, "x", {}, {}, Placement.NEW),
    (1, "x", {1: "x"}, {}, Placement.REPLAY),
    (1, "y", {1: "x"}, {}, Placement.EQUIVOCATION),
    (2, "y", {}, {}, Placement.REVISION_REFUSED),
    (2, "y", {1: "x"}, {1: "z"}, Placement.NEW),
    (3, "y", {1: "x"}, {1: "z"}, Placement.REVISION_REFUSED),
    # Behind the counterparty: straight to a revision that it signed.
    (2, "y", {}, {1: "x", 2: "y"}, Placement.NEW),
    (3, "y", {1: "w"}, {1: "x", 2: "u", 3: "y"}, Placement.NEW),
    # An agreed pair takes nothing more, but replays and proofs still are what they are.
    (2, "y", {1: "x"}, {1: "x"}, Placement.REVISION_REFUSED),
    (1, "x", {1: "x"}, {1: "x"}, Placement.REPLAY),
    (1, "y", {1: "x"}, {1: "x"}, Placement.EQUIVOCATION),
    # A revision that was passed over can't be signed afterwards.
    (1, "x", {2: "y"}, {1: "x", 2: "z"}, Placement.REVISION_REFUSED),
    (5, "y", {4: "x"}, {4: "z"}, Placement.REVISION_REFUSED),
]


@pytest.mark.parametrize(("revision", "digest", "own", "theirs", "expected"), PLACES)
def test_a_further_statement(
    revision: int, digest: str, own: dict[int, str], theirs: dict[int, str], expected: Placement
) -> None:
    assert placement_of(revision=revision, sha256=digest, own=own, theirs=theirs, revisions_max=4) is expected


BOTH = {A, B}
CARRIED = [
    (signed(a="x", b="x"), BOTH, BOTH, None),
    (signed(a="x", b="x"), {A}, BOTH, "participant_suspended"),
    (signed(a="x", b="x"), BOTH, {A}, "cut_missing"),
    (signed(a="x", b="x"), {A}, {A}, "participant_suspended"),
    (signed(a="x"), BOTH, BOTH, "not_attested"),
    (signed(a="x z"), BOTH, BOTH, "not_attested"),
    ([], BOTH, BOTH, "not_attested"),
    (signed(a="x", b="y"), BOTH, BOTH, "break"),
    (signed(a="x z", b="y"), BOTH, BOTH, "break"),
]


@pytest.mark.parametrize(("attested", "active", "delivered", "expected"), CARRIED)
def test_why_a_pair_is_carried_over(
    attested: list[Attested], active: set[str], delivered: set[str], expected: str | None
) -> None:
    found = match(attested).get(KEY)
    assert carry_reason(KEY, found, active=active, delivered=delivered) == expected
