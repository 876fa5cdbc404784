"""Statements and messages as tables: what an entry becomes, and by which of its references it is matched."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from participants.matching.engine import reconcile
from participants.matching.reading import read_table
from participants.matching.refusals import TableRefused
from participants.matching.rules import Rules, Side, default_rules
from participants.matching.statement_rows import statement_table
from participants.matching.table import Table
from participants.statements.statement import Entry, Place, Statement
from tests.matching_tables import Line, made

DAY = date(2026, 11, 2)
STATEMENT = """:20:STATEMENT
:25:DE89370400440532013000
:28C:5/1
:60F:C261101EUR1000,00
:61:2611021102D12,50NTRFINV-1//B-1
:86:166?00UEBERWEISUNG?20EREF+E2E-1?21SVWZ+Rent November?32Ada Rossi
:61:2611021102C7,50NTRFINV-2
:62F:C261102EUR995,00
-
"""


def statement(*entries: dict[str, Any]) -> Table:
    made_entries = tuple(
        Entry(place=Place(line, "Ntry"), currency="EUR", value_date=DAY, **entry)
        for line, entry in enumerate(entries, 5)
    )
    return statement_table(
        "s", [Statement(format="x", place=Place(1, ""), account="A", currency="EUR", entries=made_entries)]
    )


def kinds(a: Table, b: Table) -> list[str]:
    outcome = reconcile(a, b, default_rules())
    return sorted([item.kind.value for item in outcome.breaks] + list(outcome.by_pass))


def test_an_entry_is_a_row_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(STATEMENT)
    rules = default_rules()
    table = read_table(tmp_path / "s", rules, rules.a)
    assert table.rows.select("line", "reference", "amount", "currency", "value_date", "account").rows() == [
        (5, "E2E-1", -1250, "EUR", DAY, "DE89370400440532013000"),
        (7, "INV-2", 750, "EUR", DAY, "DE89370400440532013000"),
    ]
    negated = read_table(tmp_path / "s", rules, Side(negated=True))
    assert negated.rows["amount"].to_list() == [1250, -750]


def test_a_wrong_statement_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(STATEMENT.replace("995,00", "995,01"))
    with pytest.raises(TableRefused, match=r"^balance_wrong: .*: line 8: :62F:: "):
        read_table(tmp_path / "s", Rules(), Side())


def test_any_reference_in_common_will_do() -> None:
    books = statement({"amount_minor": 100, "reference": "OURS", "references": {"customer": "OURS", "uetr": "u-1"}})
    theirs = statement({"amount_minor": 100, "reference": "THEIRS", "references": {"bank": "THEIRS", "tx_id": "U-1"}})
    assert kinds(books, theirs) == ["any_reference"]
    other = statement({"amount_minor": 101, "reference": "THEIRS", "references": {"tx_id": "U-1"}})
    assert kinds(books, other) == ["missing_in_a", "missing_in_b"]


def test_a_reference_that_two_entries_have_proves_nothing() -> None:
    books = statement({"amount_minor": 100, "reference": "OURS", "references": {"msg_id": "M"}})
    entry = {"amount_minor": 100, "reference": "THEIRS", "references": {"msg_id": "M"}}
    assert kinds(books, statement(entry, {**entry, "reference": "OTHER"})) == ["missing_in_a"] * 2 + ["missing_in_b"]


def test_statuses_are_compared_between_statements_alone() -> None:
    pending = statement({"amount_minor": 100, "reference": "R", "status": "pending"})
    assert kinds(pending, statement({"amount_minor": 100, "reference": "R"})) == ["reference", "status"]
    assert kinds(made([Line("R", 100, status="settled")]), pending) == ["reference"]
