"""Files of statements: what format one is in, told by its content, and the statements that it holds."""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from participants.statements.bai2 import read_bai2
from participants.statements.csv_layout import CsvLayout
from participants.statements.csv_statement import read_csv
from participants.statements.mt940 import read_mt940
from participants.statements.mt_fields import begins_like_mt
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Finding, Place, Statement
from participants.text_files.records import FileRefused, content_of

FILE_BYTES_MAX = 128 * 2**20

_START = Place(1, "")
_PAYMENT = re.compile(r"^:(?:23B|32A|50[AFK]|59[AF]?):", re.MULTILINE)
_BAI2 = re.compile(r"\s*[0-9]{2},[^\n]*/[ \t]*(?:\n|$)|\s*01,[^\n]*,[^\n]*,")


def read(
    source: Path | str | bytes, *, layout: CsvLayout | None = None, progress: Callable[[int], None] = lambda _: None
) -> list[Statement]:
    """Return the statements of a file, or of its bytes. Raises StatementRefused.

    `layout` says how a CSV is read, and that it is one. `progress` hears of lines read.
    """
    data = source if isinstance(source, bytes) else _bytes_of(Path(source))
    if len(data) > FILE_BYTES_MAX:
        raise StatementRefused(Reason.FILE_TOO_LARGE, f"more than {FILE_BYTES_MAX:,} bytes", _START)
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        raise StatementRefused(Reason.FILE_EMPTY, "nothing in it", _START)
    if layout is not None:
        return read_csv(_text(data, layout.encoding), layout, progress)
    if _is_xml(data):
        # The parser of XML is loaded where there is XML.
        from participants.statements.camt import read_camt

        return read_camt(data, progress)
    text, findings = _guessed_text(data)
    if begins_like_mt(text):
        if _PAYMENT.search(text) and ":60" not in text and ":34F" not in text:
            raise StatementRefused(Reason.NOT_A_STATEMENT, "a payment message, not a statement", _START)
        return _with(read_mt940(text, progress), findings)
    if _BAI2.match(text):
        return _with(read_bai2(text, progress), findings)
    if findings:
        detail = "not UTF-8; a layout says which encoding a CSV is in"
        raise StatementRefused(Reason.ENCODING_WRONG, detail, findings[0].place)
    return read_csv(text, None, progress)


def _bytes_of(path: Path) -> bytes:
    try:
        with content_of(path) as stream:
            return stream.read(FILE_BYTES_MAX + 1)
    except EOFError:
        raise StatementRefused(Reason.FILE_TRUNCATED, "the compressed data ends early", _START) from None
    except (FileRefused, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise StatementRefused(Reason.FILE_UNREADABLE, f"{error}", _START) from None
    except OSError as error:
        raise StatementRefused(Reason.FILE_UNREADABLE, error.strerror or str(error), _START) from None


def _is_xml(data: bytes) -> bool:
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def _text(data: bytes, encoding: str) -> str:
    """Return the text of a file with `\\n` between its lines. Raises StatementRefused."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data:
        line = data.count(b"\n", 0, max(data.find(b"\x00"), 0)) + 1
        raise StatementRefused(Reason.ENCODING_WRONG, "bytes of zero: UTF-16 or no text", Place(line, ""))
    try:
        # Some systems end a text by the mark of an end that DOS has.
        text = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a").decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        detail = f"byte 0x{data[error.start]:02x} is not {encoding.upper()}"
        raise StatementRefused(Reason.ENCODING_WRONG, detail, Place(line, "")) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _guessed_text(data: bytes) -> tuple[str, list[Finding]]:
    """Return UTF-8, or text of a byte per character and a finding that says so."""
    try:
        return _text(data, "utf-8"), []
    except StatementRefused as refused:
        if b"\x00" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise
        finding = Finding("encoding_assumed", f"{refused.detail}; read as Latin-1", refused.place)
        return _text(data, "latin-1"), [finding]


def _with(statements: list[Statement], findings: list[Finding]) -> list[Statement]:
    if findings and statements:
        statements[0] = replace(statements[0], findings=(*findings, *statements[0].findings))
    return statements
