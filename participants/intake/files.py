"""Payment files: readers of CSV and JSON lines, plain or compressed, as rows that are taken or refused.

`inspect_file` looks at a whole file once (container, digest, number of lines, format) and refuses it as a whole when
it is damaged: nobody should pay from half a file. `read_rows` then yields one value per line, in order, and a
refused row never stops the rest.

Formats, told apart by the first line, columns in any order:

- `concordat`: CSV with the columns id, debtor_bank, debtor_account, debtor_name, creditor_bank, creditor_account,
  creditor_name, amount, currency, remittance (`id` and `remittance` may be missing or empty);
- `jsonl`: JSON lines with the same members, all of them strings (`amount` may be a number);
- `labelled`: CSV of a transfer simulator (step, nameOrig, nameDest, bankOrig, bankDest, amount, …);
- `amlsim`: CSV of IBM AMLSim (sourceNodeId, targetNodeId, value, time); it names no banks, so accounts are spread
  over a number of banks by a stable hash.

Amounts are decimal text and never become a float. A payment without an id gets one derived from the digest of the
file's content and the line, so the same file read again means the same payments.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, cast

from participants.intake.rows import PaymentRow, ReadOptions, RefusedRow, RowReason, RowRefusedError, payment_row

__all__ = [
    "FileReason",
    "FileRefused",
    "PaymentFile",
    "PaymentRow",
    "ReadOptions",
    "RefusedRow",
    "inspect_file",
    "read_rows",
]

LINE_BYTES_MAX = 16_384
FILE_BYTES_MAX = 8 * 2**30
_BLANK = b"\xef\xbb\xbf \t\r\n"


class FileReason(StrEnum):
    """Why a whole file is refused, in order of precedence."""

    UNREADABLE = "file_unreadable"
    CONTAINER_UNKNOWN = "container_unknown"
    TRUNCATED = "file_truncated"
    DAMAGED = "file_damaged"
    TOO_LARGE = "file_too_large"
    EMPTY = "file_empty"
    ENCODING = "encoding_wrong"
    COLUMNS = "columns_unknown"


class FileRefused(ValueError):  # noqa: N818 - refusals are named as such throughout
    """A file that can't be read at all. `reason` is a FileReason; the message names the file and the place."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Format:
    """A file layout: where each of our members is found. `optional` members may be missing."""

    name: str
    columns: Mapping[str, str]
    optional: frozenset[str] = frozenset()

    @property
    def required(self) -> set[str]:
        return {column for member, column in self.columns.items() if member not in self.optional}


_MEMBERS = (
    "id",
    "debtor_bank",
    "debtor_account",
    "debtor_name",
    "creditor_bank",
    "creditor_account",
    "creditor_name",
    "amount",
    "currency",
    "remittance",
)
CONCORDAT = Format("concordat", {name: name for name in _MEMBERS}, frozenset({"id", "remittance"}))
JSON_LINES = Format("jsonl", CONCORDAT.columns, CONCORDAT.optional)
LABELLED = Format(
    "labelled",
    {
        "step": "step",
        "debtor_account": "nameOrig",
        "creditor_account": "nameDest",
        "debtor_bank": "bankOrig",
        "creditor_bank": "bankDest",
        "amount": "amount",
    },
)
AMLSIM = Format(
    "amlsim",
    {"debtor_account": "sourceNodeId", "creditor_account": "targetNodeId", "amount": "value", "step": "time"},
)
CSV_FORMATS = (CONCORDAT, LABELLED, AMLSIM)


@dataclass(frozen=True, slots=True)
class PaymentFile:
    """A file found whole and of a known format. `digest` is the SHA-256 of its content, uncompressed."""

    path: Path
    format: Format
    digest: str
    lines: int


def inspect_file(path: Path) -> PaymentFile:
    """Read a file through once and say what it is. Raises FileRefused."""
    digest, newlines, size, last = hashlib.sha256(), 0, 0, b""
    try:
        with _content(path) as stream:
            head = stream.read(LINE_BYTES_MAX)
            chunk = head
            while chunk:
                digest.update(chunk)
                newlines += chunk.count(b"\n")
                size += len(chunk)
                last = chunk
                if size > FILE_BYTES_MAX:
                    raise FileRefused(FileReason.TOO_LARGE, f"{path}: more than {FILE_BYTES_MAX:,} bytes")
                chunk = stream.read(1 << 20)
    except EOFError as error:
        place = f"after line {newlines:,}"
        raise FileRefused(FileReason.TRUNCATED, f"{path}: the compressed data ends early, {place}") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise FileRefused(FileReason.DAMAGED, f"{path}: damaged after line {newlines:,}: {error}") from error
    except OSError as error:
        raise FileRefused(FileReason.UNREADABLE, f"{path}: {error.strerror or error}") from error
    lines = newlines + (0 if last.endswith(b"\n") else 1)
    return PaymentFile(path, _detect(path, head), digest.hexdigest(), lines)


def read_rows(file: PaymentFile, options: ReadOptions | None = None) -> Iterator[PaymentRow | RefusedRow]:
    """Yield every line of the file as a payment or a refusal, in the order of the file."""
    options = options or ReadOptions()
    first_lines: dict[str, int] = {}
    for line, fields in _records(file):
        try:
            if isinstance(fields, RowRefusedError):
                raise fields
            row = payment_row(line, fields, options, digest=file.digest)
            earlier = first_lines.setdefault(row.id, line)
            if earlier != line:
                raise RowRefusedError(RowReason.DUPLICATE_ID, f"payment {row.id} is already on line {earlier}")
        except RowRefusedError as refused:
            yield RefusedRow(line, refused.reason, str(refused))
        else:
            yield row


# --- the container and its lines ---------------------------------------------------------------------------


def _content(path: Path) -> BinaryIO:
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


def _detect(path: Path, head: bytes) -> Format:
    if not head.strip(_BLANK):
        raise FileRefused(FileReason.EMPTY, f"{path}: no line in it")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head[:64]:
        raise FileRefused(FileReason.ENCODING, f"{path}: line 1 isn't UTF-8 (it looks like UTF-16 or binary)")
    number, line = next((n, text) for n, text in enumerate(head.split(b"\n"), start=1) if text.strip(_BLANK))
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileRefused(FileReason.ENCODING, f"{path}: line {number} isn't UTF-8: {error.reason}") from error
    if text.lstrip().startswith("{"):
        return JSON_LINES
    columns = _header(text)
    for layout in CSV_FORMATS:
        if layout.required <= set(columns):
            if len(set(columns)) != len(columns):
                raise FileRefused(FileReason.COLUMNS, f"{path}: line {number} names a column twice")
            return layout
    nearest = max(CSV_FORMATS, key=lambda layout: len(layout.required & set(columns)))
    missing = nearest.required - set(columns)
    hint = f"nearest is {nearest.name}, which also needs {', '.join(sorted(missing))}"
    if missing == nearest.required:
        layouts = (f"{layout.name} ({', '.join(layout.columns.values())})" for layout in CSV_FORMATS)
        hint = f"known are {'; '.join(layouts)}"
    raise FileRefused(FileReason.COLUMNS, f"{path}: line {number} is the header of no known format; {hint}")


def _header(text: str) -> list[str]:
    try:
        return [column.strip() for column in next(csv.reader([text], strict=True), [])]
    except csv.Error:
        return []


def _lines(path: Path) -> Iterator[tuple[int, bytes | RowRefusedError]]:
    """Yield the lines that hold something, numbered; a line over the limit is skipped over and refused."""
    with _content(path) as stream:
        number = 0
        while line := stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(1 << 20)
                yield number, RowRefusedError(RowReason.LINE_TOO_LONG, f"more than {LINE_BYTES_MAX:,} bytes")
            elif line.strip(_BLANK):
                yield number, line


def _records(file: PaymentFile) -> Iterator[tuple[int, Mapping[str, str] | RowRefusedError]]:
    """Yield each row as our members, or why the line is none."""
    lines = _lines(file.path)
    parse: Callable[[str], Mapping[str, str]]
    if file.format is JSON_LINES:
        parse = _json_fields
    else:
        header = next(lines)[1]
        parse = _csv_parser(file.format, _header(cast(bytes, header).decode("utf-8-sig").rstrip("\r\n")))
    for number, line in lines:
        if isinstance(line, RowRefusedError):
            yield number, line
            continue
        try:
            yield number, parse(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"))
        except UnicodeDecodeError as error:
            yield number, RowRefusedError(RowReason.ENCODING, f"not UTF-8: {error.reason} at byte {error.start}")
        except RowRefusedError as refused:
            yield number, refused


def _csv_parser(layout: Format, header: list[str]) -> Callable[[str], Mapping[str, str]]:
    places = {member: header.index(column) for member, column in layout.columns.items() if column in header}

    def parse(text: str) -> Mapping[str, str]:
        # One line is one row: an unclosed quote spoils its own line and not the rest of the file.
        try:
            values = next(csv.reader((text,), strict=True), [])
        except csv.Error as error:
            raise RowRefusedError(RowReason.MALFORMED, str(error)) from error
        if len(values) != len(header):
            raise RowRefusedError(RowReason.COLUMNS, f"{len(values)} columns where the header has {len(header)}")
        return {member: values[place].strip() for member, place in places.items()}

    return parse


def _json_fields(text: str) -> Mapping[str, str]:
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_members, parse_float=str, parse_int=str, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise RowRefusedError(RowReason.MALFORMED, f"not a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise RowRefusedError(RowReason.MALFORMED, "not a JSON object")
    unknown = sorted(set(value) - set(JSON_LINES.columns))
    missing = sorted(JSON_LINES.required - set(value))
    if unknown or missing:
        detail = f"unknown members: {', '.join(unknown)}" if unknown else f"missing members: {', '.join(missing)}"
        raise RowRefusedError(RowReason.COLUMNS, detail[:200])
    for member, content in value.items():
        if not isinstance(content, str):
            raise RowRefusedError(RowReason.COLUMNS, f"{member} must be a string")
    return {member: content.strip() for member, content in value.items()}


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")
