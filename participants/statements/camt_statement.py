"""A statement of a camt document besides its entries: account, balances, totals, numbers and pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from participants.statements.amounts import check_currency, iso_day, minor_units, shown
from participants.statements.camt_elements import Element, Names
from participants.statements.checks import Page
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Balance, Entry, Finding, Place, Statement

_OPENING, _CLOSING = ("OPBD", "PRCD"), ("CLBD",)
_COPIES = {"COPY": "a copy", "DUPL": "a duplicate", "CODU": "a copy of a duplicate"}


@dataclass(slots=True)
class OpenStatement:
    """A statement whose end hasn't come: its entries so far, and what they add up to as the sender counts them."""

    element: Element
    line: int
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    credits: list[int] = field(default_factory=list)
    debits: list[int] = field(default_factory=list)
    currencies: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        return len(self.credits) + len(self.debits)


class StatementReader:
    """What a statement says besides its entries."""

    def __init__(self, names: Names, definition: str, statement: OpenStatement) -> None:
        self._names = names
        self._definition = definition
        self._open = statement
        self._parts = names.parts(statement.element, repeated=("Bal", "Ntry", "Intrst", "RltdAcct"))

    def page(self, message_page: tuple[int, bool] | None) -> Page:
        """Return the statement and its place among others. Raises StatementRefused.

        `message_page` is the page of the whole message, and whether it is the last one.
        """
        names, parts, line = self._names, self._parts, self._open.line
        place = Place(line, names.statement)
        identifier = names.text(parts.get("Id"))
        if not identifier:
            raise StatementRefused(Reason.FIELD_MISSING, "Id is missing", Place(line, f"{names.statement}/Id"))
        page, last = self._pagination() or message_page or (None, True)
        begins = page in (None, 1)
        account, currency = self._account()
        balances = self._balances()
        opening, closing = self._ends(balances, begins=begins, ends=last)
        currencies = {balance.currency for _, balance in balances} | self._open.currencies
        currency = currency or (min(currencies) if currencies else None)
        if currency is not None:
            self._check_currency(currency, balances)
        if begins and last:
            self._check_summary(currency)
        statement = Statement(
            format=self._definition,
            place=place,
            account=account,
            currency=currency,
            reference=identifier,
            sequence=names.text(parts.get("ElctrncSeqNb")) or names.text(parts.get("LglSeqNb")),
            opening=opening,
            closing=closing,
            entries=tuple(self._open.entries),
            findings=(*self._open.findings, *self._copy()),
        )
        days = self._days()
        if not any(days):
            days = opening.date if opening else None, closing.date if closing else None
        return Page(
            statement,
            place,
            number=self._number("ElctrncSeqNb") or self._number("LglSeqNb"),
            page=page,
            begins=begins,
            ends=last,
            days=days,
        )

    def _account(self) -> tuple[str | None, str | None]:
        names = self._names
        element = self._parts.get("Acct")
        if element is None:
            place = Place(self._open.line, f"{names.statement}/Acct")
            raise StatementRefused(Reason.FIELD_MISSING, "Acct is missing", place)
        parts = names.parts(element)
        currency = names.text(parts.get("Ccy"))
        if currency is not None:
            check_currency(currency, names.at(parts["Ccy"], "Acct/Ccy"))
        return names.account(parts.get("Id")), currency

    def _balances(self) -> list[tuple[str, Balance]]:
        """Return every balance with the code of its kind."""
        names = self._names
        balances: list[tuple[str, Balance]] = []
        for element in self._open.element.iterchildren(names.full("Bal")):
            place = names.at(element, f"Bal[{len(balances) + 1}]")
            parts = names.parts(element, repeated=("CdtLine", "Avlbty"))
            choice = names.deep(parts.get("Tp"), "CdOrPrtry")
            kind = names.deep_text(choice, "Cd") or names.deep_text(choice, "Prtry")
            if kind is None:
                raise StatementRefused(Reason.FIELD_MISSING, "Tp is missing", place)
            amount, currency = names.amount(parts.get("Amt"), place)
            credit = names.is_credit(parts.get("CdtDbtInd"), place)
            # An available balance of a day to come may have the same code again.
            day = names.day(parts.get("Dt"), place)
            balances.append((kind, Balance(amount if credit else -amount, currency, day, place)))
        return balances

    def _ends(
        self, balances: list[tuple[str, Balance]], *, begins: bool, ends: bool
    ) -> tuple[Balance | None, Balance | None]:
        """Return what the account opened and closed with.

        Pages, and days that go on, have interim balances there. A page in the middle may repeat the balances of the
        whole statement, which aren't its own.
        """
        kinds: dict[str, list[Balance]] = {}
        for kind, balance in balances:
            kinds.setdefault(kind, []).append(balance)
        for kind in (*_OPENING, *_CLOSING):
            if len(kinds.get(kind, ())) > 1:
                raise StatementRefused(Reason.STRUCTURE_WRONG, f"two balances {kind}", kinds[kind][1].place)
        interim = kinds.get("ITBD", [])
        opening = next((kinds[kind][0] for kind in _OPENING if kind in kinds), None) if begins else None
        closing = next((kinds[kind][0] for kind in _CLOSING if kind in kinds), None) if ends else None
        if opening is None and (len(interim) > 1 or (interim and closing is not None)):
            opening = interim[0]
        # A report within the day may leave out the entries that an earlier one had.
        goes_on = self._names.statement == "Rpt" and opening is not None
        if closing is None and interim and interim[-1] is not opening and not goes_on:
            closing = interim[-1]
        return opening, closing

    def _check_currency(self, currency: str, balances: list[tuple[str, Balance]]) -> None:
        places = [(balance.currency, balance.place) for _, balance in balances]
        places += [(entry.currency, entry.place) for entry in self._open.entries if entry.currency != currency][:1]
        for other, place in places:
            if other != currency:
                detail = f"{other} where the account is in {currency}"
                raise StatementRefused(Reason.CURRENCY_DIFFERS, detail, place)

    def _copy(self) -> list[Finding]:
        element = self._parts.get("CpyDplctInd")
        if element is None:
            return []
        kind = _COPIES.get(self._names.text(element) or "")
        if kind is None:
            raise StatementRefused(Reason.FIELD_MALFORMED, "CpyDplctInd is no such code", self._names.at(element))
        return [Finding("copy_or_duplicate", f"its sender says that it is {kind}", self._names.at(element))]

    def _number(self, name: str) -> int | None:
        return self._names.count(self._parts.get(name), name)

    def _pagination(self) -> tuple[int, bool] | None:
        for name in ("StmtPgntn", "RptPgntn", "NtfctnPgntn"):
            if name in self._parts:
                return pagination(self._names, self._parts[name])
        return None

    def _days(self) -> tuple[date | None, date | None]:
        period = self._parts.get("FrToDt")
        parts = self._names.parts(period)
        return self._moment(parts.get("FrDtTm")), self._moment(parts.get("ToDtTm"))

    def _moment(self, element: Element | None) -> date | None:
        text = self._names.text(element)
        if element is None or text is None:
            return None
        day = iso_day(text)
        if day is None:
            raise StatementRefused(Reason.DATE_INVALID, f"no such time: {text[:40]!r}", self._names.at(element))
        return day

    def _check_summary(self, currency: str | None) -> None:
        """Check the numbers and sums of entries that a statement says. Raises StatementRefused."""
        names, statement = self._names, self._open
        summary = names.parts(self._parts.get("TxsSummry"), repeated=("TtlNtriesPerBkTxCd",))
        both = statement.credits + statement.debits
        for name, amounts in (
            ("TtlNtries", both),
            ("TtlCdtNtries", statement.credits),
            ("TtlDbtNtries", statement.debits),
        ):
            if name not in summary:
                continue
            parts = names.parts(summary[name])
            field = f"TxsSummry/{name}"
            number = names.count(parts.get("NbOfNtries"), f"{field}/NbOfNtries")
            if number is not None and number != len(amounts):
                detail = f"{number} entries are said, {len(amounts)} stand there"
                raise StatementRefused(Reason.COUNT_WRONG, detail, names.at(parts["NbOfNtries"], f"{field}/NbOfNtries"))
            if "Sum" in parts and currency is not None:
                self._check_sum(parts["Sum"], sum(amounts), currency, f"{field}/Sum")

    def _check_sum(self, element: Element, total: int, currency: str, field: str) -> None:
        place = self._names.at(element, field)
        text = self._names.text(element) or ""
        # A sum is a plain number, which may have zeros behind its decimals.
        plain = text.rstrip("0").rstrip(".") if "." in text else text
        said = minor_units(plain or "0", currency, place)
        if said != total:
            detail = f"entries of {shown(said, currency)} are said, {shown(total, currency)} stand there"
            raise StatementRefused(Reason.CONTROL_TOTAL_WRONG, detail, place)


def pagination(names: Names, element: Element) -> tuple[int, bool]:
    """Return a page and whether it is the last. Raises StatementRefused."""
    name = names.local(element)
    parts = names.parts(element)
    page = names.count(parts.get("PgNb"), f"{name}/PgNb")
    if page is None or page < 1:
        detail = "a page is numbered from 1"
        raise StatementRefused(Reason.FIELD_MALFORMED, detail, names.at(element, f"{name}/PgNb"))
    return page, names.is_true(parts.get("LastPgInd"), f"{name}/LastPgInd")
