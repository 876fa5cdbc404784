"""The records of a BAI2 file: numbers between commas, what continues them, and what their fields hold."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from participants.statements.amounts import AMOUNT_MAX, DIGITS_MAX, short_day
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Place

RECORD_CHARACTERS_MAX = 16_384
_BEGINS = re.compile(r"[ \t]*(01|02|03|16|49|88|98|99)[,:]")
# Records that were padded to one length lost their line breaks somewhere.
_NEXT_ON_LINE = re.compile(r"(?<=/)[ \t]+(?=(?:01|02|03|16|49|88|98|99),)")
_AMOUNT = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[0-9]{1,10}")


class Record(NamedTuple):
    """A record with what continues it: its code, fields, line, and of how many records it consists."""

    code: str
    fields: list[str]
    line: int
    records: int

    def text(self, index: int) -> str:
        return self.fields[index].strip() if index < len(self.fields) else ""

    def at(self, name: str) -> Place:
        return Place(self.line, f"{self.code} {name}")


def bai2_records(text: str) -> Iterator[Record]:
    """Yield every record joined with its continuations."""
    code, content, line, count = "", "", 0, 0
    for number, part in _parts(text):
        match = _BEGINS.match(part)
        if match is None:
            # A text that was broken within; what comes before it must be one.
            if code not in ("16", "88"):
                raise StatementRefused(
                    Reason.STRUCTURE_WRONG, f"{part.strip()[:40]!r} is no record", Place(number, "record")
                )
            content += part.rstrip()
        elif match[1] == "88":
            if not code:
                raise StatementRefused(Reason.STRUCTURE_WRONG, "88 continues nothing", Place(number, "88"))
            content = _joined(content, part[match.end() :].rstrip())
            count += 1
        else:
            if code:
                yield _record(code, content, line, count)
            code, content, line, count = match[1], part[match.end() :].rstrip(), number, 1
        if len(content) > RECORD_CHARACTERS_MAX:
            detail = f"more than {RECORD_CHARACTERS_MAX:,} characters in a record"
            raise StatementRefused(Reason.FIELD_MALFORMED, detail, Place(number, code))
    if code:
        yield _record(code, content, line, count)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        if "/" in line:
            for part in _NEXT_ON_LINE.split(line):
                yield number, part
        else:
            yield number, line


def _joined(content: str, more: str) -> str:
    """Return a record and what continues it: after a slash with its next field, without one within its text."""
    return f"{content[:-1]},{more}" if content.endswith("/") else f"{content} {more}"


def _record(code: str, content: str, line: int, count: int) -> Record:
    return Record(code, content.removesuffix("/").split(","), line, count)


def summary(record: Record) -> Iterator[tuple[str, int, int | None]]:
    """Yield type, amount and number of items of everything that an account's record says."""
    index = 2
    while index < len(record.fields):
        code, amount, items = record.text(index), record.text(index + 1), record.text(index + 2)
        if code and not re.fullmatch(r"[0-9]{3}", code):
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{code[:10]!r} is no type code", record.at("type"))
        if items and not NUMBER.fullmatch(items):
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{items[:10]!r} is no number", record.at(f"{code} items"))
        _, after = funds(record, index + 3)
        if code and amount:
            yield code, signed(amount, record.at(code)), int(items) if items else None
        elif amount:
            raise StatementRefused(Reason.FIELD_MISSING, "an amount without a type code", record.at("type"))
        index = after


def funds(record: Record, index: int) -> tuple[date | None, int]:
    """Return the value date that the type of funds says, and where the next field is."""
    kind = record.text(index).upper()
    if kind in ("", "0", "1", "2", "Z"):
        return None, index + 1
    if kind == "V":
        text = record.text(index + 1)
        return day_of(text, record.at("value date")) if text else None, index + 3
    if kind == "S":
        return None, index + 4
    if kind == "D":
        text = record.text(index + 1) or "0"
        if not NUMBER.fullmatch(text) or int(text) * 2 > len(record.fields):
            raise StatementRefused(Reason.FIELD_MALFORMED, f"{text[:10]!r} is no number", record.at("funds"))
        return None, index + 2 + 2 * int(text)
    raise StatementRefused(Reason.FIELD_MALFORMED, f"{kind[:10]!r} is no type of funds", record.at("funds"))


def signed(text: str, place: Place) -> int:
    text = text.strip()
    if not _AMOUNT.fullmatch(text):
        raise StatementRefused(Reason.AMOUNT_MALFORMED, f"{text[:40]!r} is no amount in minor units", place)
    if len(text.lstrip("+-0")) > DIGITS_MAX * 2:
        raise StatementRefused(Reason.AMOUNT_TOO_LARGE, f"an amount has at most {DIGITS_MAX} digits", place)
    amount = int(text)
    if abs(amount) > AMOUNT_MAX and "control" not in place.field:
        raise StatementRefused(Reason.AMOUNT_TOO_LARGE, f"an amount has at most {DIGITS_MAX} digits", place)
    return amount


def day_of(text: str, place: Place) -> date:
    day = short_day(text)
    if day is None or day[1]:
        raise StatementRefused(Reason.DATE_INVALID, f"no such day: {text[:20]!r}", place)
    return day[0]
