"""The rows of a submission are what a whole reading of them is, whoever stated them before."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.cycle import positions as stated
from compliance.cycle.positions import Position, PositionError
from gateway.coordinator.cycles import rows as of_rows
from gateway.coordinator.cycles.rows import NotPlainError, Rows, split_submission

CYCLE = "2026-11-30-01"
ROOT = "ab" * 32
_whole = msgspec.json.Decoder(tuple[Position, ...]).decode


def a_position(high: str = "BRCHXXB0", minor: str = "100", root: str = ROOT) -> Position:
    return Position("EUR", "ALDRXXA0", high, 1, 1, 5, 5, minor, root, 1, 0, 0, "0", "0" * 64)


def written(*positions: Position) -> bytes:
    return msgspec.json.encode(positions)


def test_both_banks_rows_are_read_once() -> None:
    rows, known = written(a_position(), a_position("CHRLXXC0")), Rows()
    first, second = known.read(CYCLE, rows), known.read(CYCLE, rows)
    assert first == second == (_whole(rows), stated.digests(CYCLE, _whole(rows)))
    # The very same, so nothing was read again, and nothing is kept once both have stated it.
    assert all(one is other for one, other in zip(first[0], second[0], strict=True))
    third = known.read(CYCLE, rows)
    assert third == first
    assert third[0][0] is not first[0][0]


def test_a_row_means_something_else_in_another_cycle() -> None:
    rows, known = written(a_position()), Rows()
    [first] = known.read(CYCLE, rows)[1]
    [second] = known.read("2026-11-30-02", rows)[1]
    assert first == stated.digests(CYCLE, [a_position()])[0] != second


def test_no_more_rows_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_rows, "WAITING_MAX", 2)
    known = Rows()
    for number in range(10):
        known.read(CYCLE, written(a_position(minor=str(1_000 + number))))
    assert len(known._waiting) <= 3


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"[",
        b"[[]]",
        b"[[],[]]",
        b'[["EUR"]]',
        b"[[1],[2]",
        b"[ [1] ]",
        b'{"positions":[]}',
        written(a_position(root="],[")),
        written(a_position(root='x"],["x')),
        written(a_position(), a_position(root="],[")),
        written(a_position())[:-1],
        written(a_position()) + b"]",
        b"[" + written(a_position()) + b"]",
        written(a_position()).replace(b",", b", "),
        written(a_position(minor="00")),
        written(a_position(minor="-1")),
    ],
)
def test_what_isnt_plain_is_refused_and_left_to_the_long_way(rows: bytes) -> None:
    known = Rows()
    known.read(CYCLE, written(a_position()))
    try:
        read = known.read(CYCLE, rows)
    except (NotPlainError, msgspec.MsgspecError, PositionError):
        return
    assert read == (_whole(rows), stated.digests(CYCLE, _whole(rows)))


A_PART = st.sampled_from(
    [
        *(b"[", b"]", b",", b"],[", b"[[", b"]]", b'"', b"\\", b" ", b"1", b"{}"),
        written(a_position())[1:-1],
        written(a_position())[2:-2],
        written(a_position("CHRLXXC0"))[1:-1],
        b'"x],[',
    ]
)


@given(st.lists(A_PART, max_size=8).map(b"".join), st.booleans())
def test_whatever_is_read_is_what_a_whole_reading_says(inside: bytes, seen: bool) -> None:
    known = Rows()
    if seen:
        known.read(CYCLE, written(a_position()))
    for rows in (inside, b"[" + inside + b"]", b"[[" + inside + b"]]"):
        try:
            read = known.read(CYCLE, rows)
        except (NotPlainError, msgspec.MsgspecError, PositionError):
            continue
        assert read == (_whole(rows), stated.digests(CYCLE, _whole(rows)))


def test_a_submission_without_positions() -> None:
    envelope = {"payload": "e30=", "payloadType": "text/plain", "signatures": [{"keyid": "k", "sig": "c2ln"}]}
    submission, rows = split_submission(msgspec.json.encode({"attestation": envelope}))
    assert (rows, submission.positions, submission.screening) == (b"[]", (), None)
    assert Rows().read(CYCLE, rows) == ((), [])
