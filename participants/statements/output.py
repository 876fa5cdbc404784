"""What files of statements say, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgspec

from compliance.terminal import shown
from gateway.federation.money import format_minor
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Balance, Entry, Statement

_ENTRY_MEMBERS = (
    "value_date",
    "booking_date",
    "reversal",
    "status",
    "reference",
    "references",
    "counterparty",
    "counterparty_account",
    "counterparty_agent",
    "text",
    "code",
)


class Output(Protocol):
    """Where files go once they are read."""

    def statements(self, file: Path, statements: Sequence[Statement]) -> None:
        """Say what a file says."""

    def refused(self, file: Path, refusal: StatementRefused) -> None:
        """Say why a file isn't read."""

    def end(self) -> None:
        """Say what there was in all."""


class JsonOutput:
    """A line of JSON for each statement, finding and entry, and for each file that is refused."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._counts = {"files": 0, "refused": 0, "statements": 0, "entries": 0, "findings": 0}

    def statements(self, file: Path, statements: Sequence[Statement]) -> None:
        self._counts["files"] += 1
        name = str(file)
        for number, statement in enumerate(statements, start=1):
            at = {"file": name, "statement": number}
            self._write("statement", {**at, **_statement_members(statement)})
            for finding in statement.findings:
                place = {"line": finding.place.line, "field": finding.place.field}
                self._write("finding", {**at, "code": finding.code, "detail": finding.detail, **place})
            for entry in statement.entries:
                self._write("entry", {**at, "account": statement.account, **_entry_members(entry)})
            self._counts["statements"] += 1
            self._counts["entries"] += len(statement.entries)
            self._counts["findings"] += len(statement.findings)

    def refused(self, file: Path, refusal: StatementRefused) -> None:
        self._counts["files"] += 1
        self._counts["refused"] += 1
        place = {"line": refusal.place.line, "field": refusal.place.field}
        self._write("refused", {"file": str(file), "reason": refusal.reason, "detail": refusal.detail, **place})

    def end(self) -> None:
        self._write("summary", self._counts)

    def _write(self, kind: str, members: dict[str, Any]) -> None:
        self._stream.write(msgspec.json.encode({kind: members}).decode() + "\n")


def _statement_members(statement: Statement) -> dict[str, Any]:
    return {
        "format": statement.format,
        "line": statement.place.line,
        "account": statement.account,
        "currency": statement.currency,
        "reference": statement.reference,
        "sequence": statement.sequence,
        "opening": _balance_members(statement.opening),
        "closing": _balance_members(statement.closing),
        "entries": len(statement.entries),
    }


def _balance_members(balance: Balance | None) -> dict[str, Any] | None:
    if balance is None:
        return None
    return {
        "amount": _plain(balance.amount_minor, balance.currency),
        "currency": balance.currency,
        "date": balance.date,
        "line": balance.place.line,
        "field": balance.place.field,
    }


def _entry_members(entry: Entry) -> dict[str, Any]:
    return {
        "line": entry.place.line,
        "field": entry.place.field,
        "amount": _plain(entry.amount_minor, entry.currency),
        "currency": entry.currency,
        **{name: getattr(entry, name) for name in _ENTRY_MEMBERS},
    }


def _plain(amount: int, currency: str) -> str:
    return format_minor(amount, currency).replace(",", "")


class TableOutput:
    """A table of each statement; refusals and findings stand among what is said of their file."""

    def __init__(self, stream: TextIO, errors: TextIO) -> None:
        self._stream = stream
        self._errors = errors

    def statements(self, file: Path, statements: Sequence[Statement]) -> None:
        for statement in statements:
            self._line(f"{shown(file)}: {_headline(statement)}")
            if statement.opening is not None:
                self._line(_balance_line("opens", statement.opening))
            for entry in statement.entries:
                self._line(_entry_line(entry))
            if statement.closing is not None:
                self._line(_balance_line("closes", statement.closing))
            for finding in statement.findings:
                self._line(f"  note, {shown(finding.place)}: {shown(finding.detail)} ({finding.code})")

    def refused(self, file: Path, refusal: StatementRefused) -> None:
        self._stream.flush()
        detail = f"{shown(file)}: refused, {shown(refusal.place)}: {shown(refusal.detail)} ({refusal.reason})"
        print(detail, file=self._errors)

    def end(self) -> None:
        self._stream.flush()

    def _line(self, text: str) -> None:
        self._stream.write(text.rstrip() + "\n")


def _headline(statement: Statement) -> str:
    parts = [statement.format]
    if statement.sequence is not None:
        parts.append(f"number {statement.sequence}")
    if statement.account is not None:
        parts.append(f"account {statement.account}")
    count = len(statement.entries)
    parts.append("1 entry" if count == 1 else f"{count:,} entries")
    return shown(", ".join(parts))


def _balance_line(what: str, balance: Balance) -> str:
    day = "" if balance.date is None else balance.date.isoformat()
    amount = f"{format_minor(balance.amount_minor, balance.currency)} {balance.currency}"
    return f"{balance.place.line:>8}  {day:10}  {amount:>24}  {what}"


def _entry_line(entry: Entry) -> str:
    day = entry.value_date or entry.booking_date
    amount = f"{format_minor(entry.amount_minor, entry.currency)} {entry.currency}"
    said = [part for part in (entry.reference, entry.counterparty, entry.text) if part]
    if entry.status != "booked":
        said.insert(0, entry.status)
    if entry.reversal:
        said.insert(0, "reversal")
    text = shown(" | ".join(said), characters_max=160)
    return f"{entry.place.line:>8}  {day.isoformat() if day else '':10}  {amount:>24}  {text}"
