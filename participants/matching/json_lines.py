"""An outcome as JSON lines: one for each break, and the summary last."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from participants.matching.explanation import Explanation, summary
from participants.matching.outcome import Outcome

CHUNK_BREAKS = 10_000


def json_lines(outcome: Outcome) -> Iterator[bytes]:
    """Yield the lines, in chunks. What can't be printed is escaped, so that no file's text steers a terminal."""
    for first in range(0, len(outcome.breaks), CHUNK_BREAKS):
        breaks = outcome.breaks[first : first + CHUNK_BREAKS]
        explanation = Explanation(outcome, breaks)
        yield b"".join(_line(explanation.document(item)) for item in breaks)
    yield _line({"summary": summary(outcome)})


def _line(document: object) -> bytes:
    text = msgspec.json.encode(document).decode()
    if not text.isascii() or "\x7f" in text:
        text = "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)
    return text.encode() + b"\n"


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))
