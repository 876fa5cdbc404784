"""What a coordinator makes of attestations, one after another, and what its book says of their pairs."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from compliance.crypto.dsse import Envelope
from compliance.cycle.matching import match
from compliance.cycle.positions import Position, digests, root_over
from compliance.statements import Attestation, LaneCut, ScreeningStatement
from gateway.coordinator.cycles.book import Book, Counts
from gateway.coordinator.cycles.judgement import SCREENINGS_MAX, Submitted, answer, judge, judge_screenings
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import CycleTerms, ReadAttestation
from gateway.federation.problems import Refusal

A, B, C = "ALFADEFF", "BETAFRPP", "GAMAITRR"
CYCLE = "2026-03-02-01"
TERMS = CycleTerms(id=CYCLE, currencies=("EUR",), participants=frozenset({A, B, C}))
REVISIONS_MAX = 5
FULL = [str(number) for number in range(SCREENINGS_MAX)]

CASES: list[tuple[str, dict[str, list[str]], list[tuple[str, str]], list[bool]]] = [
    # what it is, digests handed in before, (bank, digest) submitted at once, which of them are refused
    ("the first one", {}, [(A, "x")], [False]),
    ("the last that there is room for", {A: FULL[1:]}, [(A, "x")], [False]),
    ("one too many", {A: FULL}, [(A, "x")], [True]),
    ("the same again", {A: FULL}, [(A, FULL[0])], [False]),
    ("two at once, room for one", {A: FULL[1:]}, [(A, "x"), (A, "y")], [False, True]),
    ("one and its repetition", {A: FULL[1:]}, [(A, "x"), (A, "x")], [False, False]),
    ("a refused one takes no room", {A: FULL}, [(A, "x"), (A, FULL[0]), (A, "x")], [True, False, True]),
    ("another bank", {A: FULL}, [(B, "x"), (A, "x")], [False, True]),
    ("many at once", {}, [(A, digest) for digest in (*FULL, "x")], [False] * SCREENINGS_MAX + [True]),
]


def submitted(bank: str, *positions: Position, screening: str | None = None, complete: bool = True) -> Submitted:
    leaves = digests(CYCLE, positions)
    document = Attestation(
        cycle=CYCLE, participant=bank, statements=len(leaves), root=root_over(leaves), screening=screening,
        complete=complete,
    )  # fmt: skip
    screened = ScreeningStatement(
        cycle=CYCLE, participant=bank, lists=(), matcher="", screened=0, hits=0, released=0, rejected=0, pending=0
    )
    read = ReadAttestation(
        document=document,
        envelope=Envelope("", "", ()),
        sha256=hashlib.sha256(msgspec.json.encode(document)).hexdigest(),
        positions=positions,
        digests=leaves,
        screening=None if screening is None else screened,
        contested=(),
    )
    return Submitted(bank=bank, read=read)


def position(low: str, high: str, *, revision: int = 1, forth: int = 10, **changes: Any) -> Position:
    """Two payments one way, one the other way, as `book` has them cut."""
    p = Position("EUR", low, high, revision, 1, 2, 2, str(forth), "0" * 64, 1, 1, 1, "3", "1" * 64)
    return msgspec.structs.replace(p, **changes)


def book() -> Book:
    made = Book(CYCLE)
    for receiver in (A, B, C):
        lanes = [LaneCut(sender=s, currency="EUR", last_sequence=2 if s < receiver else 1) for s in (A, B, C)]
        made.take_cut(receiver, "0" * 64, [lane for lane in lanes if lane.sender != receiver])
    made.take_settled({})
    return made


def judged(of: Book, bank: str, *positions: Position, replayed: bool = False) -> Submitted:
    one = submitted(bank, *positions)
    one.replayed = replayed
    judge(one, of, TERMS, REVISIONS_MAX)
    return one


@pytest.mark.parametrize(("what", "before", "given", "refused"), CASES, ids=[case[0] for case in CASES])
def test_how_many_screenings_are_taken(
    what: str, before: dict[str, list[str]], given: list[tuple[str, str]], refused: list[bool]
) -> None:
    read = [submitted(bank, screening=digest) for bank, digest in given]
    judge_screenings(read, before)
    assert [one.screening is None for one in read] == refused, what
    for one in read:
        if one.screening is None:
            assert one.refusal is not None
            assert (one.refusal.reason, one.refusal.pointer) == (CycleReason.TOO_MANY_SCREENINGS, "/screening")
            assert one.bank in one.refusal.detail


def test_what_is_refused_as_a_whole_takes_no_room() -> None:
    first, second = submitted(A, screening="x"), submitted(A, screening="y")
    first.refuse(Refusal(CycleReason.WRONG_PAIR, "not a pair"), "/positions/0")
    judge_screenings([first, second], {A: FULL[1:]})
    assert first.refusal is not None
    assert first.refusal.reason == CycleReason.WRONG_PAIR
    assert second.screening == "y"


def test_a_pair_from_its_first_word_to_agreement() -> None:
    of = book()
    assert answer(judged(of, A, position(A, B), position(A, C))).stored == 2
    assert (of.total, of.counts[B]) == (Counts(missing=2), Counts(missing=1))
    assert of.awaited_from(B) == [("EUR", A, B)]
    assert answer(judged(of, B, position(A, B))).agreed == 1
    assert (of.total, of.counts[A], of.counts[B], of.counts[C]) == (
        Counts(agreed=1, missing=1), Counts(agreed=1, missing=1), Counts(agreed=1), Counts(missing=1),
    )  # fmt: skip
    assert (of.gross["EUR", A], of.gross["EUR", B]) == ((3, 10), (10, 3))
    # Nobody has said anything of B and C, who have payments for each other.
    assert dict(of.open_pairs()) == {("EUR", A, C): of.match(("EUR", A, C)), ("EUR", B, C): None}
    assert {key: of.digest_of(key) for key in of.agreed()} == {("EUR", A, B): digests(CYCLE, [position(A, B)])[0].hex()}


def test_a_break_and_its_end() -> None:
    of = book()
    judged(of, A, position(A, B))
    (broken,) = answer(judged(of, B, position(A, B, forth=11))).breaks
    assert (broken.counterparty, broken.revision, broken.status) == (A, 1, "break")
    assert (of.total, of.gross["EUR", A]) == (Counts(differing=1), (0, 0))
    assert answer(judged(of, B, position(A, B, revision=2))).stored == 1
    assert (of.total, of.awaited_from(A)) == (Counts(missing=1), [("EUR", A, B)])
    assert answer(judged(of, A, position(A, B, revision=2))).agreed == 1
    assert (of.total, of.awaited_from(A)) == (Counts(agreed=1), [])
    # Nothing follows an agreement.
    assert judged(of, A, position(A, B, revision=3)).refused[0].reason == "revision_refused"


def test_a_bank_that_is_behind_may_say_what_was_said_before() -> None:
    of = book()
    judged(of, A, position(A, B))
    judged(of, A, position(A, B, revision=2, forth=12))
    assert answer(judged(of, B, position(A, B))).agreed == 1
    assert of.gross["EUR", B] == (10, 3)
    assert {key: of.digest_of(key) for key in of.agreed()} == {("EUR", A, B): digests(CYCLE, [position(A, B)])[0].hex()}


def test_a_replay_is_judged_as_it_was_and_adds_nothing() -> None:
    of = book()
    rows = (position(A, B), position(A, C, forth_last=3, forth_count=3))
    first = judged(of, A, *rows)
    again = judged(of, A, *rows, replayed=True)
    assert answer(first) == answer(again)
    assert (again.fresh, again.bodies, of.total) == ([], [], Counts(missing=1))
    # What didn't follow then is no part of what was taken in, though it would follow now.
    ahead = position(A, B, revision=2)
    assert judged(of, B, ahead).refused[0].reason == "revision_refused"
    judged(of, A, ahead)
    assert judged(of, B, ahead, replayed=True).refused[0].reason == "revision_refused"
    assert answer(judged(of, B, ahead)).agreed == 1


def test_the_book_says_what_matching_everything_says() -> None:
    of, said = book(), []
    for bank, p in (
        (A, position(A, B)), (B, position(A, B, forth=11)), (A, position(A, B, revision=2, forth=11)),
        (C, position(A, C)), (A, position(A, C)), (B, position(B, C)), (C, position(B, C, forth=9)),
        (B, position(A, B, revision=2, forth=11)), (C, position(B, C, revision=2)),
    ):  # fmt: skip
        assert judged(of, bank, p).refused == []
        said.append(p.key)
        found = match(of.attested(said))
        assert {key: of.match(key) for key in found} == found
        statuses = [one.status for one in found.values()]
        counted = Counts(statuses.count("agreed"), statuses.count("different"), statuses.count("missing"))
        assert of.total == counted
        assert {key for key, one in of.open_pairs() if one is not None} == {
            key for key, one in found.items() if one.status != "agreed"
        }
