"""BAI2: balance reports of banks in North America, records of numbers between commas.

Strict: the nesting of file, group and account, the record counts and the control totals of all three. Tolerant:
records that stand several on a line or are padded, texts that go on over lines and hold slashes or commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from participants.statements.amounts import check_currency, check_entries, shown
from participants.statements.bai2_records import NUMBER, Record, bai2_records, day_of, funds, signed, summary
from participants.statements.checks import Page, check_balance, in_order
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Balance, Entry, Finding, Place, Statement, Status, best_reference

_OPENING, _CLOSING = "010", "015"
_ALL_CREDITS, _ALL_DEBITS = "100", "400"
_GROUP_KINDS = {"2": "a deletion of what was sent before", "4": "a test"}


def read_bai2(text: str, progress: Callable[[int], None]) -> list[Statement]:
    """Read all statements of a file, `\\n` between its lines. Raises StatementRefused."""
    file = _File()
    for record in bai2_records(text):
        file.take(record)
        progress(record.line)
    return file.statements()


@dataclass(slots=True)
class _Total:
    """What is inside of a file, group or account: sum, records, and how many of the next kind."""

    record: Record
    amount: int = 0
    records: int = 0
    inner: int = 0

    def close(self, record: Record, *, inner: str | None) -> None:
        """Compare with what the record that ends it says. Raises StatementRefused."""
        self.records += record.records
        count_at = 1
        if inner is not None:
            _check_count(record, 1, self.inner, f"number of {inner}")
            count_at = 2
        _check_count(record, count_at, self.records, "number of records")
        said = signed(record.text(0), record.at("control total"))
        if said != self.amount:
            detail = f"the amounts add up to {self.amount}, the control total is {said}"
            raise StatementRefused(Reason.CONTROL_TOTAL_WRONG, detail, record.at("control total"))


def _check_count(record: Record, index: int, number: int, name: str) -> None:
    text = record.text(index)
    if not NUMBER.fullmatch(text):
        raise StatementRefused(Reason.FIELD_MALFORMED, f"{text[:20]!r} is no number", record.at(name))
    if int(text) != number:
        raise StatementRefused(Reason.COUNT_WRONG, f"{int(text)} are said, {number} are there", record.at(name))


@dataclass(slots=True)
class _Account:
    """An account's summary and its entries so far."""

    total: _Total
    number: str
    currency: str
    day: date
    findings: list[Finding]
    balances: dict[str, Balance] = field(default_factory=dict)
    summaries: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


class _File:
    """A file as its records come."""

    def __init__(self) -> None:
        self._file: _Total | None = None
        self._group: _Total | None = None
        self._account: _Account | None = None
        self._day: date | None = None
        self._currency = "USD"
        self._reference = ""
        self._findings: list[Finding] = []
        self._pages: list[Page] = []
        self._days: set[tuple[str, date]] = set()
        self._entries = 0
        self._complete = False
        self._last = 1

    def take(self, record: Record) -> None:
        """Take a record. Raises StatementRefused."""
        self._last = record.line
        if self._complete:
            raise _misplaced(record)
        if record.code == "01":
            self._begin_file(record)
        elif self._file is None:
            raise _misplaced(record)
        elif record.code == "02":
            self._begin_group(record)
        elif record.code == "99":
            self._end_file(record)
        elif self._group is None:
            raise _misplaced(record)
        elif record.code == "03":
            self._begin_account(record)
        elif record.code == "98":
            self._end_group(record)
        elif self._account is None:
            raise _misplaced(record)
        elif record.code == "16":
            self._take_entry(record, self._account)
        else:
            self._end_account(record, self._account)

    def statements(self) -> list[Statement]:
        """Return what was read, once all has been. Raises StatementRefused."""
        if not self._complete:
            raise StatementRefused(Reason.FILE_TRUNCATED, "the file ends before its record 99", Place(self._last, "99"))
        return in_order(self._pages)

    def _begin_file(self, record: Record) -> None:
        if self._file is not None:
            raise _misplaced(record)
        if record.text(7) not in ("2", ""):
            detail = f"version {record.text(7)[:10]} of the format; 2 is read"
            raise StatementRefused(Reason.FORMAT_UNKNOWN, detail, record.at("version"))
        self._file = _Total(record, records=record.records)
        self._reference = record.text(4)

    def _begin_group(self, record: Record) -> None:
        if self._group is not None or self._file is None:
            raise _misplaced(record)
        kind = record.text(2)
        if kind in _GROUP_KINDS:
            raise StatementRefused(Reason.NOT_A_STATEMENT, f"the group is {_GROUP_KINDS[kind]}", record.at("status"))
        if kind not in ("1", "3"):
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{kind[:10]!r} is no status", record.at("status"))
        self._day = day_of(record.text(3), record.at("as-of date"))
        self._currency = check_currency(record.text(5) or "USD", record.at("currency"))
        correction = "its sender says that it corrects what was sent before"
        self._findings = [Finding("correction", correction, record.at("status"))] if kind == "3" else []
        self._group = _Total(record, records=record.records)
        self._file.inner += 1

    def _begin_account(self, record: Record) -> None:
        if self._account is not None or self._group is None or self._day is None:
            raise _misplaced(record)
        number = record.text(0)
        if not number:
            raise StatementRefused(Reason.FIELD_MISSING, "an account without a number", record.at("account"))
        currency = check_currency(record.text(1) or self._currency, record.at("currency"))
        account = _Account(_Total(record, records=record.records), number, currency, self._day, list(self._findings))
        self._group.inner += 1
        self._account = account
        for code, amount, items in summary(record):
            account.total.amount += amount
            if code in (_OPENING, _CLOSING):
                if code in account.balances:
                    raise StatementRefused(Reason.STRUCTURE_WRONG, f"two balances {code}", record.at(code))
                account.balances[code] = Balance(amount, currency, self._day, record.at(code))
            elif code in (_ALL_CREDITS, _ALL_DEBITS):
                account.summaries[code] = amount, items

    def _take_entry(self, record: Record, account: _Account) -> None:
        self._entries += 1
        check_entries(self._entries, record.at("record"))
        kind = record.text(0)
        if not re.fullmatch(r"[0-9]{3}", kind):
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{kind[:10]!r} is no type code", record.at("type"))
        amount = signed(record.text(1) or "0", record.at("amount"))
        account.total.amount += amount
        account.total.records += record.records
        sign, status = _direction(kind)
        if not sign:
            finding = Finding("type_without_direction", f"{kind} is no credit and no debit", record.at("type"))
            account.findings.append(finding)
        value_date, after = funds(record, 2)
        bank, customer = record.text(after), record.text(after + 1)
        text = ",".join(record.fields[after + 2 :])
        references = {name: value for name, value in (("bank", bank), ("customer", customer)) if value}
        account.entries.append(
            Entry(
                place=record.at("amount"),
                amount_minor=amount * (sign or 1),
                currency=account.currency,
                value_date=value_date,
                booking_date=account.day,
                status=status,
                reference=best_reference(references),
                references=references,
                text=" ".join(text.split()) or None,
                code=kind,
            )
        )

    def _end_account(self, record: Record, account: _Account) -> None:
        assert self._group is not None
        account.total.close(record, inner=None)
        self._group.amount += account.total.amount
        self._group.records += account.total.records
        self._account = None
        _check_summaries(account)
        statement = Statement(
            format="BAI2",
            place=account.total.record.at("account"),
            account=account.number,
            currency=account.currency,
            reference=self._reference or None,
            opening=account.balances.get(_OPENING),
            closing=account.balances.get(_CLOSING),
            entries=tuple(account.entries),
            findings=tuple(account.findings),
        )
        _check_ends(statement, account)
        # Reports of one day may have an account several times, each for itself.
        again = (account.number, account.day) in self._days
        self._days.add((account.number, account.day))
        self._pages.append(Page(statement, statement.place, days=(account.day, account.day), follows=not again))

    def _end_group(self, record: Record) -> None:
        if self._account is not None or self._group is None or self._file is None:
            raise _misplaced(record)
        self._group.close(record, inner="accounts")
        self._file.amount += self._group.amount
        self._file.records += self._group.records
        self._group = None

    def _end_file(self, record: Record) -> None:
        if self._group is not None or self._file is None:
            raise _misplaced(record)
        self._file.close(record, inner="groups")
        self._complete = True


def _check_summaries(account: _Account) -> None:
    """Check the totals of all credits and debits where every one of them is there. Raises StatementRefused."""
    for code, sign in ((_ALL_CREDITS, 1), (_ALL_DEBITS, -1)):
        if code not in account.summaries:
            continue
        amount, items = account.summaries[code]
        amounts = [abs(e.amount_minor) for e in account.entries if _direction(e.code or "")[0] == sign]
        place = account.total.record.at(code)
        if items is not None and items < len(amounts):
            raise StatementRefused(Reason.COUNT_WRONG, f"{items} entries are said, {len(amounts)} are there", place)
        if items is not None and items == len(amounts) and amounts and sum(amounts) != amount:
            detail = f"{shown(amount, account.currency)} are said, {shown(sum(amounts), account.currency)} are there"
            raise StatementRefused(Reason.CONTROL_TOTAL_WRONG, detail, place)


def _check_ends(statement: Statement, account: _Account) -> None:
    """Check the balances, by the entries where all are there, else by the totals of credits and debits."""
    totals = [account.summaries.get(code) for code in (_ALL_CREDITS, _ALL_DEBITS)]
    if all(total is not None for total in totals) and statement.opening and statement.closing:
        credited, debited = (total[0] for total in totals if total is not None)
        if statement.opening.amount_minor + credited - debited != statement.closing.amount_minor:
            detail = "opening balance, all credits and all debits don't make the closing balance"
            raise StatementRefused(Reason.BALANCE_WRONG, detail, statement.closing.place)
    elif statement.entries:
        check_balance(statement)


def _direction(code: str) -> tuple[int, Status]:
    """Return 1 for a credit, -1 for a debit and 0 for neither, by the type code."""
    number = int(code)
    if 100 <= number < 400 or 920 <= number < 960:
        return 1, "booked"
    if 400 <= number < 700 or 960 <= number < 1000:
        return -1, "booked"
    return 0, "info"


def _misplaced(record: Record) -> StatementRefused:
    return StatementRefused(Reason.STRUCTURE_WRONG, f"record {record.code} isn't where it belongs", record.at("record"))
