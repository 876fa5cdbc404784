"""CSV files as tables: plain ones by polars, those with line breaks in quotes, blank lines or wrong bytes by record.

Both ways end in columns of text and the line of each row, so that what a file means doesn't depend on the way.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from participants.matching.columns import Columns, typed
from participants.matching.quoting import marks_outside_quotes
from participants.matching.refusals import TableReason, TableRefused
from participants.matching.rules import Rules, Side
from participants.matching.table import NEEDED, Table
from participants.text_files.columns import SEPARATORS, column_key, columns_of
from participants.text_files.records import FileRefused, RecordFault, RecordRefusedError, csv_records_of, text_of

HEADER_BYTES_MAX = 65_536
PREAMBLE_LINES_MAX = 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Header:
    """The separator, the names of all columns, and which of them is which member of a row."""

    separator: str
    names: tuple[str, ...]
    members: Mapping[str, int]


def read_csv(name: str, content: bytes, rules: Rules, side: Side) -> Table:
    """Return the table that a CSV file is; `content` is all of it, uncompressed. Raises TableRefused."""
    content = content.removeprefix(_BOM)
    header = _find_header(name, content, rules, side)
    columns = _plain(header, content) or _records(name, header, content)
    return typed(name, columns, side, separator=header.separator)


def looks_like_csv(content: bytes, rules: Rules, side: Side) -> bool:
    """Tell whether the first line is the header of a table."""
    lines = content[:HEADER_BYTES_MAX].removeprefix(_BOM).splitlines()
    try:
        return bool(lines) and _header(lines[0].decode("utf-8", "replace"), rules, side, name="") is not None
    except TableRefused:
        return True


# --- the header --------------------------------------------------------------------------------------------


def _find_header(name: str, content: bytes, rules: Rules, side: Side) -> _Header:
    head = content[:HEADER_BYTES_MAX]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head[:64]:
        detail = "not UTF-8 (it looks like UTF-16 or binary); save the file as UTF-8"
        raise TableRefused(TableReason.ENCODING, name, line=1, detail=detail)
    lines = [(number, line) for number, line in enumerate(head.splitlines(), start=1) if line.strip()]
    if not lines:
        raise TableRefused(TableReason.EMPTY, name, detail="no line in it")
    number, first = lines[0]
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TableRefused(
            TableReason.ENCODING, name, line=number, detail="not UTF-8; save the file as UTF-8"
        ) from error
    header = _header(text, rules, side, name=name, line=number)
    if header is not None:
        return header
    for later, line in lines[1:PREAMBLE_LINES_MAX]:
        if _header(line.decode("utf-8", "replace"), rules, side, name=name, line=later) is not None:
            detail = f"{text[:40]!r} stands above the header, which is line {later}: take out what is above it"
            raise TableRefused(TableReason.PREAMBLE, name, line=number, detail=detail)
    needed = ", ".join("/".join(names) for member, names in _needed(rules, side).items())
    detail = f"no header with {needed} and {' or '.join(SEPARATORS.values())} between; the rules may name other columns"
    raise TableRefused(TableReason.COLUMNS, name, line=number, detail=detail)


def _needed(rules: Rules, side: Side) -> dict[str, tuple[str, ...]]:
    columns = {member: names for member, names in rules.columns_of(side).items() if names != ("",)}
    needed = {member: names for member, names in columns.items() if member in NEEDED}
    if side.currency:
        needed.pop("currency", None)
    return needed


def _header(text: str, rules: Rules, side: Side, *, name: str, line: int = 1) -> _Header | None:
    needed = _needed(rules, side)
    for separator in SEPARATORS:
        names = tuple(columns_of(text, separator))
        keys = [column_key(column) for column in names]
        if not all(any(column_key(name) in keys for name in choices) for choices in needed.values()):
            continue
        members: dict[str, int] = {}
        for member, choices in rules.columns_of(side).items():
            named = [keys.index(column_key(choice)) for choice in choices if choice and column_key(choice) in keys]
            if named:
                members[member] = named[0]
        twice = sorted({column for column, key in zip(names, keys, strict=True) if key and keys.count(key) > 1})
        if twice:
            raise TableRefused(
                TableReason.COLUMNS,
                name,
                line=line,
                column=twice[0][:40],
                detail="a column of this name stands there twice",
            )
        return _Header(separator, names, members)
    return None


# --- the rows ----------------------------------------------------------------------------------------------


def _plain(header: _Header, content: bytes) -> Columns | None:
    """Read a file in which a line is a row and quotes stand around whole fields; None for any other."""
    separator = header.separator.encode()
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n")
    has_quotes = b'"' in content
    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        return None
    marks: tuple[int, int] | None = content.count(b"\n"), content.count(separator)
    if has_quotes:
        marks = marks_outside_quotes(content, header.separator)
    if marks is None:
        return None
    lines = marks[0] - content.endswith(b"\n")
    # Each line has as many as the header: polars refuses one with more, so that none with fewer makes up for it.
    if marks[1] != (len(header.names) - 1) * (lines + 1) or content.startswith((b"\n", b"\r")):
        return None
    frame, numbers = pl.DataFrame(schema=_fields(header)), pl.int_range(2, lines + 2, eager=True).alias("line")
    if lines:
        try:
            frame = pl.read_csv(
                content,
                has_header=False,
                skip_lines=1,
                separator=header.separator,
                quote_char='"' if has_quotes else None,
                schema=_fields(header),
            )
        except pl.exceptions.PolarsError:
            # A row too long beside one too short, or a byte that isn't UTF-8: which and where, records say.
            return None
    if frame.height != lines:
        return None
    may_have_spaces = has_quotes or b" " in content or b"\t" in content or not content.isascii()
    return Columns(header.members, header.names, frame, numbers, may_have_spaces, has_quotes)


def _records(name: str, header: _Header, content: bytes) -> Columns:
    """Read a file record by record, as RFC 4180 has them. Raises TableRefused."""
    lines: list[int] = []
    rows: list[Sequence[str]] = []
    width = len(header.names)
    try:
        records = csv_records_of(text_of(io.BytesIO(content)), header.separator, name)
        next(records)
        for record in records:
            if isinstance(record.content, RecordRefusedError):
                reason = TableReason.ENCODING if record.content.fault is RecordFault.ENCODING else TableReason.ROW
                raise TableRefused(reason, name, line=record.line, detail=str(record.content))
            if len(record.content) != width:
                detail = f"{len(record.content)} columns where the header has {width}"
                raise TableRefused(TableReason.ROW, name, line=record.line, detail=detail)
            lines.append(record.line)
            rows.append(record.content)
    except FileRefused as error:
        raise TableRefused(
            TableReason(error.reason.value), name, detail=str(error).removeprefix(f"{name}: ")
        ) from error
    frame = pl.DataFrame(rows, schema=_fields(header), orient="row").with_columns(pl.all().replace("", None))
    return Columns(header.members, header.names, frame, pl.Series("line", lines, pl.Int64))


def _fields(header: _Header) -> dict[str, type[pl.String]]:
    return {str(place): pl.String for place in range(len(header.names))}
