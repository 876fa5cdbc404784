"""The records of a file of text: a container of bytes, its lines, and of CSV what RFC 4180 makes one record of them.

A line break inside quotes doesn't end a record. Quoting that isn't of the form of RFC 4180 refuses the whole file:
where a quote begins or ends is then a guess, and the next line might be a payment that nobody ordered.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

RECORD_CHARACTERS_MAX = 16_384
_BLANK = " \t\r\n\ufeff"
# What a byte that isn't UTF-8 is read as.
_UNDECODED = re.compile("[\udc80-\udcff]")


class FileReason(StrEnum):
    """Why a whole file is refused, in order of precedence."""

    UNREADABLE = "file_unreadable"
    CONTAINER_UNKNOWN = "container_unknown"
    TRUNCATED = "file_truncated"
    DAMAGED = "file_damaged"
    TOO_LARGE = "file_too_large"
    EMPTY = "file_empty"
    ENCODING = "encoding_wrong"
    PREAMBLE = "header_not_first"
    COLUMNS = "columns_unknown"
    QUOTING = "quoting_wrong"
    DECIMAL_MARK = "decimal_mark_unclear"


class FileRefused(ValueError):  # noqa: N818 - refusals are named as such throughout
    """A file that can't be read at all. `reason` is a FileReason; the message names the file and the place."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class RecordFault(StrEnum):
    """Why one record can't be read, in order of precedence."""

    LINE_TOO_LONG = "line_too_long"
    ENCODING = "encoding_wrong"


class RecordRefusedError(ValueError):
    """A record that can't be read, and why."""

    def __init__(self, fault: RecordFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class Record(NamedTuple):
    """One record: the lines it stands on, counted from 1, and its text or fields, or why it has none."""

    line: int
    last_line: int
    content: str | list[str] | RecordRefusedError


def content_of(path: Path) -> BinaryIO:
    """Open a file's content, uncompressed. Raises FileRefused, OSError."""
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.open(path, "rb"))
    for foreign, name in ((b"PK\x03\x04", "ZIP"), (b"\x28\xb5\x2f\xfd", "Zstandard"), (b"BZh", "bzip2")):
        if magic.startswith(foreign):
            raise FileRefused(FileReason.CONTAINER_UNKNOWN, f"{path}: {name}; give it plain, as gzip or as xz")
    return path.open("rb")


def line_records(path: Path) -> Iterator[Record]:
    """Yield every line that holds something, as text."""
    with text_of(content_of(path)) as stream:
        number = 0
        while line := stream.readline(RECORD_CHARACTERS_MAX + 1):
            number += 1
            if len(line) > RECORD_CHARACTERS_MAX:
                _skip_line(stream, line)
                yield Record(number, number, _too_long())
            elif line.strip(_BLANK):
                yield Record(number, number, _decoded(line) or line.rstrip("\r\n"))


def csv_records(path: Path, separator: str) -> Iterator[Record]:
    """Yield every record of a file in UTF-8 that holds something. Raises FileRefused for quoting that is none."""
    with text_of(content_of(path)) as stream:
        yield from csv_records_of(stream, separator, str(path))


def csv_records_of(stream: io.TextIOBase, separator: str, name: str) -> Iterator[Record]:
    """Yield every record of a text that holds something, as its fields. `name` is the file's. Raises FileRefused."""
    field = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{re.escape(separator)}\r\n]*)'
    form = re.compile(f"{field}(?:{re.escape(separator)}{field})*")
    number = 0
    while text := stream.readline(RECORD_CHARACTERS_MAX + 1):
        first = number = number + 1
        if len(text) > RECORD_CHARACTERS_MAX:
            if _skip_line(stream, text):
                raise _misquoted(name, first, f"more than {RECORD_CHARACTERS_MAX:,} characters, and quotes in it")
            yield Record(first, first, _too_long())
            continue
        # Within quotes exactly where an odd number of them came before.
        while text.count('"') % 2:
            more = stream.readline(RECORD_CHARACTERS_MAX + 1)
            if not more or len(text) + len(more) > RECORD_CHARACTERS_MAX:
                raise _misquoted(name, first, "a quote is opened that nothing closes")
            text += more
            number += 1
        text = text.rstrip("\r\n")
        if '"' not in text:
            fields = text.split(separator)
        elif form.fullmatch(text):
            fields = next(csv.reader((text,), delimiter=separator, strict=True))
        else:
            raise _misquoted(name, first, "a quote stands inside a field, or something after the closing one")
        if any(part.strip(_BLANK) for part in fields):
            yield Record(first, number, _decoded(text) or fields)


def text_of(content: BinaryIO) -> io.TextIOWrapper:
    """Return content as the text whose records are read: bytes that aren't UTF-8 are refused record by record."""
    return io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _skip_line(stream: io.TextIOBase, line: str) -> bool:
    """Read on to the end of a line; True if there are quotes anywhere in it."""
    quotes = '"' in line
    while line and not line.endswith(("\n", "\r")):
        line = stream.readline(1 << 20)
        quotes = quotes or '"' in line
    return quotes


def _decoded(text: str) -> RecordRefusedError | None:
    """Return why a text isn't decoded; None where it is."""
    wrong = _UNDECODED.search(text)
    if wrong is None:
        return None
    byte = ord(wrong[0]) - 0xDC00
    detail = f"not UTF-8: byte 0x{byte:02x}, as Windows-1252 and Latin-1 have it; save the file as UTF-8"
    return RecordRefusedError(RecordFault.ENCODING, detail)


def _too_long() -> RecordRefusedError:
    return RecordRefusedError(RecordFault.LINE_TOO_LONG, f"more than {RECORD_CHARACTERS_MAX:,} characters")


def _misquoted(name: str, line: int, what: str) -> FileRefused:
    detail = f"{name}: line {line}: {what}; quotes stand around a whole field and are doubled within it (RFC 4180)"
    return FileRefused(FileReason.QUOTING, detail)
