"""Columns of text as a table: money in minor units without a float on the way, currencies, dates, references.

Whole columns are converted at once. Where one value can't be, the first such is looked for and named with its line.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from gateway.federation.money import EXPONENTS, AmountError, AmountReason, parse_amount
from participants.matching.refusals import TableReason, TableRefused
from participants.matching.rules import Side
from participants.matching.table import CURRENCIES, CURRENCY, DIGITS_MAX, Table, table
from participants.text_files.amounts import MARKS, AmbiguousAmountError, certain_mark, plain_amount

_PLAIN = r"^[+-]?[0-9]+(?:\.[0-9]+)?$"
# What may be a thousand and more, or three decimals.
_AMBIGUOUS = r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"
_DATES = {
    "YYYY-MM-DD": ("%Y-%m-%d", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    "YYYYMMDD": ("%Y%m%d", r"^[0-9]{8}$"),
    "DD.MM.YYYY": ("%d.%m.%Y", r"^[0-9]{2}\.[0-9]{2}\.[0-9]{4}$"),
    "DD/MM/YYYY": ("%d/%m/%Y", r"^[0-9]{2}/[0-9]{2}/[0-9]{4}$"),
    "MM/DD/YYYY": ("%m/%d/%Y", r"^[0-9]{2}/[0-9]{2}/[0-9]{4}$"),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """A file's columns of text, called by their place ("0", "1", …), and which of them is which member of a row.

    What is empty is null. `lines` says where each row stands; `may_have_spaces` and `has_quotes` whether there are
    any in the file.
    """

    members: Mapping[str, int]
    names: tuple[str, ...]
    frame: pl.DataFrame
    lines: pl.Series
    may_have_spaces: bool = True
    has_quotes: bool = True


def typed(name: str, columns: Columns, side: Side, *, separator: str) -> Table:
    """Return the table that columns of text are. Raises TableRefused with the first line that is wrong."""
    return _Typing(name, filled(columns), side, separator).table()


def filled(columns: Columns) -> Columns:
    """Return the columns without spaces around what stands in them, and without the rows in which nothing does."""
    frame, lines = columns.frame, columns.lines
    if columns.may_have_spaces:
        frame = frame.with_columns(pl.all().str.strip_chars().replace("", None))
    # A row of nothing has no amount either, and nearly every file has one in each row.
    if frame[str(columns.members["amount"])].null_count():
        kept = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
        frame, lines = frame.filter(kept), lines.filter(kept)
    return replace(columns, frame=frame, lines=lines)


class _Typing:
    def __init__(self, name: str, columns: Columns, side: Side, separator: str) -> None:
        self._name = name
        self._columns = columns
        self._side = side
        self._separator = separator
        self._frame = columns.frame

    def table(self) -> Table:
        currency = self._currency()
        amount = self._amount(currency)
        rows = {"line": self._columns.lines, "amount": amount, "currency": currency}
        if (dates := self._text("value_date")) is not None:
            rows["value_date"] = self._dates(dates)
        for member in ("reference", "text", "account", "cycle", "status"):
            if (text := self._text(member)) is not None:
                rows[member] = text
        taken = set(self._columns.members.values())
        others = {
            name or f"column {place + 1}": self._frame[str(place)]
            for place, name in enumerate(self._columns.names)
            if place not in taken
        }
        return table(self._name, pl.DataFrame(rows), pl.DataFrame(others))

    def _text(self, member: str) -> pl.Series | None:
        place = self._columns.members.get(member)
        return None if place is None else self._frame[str(place)]

    def _refuse(self, row: int, member: str, reason: TableReason, detail: str) -> TableRefused:
        place = self._columns.members.get(member)
        column = member if place is None else self._columns.names[place]
        return TableRefused(reason, self._name, line=self._columns.lines[row], column=column, detail=detail)

    def _currency(self) -> pl.Series:
        written = self._text("currency")
        if written is None:
            written = pl.repeat(self._side.currency, self._frame.height, dtype=pl.String, eager=True)
        currency = written.cast(CURRENCY, strict=False)
        if currency.null_count():
            currency = written.str.to_uppercase().cast(CURRENCY, strict=False)
        for row in currency.is_null().arg_true()[:1]:
            detail = f"not an active ISO 4217 currency: {(written[row] or '')[:16]!r}"
            raise self._refuse(row, "currency", TableReason.CURRENCY, detail)
        return currency

    def _amount(self, currency: pl.Series) -> pl.Series:
        written = self._text("amount")
        assert written is not None
        plain = self._plain(written)
        decimals = pl.Series([EXPONENTS[code] for code in CURRENCIES], dtype=pl.Int8)
        used = sorted({EXPONENTS[code] for code in currency.unique()})
        exponent = decimals.gather(currency.to_physical()) if len(used) > 1 else None
        minor: pl.Series | None = None
        for count in used:
            digits = rf"^[+-]?[0-9]{{1,{DIGITS_MAX - count}}}" + (rf"(?:\.[0-9]{{1,{count}}})?$" if count else "$")
            right = plain.str.contains(digits).fill_null(False)
            if exponent is not None:
                right |= exponent != count
            if not right.all():
                row = int((~right).arg_true()[0])
                raise self._refuse(row, "amount", *_fault(plain[row], written[row], currency[row]))
            # Exact: an amount of such a currency has no more decimals than this, nor more digits than 128 bits hold.
            some = plain.cast(pl.Decimal(38, count), strict=False).to_physical().cast(pl.Int64)
            minor = some if minor is None or exponent is None else some.zip_with(exponent == count, minor)
        return pl.Series(dtype=pl.Int64) if minor is None else minor

    def _plain(self, written: pl.Series) -> pl.Series:
        """Return amounts without groups and with a decimal point, by the one mark that serves the whole file."""
        if self._separator == "," and not self._columns.has_quotes:
            # No amount can have a comma in it.
            return written
        certain = written.str.contains(_PLAIN).fill_null(True).all()
        if certain and (self._separator == "," or not written.str.contains(_AMBIGUOUS).any()):
            return written
        values = written.unique().drop_nulls().to_list()
        seen: dict[str, str] = {}
        for value in values:
            if (mark := certain_mark(value.lstrip("+-"))) is not None:
                seen.setdefault(mark, value)
        if len(seen) > 1:
            rows = sorted((_place(written, value), mark) for mark, value in seen.items())
            examples = (
                f"line {self._columns.lines[row]} has a decimal {MARKS[mark]} ({written[row][:40]})"
                for row, mark in rows
            )
            raise self._refuse(rows[-1][0], "amount", TableReason.DECIMAL_MARK, ", ".join(examples))
        mark = next(iter(seen), "." if self._separator == "," else "")
        plain: dict[str, str] = {}
        for value in values:
            number = value.lstrip("+-")
            try:
                plain[value] = value[: len(value) - len(number)] + plain_amount(number, mark)
            except AmbiguousAmountError as error:
                raise self._refuse(_place(written, value), "amount", TableReason.DECIMAL_MARK, str(error)) from error
        return written.replace(list(plain), list(plain.values()))

    def _dates(self, written: pl.Series) -> pl.Series:
        form, shape = _DATES[self._side.date_format]
        dates = written.str.to_date(form, strict=False)
        # A file has few days: their form is looked at once each.
        malformed = written.unique().drop_nulls()
        malformed = malformed.filter(~malformed.str.contains(shape))
        wrong = dates.is_null() & written.is_not_null() | written.is_in(malformed.implode())
        for row in wrong.arg_true()[:1]:
            detail = f"no date of the form {self._side.date_format}: {written[row][:40]!r}"
            raise self._refuse(row, "value_date", TableReason.DATE, detail)
        return dates


def _place(texts: pl.Series, text: str) -> int:
    place = texts.index_of(text)
    assert place is not None
    return place


def _fault(plain: str | None, written: str | None, currency: str) -> tuple[TableReason, str]:
    """Say what is wrong with an amount."""
    if plain is None:
        return TableReason.AMOUNT, "there is no amount"
    try:
        parse_amount(plain.removeprefix("-").removeprefix("+"), currency)
    except AmountError as error:
        known = {AmountReason.TOO_MANY_DECIMALS: TableReason.DECIMALS, AmountReason.TOO_LARGE: TableReason.AMOUNT_LARGE}
        return known.get(error.reason, TableReason.AMOUNT), str(error)
    return TableReason.AMOUNT_LARGE, f"more than {DIGITS_MAX} digits: {(written or '')[:40]!r}"


def units(amount: int, currency: str) -> str:
    """Write minor units as decimal text without groups."""
    decimals = EXPONENTS[currency]
    digits = str(abs(amount)).rjust(decimals + 1, "0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"


def day(value: datetime.date | None) -> str | None:
    """Write a date as ISO 8601 does."""
    return None if value is None else value.isoformat()
