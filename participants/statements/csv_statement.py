"""CSV as statements: rows of one account or several, by a layout or by a header of our own names."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import NoReturn

from compliance.iban import normal_account
from participants.statements.amounts import check_currency, check_entries, minor_units, shown
from participants.statements.csv_layout import Column, Columns, CsvLayout, day_of
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Balance, Entry, Place, Statement, best_reference
from participants.text_files.amounts import AmbiguousAmountError, certain_mark, plain_amount
from participants.text_files.columns import SEPARATORS, column_key, columns_of
from participants.text_files.records import (
    RECORD_CHARACTERS_MAX,
    FileRefused,
    RecordFault,
    RecordRefusedError,
    csv_records_of,
)

_OWN = tuple(field for field in Columns.__struct_fields__ if field not in ("credit", "debit", "references"))
_OWN_REFERENCES = ("end_to_end_id", "uetr", "tx_id", "instruction_id", "customer", "bank")
_GROUPED_BY_SPACE = re.compile(r"[0-9]{1,3}(?:[ \u00a0\u202f'\u2019][0-9]{3})+(?:[.,][0-9]+)?")
# By the mark that a layout says, which makes a thousand of what could be decimals.
_GROUPED = {
    ".": re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?"),
    ",": re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?"),
}
_SPACES = re.compile(r"[ \u00a0\u202f'\u2019]")
_MINUS = str.maketrans("\u2212", "-")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    fields: list[str]


def read_csv(text: str, layout: CsvLayout | None, progress: Callable[[int], None]) -> list[Statement]:
    """Read all rows of a text with `\\n` between its lines. Raises StatementRefused."""
    above = 0 if layout is None else max(layout.header_line - 1, 0)
    body = text if not above else text.split("\n", above)[-1]
    header, header_line = _header(body, above)
    separator, layout = _settled(header, header_line, layout)
    rows = _rows(body, above, separator, progress)
    names: list[str] = []
    if layout.header_line:
        names = [column_key(name) for name in (rows.pop(0).fields if rows else [])]
    reader = _Reader(layout, names, header_line)
    return reader.statements(rows, separator)


def _header(text: str, above: int) -> tuple[str, int]:
    for number, line in enumerate(text.split("\n", 20)[:20], start=above + 1):
        if len(line) > RECORD_CHARACTERS_MAX:
            detail = f"more than {RECORD_CHARACTERS_MAX:,} characters"
            raise StatementRefused(Reason.NOT_A_STATEMENT, detail, Place(number, "header"))
        if line.strip():
            return line, number
    raise StatementRefused(Reason.FILE_EMPTY, "no row in it", Place(above + 1, ""))


def _settled(header: str, line: int, layout: CsvLayout | None) -> tuple[str, CsvLayout]:
    """Return what stands between the columns, and the layout. Raises StatementRefused for what isn't certain."""
    place = Place(line, "header")
    if layout is not None and layout.separator is not None:
        return layout.separator, layout
    named = None
    if layout is not None:
        named = {column_key(column) for _, column in layout.columns.named() if isinstance(column, str)}
    for separator in SEPARATORS:
        keys = [column_key(name) for name in columns_of(header, separator)]
        if named is not None and layout is not None:
            if named and named <= set(keys):
                return separator, layout
        elif {"amount", "currency"} <= set(keys):
            return separator, _own(keys, header, separator, place)
    if named is None:
        detail = f"{header[:60]!r} begins no format that is known; a CSV needs a layout, or the header amount, currency"
        raise StatementRefused(Reason.NOT_A_STATEMENT, f"{detail}, …", place)
    raise StatementRefused(Reason.FORMAT_UNKNOWN, "the header hasn't the columns that the layout names", place)


def _own(keys: list[str], header: str, separator: str, place: Place) -> CsvLayout:
    known = {column_key(name): name for name in (*_OWN, *_OWN_REFERENCES)}
    unknown = [name for name, key in zip(columns_of(header, separator), keys, strict=True) if key not in known]
    if unknown:
        detail = f"unknown columns: {', '.join(name[:40] for name in unknown[:10])}; a layout says what to read"
        raise StatementRefused(Reason.FORMAT_UNKNOWN, detail, place)
    present = [known[key] for key in keys]
    columns: dict[str, str] = {name: name for name in present if name in _OWN}
    references: dict[str, Column] = {name: name for name in present if name in _OWN_REFERENCES}
    return CsvLayout(columns=Columns(**columns, references=references))


def _rows(text: str, above: int, separator: str, progress: Callable[[int], None]) -> list[_Row]:
    rows: list[_Row] = []
    try:
        for record in csv_records_of(io.StringIO(text), separator, "the file"):
            line = above + record.line
            if isinstance(record.content, RecordRefusedError):
                long = record.content.fault is RecordFault.LINE_TOO_LONG
                reason = Reason.FIELD_MALFORMED if long else Reason.ENCODING_WRONG
                raise StatementRefused(reason, str(record.content), Place(line, ""))
            assert isinstance(record.content, list)
            rows.append(_Row(line, record.content))
            progress(line)
            check_entries(len(rows) - 1, Place(line, ""))
    except FileRefused as refused:
        match = re.search(r"line ([0-9]+)", str(refused))
        place = Place(above + int(match[1]) if match else 1, "")
        raise StatementRefused(Reason.STRUCTURE_WRONG, str(refused).split(": ", 2)[-1], place) from None
    return rows


class _Reader:
    """The rows of a file by its layout."""

    def __init__(self, layout: CsvLayout, names: list[str], header_line: int) -> None:
        self._layout = layout
        self._names = names
        self._header = Place(header_line, "header")
        twice = sorted({name for name in names if name and names.count(name) > 1})
        columns = layout.columns
        self._at = {purpose: self._index(column, twice) for purpose, column in columns.named() if purpose != "text"}
        texts = columns.text if isinstance(columns.text, tuple) else () if columns.text is None else (columns.text,)
        self._texts = [self._index(column, twice) for column in texts]
        self._sign_at = None if layout.sign is None else self._index(layout.sign.column, twice)
        self._mark = layout.decimal_mark

    def _index(self, column: Column, twice: list[str]) -> int:
        if isinstance(column, int):
            return column - 1
        key = column_key(column)
        if key in twice:
            raise StatementRefused(Reason.STRUCTURE_WRONG, f"column {column} stands there twice", self._header)
        if key not in self._names:
            raise StatementRefused(Reason.FORMAT_UNKNOWN, f"column {column} is missing", self._header)
        return self._names.index(key)

    def statements(self, rows: list[_Row], separator: str) -> list[Statement]:
        """Return a statement of each account and currency. Raises StatementRefused."""
        width = len(self._names) or (len(rows[0].fields) if rows else 0)
        highest = max((*self._at.values(), *self._texts, self._sign_at or 0), default=0)
        for row in rows:
            if len(row.fields) != width or highest >= width:
                detail = f"{len(row.fields)} columns where there are {max(width, highest + 1)}"
                raise StatementRefused(Reason.STRUCTURE_WRONG, detail, Place(row.line, ""))
        if self._mark is None:
            self._mark = self._found_mark(rows, separator)
        accounts: dict[tuple[str | None, str], list[tuple[_Row, Entry]]] = {}
        for row in rows:
            account = self._account(row, "account") or self._layout.account
            entry = self._entry(row)
            accounts.setdefault((account, entry.currency), []).append((row, entry))
        return [self._statement(account, currency, its) for (account, currency), its in accounts.items()]

    def _statement(self, account: str | None, currency: str, its: list[tuple[_Row, Entry]]) -> Statement:
        opening, closing = self._balances(its, currency) if "balance" in self._at else (None, None)
        return Statement(
            format="CSV",
            place=Place(its[0][0].line, "row"),
            account=account,
            currency=currency,
            opening=opening,
            closing=closing,
            entries=tuple(entry for _, entry in its),
        )

    # --- amounts --------------------------------------------------------------------------------------------

    def _amount_columns(self) -> Iterable[int]:
        return (self._at[name] for name in ("amount", "credit", "debit", "balance") if name in self._at)

    def _found_mark(self, rows: list[_Row], separator: str) -> str:
        """Return the decimal mark that the amounts show, "" if they show none. Raises StatementRefused."""
        seen: dict[str, _Row] = {}
        for row in rows:
            for column in self._amount_columns():
                mark = certain_mark(_unsigned(row.fields[column])[0])
                if mark is not None:
                    seen.setdefault(mark, row)
        if len(seen) > 1:
            lines = " and ".join(f"line {row.line} a {mark}" for mark, row in seen.items())
            place = Place(max(row.line for row in seen.values()), "amount")
            raise StatementRefused(Reason.AMOUNT_MALFORMED, f"{lines} before the decimals", place)
        return next(iter(seen), "." if separator == "," else "")

    def _money(self, row: _Row, name: str, currency: str) -> int | None:
        """Return a signed amount, None for an empty field. Raises StatementRefused."""
        written = row.fields[self._at[name]].strip()
        if not written:
            return None
        place = self._place(row, name)
        text, negative = _unsigned(written)
        if self._layout.decimal_mark is not None and _GROUPED[self._layout.decimal_mark].fullmatch(text):
            text = text.replace("," if self._layout.decimal_mark == "." else ".", "")
        try:
            plain = plain_amount(text, self._mark or "")
        except AmbiguousAmountError as error:
            raise StatementRefused(Reason.AMOUNT_MALFORMED, f"{error}; a layout says decimal_mark", place) from None
        if self._mark == "," and plain == text and "." in text:
            raise StatementRefused(Reason.AMOUNT_MALFORMED, f"{text[:40]!r} has no decimal comma", place)
        amount = minor_units(plain, currency, place)
        return -amount if negative else amount

    def _signed(self, row: _Row, currency: str) -> int:
        if "amount" not in self._at:
            credit, debit = self._money(row, "credit", currency), self._money(row, "debit", currency)
            if credit and debit:
                raise StatementRefused(Reason.AMOUNT_MALFORMED, "both credited and debited", self._place(row, "debit"))
            if credit is None and debit is None:
                raise StatementRefused(Reason.FIELD_MISSING, "no amount", self._place(row, "credit"))
            # Some banks write what was debited with a minus, where the column says it already.
            return (credit or 0) - abs(debit or 0)
        amount = self._money(row, "amount", currency)
        if amount is None:
            raise StatementRefused(Reason.FIELD_MISSING, "no amount", self._place(row, "amount"))
        if self._sign_at is None or self._layout.sign is None:
            return amount
        word = row.fields[self._sign_at].strip()
        if word not in (*self._layout.sign.credit, *self._layout.sign.debit):
            place = Place(row.line, str(self._layout.sign.column))
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{word[:20]!r} is neither a credit nor a debit", place)
        credited = word in self._layout.sign.credit
        if amount < 0 and credited:
            place = self._place(row, "amount")
            raise StatementRefused(Reason.AMOUNT_MALFORMED, f"a credit ({word}) with a minus", place)
        return abs(amount) if credited else -abs(amount)

    def _balances(self, its: list[tuple[_Row, Entry]], currency: str) -> tuple[Balance, Balance]:
        """Return both ends of a column of balances, the newest row last or first. Raises StatementRefused."""
        after = []
        for row, _ in its:
            balance = self._money(row, "balance", currency)
            if balance is None:
                self._missing(row, "balance")
            after.append(balance)
        amounts = [entry.amount_minor for _, entry in its]
        wrong = next((n for n in range(1, len(its)) if after[n - 1] + amounts[n] != after[n]), None)
        newest_first = wrong is not None and all(after[n] + amounts[n - 1] == after[n - 1] for n in range(1, len(its)))
        if wrong is not None and not newest_first:
            detail = (
                f"{shown(after[wrong - 1], currency)} and {shown(amounts[wrong], currency)} don't make"
                f" {shown(after[wrong], currency)}"
            )
            raise StatementRefused(Reason.BALANCE_WRONG, detail, self._place(its[wrong][0], "balance"))
        first, last = (-1, 0) if newest_first else (0, -1)
        day = [entry.booking_date or entry.value_date for _, entry in its]
        return (
            Balance(after[first] - amounts[first], currency, day[first], self._place(its[first][0], "balance")),
            Balance(after[last], currency, day[last], self._place(its[last][0], "balance")),
        )

    # --- the rest of a row -----------------------------------------------------------------------------------

    def _entry(self, row: _Row) -> Entry:
        currency = self._text(row, "currency") or self._layout.currency
        if currency is None:
            self._missing(row, "currency")
        check_currency(currency, self._place(row, "currency"))
        references = {
            name: text for name in self._layout.columns.references if (text := self._text(row, name)) is not None
        }
        said = " ".join(text for column in self._texts if (text := row.fields[column].strip()))
        return Entry(
            place=self._place(row, "amount" if "amount" in self._at else "credit"),
            amount_minor=self._signed(row, currency),
            currency=currency,
            value_date=self._day(row, "value_date"),
            booking_date=self._day(row, "booking_date"),
            reference=self._text(row, "reference") or best_reference(references),
            references=references,
            counterparty=self._text(row, "counterparty"),
            counterparty_account=self._account(row, "counterparty_account"),
            counterparty_agent=self._text(row, "counterparty_agent"),
            text=said or None,
            code=self._text(row, "code"),
        )

    def _text(self, row: _Row, name: str) -> str | None:
        return row.fields[self._at[name]].strip() or None if name in self._at else None

    def _account(self, row: _Row, name: str) -> str | None:
        text = self._text(row, name)
        return None if text is None else normal_account(text)

    def _day(self, row: _Row, name: str) -> date | None:
        text = self._text(row, name)
        if text is None:
            return None
        day = day_of(text, self._layout.dates)
        if day is None:
            detail = f"{text[:40]!r} is no day as {' or '.join(self._layout.dates)}"
            raise StatementRefused(Reason.DATE_INVALID, detail, self._place(row, name))
        return day

    def _place(self, row: _Row, name: str) -> Place:
        at = self._at.get(name)
        if at is None:
            return Place(row.line, name)
        return Place(row.line, self._names[at] if self._names else f"column {at + 1}")

    def _missing(self, row: _Row, name: str) -> NoReturn:
        raise StatementRefused(Reason.FIELD_MISSING, f"no {name}", self._place(row, name))


def _unsigned(written: str) -> tuple[str, bool]:
    """Return an amount without its sign and the spaces between its thousands, and whether it is negative."""
    text = written.strip().translate(_MINUS)
    negative = False
    if text[:1] in ("-", "+"):
        negative, text = text[0] == "-", text[1:].strip()
    elif text[-1:] in ("-", "+"):
        negative, text = text[-1] == "-", text[:-1].strip()
    elif text[:1] == "(" and text[-1:] == ")":
        negative, text = True, text[1:-1].strip()
    if _GROUPED_BY_SPACE.fullmatch(text):
        text = _SPACES.sub("", text)
    return text, negative
