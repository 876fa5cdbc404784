"""Files as tables: CSV, statements and payment messages of ISO 20022, told apart by what is in them."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from participants.matching.csv_file import looks_like_csv, read_csv
from participants.matching.payment_messages import is_payment_message, read_payment_messages
from participants.matching.refusals import TableReason, TableRefused
from participants.matching.rules import Rules, Side
from participants.matching.statement_rows import looks_like_statement, read_statements
from participants.matching.table import Table
from participants.text_files.records import FileRefused, content_of

BYTES_MAX = 4 * 2**30
"""Of a file's content, uncompressed."""
_CHUNK = 1 << 24
_BLANK = b"\xef\xbb\xbf \t\r\n"


def read_tables(a: Path, b: Path, rules: Rules) -> tuple[Table, Table]:
    """Read both files at the same time. Raises TableRefused, A's before B's."""
    with ThreadPoolExecutor(1) as beside:
        later = beside.submit(read_table, b, rules, rules.b)
        return read_table(a, rules, rules.a), later.result()


def read_table(path: Path, rules: Rules, side: Side) -> Table:
    """Read a file, plain or compressed by gzip or xz, as a table. Raises TableRefused with the place."""
    table = _read(path, rules, side)
    return replace(table, rows=table.rows.with_columns(-pl.col.amount)) if side.negated else table


def _read(path: Path, rules: Rules, side: Side) -> Table:
    name = str(path)
    content = _content(path, name)
    head = content[: 1 << 16].lstrip(_BLANK)
    if not head:
        raise TableRefused(TableReason.EMPTY, name, detail="nothing in it")
    if head.startswith(b"<"):
        return read_payment_messages(name, content) if is_payment_message(content) else read_statements(name, content)
    if looks_like_statement(content) and not looks_like_csv(content, rules, side):
        return read_statements(name, content)
    return read_csv(name, content, rules, side)


def _content(path: Path, name: str) -> bytes:
    try:
        with content_of(path) as stream:
            if isinstance(stream, io.BufferedReader) and path.stat().st_size <= BYTES_MAX:
                return stream.read()
            parts, size = [], 0
            while part := stream.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > BYTES_MAX:
                    raise TableRefused(TableReason.TOO_LARGE, name, detail=f"more than {BYTES_MAX:,} bytes")
    except FileRefused as error:
        raise TableRefused(
            TableReason(error.reason.value), name, detail=str(error).removeprefix(f"{path}: ")
        ) from error
    except EOFError as error:
        raise TableRefused(TableReason.TRUNCATED, name, detail="the compressed data ends early") from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise TableRefused(TableReason.DAMAGED, name, detail=str(error)) from error
    except OSError as error:
        raise TableRefused(TableReason.UNREADABLE, name, detail=error.strerror or str(error)) from error
    return b"".join(parts)
