"""The rows of a submission as they came: each becomes a position and its digest once, whichever bank states it first.

Both banks of a pair state the same, and nearly always write it the same. So what became of a row is kept until the
other bank has handed it in as well, and costs one look then, in place of reading, checking and hashing it again. What
becomes of a row follows from its bytes and its cycle alone, so it doesn't matter who handed it in, nor whether what it
stood in was taken in.
"""

from __future__ import annotations

import msgspec

from compliance.crypto.dsse import Envelope
from compliance.cycle.contests import ContestedLane
from compliance.cycle.positions import Position, PositionError, digests
from compliance.statements import ScreeningStatement
from gateway.federation.messages.attestation import SUBMITTED_MAX, AttestationSubmission
from gateway.federation.messages.base import Request
from gateway.federation.strict_json import read_strictly, refuse_crowd

WAITING_MAX = 250_000
"""Rows that are kept: as many as 1,000 banks come to in the worst order. With more, they are read again."""


class NotPlainError(ValueError):
    """A submission that isn't written as it nearly always is; whether it is a good one is another question."""


class _Split(Request, frozen=True, kw_only=True):
    """An AttestationSubmission whose positions are still to be read."""

    attestation: Envelope
    positions: msgspec.Raw = msgspec.Raw(b"[]")
    screening: ScreeningStatement | None = None
    contested: tuple[ContestedLane, ...] = ()


_UNREADABLE = (msgspec.MsgspecError, PositionError, UnicodeDecodeError, RecursionError)
_split = msgspec.json.Decoder(_Split).decode
_position = msgspec.json.Decoder(Position).decode


def split_submission(body: bytes) -> tuple[AttestationSubmission, bytes]:
    """Return a submission without its positions, and these as they are written. Raises NotPlainError."""
    try:
        refuse_crowd(body)
        submission = _split(body)
        rows = bytes(submission.positions)
        # Positions hold no object, so all that could be there twice is outside of them.
        before, _, after = body.partition(rows)
        read_strictly(b"%b[]%b" % (before, after) if len(before) < len(body) else body)
    except _UNREADABLE as error:
        raise NotPlainError(str(error)) from error
    if len(submission.contested) > SUBMITTED_MAX:
        raise NotPlainError("more lanes than one submission may contest")
    rest = AttestationSubmission(
        attestation=submission.attestation, screening=submission.screening, contested=submission.contested
    )
    return rest, rows


class Rows:
    """What became of the rows of a cycle that one bank has handed in and the other hasn't. For one thread at a time."""

    def __init__(self) -> None:
        self._cycle = ""
        self._waiting: dict[bytes, tuple[Position, bytes]] = {}

    def read(self, cycle: str, rows: bytes) -> tuple[tuple[Position, ...], list[bytes]]:
        """Return the positions that rows are, and the digests of their statements.

        Raises NotPlainError for what isn't good.
        """
        try:
            return self._read(cycle, rows)
        except _UNREADABLE as error:
            raise NotPlainError(str(error)) from error

    def _read(self, cycle: str, rows: bytes) -> tuple[tuple[Position, ...], list[bytes]]:
        if cycle != self._cycle or len(self._waiting) > WAITING_MAX:
            self._cycle, self._waiting = cycle, {}
        parts = _parts(rows)
        take = self._waiting.pop
        read = [take(part, None) for part in parts]
        new = [index for index, known in enumerate(read) if known is None]
        # Each by itself: what is a row alone, between its brackets, has no bracket between rows inside of a text.
        positions = [_position(b"[%b]" % parts[index]) for index in new]
        for index, p, digest in zip(new, positions, digests(cycle, positions), strict=True):
            read[index] = self._waiting[parts[index]] = (p, digest)
        stated = [known for known in read if known is not None]
        return tuple([p for p, _ in stated]), [digest for _, digest in stated]


def _parts(rows: bytes) -> list[bytes]:
    """Return the rows of an array without their brackets."""
    if rows == b"[]":
        return []
    if not (rows.startswith(b"[[") and rows.endswith(b"]]")):
        raise NotPlainError("rows with space between them")
    parts = rows[2:-2].split(b"],[")
    if len(parts) > SUBMITTED_MAX:
        raise NotPlainError("more rows than one submission may hold")
    return parts
