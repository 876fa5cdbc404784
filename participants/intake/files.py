"""Payment files: readers of CSV and JSON lines, plain or compressed, as rows that are taken or refused.

`inspect_file` reads a whole file once (container, digest, header, quoting, decimal mark) and refuses it as a whole when
it is damaged or can be read in two ways: nobody should pay from half a file. `read_rows` then yields one value per
record, in order, and a refused row never stops the rest.

Formats (`layouts`) are told apart by the first line, columns in any order:

- `concordat`: CSV with the columns id, debtor_bank, debtor_account, debtor_name, creditor_bank, creditor_account,
  creditor_name, amount, currency, remittance (`id` and `remittance` may be missing or empty);
- `jsonl`: JSON lines with the same members, all of them strings (`amount` may be a number);
- `labelled`: CSV of a transfer simulator (step, nameOrig, nameDest, bankOrig, bankDest, amount, …);
- `amlsim`: CSV of IBM AMLSim (sourceNodeId, targetNodeId, value, time); it names no banks, so accounts are spread
  over a number of banks by a stable hash.

Amounts are decimal text and never become a float. A payment without an id gets one derived from its content and how
often it stood there before (`participants.payments.row_identity`), so the same row is the same payment in every file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.plain_text import SPACES
from participants.intake.layouts import (
    CSV_FORMATS,
    JSON_LINES,
    Format,
    Header,
    HeaderError,
    find_header,
    nearest,
)
from participants.intake.rows import (
    PaymentRow,
    ReadOptions,
    RefusedRow,
    RowReason,
    RowRefusedError,
    bank_bic,
    completed,
    payment_row,
)
from participants.payments.row_identity import Content, row_id
from participants.text_files.amounts import MARKS, AmbiguousAmountError, certain_mark, plain_amount
from participants.text_files.columns import SEPARATORS
from participants.text_files.records import (
    RECORD_CHARACTERS_MAX,
    FileReason,
    FileRefused,
    Record,
    RecordRefusedError,
    content_of,
    csv_records,
    line_records,
)

__all__ = [
    "CSV_FORMATS",
    "JSON_LINES",
    "FileReason",
    "FileRefused",
    "PaymentFile",
    "PaymentRow",
    "ReadOptions",
    "RefusedRow",
    "inspect_file",
    "read_rows",
]

FILE_BYTES_MAX = 8 * 2**30
PREAMBLE_LINES_MAX = 20
_BLANK = b"\xef\xbb\xbf \t\r\n"


@dataclass(frozen=True, slots=True)
class PaymentFile:
    """A file found whole and of a known format. `digest` is the SHA-256 of its content, uncompressed.

    `header` is None of JSON lines. `decimal_mark` is "" where no amount shows which one it is.
    """

    path: Path
    format: Format
    digest: str
    lines: int
    header: Header | None = None
    decimal_mark: str = "."


def inspect_file(path: Path) -> PaymentFile:
    """Read a file through once and say what it is. Raises FileRefused."""
    digest, newlines, size, last = hashlib.sha256(), 0, 0, b""
    try:
        with content_of(path) as stream:
            head = stream.read(RECORD_CHARACTERS_MAX)
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
    header = _detect(path, head)
    if header is None:
        return PaymentFile(path, JSON_LINES, digest.hexdigest(), lines)
    mark = _decimal_mark(path, header)
    return PaymentFile(path, header.layout, digest.hexdigest(), lines, header, mark)


def read_rows(file: PaymentFile, options: ReadOptions | None = None) -> Iterator[PaymentRow | RefusedRow]:
    """Yield every record of the file as a payment or a refusal, in the order of the file."""
    options = options or ReadOptions()
    places = _Places()
    for record in _records(file):
        fields: Mapping[str, str] = {}
        try:
            if isinstance(record.content, RecordRefusedError):
                raise RowRefusedError(RowReason(record.content.fault), str(record.content))
            fields = _members(file, record.content, options)
            row = payment_row(record.line, fields, options, equal_before=places.equal_before)
            places.take(row.id, record.line)
        except RowRefusedError as refused:
            yield RefusedRow(record.line, refused.reason, str(refused), record.last_line, fields)
        else:
            yield row


class _Places:
    """Which payments stood on which lines, and how many equal rows before."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._equal: dict[Content, int] = {}

    def equal_before(self, content: Content) -> int:
        """Return how many rows of this content stood there before, and count this one."""
        number = self._equal.get(content, 0)
        while row_id(content, number) in self._lines:
            number += 1
        self._equal[content] = number + 1
        return number

    def take(self, identifier: str, line: int) -> None:
        """Take down where a payment stands. Raises RowRefusedError if it did before."""
        earlier = self._lines.setdefault(identifier, line)
        if earlier != line:
            raise RowRefusedError(RowReason.DUPLICATE_ID, f"payment {identifier} is already on line {earlier}")


# --- the header and the decimal mark -----------------------------------------------------------------------


def _detect(path: Path, head: bytes) -> Header | None:
    """Return the header of a CSV file, None for JSON lines. Raises FileRefused."""
    if not head.strip(_BLANK):
        raise FileRefused(FileReason.EMPTY, f"{path}: no line in it")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head[:64]:
        detail = f"{path}: line 1 isn't UTF-8 (it looks like UTF-16 or binary); save the file as UTF-8"
        raise FileRefused(FileReason.ENCODING, detail)
    lines = [(n, line) for n, line in enumerate(head.splitlines(), start=1) if line.strip(_BLANK)]
    number, line = lines[0]
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = f"{path}: line {number} isn't UTF-8: {error.reason}; save the file as UTF-8"
        raise FileRefused(FileReason.ENCODING, detail) from error
    if text.lstrip().startswith("{"):
        return None
    try:
        header = find_header(text)
        if header is not None:
            return header
        for later, line in lines[1:PREAMBLE_LINES_MAX]:
            if find_header(line.decode("utf-8", "replace")) is not None:
                detail = f"{path}: line {number} ({text[:40]!r}) stands above the header, which is line {later}:"
                raise FileRefused(FileReason.PREAMBLE, f"{detail} take out what is above it")
    except HeaderError as error:
        raise FileRefused(FileReason.COLUMNS, f"{path}: {error}") from error
    detail = f"{path}: line {number} is the header of no known format, with {' or '.join(SEPARATORS.values())} between"
    raise FileRefused(FileReason.COLUMNS, f"{detail}; {nearest(text)}")


def _decimal_mark(path: Path, header: Header) -> str:
    """Read a CSV file through and return what stands before its decimals. Raises FileRefused."""
    seen: dict[str, tuple[int, str]] = {}
    place = header.places["amount"]
    records = csv_records(path, header.separator)
    next(records)
    for record in records:
        if isinstance(record.content, list) and len(record.content) == header.columns:
            amount = record.content[place].strip()
            mark = certain_mark(amount)
            if mark is not None and mark not in seen:
                seen[mark] = record.line, amount
    if len(seen) > 1:
        examples = (f"line {line} has a decimal {MARKS[mark]} ({amount[:40]})" for mark, (line, amount) in seen.items())
        raise FileRefused(FileReason.DECIMAL_MARK, f"{path}: {', '.join(examples)}: write all amounts one way")
    # Where columns are between commas, decimals are behind points; elsewhere nobody knows unless an amount shows it.
    return next(iter(seen), "." if header.separator == "," else "")


# --- the rows ----------------------------------------------------------------------------------------------


def _records(file: PaymentFile) -> Iterator[Record]:
    if file.header is None:
        return line_records(file.path)
    records = csv_records(file.path, file.header.separator)
    next(records)
    return records


def _members(file: PaymentFile, content: str | list[str], options: ReadOptions) -> Mapping[str, str]:
    """Return all members of a row as text, the amount in plain form. Raises RowRefusedError."""
    if isinstance(content, str):
        return completed(_json_fields(content), options)
    header = file.header
    assert header is not None
    if len(content) != header.columns:
        detail = f"{len(content)} columns where the header has {header.columns}"
        raise RowRefusedError(RowReason.COLUMNS, detail)
    fields = {member: _stripped(content[place]) for member, place in header.places.items()}
    if header.layout.names_banks:
        for member in ("debtor_bank", "creditor_bank"):
            fields[member] = bank_bic(fields[member])
    written = fields["amount"]
    try:
        fields["amount"] = plain_amount(written, file.decimal_mark)
    except AmbiguousAmountError:
        # A report with it as it is might be read the other way.
        fields["amount"] = ""
    return completed(fields, options, amount_written=written)


def _json_fields(text: str) -> dict[str, str]:
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
    return {member: _stripped(content) for member, content in value.items()}


def _stripped(text: str) -> str:
    """Return a text without spaces around it. Line breaks stay, to be refused."""
    return text.strip("\t" + SPACES)


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")
