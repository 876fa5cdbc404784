"""CSV as statements: by our own header, and by layouts."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from statement_texts import CSV, only, outcome

from participants.statements.csv_layout import Columns, CsvLayout, LayoutError, Sign, check_layout, day_of, read_layout
from participants.statements.reading import read
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Entry

GERMAN = """\
Kontoauszug;;;;
Konto;DE89370400440532013000;;;
Buchung;Valuta;Zweck;Betrag;S/H
27.11.2026;27.11.26;Miete;1.212,50;S
28.11.2026;30.11.26;"Lohn; November";2.000,00;H
"""
LAYOUT = """\
separator = ";"
decimal_mark = ","
dates = ["dd.mm.yyyy", "dd.mm.yy"]
encoding = "windows-1252"
header_line = 3
account = "DE89370400440532013000"
currency = "EUR"

[columns]
amount = "Betrag"
booking_date = "Buchung"
value_date = "Valuta"
text = ["Zweck"]

[sign]
column = "S/H"
credit = ["H"]
debit = ["S"]
"""


def layout(text: str, tmp_path: Path) -> CsvLayout:
    path = tmp_path / "layout.toml"
    path.write_text(text, "utf-8")
    return read_layout(path)


def entries(data: str, how: CsvLayout) -> tuple[Entry, ...]:
    (statement,) = read(data.encode(how.encoding), layout=how)
    return statement.entries


def reason(data: str, how: CsvLayout) -> tuple[str, int, str]:
    with pytest.raises(StatementRefused) as caught:
        read(data.encode(how.encoding), layout=how)
    return caught.value.reason.value, caught.value.place.line, caught.value.place.field


def simple(**more: object) -> CsvLayout:
    return CsvLayout(columns=Columns(amount="amount"), currency="EUR", **more)  # type: ignore[arg-type]


def test_a_header_of_our_own_names_needs_no_layout() -> None:
    statement = only(CSV)
    assert (statement.format, statement.account, statement.currency) == ("CSV", "A-1", "EUR")
    assert statement.opening is not None
    assert (statement.opening.amount_minor, statement.opening.date) == (100_000, date(2026, 11, 27))
    first, second = statement.entries
    assert (first.amount_minor, first.reference, first.text, first.counterparty) == (
        -1250,
        "E2E-1",
        "rent, November",
        "Ada Rossi",
    )
    assert (second.amount_minor, second.value_date, str(second.place)) == (750, date(2026, 11, 28), "line 3, amount")
    german = CSV.replace('"rent, November"', "rent").replace(",", ";").replace("12.50", "12,50").replace("7.50", "7,50")
    german = german.replace("995.00", "995,00")
    assert [entry.amount_minor for entry in only(german).entries] == [-1250, 750]


@pytest.mark.parametrize(
    ("before", "after", "outcome_of_it"),
    [
        ("995.00", "995.01", ("balance_wrong", 3, "balance")),
        ("-12.50,EUR", "-12.505,EUR", ("currency_decimals_wrong", 2, "amount")),
        ("-12.50,EUR", "-12.50,DEM", ("currency_unknown", 2, "currency")),
        ("-12.50,EUR", "-12.50,", ("field_missing", 2, "currency")),
        ("-12.50,EUR", ",EUR", ("field_missing", 2, "amount")),
        ("-12.50,EUR", "NaN,EUR", ("amount_malformed", 2, "amount")),
        ("-12.50,EUR", "1e3,EUR", ("amount_malformed", 2, "amount")),
        ("2026-11-28", "28.11.2026", ("date_invalid", 3, "valuedate")),
        ("2026-11-28", "2026-02-30", ("date_invalid", 3, "valuedate")),
        ("value_date", "when", ("format_unknown", 1, "header")),
        ("currency", "amount", ("not_a_statement", 1, "header")),
        (",,,995.00", ",,995.00", ("structure_wrong", 3, "")),
        ('"rent, November"', '"rent', ("structure_wrong", 2, "")),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(before: str, after: str, outcome_of_it: tuple[str, int, str]) -> None:
    assert CSV.count(before) >= 1
    assert outcome(CSV.replace(before, after, 1)) == outcome_of_it


def test_a_layout_says_how_a_bank_writes(tmp_path: Path) -> None:
    debit, credit = entries(GERMAN, layout(LAYOUT, tmp_path))
    assert (debit.amount_minor, debit.booking_date, debit.value_date) == (
        -121_250,
        date(2026, 11, 27),
        date(2026, 11, 27),
    )
    assert (credit.amount_minor, credit.text, credit.place.line) == (200_000, "Lohn; November", 5)
    assert reason(GERMAN.replace(";S\n", ";X\n"), layout(LAYOUT, tmp_path)) == ("field_malformed", 4, "S/H")
    assert reason(GERMAN.replace("Betrag", "Summe"), layout(LAYOUT, tmp_path)) == ("format_unknown", 3, "header")
    assert reason(GERMAN.replace("27.11.2026", "2026-11-27"), layout(LAYOUT, tmp_path)) == (
        "date_invalid",
        4,
        "buchung",
    )


@pytest.mark.parametrize(
    ("written", "minor"),
    [
        ("1,5", 150), ("-1,50", -150), ("1,50-", -150), ("+1,50", 150), ("\u22121,50", -150), ("(1,50)", -150),
        ("1.234,56", 123_456), ("1 234,56", 123_456), ("1\u00a0234,56", 123_456), ("1'234,56", 123_456), ("7", 700),
    ],
)  # fmt: skip
def test_amounts_as_people_write_them(written: str, minor: int) -> None:
    assert [e.amount_minor for e in entries(f"amount;x\n{written};\n0,01;\n", simple(separator=";"))] == [minor, 1]


def test_a_mark_that_nothing_shows_is_not_guessed() -> None:
    assert reason("amount;x\n1.234;\n", simple(separator=";")) == ("amount_malformed", 2, "amount")
    assert entries("amount;x\n1.234;\n", simple(separator=";", decimal_mark=","))[0].amount_minor == 123_400
    assert reason("amount;x\n1,5;\n1.5;\n", simple(separator=";"))[0] == "amount_malformed"
    assert reason("amount;x\n1.5;\n", simple(separator=";", decimal_mark=","))[0] == "amount_malformed"


def test_columns_of_credits_and_debits_by_number() -> None:
    columns = Columns(credit=2, debit=3, account=1, balance=4, references={"customer": 5})
    how = CsvLayout(columns=columns, currency="EUR", header_line=0, separator="|")
    newest_first = "A|5.00||12.00|R-3\nA||3.00|7.00|R-2\nA|10.00|0.00|10.00|R-1\n"
    (statement,) = read(newest_first.encode(), layout=how)
    assert [entry.amount_minor for entry in statement.entries] == [500, -300, 1000]
    assert statement.opening is not None
    assert statement.closing is not None
    assert (statement.opening.amount_minor, statement.closing.amount_minor) == (0, 1200)
    assert statement.entries[0].reference == "R-3"
    assert reason("A|5.00|5.00|0.00|R\n", how)[0] == "amount_malformed"
    assert reason("A|||0.00|R\n", how) == ("field_missing", 1, "column 2")


def test_several_accounts_are_several_statements() -> None:
    data = b"account,amount,currency\nA,1.00,EUR\nB,2.00,EUR\nA,3.00,EUR\nA,4.00,USD\n"
    found = [(s.account, s.currency, [e.amount_minor for e in s.entries]) for s in read(data)]
    assert found == [("A", "EUR", [100, 300]), ("B", "EUR", [200]), ("A", "USD", [400])]


def test_an_encoding_is_said_not_guessed() -> None:
    data = "amount,currency,text\n1.00,EUR,März\n"
    assert outcome(data.encode("latin-1"))[:2] == ("encoding_wrong", 2)
    assert entries(data, simple(encoding="latin-1"))[0].amount_minor == 100


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('amount = "Betrag"', "", "either amount, or credit and debit"),
        ('amount = "Betrag"', 'credit = "Betrag"', "credit and debit go together"),
        ('currency = "EUR"', "", "neither one of all rows nor a column"),
        ('currency = "EUR"', 'currency = "DEM"', "no active currency"),
        ('separator = ";"', 'separator = "x"', "separator"),
        ('decimal_mark = ","', 'decimal_mark = "x"', "a point or a comma"),
        ('"dd.mm.yy"', '"dd.mm"', "hasn't a day"),
        ('encoding = "windows-1252"', 'encoding = "none"', "isn't known"),
        ("header_line = 3", "header_line = 0", "by number"),
        ("[sign]", "[sing]", "sing"),
        ("[sign]", "[sign", "line"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(before: str, after: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=says):
        layout(LAYOUT.replace(before, after), tmp_path)


def test_forms_of_dates() -> None:
    assert day_of("5/7/2026", ("m/d/yyyy",)) == date(2026, 5, 7)
    assert day_of("20260507", ("yyyymmdd",)) == date(2026, 5, 7)
    assert day_of("07.05.99", ("yyyy-mm-dd", "dd.mm.yy")) == date(1999, 5, 7)
    assert day_of("31.02.2026", ("dd.mm.yyyy",)) is None
    check_layout(CsvLayout(columns=Columns(amount=1), currency="EUR", sign=Sign(2, ("C",), ("D",))))
