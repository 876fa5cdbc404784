"""How a CSV is to be read as a statement: a layout, as a file of TOML says it.

Without a layout only a header of our own names is read, for nothing else is certain.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.federation.money import EXPONENTS
from participants.text_files.amounts import MARKS
from participants.text_files.columns import SEPARATORS

Column = str | int
"""A column by its name, or by its number counted from 1."""

_TOKENS = {"yyyy": "(?P<y>[0-9]{4})", "yy": "(?P<s>[0-9]{2})", "mm": "(?P<m>[0-9]{2})", "dd": "(?P<d>[0-9]{2})"}
_TOKENS |= {"m": "(?P<m>[0-9]{1,2})", "d": "(?P<d>[0-9]{1,2})"}
_TOKEN = re.compile("yyyy|yy|mm|m|dd|d")


class LayoutError(ValueError):
    """A layout that can't be used; the message says why."""


class Sign(Struct, frozen=True, forbid_unknown_fields=True):
    """A column that says whether an amount was credited or debited, and by which words."""

    column: Column
    credit: tuple[str, ...]
    debit: tuple[str, ...]


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """Where things stand: the amount with its sign, or what was credited and what was debited, and the rest."""

    amount: Column | None = None
    credit: Column | None = None
    debit: Column | None = None
    currency: Column | None = None
    account: Column | None = None
    value_date: Column | None = None
    booking_date: Column | None = None
    balance: Column | None = None
    reference: Column | None = None
    counterparty: Column | None = None
    counterparty_account: Column | None = None
    counterparty_agent: Column | None = None
    text: Column | tuple[Column, ...] | None = None
    code: Column | None = None
    references: dict[str, Column] = {}

    def named(self) -> Iterator[tuple[str, Column]]:
        """Yield every column with what it is for."""
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, tuple):
                yield from ((field, column) for column in value)
            elif isinstance(value, dict):
                yield from value.items()
            elif value is not None:
                yield field, value


class CsvLayout(Struct, frozen=True, forbid_unknown_fields=True):
    """A layout. What is None is found out where it is certain.

    `header_line` is the line of the header, 0 if there is none; what stands above it is passed over. `dates` are the
    forms of dates, such as `dd.mm.yyyy`. `account` and `currency` are those of every row.
    """

    columns: Columns
    separator: str | None = None
    decimal_mark: str | None = None
    dates: tuple[str, ...] = ("yyyy-mm-dd",)
    encoding: str = "utf-8"
    header_line: int = 1
    account: str | None = None
    currency: str | None = None
    sign: Sign | None = None


def read_layout(path: Path) -> CsvLayout:
    """Return the layout that a file of TOML says. Raises LayoutError."""
    try:
        layout = msgspec.convert(tomllib.loads(path.read_text("utf-8")), CsvLayout)
    except OSError as error:
        raise LayoutError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise LayoutError(f"{path}: {error}") from error
    try:
        check_layout(layout)
    except LayoutError as error:
        raise LayoutError(f"{path}: {error}") from None
    return layout


def check_layout(layout: CsvLayout) -> None:
    """Raise LayoutError for a layout that contradicts itself."""
    columns = layout.columns
    if (columns.amount is None) == (columns.credit is None and columns.debit is None):
        raise LayoutError("columns: either amount, or credit and debit")
    if columns.amount is None and (columns.credit is None or columns.debit is None):
        raise LayoutError("columns: credit and debit go together")
    if columns.amount is None and layout.sign is not None:
        raise LayoutError("sign: goes with a column amount")
    if columns.currency is None and layout.currency is None:
        raise LayoutError("currency: neither one of all rows nor a column")
    if layout.currency is not None and layout.currency not in EXPONENTS:
        raise LayoutError(f"currency: {layout.currency} is no active currency of ISO 4217")
    if layout.separator is not None and layout.separator not in SEPARATORS:
        raise LayoutError(f"separator: one of {', '.join(SEPARATORS.values())}")
    if layout.decimal_mark is not None and layout.decimal_mark not in MARKS:
        raise LayoutError("decimal_mark: a point or a comma")
    if layout.header_line < 0:
        raise LayoutError("header_line: counted from 1, 0 for no header")
    used = [column for _, column in columns.named()] + ([layout.sign.column] if layout.sign else [])
    if layout.header_line == 0:
        if any(isinstance(column, str) for column in used):
            raise LayoutError("columns: by number where there is no header")
        if layout.separator is None:
            raise LayoutError("separator: must be said where there is no header")
    if any(isinstance(column, int) and column < 1 for column in used):
        raise LayoutError("columns: numbers count from 1")
    for form in layout.dates:
        date_pattern(form)
    try:
        codecs.lookup(layout.encoding)
    except LookupError:
        raise LayoutError(f"encoding: {layout.encoding!r} isn't known") from None


@lru_cache(maxsize=64)
def date_pattern(form: str) -> re.Pattern[str]:
    """Return what matches a form of dates. Raises LayoutError unless it has a day, a month and a year once each."""
    parts = [token[0] for token in _TOKEN.findall(form)]
    if sorted(parts) != ["d", "m", "y"]:
        raise LayoutError(f"dates: {form!r} hasn't a day (dd), a month (mm) and a year (yyyy) once each")
    pattern, last = "", 0
    for match in _TOKEN.finditer(form):
        pattern += re.escape(form[last : match.start()]) + _TOKENS[match[0]]
        last = match.end()
    return re.compile(pattern + re.escape(form[last:]))


@lru_cache(maxsize=4096)
def day_of(text: str, forms: tuple[str, ...]) -> date | None:
    """Return the day that a text is in the first of the forms that fits; None if in none."""
    for form in forms:
        match = date_pattern(form).fullmatch(text)
        if match is not None:
            parts = match.groupdict()
            short = parts.get("s")
            # Years up to 79 are of this century, as in MT940.
            year = int(parts["y"]) if short is None else int(short) + (2000 if int(short) < 80 else 1900)
            try:
                return date(year, int(parts["m"]), int(parts["d"]))
            except ValueError:
                return None
    return None
