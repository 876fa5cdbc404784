"""Files of an analyst, read strictly: JSON documents and CSV tables, in the form of one closed schema each.

A byte order mark, either line end and blank lines at the end are read as what they are, and text becomes NFC. Otherwise
nothing is guessed or left out: a member or column that isn't known, one that is there twice, a missing or wrongly typed
one, and a record that can't be read each refuse the whole file, with a stable reason and the place.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sys
import unicodedata
from array import array
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from compliance.terminal import shown

STANDARD_INPUT = "-"
_DIGITS_MAX = 1_000
_WHOLE = re.compile(rf"-?(0|[1-9][0-9]{{0,{_DIGITS_MAX - 1}}})", re.ASCII)
_BLOCK_ROWS = 65_536


class InputReason(StrEnum):
    """Why a file for analysis can't be used, in the order in which it is looked at."""

    FILE_UNREADABLE = "file_unreadable"
    FILE_EMPTY = "file_empty"
    ENCODING_WRONG = "encoding_wrong"
    """Not UTF-8."""
    JSON_MALFORMED = "json_malformed"
    COLUMNS_WRONG = "columns_wrong"
    """The header of a table names a column twice or one that isn't known, or lacks one that is needed."""
    ROW_MALFORMED = "row_malformed"
    """A row of a table has more or fewer fields than the header, or its quotes don't match."""
    FIELD_INVALID = "field_invalid"
    """A member is missing, isn't known, or has the wrong type; an amount with a fraction is one of these."""
    MEMBER_REPEATED = "member_repeated"
    """A JSON object has a member twice."""
    RECORDS_AMBIGUOUS = "records_ambiguous"
    """There are both obligations and payments, or neither."""
    NAME_MALFORMED = "name_malformed"
    """A name is empty, has white space around it or a control character in it."""
    PARTICIPANT_REPEATED = "participant_repeated"
    AMOUNT_MALFORMED = "amount_malformed"
    """A text that isn't a whole number of minor units in plain digits."""
    TIME_MALFORMED = "time_malformed"
    """Neither whole seconds nor an RFC 3339 timestamp, or not the one of them that the file began with."""
    OUTPUT_UNWRITABLE = "output_unwritable"
    """The answer can't be written where it should go."""


class InputRefusedError(ValueError):
    """A file that can't be used: a stable reason of this module or of netting, and the place in the file."""

    def __init__(self, reason: StrEnum, file: str, *, place: str = "", at: str = "", detail: str = "") -> None:
        parts = (reason.value, "standard input" if file == STANDARD_INPUT else file, place, at, detail)
        super().__init__(shown(": ".join(part for part in parts if part)))
        self.reason = reason
        self.place = place
        self.field = at


class Form(StrEnum):
    """How a file is written."""

    JSON = "json"
    CSV = "csv"


D = TypeVar("D", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class SourceDocument(Generic[D]):
    """A document that was read, and where its records stood."""

    file: str
    document: D
    member: str | None
    """The member that a table's rows have filled; None for JSON."""
    lines: array[int] = field(default_factory=lambda: array("q"))

    def refused(
        self, reason: StrEnum, *, member: str, index: int | None = None, at: str = "", detail: str = ""
    ) -> InputRefusedError:
        """Return a refusal of a record of a member (or of the member itself) with its place in the file."""
        if index is None:
            place = member
        elif member == self.member:
            place = f"line {self.lines[index]}"
        else:
            place = f"{member}[{index}]"
        return InputRefusedError(reason, self.file, place=place, at=at, detail=detail)


def read_records(
    file: str,
    kind: type[D],
    *,
    rows: str,
    row_kind: type[msgspec.Struct],
    form: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> SourceDocument[D]:
    """Read a document of `kind` from a file, or from standard input ("-"). Raises InputRefusedError.

    A table has one row for each record of `row_kind` and fills the member `rows` of the document. `form` is one of
    `Form`; without it the name's ending decides, and then whether the first character is a brace. `progress` hears
    the number of records now and then.
    """
    try:
        with _open(file) as stream:
            start = stream.peek(16).removeprefix(BOM_UTF8).lstrip()[:1]
            if not start and not stream.read().removeprefix(BOM_UTF8).strip():
                raise InputRefusedError(InputReason.FILE_EMPTY, file)
            ending = file.lower().rpartition(".")[2]
            if form is None:
                form = ending if ending in list(Form) else Form.JSON if start in (b"{", b"[") else Form.CSV
            if form == Form.JSON:
                return SourceDocument(file, _json(file, stream.read(), kind), None)
            records, lines = _csv(file, stream, row_kind, progress)
    except OSError as error:
        raise InputRefusedError(InputReason.FILE_UNREADABLE, file, detail=error.strerror or str(error)) from error
    return SourceDocument(file, kind(**{rows: records}), rows, lines)


def minor_units(text_or_number: int | str) -> int | None:
    """Return an amount that is written as an integer or as digits; None if it is neither.

    Its sign and size are for netting to judge.
    """
    if isinstance(text_or_number, int):
        return text_or_number
    return int(text_or_number) if _WHOLE.fullmatch(text_or_number) else None


def is_name(text: str) -> bool:
    """Return whether a text can name a bank, a currency or an obligation."""
    return text.isalnum() or (bool(text) and text == text.strip() and text.isprintable())


def _open(file: str) -> Any:
    if file == STANDARD_INPUT:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return open(file, "rb")


def _composed(text: str) -> str:
    """Return a text in NFC, so that names that look the same are the same."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


# --- JSON -------------------------------------------------------------------------------------------------


# Of letters beyond ASCII; halves of pairs stay, and what an escaped backslash only looks like.
_ESCAPED = re.compile(r"\\\\|\\u(?!00[0-7])(?![dD][89a-fA-F])([0-9a-fA-F]{4})")


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[0]


@dataclass(frozen=True, slots=True)
class _Repeated:
    member: str


def _json(file: str, data: bytes, kind: type[D]) -> D:
    try:
        text = _composed(_ESCAPED.sub(_unescaped, data.decode("utf-8-sig")))
        document = msgspec.json.decode(text, type=kind)
        # msgspec takes the last of several members of one name; the standard library shows them all.
        _find_repeated(file, json.loads(text, object_pairs_hook=_pairs, parse_int=str, parse_float=str), "")
    except UnicodeDecodeError as error:
        place = f"byte {error.start}"
        raise InputRefusedError(InputReason.ENCODING_WRONG, file, place=place, detail=error.reason) from error
    except msgspec.ValidationError as error:
        raise _invalid(file, text, kind, error) from error
    except msgspec.DecodeError as error:
        raise InputRefusedError(InputReason.JSON_MALFORMED, file, detail=str(error)) from error
    except RecursionError as error:
        raise InputRefusedError(InputReason.JSON_MALFORMED, file, detail="nested too deeply") from error
    return document


def _invalid(file: str, text: str, kind: type[msgspec.Struct], error: msgspec.ValidationError) -> InputRefusedError:
    detail, _, path = str(error).partition(" - at `$")
    path = path.rstrip("`")
    if "[...]" in path:
        # What stands after the place may not even be JSON; then it stays unnamed.
        with contextlib.suppress(ValueError, RecursionError):
            path = _with_names(json.loads(text), kind, path)
    path = path.strip(".")
    place, _, at = path.rpartition(".")
    if named := re.search(r"field `([^`]*)`", detail):
        place, at = path, named[1]
    elif at.endswith("]"):
        place, at = path, ""
    return InputRefusedError(InputReason.FIELD_INVALID, file, place=place, at=at, detail=detail)


def _with_names(document: Any, kind: type[msgspec.Struct], path: str) -> str:
    """Return msgspec's path to what is wrong, with the names of members where it writes [...] for any of them."""
    named, inner, outer = "", document, []
    for step in re.findall(r"\.\w+|\[\d+\]|\[\.\.\.\]", path):
        if step[0] == ".":
            outer.append(step[1:])
            inner, named = inner[step[1:]], named + step
        elif step == "[...]" and (wrong := _first_refused(inner, kind, outer)) is not None:
            outer.append(wrong)
            inner, named = inner[wrong], f"{named}.{wrong}"
        else:
            return path
    return named


def _first_refused(members: dict[str, Any], kind: type[msgspec.Struct], outer: list[str]) -> str | None:
    for name, value in members.items():
        document = {name: value}
        for around in reversed(outer):
            document = {around: document}
        try:
            msgspec.convert(document, kind)
        except msgspec.ValidationError:
            return name
    return None


def _pairs(pairs: list[tuple[str, Any]]) -> Any:
    """Keep only what may hold a repeated member, so that a large document takes little memory a second time."""
    names = {name for name, _ in pairs}
    if len(names) == len(pairs):
        return {name: value for name, value in pairs if isinstance(value, (dict, list, _Repeated))}
    names.clear()
    for name, _ in pairs:
        if name in names:
            break
        names.add(name)
    return _Repeated(name)


def _find_repeated(file: str, value: Any, path: str) -> None:
    if isinstance(value, _Repeated):
        raise InputRefusedError(InputReason.MEMBER_REPEATED, file, place=path, at=value.member)
    if isinstance(value, dict):
        for name, inner in value.items():
            _find_repeated(file, inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            if inner:
                _find_repeated(file, inner, f"{path}[{index}]")


# --- CSV --------------------------------------------------------------------------------------------------


def _csv(
    file: str, stream: BinaryIO, kind: type[msgspec.Struct], progress: Callable[[int], None]
) -> tuple[tuple[Any, ...], array[int]]:
    """Return the records of a table and the line that each ends in."""
    reader = csv.reader(map(_composed, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")), strict=True)
    try:
        header = next(reader, [])
        _check_header(file, header, kind)
        lines: array[int] = array("q")
        records = tuple(_records(file, header, reader, kind, lines, progress))
    except UnicodeDecodeError as error:
        place = f"after line {reader.line_num}"
        raise InputRefusedError(InputReason.ENCODING_WRONG, file, place=place, detail=error.reason) from error
    except csv.Error as error:
        place = f"line {reader.line_num}"
        raise InputRefusedError(InputReason.ROW_MALFORMED, file, place=place, detail=str(error)) from error
    return records, lines


def _check_header(file: str, header: list[str], kind: type[msgspec.Struct]) -> None:
    required_by_column = {field_.encode_name: field_.required for field_ in msgspec.structs.fields(kind)}
    for wrong, detail in (
        ([name for name in header if name not in required_by_column], "not a column that is known"),
        ([name for at, name in enumerate(header) if name in header[:at]], "there twice"),
        ([name for name, required in required_by_column.items() if required and name not in header], "missing"),
    ):
        if wrong:
            raise InputRefusedError(InputReason.COLUMNS_WRONG, file, place="line 1", at=wrong[0][:100], detail=detail)


def _records(
    file: str,
    header: list[str],
    reader: Any,
    kind: type[msgspec.Struct],
    lines: array[int],
    progress: Callable[[int], None],
) -> Iterator[Any]:
    rows: Iterable[list[str]] = reader
    width, convert = len(header), msgspec.convert
    whole = [field_.encode_name for field_ in msgspec.structs.fields(kind) if field_.type in (int, int | None)]
    whole = [name for name in whole if name in header]
    blank = 0
    for row in rows:
        if not row:  # Spreadsheets leave blank lines at the end; before a row something is missing.
            blank = blank or reader.line_num
            continue
        if blank:
            raise InputRefusedError(InputReason.ROW_MALFORMED, file, place=f"line {blank}", detail="a blank line")
        if len(row) != width:
            place, detail = f"line {reader.line_num}", f"{len(row)} fields, {width} in the header"
            raise InputRefusedError(InputReason.ROW_MALFORMED, file, place=place, detail=detail)
        record = dict(zip(header, row, strict=True))
        if "" in row:  # an empty field is one that isn't given
            record = {name: text for name, text in record.items() if text}
        for name in whole:  # msgspec would take 1.0 and 1e2 for integers here
            if name in record and not _WHOLE.fullmatch(record[name]):
                place, detail = f"line {reader.line_num}", "not a whole number in plain digits"
                raise InputRefusedError(InputReason.FIELD_INVALID, file, place=place, at=name, detail=detail)
        try:
            yield convert(record, kind, strict=False)
        except msgspec.ValidationError as error:
            detail, _, path = str(error).partition(" - at `$")
            field_name = re.search(r"field `([^`]*)`", detail)
            at = path.strip(".`") or (field_name[1] if field_name else "")
            raise InputRefusedError(
                InputReason.FIELD_INVALID, file, place=f"line {reader.line_num}", at=at, detail=detail
            ) from error
        lines.append(reader.line_num)
        if len(lines) % _BLOCK_ROWS == 0:
            progress(len(lines))
