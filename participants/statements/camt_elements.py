"""Elements of one ISO 20022 document, read by their local names and in its namespace alone."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date
from typing import Any, TypeAlias, cast

from lxml import etree

from participants.statements.amounts import iso_day, minor_units
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Place

Element: TypeAlias = etree._Element

TEXT_CHARACTERS_MAX = 4_096
_SPACES = " \t\r\n"

# What is read of an entry: what is always a text, and what holds others, if only in some place or version. All else is
# passed over without a look at it, for an entry can have hundreds of elements.
_TEXT_NAMES = """
Amt CdtDbtInd RvslInd Dt DtTm Cd SubFmlyCd AcctSvcrRef NtryRef AddtlNtryInf AddtlTxInf NbOfTxs MsgId PmtInfId InstrId
EndToEndId UETR TxId MndtId ChqNb ClrSysRef AcctOwnrTxId AcctSvcrTxId MktInfrstrctrTxId PrcgId Nm IBAN BICFI BIC Ref
Ustrd AddtlRmtInf
"""
_HOLDER_NAMES = """
BookgDt ValDt BkTxCd Domn Fmly NtryDtls Btch TxDtls Refs AmtDtls TxAmt RltdPties Dbtr Cdtr Pty DbtrAcct CdtrAcct Othr
RltdAgts DbtrAgt CdtrAgt FinInstnId RmtInf Strd CdtrRefInf Sts Id Prtry
"""
_TEXTS, _HOLDERS = frozenset(_TEXT_NAMES.split()), frozenset(_HOLDER_NAMES.split())
_SEVERAL = frozenset(("NtryDtls", "TxDtls", "Ustrd", "AddtlRmtInf", "Strd", "Othr", "Prtry"))

Branch: TypeAlias = dict[str, Any]
"""What an element holds: by name a text, another branch, or a list of these for what may be there several times."""

COUNT = re.compile(r"([0-9]{1,18})(?:\.0*)?")
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def name_of(element: Element) -> tuple[str, str]:
    """Return the namespace and the local name of an element."""
    namespace, _, name = str(element.tag).rpartition("}")
    return namespace[1:], name


class Names:
    """The names of a document: its namespace, and what its body and its statements are called."""

    def __init__(self, namespace: str, body: str, statement: str) -> None:
        self.namespace = namespace
        self.body = body
        self.statement = statement
        self._prefix = f"{{{namespace}}}"
        self._begin = len(self._prefix)
        self._known: dict[object, tuple[str, bool, bool]] = {
            self._prefix + name: (name, name in _HOLDERS, name in _SEVERAL) for name in (*_TEXTS, *_HOLDERS)
        }

    def full(self, name: str) -> str:
        return self._prefix + name

    def local(self, element: Element) -> str:
        """Return an element's local name, "" if it is in another namespace."""
        tag = str(element.tag)
        return tag[self._begin :] if tag.startswith(self._prefix) else ""

    def at(self, element: Element, field: str = "") -> Place:
        return Place(element.sourceline or 1, field or self.local(element))

    def parts(self, element: Element | None, repeated: Collection[str] = ()) -> dict[str, Element]:
        """Return the children of an element by name. Raises StatementRefused if one not `repeated` is there twice."""
        if element is None:
            return {}
        prefix, begin = self._prefix, self._begin
        parts: dict[str, Element] = {}
        for child in element:
            tag = cast(str, child.tag)
            if tag.startswith(prefix):
                name = tag[begin:]
                if name in parts and name not in repeated:
                    raise StatementRefused(Reason.STRUCTURE_WRONG, f"{name} stands there twice", self.at(child))
                parts[name] = child
        return parts

    def branch(self, element: Element) -> Branch:
        """Return what is read of an element, down to its texts, without white space around them.

        Raises StatementRefused for what stands there twice, and for an element within a text.
        """
        known = self._known
        branch: Branch = {}
        for child in element:
            kind = known.get(child.tag)
            if kind is None:
                continue
            name, holds, several = kind
            value: str | Branch
            if len(child):
                if not holds:
                    raise StatementRefused(Reason.STRUCTURE_WRONG, "an element within a value", self.at(child))
                value = self.branch(child)
            else:
                value = (child.text or "").strip(_SPACES)
                if len(value) > TEXT_CHARACTERS_MAX:
                    raise _too_long(self.at(child))
                if name == "Amt":
                    branch["@Ccy"] = child.get("Ccy")
            if several:
                branch.setdefault(name, []).append(value)
            elif name in branch:
                raise StatementRefused(Reason.STRUCTURE_WRONG, f"{name} stands there twice", self.at(child))
            else:
                branch[name] = value
        return branch

    def text(self, element: Element | None) -> str | None:
        """Return the text of an element without white space around it, None if there is none."""
        if element is None:
            return None
        if len(element):
            raise StatementRefused(Reason.STRUCTURE_WRONG, "an element within a value", self.at(element))
        text = (element.text or "").strip(_SPACES)
        if len(text) > TEXT_CHARACTERS_MAX:
            raise _too_long(self.at(element))
        return text or None

    def deep(self, element: Element | None, *path: str) -> Element | None:
        """Return the first element at a path of local names."""
        for name in path:
            if element is None:
                return None
            element = next(element.iterchildren(self._prefix + name), None)
        return element

    def deep_text(self, element: Element | None, *path: str) -> str | None:
        return self.text(self.deep(element, *path))

    def amount(self, element: Element | None, place: Place) -> tuple[int, str]:
        """Return minor units and their currency. Raises StatementRefused."""
        if element is None:
            raise StatementRefused(Reason.FIELD_MISSING, "Amt is missing", Place(place.line, f"{place.field}/Amt"))
        currency = element.get("Ccy")
        at = Place(place.line, f"{place.field}/Amt")
        if currency is None:
            raise StatementRefused(Reason.FIELD_MISSING, "an amount without its currency", at)
        return minor_units(self.text(element) or "", currency, at), currency

    def is_credit(self, element: Element | None, place: Place) -> bool:
        """Tell whether something was credited. Raises StatementRefused."""
        text = self.text(element)
        if text == "CRDT":
            return True
        if text == "DBIT":
            return False
        at = Place(place.line, f"{place.field}/CdtDbtInd")
        if element is None:
            raise StatementRefused(Reason.FIELD_MISSING, "CdtDbtInd is missing", at)
        raise StatementRefused(Reason.FIELD_MALFORMED, f"{(text or '')[:20]!r} is neither CRDT nor DBIT", at)

    def day(self, element: Element | None, place: Place) -> date | None:
        """Return the day that a choice of `Dt` and `DtTm` holds. Raises StatementRefused."""
        if element is None:
            return None
        if not len(element):
            raise StatementRefused(Reason.FIELD_MISSING, "a date without Dt and DtTm", place)
        text = self.text(element[0]) or ""
        day = iso_day(text)
        if day is None:
            at = Place(place.line, f"{place.field}/{self.local(element)}")
            raise StatementRefused(Reason.DATE_INVALID, f"no such day: {text[:40]!r}", at)
        return day

    def count(self, element: Element | None, field: str) -> int | None:
        """Return a whole number, which the schemas let end in `.00`. Raises StatementRefused."""
        text = self.text(element)
        if element is None or text is None:
            return None
        match = COUNT.fullmatch(text)
        if match is None:
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{text[:40]!r} is no number", self.at(element, field))
        return int(match[1])

    def is_true(self, element: Element | None, field: str) -> bool:
        """Tell what an indicator says; what isn't there is false. Raises StatementRefused."""
        if element is None:
            return False
        value = BOOLEANS.get(self.text(element) or "")
        if value is None:
            raise StatementRefused(Reason.FIELD_MALFORMED, "neither true nor false", self.at(element, field))
        return value

    def account(self, element: Element | None) -> str | None:
        """Return an account's IBAN, or its number of another kind."""
        if element is None:
            return None
        return self.deep_text(element, "IBAN") or self.deep_text(element, "Othr", "Id")


def _too_long(place: Place) -> StatementRefused:
    return StatementRefused(Reason.FIELD_MALFORMED, f"more than {TEXT_CHARACTERS_MAX:,} characters", place)
