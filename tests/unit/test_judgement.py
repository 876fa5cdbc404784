"""How many screening statements a cycle takes of one bank."""

from __future__ import annotations

import pytest

from compliance.crypto.dsse import Envelope
from compliance.statements import ScreeningStatement
from gateway.coordinator.cycles.judgement import SCREENINGS_MAX, Submitted, judge_screenings
from gateway.coordinator.cycles.reasons import CycleReason
from gateway.coordinator.cycles.submission import ReadScreening
from gateway.federation.problems import Refusal

A, B = "ALFADEFF", "BETAFRPP"
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


def submitted(bank: str, digest: str) -> Submitted:
    document = ScreeningStatement(
        cycle="2026-03-02-01", participant=bank, lists=(), matcher="", screened=0, hits=0, released=0, rejected=0,
        pending=0,
    )  # fmt: skip
    screening = ReadScreening(document=document, envelope=Envelope("", "", ()), sha256=digest)
    return Submitted(bank=bank, statements=[], screening=screening, complete=True)


@pytest.mark.parametrize(("what", "before", "given", "refused"), CASES, ids=[case[0] for case in CASES])
def test_how_many_screenings_are_taken(
    what: str, before: dict[str, list[str]], given: list[tuple[str, str]], refused: list[bool]
) -> None:
    read = [submitted(bank, digest) for bank, digest in given]
    judge_screenings(read, before)
    assert [one.screening is None for one in read] == refused, what
    for one in read:
        if one.screening is None:
            assert one.refusal is not None
            assert (one.refusal.reason, one.refusal.pointer) == (CycleReason.TOO_MANY_SCREENINGS, "/screening")
            assert one.refusal.detail is not None
            assert one.bank in one.refusal.detail


def test_what_is_refused_as_a_whole_takes_no_room() -> None:
    first, second = submitted(A, "x"), submitted(A, "y")
    first.refuse(Refusal(CycleReason.WRONG_PAIR, "not a pair", pointer="/statements/0"))
    judge_screenings([first, second], {A: FULL[1:]})
    assert first.refusal is not None
    assert first.refusal.reason == CycleReason.WRONG_PAIR
    assert second.screening is not None
