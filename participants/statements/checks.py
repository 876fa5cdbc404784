"""What must hold in every format: balances that add up, and statements of an account that follow each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from msgspec.structs import replace

from participants.statements.amounts import shown
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Finding, Place, Statement


@dataclass(frozen=True, slots=True)
class Page:
    """A statement and where it says that it stands among others.

    `place` is where its number stands. `follows` says that it opens with what the one before closed with. `number` is
    0 or None where it has none; `page` counts from 1. `begins` and `ends` say whether it is the first and the last page
    of its statement. `days` are the first and the last that it is about.
    """

    statement: Statement
    place: Place
    follows: bool = True
    number: int | None = None
    page: int | None = None
    begins: bool = True
    ends: bool = True
    days: tuple[date | None, date | None] = (None, None)


def check_balance(statement: Statement) -> None:
    """Check that opening balance and booked entries make the closing balance, all in one currency.

    Raises StatementRefused: currency_differs, balance_wrong.
    """
    opening, closing = statement.opening, statement.closing
    if opening is None or closing is None:
        return
    check_currencies(opening.currency, closing.currency, closing.place)
    booked = 0
    for entry in statement.entries:
        if entry.status == "booked":
            if entry.currency != opening.currency:
                check_currencies(opening.currency, entry.currency, entry.place)
            booked += entry.amount_minor
    if opening.amount_minor + booked != closing.amount_minor:
        currency = opening.currency
        detail = (
            f"opening {shown(opening.amount_minor, currency)} and booked entries of {shown(booked, currency)} make"
            f" {shown(opening.amount_minor + booked, currency)}; it closes with"
            f" {shown(closing.amount_minor, currency)}"
        )
        raise StatementRefused(Reason.BALANCE_WRONG, detail, closing.place)


def check_currencies(expected: str, currency: str, place: Place) -> None:
    """Raise StatementRefused for a currency that isn't the account's."""
    if currency != expected:
        raise StatementRefused(Reason.CURRENCY_DIFFERS, f"{currency} where the account is in {expected}", place)


def in_order(pages: Sequence[Page]) -> list[Statement]:
    """Return the statements of a file, those of each account checked to follow each other without a gap.

    Raises StatementRefused: statement_duplicate, sequence_gap, balances_apart. Days that nothing vouches for, and pages
    that are not in the file, become findings.
    """
    before: dict[tuple[str | None, str | None], Page] = {}
    statements: list[Statement] = []
    for page in pages:
        account = page.statement.account, page.statement.currency
        findings = list(_follows(before[account], page) if account in before else _first(page))
        before[account] = page
        statements.append(
            replace(page.statement, findings=page.statement.findings + tuple(findings)) if findings else page.statement
        )
    for index, page in enumerate(pages):
        if not page.ends and before[page.statement.account, page.statement.currency] is page:
            finding = Finding("page_not_last", "the pages after it are not in the file", page.place)
            statements[index] = replace(statements[index], findings=(*statements[index].findings, finding))
    return statements


def _first(page: Page) -> Iterable[Finding]:
    if not page.begins or (page.page or 1) > 1:
        yield Finding("page_not_first", "the pages before it are not in the file", page.place)


def _follows(last: Page, page: Page) -> Iterable[Finding]:
    numbered = bool(last.number) and bool(page.number)
    same = numbered and (last.number, last.page, last.days) == (page.number, page.page, page.days)
    if same or (not numbered and last.days == page.days and _say_the_same(last.statement, page.statement)):
        raise StatementRefused(Reason.STATEMENT_DUPLICATE, f"{_name(page)} stands there twice", page.place)
    if not last.ends or not page.begins:
        _next_page(last, page, numbered=numbered)
    elif numbered:
        assert last.number is not None
        # Numbers begin again, with a new year as a rule.
        again = page.number == 1 and (last.days[1] or date.min) < (page.days[0] or date.max)
        if page.number != last.number + 1 and not again and not _by_days(last, page):
            detail = f"{_name(page)} stands after {_name(last)}"
            raise StatementRefused(Reason.SEQUENCE_GAP, detail, page.place)
    ended, begins = last.days[1], page.days[0]
    if not numbered and ended is not None and begins is not None and begins < ended:
        raise StatementRefused(
            Reason.SEQUENCE_GAP, f"it begins on {begins}, the one before ends on {ended}", page.place
        )
    if page.follows:
        _balances_meet(last.statement, page.statement)
    if not numbered and ended is not None and begins is not None and _working_days_between(ended, begins):
        yield Finding("days_missing", f"nothing is said of the days between {ended} and {begins}", page.place)


def _by_days(last: Page, page: Page) -> bool:
    """Tell whether numbers are those of days, with nothing but a weekend between them."""
    ended, ends = last.days[1], page.days[1]
    if ended is None or ends is None or last.number is None or page.number is None:
        return False
    return page.number - last.number == (ends - ended).days > 0 and not _working_days_between(ended, ends)


def _say_the_same(last: Statement, statement: Statement) -> bool:
    if not statement.entries or len(last.entries) != len(statement.entries) or last.reference != statement.reference:
        return False
    if _amounts(last) != _amounts(statement):
        return False
    return all(
        (a.amount_minor, a.reference, a.text) == (b.amount_minor, b.reference, b.text)
        for a, b in zip(last.entries, statement.entries, strict=True)
    )


def _amounts(statement: Statement) -> list[int | None]:
    return [None if balance is None else balance.amount_minor for balance in (statement.opening, statement.closing)]


def _next_page(last: Page, page: Page, *, numbered: bool) -> None:
    if last.ends:
        detail = f"{_name(page)} is a page in the middle, after the last page of {_name(last)}"
        raise StatementRefused(Reason.SEQUENCE_GAP, detail, page.place)
    if page.begins and (page.page or 1) == 1:
        detail = f"{_name(page)} begins a statement; the pages after {_name(last)} are missing"
        raise StatementRefused(Reason.SEQUENCE_GAP, detail, page.place)
    next_page = None if last.page is None else last.page + 1
    if (numbered and page.number != last.number) or (page.page is not None and page.page != next_page):
        raise StatementRefused(Reason.SEQUENCE_GAP, f"{_name(page)} stands after {_name(last)}", page.place)


def _balances_meet(last: Statement, statement: Statement) -> None:
    closing, opening = last.closing, statement.opening
    if closing is None or opening is None:
        return
    check_currencies(closing.currency, opening.currency, opening.place)
    if closing.amount_minor != opening.amount_minor:
        detail = (
            f"it opens with {shown(opening.amount_minor, opening.currency)}; the one before closed with"
            f" {shown(closing.amount_minor, closing.currency)}"
        )
        raise StatementRefused(Reason.BALANCES_APART, detail, opening.place)


def _working_days_between(first: date, last: date) -> bool:
    days = (last - first).days
    return days > 3 or any((first + timedelta(day)).weekday() < 5 for day in range(1, days))


def _name(page: Page) -> str:
    number = "a statement" if not page.number else f"statement {page.number}"
    return number if page.page is None else f"{number} page {page.page}"
