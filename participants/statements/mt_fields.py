"""The fields of MT940 and MT942 files: blocks of SWIFT or bare, with what banks put between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from participants.statements.amounts import check_entries
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Place

FIELD_CHARACTERS_MAX = 16_384
FIELDS_MAX = 3_000_000

# Only the tags that statements have: a line of text that begins with a time, such as `:26:37`, is no field.
_TOKEN = re.compile(
    r"^[\x01\x02]?(?::(20|21|13D?|25P?|28C?|34F|60[FM]|61|62[FM]|64|65|86|90[CD]|NS):|(-(?:\}.*|XXX)?)[ \t\x03]*$"
    r"|(\{[1-5]:.*)$)",
    re.MULTILINE,
)
# Lines of text may still begin like these; they aren't fields inside of a text, unless a statement begins there.
_LIKE_TIMES = frozenset({"20", "21", "25", "28", "13"})
_BEGINS_STATEMENT = re.compile(r"[^\n]*\n\s*:(?:21|25P?):")
_TEXTS = frozenset({"61", "86", "NS"})
# What Dutch banks put above a statement, and the characters that frame one on a line.
_LINE = re.compile(r"\S[^\n]*")
_ABOVE_PATTERN = r"(?:(?:[0-9]{4} [0-9]{2})?[A-Z]{6}[A-Z0-9]{2,16}|:?94[02]:?(?: [0-9]{2})?)"
_ABOVE = re.compile(_ABOVE_PATTERN)
_BEGINS = re.compile(rf"[\s\x01-\x03$]*(?:\{{[1-5]:|(?:{_ABOVE_PATTERN}\s+)*:(?:[0-9]{{2}}[A-Z]?|NS):)")
_MESSAGE_TYPE = re.compile(r"\{2:[IO]([0-9]{3})")
STATEMENT_TYPES = {"940": "MT940", "942": "MT942", "950": "MT950"}


class MtField(NamedTuple):
    """A field: its tag, what it holds, and its line. The tag is "{" for the header of a message, "-" for its end."""

    tag: str
    content: str
    line: int

    @property
    def place(self) -> Place:
        return Place(self.line, self.tag if self.tag in "{-" else f":{self.tag}:")


def begins_like_mt(text: str) -> bool:
    """Tell whether a text begins with a field or a block of a message."""
    return _BEGINS.match(text) is not None


def mt_fields(text: str) -> Iterator[MtField]:
    """Yield every field of a file with `\\n` between its lines. Raises StatementRefused."""
    tag, begins, line, counted, entries = "", 0, 1, 0, 0
    for number, match in enumerate(_TOKEN.finditer(text)):
        field = match[1]
        if number > FIELDS_MAX:
            raise StatementRefused(Reason.FILE_TOO_LARGE, f"more than {FIELDS_MAX:,} fields", Place(line, ""))
        if field == "61":
            entries += 1
            check_entries(entries, Place(line, ":61:"))
        if (
            field in _LIKE_TIMES
            and tag in _TEXTS
            and not (field == "20" and _BEGINS_STATEMENT.match(text, match.end()))
        ):
            continue
        at = match.start()
        if tag:
            yield _field(tag, text[begins:at], line)
        elif at > begins:
            _check_between(text[begins:at], line)
        line += text.count("\n", counted, at)
        counted = at
        if field is not None:
            tag, begins = field, match.end()
            continue
        yield MtField("-" if match[2] is not None else "{", match[0], line)
        tag, begins = "", match.end()
    if tag:
        yield _field(tag, text[begins:], line)
    else:
        _check_between(text[begins:], line)


def _field(tag: str, content: str, line: int) -> MtField:
    if len(content) > FIELD_CHARACTERS_MAX:
        detail = f"more than {FIELD_CHARACTERS_MAX:,} characters in a field"
        raise StatementRefused(Reason.FIELD_MALFORMED, detail, Place(line, f":{tag}:"))
    return MtField(tag, content.rstrip("\n\x03 "), line)


def _check_between(text: str, line: int) -> None:
    """Check that nothing but what is known to stand between statements stands there. Raises StatementRefused."""
    for match in _LINE.finditer(text):
        content = match[0].strip(" \t\x01\x02\x03$")
        if content and not _ABOVE.fullmatch(content):
            place = Place(line + text.count("\n", 0, match.start()), "")
            raise StatementRefused(Reason.STRUCTURE_WRONG, f"{content[:40]!r} stands outside of a statement", place)


def message_type(header: MtField) -> str | None:
    """Return the number of the message that a header begins; None if it doesn't say."""
    match = _MESSAGE_TYPE.search(header.content)
    return match[1] if match else None
