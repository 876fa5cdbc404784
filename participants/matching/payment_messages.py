"""Payment messages of ISO 20022 as a table: each transaction of a pacs.008, pacs.009, pacs.004 or pain.001 is a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import polars as pl
from lxml import etree

from gateway.federation.money import AmountError, AmountReason, parse_amount
from participants.matching.refusals import TableReason, TableRefused
from participants.matching.table import CURRENCIES, DIGITS_MAX, SCHEMA, Table, table

_NAMESPACE = re.compile(rb"urn:iso:std:iso:20022:tech:xsd:(pacs\.00[489]|pain\.001)\.001\.\d{2}\b")
_HEAD_BYTES = 1 << 16
_NO_REFERENCE = frozenset({"NOTPROVIDED", "NONREF", "NONE"})
Element = etree._Element


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a message has what a row says: paths without prefixes, the first that is there counts."""

    transaction: str
    reference: tuple[str, ...]
    amount: tuple[str, ...]
    value_date: tuple[str, ...]
    references: tuple[str, ...]


_TRANSFER = _Layout(
    "CdtTrfTxInf",
    ("PmtId/EndToEndId", "PmtId/UETR", "PmtId/TxId", "PmtId/InstrId"),
    ("IntrBkSttlmAmt",),
    ("IntrBkSttlmDt", "../GrpHdr/IntrBkSttlmDt"),
    ("PmtId/EndToEndId", "PmtId/UETR", "PmtId/TxId", "PmtId/InstrId"),
)
_LAYOUTS = {
    "pacs.008": _TRANSFER,
    "pacs.009": _TRANSFER,
    "pacs.004": _Layout(
        "TxInf",
        ("OrgnlEndToEndId", "OrgnlUETR", "OrgnlTxId", "OrgnlInstrId", "RtrId"),
        ("RtrdIntrBkSttlmAmt",),
        ("IntrBkSttlmDt", "../GrpHdr/IntrBkSttlmDt"),
        ("OrgnlEndToEndId", "OrgnlUETR", "OrgnlTxId", "OrgnlInstrId", "RtrId"),
    ),
    "pain.001": _Layout(
        "CdtTrfTxInf",
        ("PmtId/EndToEndId", "PmtId/UETR", "PmtId/InstrId"),
        ("Amt/InstdAmt",),
        ("../ReqdExctnDt/Dt", "../ReqdExctnDt"),
        ("PmtId/EndToEndId", "PmtId/UETR", "PmtId/InstrId"),
    ),
}
_OTHERS = {
    "debtor": ("Dbtr/Nm", "Dbtr/FinInstnId/BICFI", "../Dbtr/Nm"),
    "debtor_agent": ("DbtrAgt/FinInstnId/BICFI", "../DbtrAgt/FinInstnId/BICFI"),
    "creditor": ("Cdtr/Nm", "Cdtr/FinInstnId/BICFI"),
    "creditor_agent": ("CdtrAgt/FinInstnId/BICFI",),
}


def is_payment_message(content: bytes) -> bool:
    """Tell whether XML has a message that is read here."""
    return _NAMESPACE.search(content[:_HEAD_BYTES]) is not None


def read_payment_messages(name: str, content: bytes) -> Table:
    """Return the transactions of a file with one message or several. Raises TableRefused."""
    rows = list(_Messages(name).transactions(content))
    members = [member for member in SCHEMA if member not in ("account", "cycle", "status")]
    frame = pl.DataFrame(
        rows, schema={**{member: SCHEMA[member] for member in members}, **dict.fromkeys(_OTHERS, pl.String)}
    )
    return table(name, frame.select(members), frame.select(*_OTHERS))


class _Messages:
    def __init__(self, name: str) -> None:
        self._name = name

    def transactions(self, content: bytes) -> Iterator[dict[str, Any]]:
        root = self._parse(content)
        for document in root.iter("{*}Document"):
            yield from self._of_document(document, self._kind(document))

    def _parse(self, content: bytes) -> Element:
        # The declaration is looked for in the bytes, and UTF-8 forced, so that no other encoding hides one.
        if b"<!DOCTYPE" in content:
            self._refuse(TableReason.MALFORMED, None, "a document type declaration isn't read")
        parser = etree.XMLParser(
            encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        )
        try:
            return etree.fromstring(content, parser)
        except etree.XMLSyntaxError as error:
            raise TableRefused(
                TableReason.MALFORMED, self._name, line=error.lineno, detail=error.msg or "not well-formed XML"
            ) from None

    def _kind(self, document: Element) -> str:
        namespace = etree.QName(document).namespace or ""
        match = _NAMESPACE.fullmatch(namespace.encode())
        if match is None:
            self._refuse(TableReason.MESSAGE, document, f"not a payment message that is read: {namespace[:80]!r}")
        definition = namespace.rpartition(":")[2]
        parent = document.getparent()
        header = None if parent is None else parent.find(".//{*}AppHdr/{*}MsgDefIdr")
        if header is not None and len(parent.findall("{*}Document")) == 1 and header.text != definition:  # type: ignore[union-attr]
            self._refuse(TableReason.MALFORMED, header, f"the header says {header.text!r} of a {definition}")
        return match[1].decode()

    def _of_document(self, document: Element, kind: str) -> Iterator[dict[str, Any]]:
        layout = _LAYOUTS[kind]
        count, total = 0, Decimal(0)
        for transaction in document.iter(f"{{*}}{layout.transaction}"):
            row, amount = self._row(transaction, layout)
            count += 1
            total += amount
            yield row
        header = document.find(".//{*}GrpHdr")
        if header is None or not count:
            self._refuse(
                TableReason.MALFORMED, document, "no group header" if header is None else "no transaction in it"
            )
        for path, has in (("NbOfTxs", Decimal(count)), ("CtrlSum", total)):
            element = header.find(f"{{*}}{path}")
            if element is not None and _number(element.text) != has:
                self._refuse(
                    TableReason.MALFORMED, element, f"it says {(element.text or '')[:40]!r}, but there is {has}", path
                )

    def _row(self, transaction: Element, layout: _Layout) -> tuple[dict[str, Any], Decimal]:
        amount = _first(transaction, layout.amount)
        if amount is None:
            self._refuse(TableReason.AMOUNT, transaction, "there is no amount", layout.amount[0])
        assert amount is not None
        currency, text = amount.get("Ccy") or "", (amount.text or "").strip()
        if currency not in CURRENCIES:
            detail = f"not an active ISO 4217 currency: {currency[:16]!r}"
            self._refuse(TableReason.CURRENCY, amount, detail, f"{layout.amount[0]}/@Ccy")
        row: dict[str, Any] = {
            "line": transaction.sourceline,
            "reference": next(
                (text for text in _texts(transaction, layout.reference) if text not in _NO_REFERENCE), None
            ),
            "amount": self._amount(amount, text, currency, layout.amount[0]),
            "currency": currency,
            "value_date": self._date(transaction, layout),
            "text": " ".join(element.text or "" for element in transaction.iterfind("{*}RmtInf/{*}Ustrd")) or None,
            "references": [text for text in _texts(transaction, layout.references) if text not in _NO_REFERENCE],
        }
        row |= {other: next(iter(_texts(transaction, paths)), None) for other, paths in _OTHERS.items()}
        return row, Decimal(text)

    def _amount(self, element: Element, text: str, currency: str, path: str) -> int:
        try:
            minor = parse_amount(text, currency)
        except AmountError as error:
            reason = TableReason.DECIMALS if error.reason is AmountReason.TOO_MANY_DECIMALS else TableReason.AMOUNT
            self._refuse(reason, element, str(error), path)
        if minor >= 10**DIGITS_MAX:
            self._refuse(TableReason.AMOUNT_LARGE, element, f"more than {DIGITS_MAX} digits", path)
        return minor

    def _date(self, transaction: Element, layout: _Layout) -> date | None:
        element = _first(transaction, layout.value_date)
        if element is None:
            return None
        text = (element.text or "").strip()
        try:
            if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
                raise ValueError(text)
            return date.fromisoformat(text)
        except ValueError:
            self._refuse(TableReason.DATE, element, f"no date: {text[:40]!r}", layout.value_date[0])

    def _refuse(self, reason: TableReason, at: Element | None, detail: str, column: str = "") -> NoReturn:
        line = None if at is None else at.sourceline
        raise TableRefused(reason, self._name, line=line, column=column, detail=detail)


def _first(element: Element, paths: tuple[str, ...]) -> Element | None:
    """Return the first element of the paths that is there and has no elements in it."""
    elements = (element.find(_any_namespace(path)) for path in paths)
    return next((each for each in elements if each is not None and not len(each)), None)


def _texts(element: Element, paths: tuple[str, ...]) -> list[str]:
    text_at: Callable[[str], str] = lambda path: (element.findtext(_any_namespace(path)) or "").strip()  # noqa: E731
    return [text for path in paths if (text := text_at(path))]


def _any_namespace(path: str) -> str:
    return "/".join(step if step == ".." else f"{{*}}{step}" for step in path.split("/"))


def _number(text: str | None) -> Decimal | None:
    try:
        return Decimal(text or "")
    except InvalidOperation:
        return None
