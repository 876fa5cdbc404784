"""What one record of a payment file is, what its header and amounts may look like, and which payment it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from participants.intake.files import FileReason, FileRefused, PaymentRow, RefusedRow, inspect_file, read_rows
from participants.text_files.amounts import AmbiguousAmountError, certain_mark, plain_amount

COLUMNS = (
    "debtor_bank,debtor_account,debtor_name,creditor_bank,creditor_account,creditor_name,amount,currency,remittance"
)
RENT = "ALDRXXA0,A-1,Ada Alder,BRCHXXB0,B-1,Bruno Birch,11.00,EUR,rent"
INJECTED = "ALDRXXA0,A-1,Ada Alder,BRCHXXB0,B-2,Cora Cedar,9000.00,EUR,second"


def read(tmp_path: Path, *lines: str, end: str = "\n", start: str = "") -> list[PaymentRow | RefusedRow]:
    path = tmp_path / "payments.csv"
    path.write_bytes((start + "".join(line + end for line in lines)).encode())
    return list(read_rows(inspect_file(path)))


def payments(rows: list[PaymentRow | RefusedRow]) -> list[PaymentRow]:
    assert all(isinstance(row, PaymentRow) for row in rows), rows
    return [row for row in rows if isinstance(row, PaymentRow)]


def ids(tmp_path: Path, *lines: str, end: str = "\n", start: str = "") -> list[str]:
    return [row.id for row in payments(read(tmp_path, *lines, end=end, start=start))]


def refusal(tmp_path: Path, *lines: str) -> FileRefused:
    with pytest.raises(FileRefused) as refused:
        read(tmp_path, *lines)
    return refused.value


# --- records -----------------------------------------------------------------------------------------------


def test_a_line_break_inside_quotes_is_one_record_and_pays_nobody(tmp_path: Path) -> None:
    (row,) = read(tmp_path, COLUMNS, RENT.replace("rent", '"see below'), INJECTED, '"')
    assert isinstance(row, RefusedRow)
    assert (row.line, row.last_line, row.reason, row.place) == (2, 4, "remittance_invalid", "lines 2 to 4")


def test_records_after_one_of_several_lines_keep_their_lines(tmp_path: Path) -> None:
    broken, after = read(tmp_path, COLUMNS, RENT.replace("rent", '"a'), 'b"', "", RENT)
    assert isinstance(broken, RefusedRow)
    assert (broken.line, broken.last_line) == (2, 3)
    assert isinstance(after, PaymentRow)
    assert after.line == 5


def test_quotes_may_hold_what_stands_between_columns_and_quotes(tmp_path: Path) -> None:
    (row,) = payments(read(tmp_path, COLUMNS, RENT.replace("rent", '"rent, ""May"""')))
    assert row.remittance == 'rent, "May"'


@pytest.mark.parametrize(
    ("row", "closing"),
    [
        (RENT.replace("rent", '"rent'), ""),
        (RENT.replace("Ada Alder", '"Ada Alder'), ""),
        (RENT.replace("Ada Alder", '"Ada" Alder').replace("rent", '"see below'), '"'),
        (RENT.replace("rent", ' "see below'), '"'),
        (RENT.replace("rent", 'a "quote'), '"'),
        (RENT.replace("rent", '"a"b"'), '"'),
        (RENT.replace("rent", '"' + "x" * 20_000 + '"'), ""),
    ],
)
def test_quoting_that_can_be_read_in_two_ways_refuses_the_file(tmp_path: Path, row: str, closing: str) -> None:
    refused = refusal(tmp_path, COLUMNS, RENT, row, INJECTED, closing)
    assert refused.reason == FileReason.QUOTING
    assert "line 3" in str(refused)


# --- the header --------------------------------------------------------------------------------------------


def test_a_column_that_is_not_known_refuses_the_file(tmp_path: Path) -> None:
    refused = refusal(tmp_path, COLUMNS + ",value_dat", RENT + ",2026-12-24")
    assert refused.reason == FileReason.COLUMNS
    assert "unknown columns: value_dat" in str(refused)


def test_a_header_is_found_however_it_is_spelled(tmp_path: Path) -> None:
    header = COLUMNS.replace("debtor_bank,debtor_account", '"Debtor Bank", DEBTOR-ACCOUNT ').replace("amount", "Amount")
    assert ids(tmp_path, header, RENT) == ids(tmp_path, COLUMNS, RENT)


def test_a_column_may_stand_there_once(tmp_path: Path) -> None:
    assert "twice: Amount, amount" in str(refusal(tmp_path, COLUMNS + ",Amount", RENT + ",2.00"))


def test_what_stands_above_the_header_is_named(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "Payments export 27.11.2026", "", COLUMNS, RENT)
    assert refused.reason == FileReason.PREAMBLE
    assert "line 1 ('Payments export 27.11.2026') stands above the header, which is line 3" in str(refused)


def test_an_encoding_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(f"{COLUMNS}\n{RENT}\n".encode() + RENT.replace("Ada", "Zoë").encode("cp1252") + b"\n")
    good, refused = read_rows(inspect_file(path))
    assert isinstance(good, PaymentRow)
    assert isinstance(refused, RefusedRow)
    assert (refused.reason, "save the file as UTF-8" in refused.detail) == ("encoding_wrong", True)
    path.write_bytes(f"{COLUMNS}\n{RENT}\n".encode("utf-16"))
    with pytest.raises(FileRefused, match="UTF-16 or binary"):
        inspect_file(path)


# --- amounts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "amount", "minor"), [(";", "1.234,56", 123_456), ("\t", "12,5", 1_250)])
def test_separator_and_decimal_mark_are_found(tmp_path: Path, separator: str, amount: str, minor: int) -> None:
    rows = read(tmp_path, COLUMNS.replace(",", separator), RENT.replace(",", separator).replace("11.00", amount))
    assert [row.amount_minor for row in payments(rows)] == [minor]


def test_two_decimal_marks_in_one_file_refuse_it(tmp_path: Path) -> None:
    refused = refusal(tmp_path, COLUMNS, RENT, RENT.replace("11.00", '"1.100,00"'))
    assert refused.reason == FileReason.DECIMAL_MARK
    assert "line 2 has a decimal point (11.00), line 3 has a decimal comma (1.100,00)" in str(refused)


def test_an_amount_that_may_be_two_is_refused_unless_the_file_shows_which(tmp_path: Path) -> None:
    header, unclear, clear = (
        line.replace(",", ";").replace("EUR", "KWD").replace("11.00", amount)
        for line, amount in ((COLUMNS, ""), (RENT, "1,234"), (RENT, "0,500"))
    )
    (refused,) = read(tmp_path, header, unclear)
    assert isinstance(refused, RefusedRow)
    assert (refused.reason, refused.fields["amount"]) == ("not_a_number", "")
    assert "'1,234' may have thousands or three decimals" in refused.detail
    assert [row.amount_minor for row in payments(read(tmp_path, header, unclear, clear))] == [1_234, 500]


@pytest.mark.parametrize(
    ("text", "mark", "plain"),
    [
        ("1234", "", "1234"),
        ("12.5", ".", "12.5"),
        ("1,234.56", ".", "1234.56"),
        ("1.234.567", ",", "1234567"),
        ("1.234.567,8", ",", "1234567.8"),
        ("1.234", ".", "1.234"),
        ("1,234", ",", "1.234"),
        ("1.234", ",", None),
        ("1,234", ".", None),
        ("1.234", "", None),
        ("12,34,5.6", ".", "12,34,5.6"),
        ("-1,5", ",", "-1,5"),
    ],
)
def test_amounts_in_plain_form(text: str, mark: str, plain: str | None) -> None:
    if plain is None:
        with pytest.raises(AmbiguousAmountError):
            plain_amount(text, mark)
    else:
        assert plain_amount(text, mark) == plain


def test_what_an_amount_shows_of_the_mark() -> None:
    texts = ["7", "1.5", "1,5", "1.234", "0.125", "1633.943", "1.234,5", "1,234,567", "1.2.3", "x"]
    assert [certain_mark(text) for text in texts] == [None, ".", ",", None, ".", ".", ",", ".", None, None]


# --- which payment a row is --------------------------------------------------------------------------------


def test_corrected_resaved_and_reordered_files_have_the_ids_of_the_first(tmp_path: Path) -> None:
    typo = RENT.replace("11.00", "0.005").replace("rent", "typo")
    corrected = typo.replace("0.005", "0.50")
    first = read(tmp_path, COLUMNS, RENT, typo)
    assert isinstance(first[0], PaymentRow)
    assert isinstance(first[1], RefusedRow)
    second = ids(tmp_path, COLUMNS, RENT, corrected)
    assert second[0] == first[0].id
    assert ids(tmp_path, COLUMNS, RENT, corrected, start="\ufeff", end="\r\n") == second
    assert ids(tmp_path, COLUMNS, corrected, RENT) == second[::-1]
    other_way = [
        line.replace(",", ";").replace(".", ",") for line in (COLUMNS, RENT.replace("11.00", "11.0"), corrected)
    ]
    assert ids(tmp_path, *other_way) == second


def test_composed_and_decomposed_letters_are_the_same_row(tmp_path: Path) -> None:
    composed, decomposed = (RENT.replace("Ada", name) for name in ("Zo\u00eb", "Zoe\u0308"))
    assert ids(tmp_path, COLUMNS, composed) == ids(tmp_path, COLUMNS, decomposed)


def test_equal_rows_are_so_many_payments(tmp_path: Path) -> None:
    once, twice = ids(tmp_path, COLUMNS, RENT), ids(tmp_path, COLUMNS, RENT, RENT)
    assert twice[0] == once[0]
    assert len(set(twice)) == 2


@pytest.mark.parametrize("place", range(9))
def test_rows_that_differ_anywhere_are_different_payments(tmp_path: Path, place: int) -> None:
    values = RENT.split(",")
    values[place] = ("CEDRXXC0", "A-2", "Ada", "CEDRXXC0", "B-2", "Bruno", "12.00", "USD", "Rent")[place]
    assert ids(tmp_path, COLUMNS, RENT) != ids(tmp_path, COLUMNS, ",".join(values))


def test_a_refused_row_read_from_its_report_is_the_same_payment_unless_it_was_edited(tmp_path: Path) -> None:
    second = payments(read(tmp_path, COLUMNS, RENT, RENT))[1].fields()
    header = ",".join(second)
    assert ids(tmp_path, header, ",".join(second.values())) == ids(tmp_path, COLUMNS, RENT, RENT)[1:]
    edited = {**second, "amount": "12.00"}
    assert ids(tmp_path, header, ",".join(edited.values())) == ids(tmp_path, COLUMNS, RENT.replace("11.", "12."))
    (refused,) = read(tmp_path, header, ",".join({**second, "identity": "2"}.values()))
    assert isinstance(refused, RefusedRow)
    assert refused.reason == "id_invalid"
