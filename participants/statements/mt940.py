"""MT940, MT942 and MT950: statements and reports within the day, as SWIFT's messages or bare, several in a file.

Strict: the order of the fields, a balance at both ends, one currency, totals of a report, pages and numbers. Tolerant:
references that are left out or too long, numbers and dates of the dialects, lines that were wrapped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from functools import lru_cache

from compliance.iban import LENGTHS, iban_fault, normal_account
from participants.statements.amounts import check_currency, minor_units, short_day
from participants.statements.checks import Page, check_balance, check_currencies, in_order
from participants.statements.mt_details import Details, details, unfolded
from participants.statements.mt_fields import STATEMENT_TYPES, MtField, message_type, mt_fields
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Balance, Entry, Finding, Place, Statement, best_reference

_RANKS = {"20": 0, "21": 1, "25": 2, "25P": 2, "28": 3, "28C": 3, "34F": 4, "13": 5, "13D": 5, "60F": 6, "60M": 6}
_RANKS |= {"61": 7, "86": 7, "62F": 8, "62M": 8, "90C": 8, "90D": 8, "64": 9, "65": 10}
_REPEATED = frozenset({"34F", "61", "86", "90C", "90D", "65"})

_NUMBER = re.compile(r"([0-9]{1,10})(?:/([0-9]{1,10}))?")
_BALANCE = re.compile(r"([CD])([0-9]{6})([A-Z]{3})([0-9]{1,20}(?:,[0-9]{0,6})?)")
_LIMIT = re.compile(r"([A-Z]{3})([CD]?)([0-9]{1,20}(?:,[0-9]{0,6})?)")
_TOTAL = re.compile(r"([0-9]{1,5})([A-Z]{3})([0-9]{1,20}(?:,[0-9]{0,6})?)")
_ENTRY = re.compile(
    r"([0-9]{6})([0-9]{4}| {4})?(R?[CD]|E[CD])([A-Z])?\n?([0-9]{1,20}(?:,[0-9]{0,6})?)"
    r"([A-Z][A-Z0-9]{2}[A-Z0-9 ])([^\n]*)(?:\n(.*))?",
    re.DOTALL,
)
_CREDITS = frozenset({"C", "RD", "EC"})


def read_mt940(text: str, progress: Callable[[int], None]) -> list[Statement]:
    """Read all statements of a file, `\\n` between its lines. Raises StatementRefused."""
    pages = []
    for kind, fields in _messages(text):
        message = _Message(kind, fields)
        pages.append(message.page())
        progress(message.last_line)
    if not pages:
        raise StatementRefused(Reason.NOT_A_STATEMENT, "the head of a message, and no statement", Place(1, ""))
    return in_order(pages)


def _messages(text: str) -> Iterator[tuple[str | None, list[MtField]]]:
    """Yield the fields of every statement, with the number of its message if a header says it."""
    kind: str | None = None
    fields: list[MtField] = []
    header: MtField | None = None
    for field in mt_fields(text):
        if field.tag == "{":
            header = field if "{4:" in field.content else None
            number = message_type(field)
            if number is not None and number not in STATEMENT_TYPES:
                detail = f"an MT{number}, where a statement is an MT940, MT942 or MT950"
                raise StatementRefused(Reason.NOT_A_STATEMENT, detail, field.place)
            kind = number or kind
        elif field.tag == "-" or (field.tag == "20" and fields):
            if fields:
                yield kind, fields
            kind, fields = (None, []) if field.tag == "-" else (kind, [field])
            header = None if field.tag == "-" else header
        elif fields or field.tag == "20":
            fields.append(field)
        else:
            detail = f":{field.tag}: stands outside of a statement, which begins with :20:"
            raise StatementRefused(Reason.STRUCTURE_WRONG, detail, field.place)
    _check_complete(header, fields)
    if fields:
        yield kind, fields


def _check_complete(header: MtField | None, fields: list[MtField]) -> None:
    """Check that the last statement, of which no mark says that it ends, isn't cut off. Raises StatementRefused."""
    if header is not None:
        detail = "the file ends before the end of the message that this begins"
        raise StatementRefused(Reason.FILE_TRUNCATED, detail, header.place)
    tags = {field.tag for field in fields}
    if tags & {"60F", "60M"} and not tags & {"62F", "62M"}:
        detail = "the file ends before the closing balance :62F: or :62M:"
        raise StatementRefused(Reason.FILE_TRUNCATED, detail, fields[-1].place)


class _Message:
    """One message: its fields checked for their order, and what they say."""

    def __init__(self, kind: str | None, fields: list[MtField]) -> None:
        self._fields: dict[str, MtField] = {}
        self._all = fields
        self._findings: list[Finding] = []
        self.last_line = fields[-1].line
        self._take_fields()
        within_day = kind == "942" or (kind is None and not self._fields.keys() & {"60F", "60M", "62F", "62M"})
        within_day = within_day and bool(kind or self._fields.keys() & {"34F", "13", "13D", "90C", "90D"})
        self._format = STATEMENT_TYPES["942" if within_day else kind or "940"]
        self._within_day = within_day

    def _take_fields(self) -> None:
        rank = -1
        for field in self._all:
            tag = field.tag
            if tag == "NS":
                continue
            its = _RANKS[tag]
            if tag == "86" and rank >= 8:
                continue
            if its < rank or (its == rank and tag not in _REPEATED):
                twice = "twice" if its == rank else "after what it should stand before"
                raise StatementRefused(Reason.STRUCTURE_WRONG, f":{tag}: stands there {twice}", field.place)
            rank = its
            self._fields.setdefault(tag, field)

    def page(self) -> Page:
        """Return the statement and its place among others. Raises StatementRefused."""
        reference, account_field, numbering = (
            self._required("20"),
            self._required("25", "25P"),
            self._required("28C", "28"),
        )
        number = _NUMBER.fullmatch(numbering.content.strip())
        if number is None:
            raise _malformed(numbering, "no number of a statement, or of it and a page")
        opening = closing = None
        if self._within_day:
            currency = self._limit_currency()
        else:
            opening = self._balance(self._required("60F", "60M"))
            closing = self._balance(self._required("62F", "62M"))
            check_currencies(opening.currency, closing.currency, closing.place)
            currency = opening.currency
            self._check_available(currency)
        entries = tuple(self._entries(currency))
        statement = Statement(
            format=self._format,
            place=reference.place,
            account=_account(account_field.content.split("\n")[0].strip(), currency),
            currency=currency,
            reference=reference.content.strip() or None,
            sequence=numbering.content.strip(),
            opening=opening,
            closing=closing,
            entries=entries,
            findings=tuple(self._findings),
        )
        check_balance(statement)
        self._check_totals(statement, currency)
        return Page(
            statement,
            numbering.place,
            # Longer ones are made of dates and times.
            number=int(number[1]) if len(number[1]) <= 5 else None,
            page=int(number[2]) if number[2] and int(number[1]) else None,
            begins="60M" not in self._fields,
            ends="62M" not in self._fields,
            days=(opening.date if opening else None, closing.date if closing else None),
        )

    def _required(self, *tags: str) -> MtField:
        for tag in tags:
            if tag in self._fields:
                return self._fields[tag]
        first = self._all[0]
        raise StatementRefused(Reason.FIELD_MISSING, f":{tags[0]}: is missing", Place(first.line, f":{tags[0]}:"))

    def _limit_currency(self) -> str:
        field = self._required("34F")
        match = _LIMIT.fullmatch(field.content.strip())
        if match is None:
            raise _malformed(field, "no currency and floor limit")
        return check_currency(match[1], field.place)

    def _balance(self, field: MtField) -> Balance:
        match = _BALANCE.fullmatch(field.content.strip())
        if match is None:
            raise _malformed(field, "no balance: C or D, a date, a currency and an amount")
        currency = check_currency(match[3], field.place)
        amount = _amount(match[4], currency, field.place)
        # A statement of a new account may open on no day at all.
        day = None if match[2] == "000000" else self._day(match[2], field)
        return Balance(amount if match[1] == "C" else -amount, currency, day, field.place)

    def _check_available(self, currency: str) -> None:
        for field in self._all:
            if field.tag in ("64", "65"):
                check_currencies(currency, self._balance(field).currency, field.place)

    def _day(self, text: str, field: MtField) -> date:
        day = short_day(text)
        if day is None:
            raise StatementRefused(Reason.DATE_INVALID, f"no such day: {text}", field.place)
        if day[1]:
            self._findings.append(
                Finding("day_moved", f"{text} is read as {day[0]}, the last day of February", field.place)
            )
        return day[0]

    def _entries(self, currency: str) -> Iterator[Entry]:
        entry: MtField | None = None
        texts: list[str] = []
        for field in self._all:
            if field.tag == "61" or _RANKS.get(field.tag, 0) >= 8:
                if entry is not None:
                    yield self._entry(entry, "\n".join(texts), currency)
                entry, texts = (field if field.tag == "61" else None), []
                if entry is None:
                    return
            elif field.tag == "86":
                if entry is None:
                    raise StatementRefused(Reason.STRUCTURE_WRONG, ":86: stands there without an entry", field.place)
                # Some banks write a field for each line of the text.
                texts.append(field.content)
        if entry is not None:
            yield self._entry(entry, "\n".join(texts), currency)

    def _entry(self, field: MtField, text: str, currency: str) -> Entry:
        match = _ENTRY.fullmatch(field.content)
        if match is None:
            raise _malformed(field, "no entry: a date, C or D, an amount, a type and a reference")
        value_text, booking_text, mark, funds, digits, kind, references, supplement = match.groups()
        # CR and DR are also how banks write credit and debit in full.
        if funds is not None and funds not in (currency[2], "R"):
            detail = f"funds in a currency that ends in {funds}, where the account is in {currency}"
            raise StatementRefused(Reason.CURRENCY_DIFFERS, detail, field.place)
        amount = _amount(digits, currency, field.place)
        value_date = self._day(value_text, field)
        booking_date = None
        if booking_text and booking_text not in ("    ", "0000"):
            booking_date = _nearest_day(booking_text, value_date)
            if booking_date is None:
                raise StatementRefused(Reason.DATE_INVALID, f"no such day: {booking_text}", field.place)
        customer, _, bank = references.partition("//")
        customer, bank = customer.strip(), bank.strip()
        said = details(text, reference=customer) if text else Details()
        known = said.references
        if customer and customer != said.account:
            known.setdefault("customer", customer)
        if bank:
            known.setdefault("bank", bank)
        supplement = unfolded(supplement) if supplement else None
        return Entry(
            place=field.place,
            amount_minor=amount if mark in _CREDITS else -amount,
            currency=currency,
            value_date=value_date,
            booking_date=booking_date,
            reversal=mark[0] == "R",
            status="pending" if mark[0] == "E" else "booked",
            reference=best_reference(known),
            references=known,
            counterparty=said.counterparty,
            counterparty_account=said.account,
            counterparty_agent=said.agent,
            text=said.text or (supplement if supplement != said.counterparty else None),
            code=kind.strip() if said.code is None else f"{kind.strip()} {said.code}",
        )

    def _check_totals(self, statement: Statement, currency: str) -> None:
        """Check the numbers and sums of debits and credits of a report within the day. Raises StatementRefused."""
        for field in self._all:
            if field.tag not in ("90C", "90D"):
                continue
            match = _TOTAL.fullmatch(field.content.strip().split("\n")[0])
            if match is None:
                raise _malformed(field, "no number, currency and sum")
            check_currencies(currency, match[2], field.place)
            credit = field.tag == "90C"
            amounts = [
                abs(e.amount_minor) for e in statement.entries if (e.amount_minor > 0) == credit and e.amount_minor
            ]
            zeros = sum(1 for e in statement.entries if not e.amount_minor)
            if not len(amounts) <= int(match[1]) <= len(amounts) + zeros:
                detail = f"{int(match[1])} entries are said, {len(amounts)} stand there"
                raise StatementRefused(Reason.COUNT_WRONG, detail, field.place)
            if sum(amounts) != _amount(match[3], currency, field.place):
                detail = f"entries of {match[3]} {currency} are said, which isn't the sum of them"
                raise StatementRefused(Reason.CONTROL_TOTAL_WRONG, detail, field.place)


def _account(text: str, currency: str) -> str | None:
    """Return an account without the currency that some banks write behind it, an IBAN in its electronic form."""
    account = normal_account(text)
    if text.endswith(currency):
        alone = normal_account(text.removesuffix(currency).rstrip())
        if text[: -len(currency)].endswith(" ") or (len(alone) == LENGTHS.get(alone[:2]) and iban_fault(alone) is None):
            account = alone
    return account or None


@lru_cache(maxsize=1024)
def _nearest_day(text: str, value_date: date) -> date | None:
    """Return the day that four digits MMDD are, in the year that brings it nearest to the value date; None if none."""
    days = [short_day(f"{(value_date.year + years) % 100:02}{text}") for years in (-1, 0, 1)]
    return min((day[0] for day in days if day is not None), key=lambda day: abs((day - value_date).days), default=None)


def _amount(text: str, currency: str, place: Place) -> int:
    return minor_units(text.replace(",", ".").rstrip("."), currency, place)


def _malformed(field: MtField, what: str) -> StatementRefused:
    return StatementRefused(Reason.FIELD_MALFORMED, f"{field.content[:60]!r} is {what}", field.place)
