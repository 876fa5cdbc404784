"""Payment files: what each format gives, and what becomes of damaged ones."""

from __future__ import annotations

import gzip
import json
import lzma
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import DATA

from participants.intake.files import (
    FileReason,
    FileRefused,
    PaymentRow,
    ReadOptions,
    RefusedRow,
    inspect_file,
    read_rows,
)
from participants.intake.rows import bank_bic, spread_account
from participants.text_files.records import RECORD_CHARACTERS_MAX

SHARED = DATA / "payments"
WIRE_UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

HEADER = (
    "id,debtor_bank,debtor_account,debtor_name,creditor_bank,creditor_account,creditor_name,amount,currency,remittance"
)
ID = "5f2c1b7e-0d6a-4c8e-9a53-7d1f0e2b3c4d"
GOOD = f"{ID},ALDRXXA0,A-1,Ada Rossi,BRCHXXB0,B-1,Jan Novák,12.34,EUR,rent"
MEMBERS = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))


def rows_of(path: Path, **options: object) -> list[PaymentRow | RefusedRow]:
    return list(read_rows(inspect_file(path), ReadOptions(**options)))  # type: ignore[arg-type]


def written(tmp_path: Path, *lines: str, name: str = "payments.csv") -> Path:
    path = tmp_path / name
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    return path


def reasons(path: Path, **options: object) -> list[str]:
    return [row.reason if isinstance(row, RefusedRow) else "taken" for row in rows_of(path, **options)]


def test_own_csv_gives_the_payment_as_written(tmp_path: Path) -> None:
    (row,) = rows_of(written(tmp_path, HEADER, GOOD))
    assert row == PaymentRow(
        line=2,
        debtor_bank="ALDRXXA0",
        debtor_account="A-1",
        creditor_bank="BRCHXXB0",
        creditor_account="B-1",
        currency="EUR",
        amount_minor=1234,
        id=ID,
        debtor_name="Ada Rossi",
        creditor_name="Jan Novák",
        remittance="rent",
    )


def test_columns_come_in_any_order_and_ids_may_be_missing(tmp_path: Path) -> None:
    header = "amount,currency,creditor_name,creditor_account,creditor_bank,debtor_name,debtor_account,debtor_bank"
    (row,) = rows_of(written(tmp_path, header, "500,JPY,Jan Novák,B-1,BRCHXXB0,Ada Rossi,A-1,ALDRXXA0"))
    assert isinstance(row, PaymentRow)
    assert (row.amount_minor, row.currency, row.remittance) == (500, "JPY", "")
    assert WIRE_UUID.match(row.id)


def test_json_lines_give_the_same_payment_as_csv(tmp_path: Path) -> None:
    as_text = json.dumps(MEMBERS)
    as_number = as_text.replace('"12.34"', "12.34")
    from_csv = rows_of(written(tmp_path, HEADER, GOOD))[0]
    for line in (as_text, as_number):
        (row,) = rows_of(written(tmp_path, line, name="payments.jsonl"))
        assert isinstance(row, PaymentRow)
        assert isinstance(from_csv, PaymentRow)
        assert (row.id, row.amount_minor, row.creditor_name) == (from_csv.id, 1234, from_csv.creditor_name)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "row_malformed"),
        ("[1]", "row_malformed"),
        ("[" * 9_000, "row_malformed"),
        ('{"id": "x", "id": "y"}', "row_malformed"),
        ('{"amount": NaN}', "row_malformed"),
        ('{"amount": "1"}', "columns_wrong"),
        (json.dumps({**MEMBERS, "extra": "x"}), "columns_wrong"),
        (json.dumps({**MEMBERS, "currency": None}), "columns_wrong"),
        (json.dumps({**MEMBERS, "remittance": "\ud800"}), "remittance_invalid"),
    ],
)
def test_bad_json_lines_are_refused_and_the_rest_is_taken(tmp_path: Path, line: str, reason: str) -> None:
    path = written(tmp_path, json.dumps({}), line, json.dumps(MEMBERS))
    assert reasons(path) == ["columns_wrong", reason, "taken"]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_compressed_files_read_as_plain_ones_with_the_same_ids(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    lines = (HEADER, GOOD.replace(ID, ""), GOOD.replace("12.34", "1"))
    plain = written(tmp_path, *lines)
    packed = tmp_path / "packed"
    packed.write_bytes(compress(plain.read_bytes()))
    assert rows_of(plain) == rows_of(packed)
    assert inspect_file(packed).lines == 3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (GOOD + ",more", "columns_wrong"),
        (GOOD.rpartition(",")[0], "columns_wrong"),
        (GOOD.replace("ALDRXXA0", ""), "bank_invalid"),
        (GOOD.replace("A-1", "A 1"), "account_invalid"),
        (GOOD.replace("A-1", "x" * 65), "account_invalid"),
        (GOOD.replace("BRCHXXB0", "ALDRXXA0"), "same_bank"),
        (GOOD.replace("EUR", "EUX"), "currency_unknown"),
        (GOOD.replace("EUR", "eur"), "currency_unknown"),
        (GOOD.replace("12.34", "0"), "amount_zero"),
        (GOOD.replace("12.34", "0.00"), "amount_zero"),
        (GOOD.replace("12.34", "10000000000000"), "amount_too_large"),
        (GOOD.replace("12.34", "12.345"), "too_many_decimals"),
        (GOOD.replace("12.34", "702.0150437425508"), "too_many_decimals"),
        (GOOD.replace("12.34", "-1"), "signed"),
        (GOOD.replace("12.34", "+1"), "signed"),
        (GOOD.replace("12.34", "2.9903792777917195e-05"), "not_a_number"),
        (GOOD.replace("12.34", "NaN"), "not_a_number"),
        (GOOD.replace("12.34", "Infinity"), "not_a_number"),
        (GOOD.replace("12.34", "1_000"), "not_a_number"),
        (GOOD.replace("12.34", ""), "not_a_number"),
        (GOOD.replace("12.34", "١٢"), "not_a_number"),
        (GOOD.replace("12.34", "9" * 9_000), "too_large"),
        (GOOD.replace("Ada Rossi", ""), "name_invalid"),
        (GOOD.replace("Ada Rossi", "x" * 141), "name_invalid"),
        (GOOD.replace("Ada Rossi", "Ada\x00Rossi"), "name_invalid"),
        (GOOD.replace("rent", "x" * 141), "remittance_invalid"),
        (GOOD.replace(ID, "17"), "id_invalid"),
        (GOOD.replace(ID, ID.upper()), "id_invalid"),
        ("x" * (RECORD_CHARACTERS_MAX + 1), "line_too_long"),
    ],
)
def test_a_refused_row_says_why_and_does_not_stop_the_rest(tmp_path: Path, changed: str, reason: str) -> None:
    path = written(tmp_path, HEADER, changed, GOOD)
    refused, taken = rows_of(path)
    assert isinstance(refused, RefusedRow)
    assert (refused.line, refused.reason) == (2, reason)
    assert refused.detail
    assert isinstance(taken, PaymentRow)
    assert taken.line == 3


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("702.0150437425508", "EUR", 70202),
        ("0.125", "EUR", 12),
        ("0.135", "EUR", 14),
        ("2.5", "JPY", 2),
        ("3.5", "JPY", 4),
        ("1.0005", "KWD", 1000),
        ("9999999999999.99", "EUR", 999_999_999_999_999),
    ],
)
def test_rounding_is_half_even_and_exact(tmp_path: Path, text: str, currency: str, minor: int) -> None:
    path = written(tmp_path, HEADER, GOOD.replace("12.34", text).replace("EUR", currency))
    (row,) = rows_of(path, rounding=True)
    assert isinstance(row, PaymentRow)
    assert row.amount_minor == minor


def test_an_id_used_twice_is_refused_the_second_time(tmp_path: Path) -> None:
    first, second = rows_of(written(tmp_path, HEADER, GOOD, GOOD))
    assert isinstance(first, PaymentRow)
    assert isinstance(second, RefusedRow)
    assert (second.line, second.reason, second.detail) == (3, "id_duplicate", f"payment {ID} is already on line 2")


def test_a_line_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "latin1.csv"
    path.write_bytes(f"{HEADER}\n{GOOD}\n".encode() + GOOD.encode("latin-1", "replace").replace(b"Ada", b"Zo\xeb"))
    assert reasons(path) == ["taken", "encoding_wrong"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n{GOOD}\r\n\r\n".encode())
    assert reasons(path) == ["taken"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", FileReason.EMPTY),
        (b"\n\n", FileReason.EMPTY),
        (gzip.compress(b"", mtime=0), FileReason.EMPTY),
        (f"{HEADER}\n{GOOD}\n".encode("utf-16"), FileReason.ENCODING),
        (b"name\xff,amount\n", FileReason.ENCODING),
        (b"from,to,how much\n1,2,3\n", FileReason.COLUMNS),
        (HEADER.replace(",amount", "").encode(), FileReason.COLUMNS),
        ((HEADER + ",amount").encode(), FileReason.COLUMNS),
        (b"x" * 100_000, FileReason.COLUMNS),
        (b"\x1f\x8bnot a gzip file at all", FileReason.DAMAGED),
        (gzip.compress(f"{HEADER}\n{GOOD}\n".encode(), mtime=0) + b"garbage", FileReason.DAMAGED),
        (gzip.compress(f"{HEADER}\n{GOOD}\n".encode(), mtime=0)[:-9], FileReason.TRUNCATED),
        (lzma.compress(f"{HEADER}\n{GOOD}\n".encode())[:-9], FileReason.TRUNCATED),
        (b"PK\x03\x04rest", FileReason.CONTAINER_UNKNOWN),
    ],
)
def test_a_damaged_or_unknown_file_is_refused_before_any_row(
    tmp_path: Path, content: bytes, reason: FileReason
) -> None:
    path = tmp_path / "payments"
    path.write_bytes(content)
    with pytest.raises(FileRefused, match=re.escape(str(path))) as refused:
        inspect_file(path)
    assert refused.value.reason == reason


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(FileRefused) as refused:
            inspect_file(path)
        assert refused.value.reason == FileReason.UNREADABLE


def test_wrong_columns_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"line 1 .* nearest is labelled, which also needs bankDest"):
        inspect_file(written(tmp_path, "step,nameOrig,nameDest,bankOrig,amount"))


def test_labelled_rows_get_bics_names_and_the_step(tmp_path: Path) -> None:
    path = written(
        tmp_path, "step,nameOrig,nameDest,bankOrig,bankDest,amount,isSAR", "7,1633,943,bank_02,bank_01,1.10,0"
    )
    (row,) = rows_of(path, currency="USD")
    assert isinstance(row, PaymentRow)
    assert (row.debtor_bank, row.creditor_bank, row.step, row.currency) == ("BANKZZ02", "BANKZZ01", 7, "USD")
    assert (row.debtor_account, row.debtor_name) == ("1633", "Customer 1633")


def test_amlsim_accounts_are_spread_over_the_banks_the_same_way_every_time(tmp_path: Path) -> None:
    path = written(tmp_path, "sourceNodeId,targetNodeId,value,time", *(f"{n},{n + 1},1.5,1" for n in range(400)))
    rows = rows_of(path, banks=5)
    banks = Counter(row.debtor_bank for row in rows if isinstance(row, PaymentRow))
    assert len(banks) == 5
    assert min(banks.values()) > 30
    assert rows == rows_of(path, banks=5)
    assert all(row.debtor_bank == spread_account(row.debtor_account, 5) for row in rows if isinstance(row, PaymentRow))


def test_invented_bics_are_valid_and_different() -> None:
    names = ["ALDRXXA0", "bank_02", "bank_2", "Bank_02", "bank_102", "Crédit Agricole", "x"]
    bics = [bank_bic(name) for name in names]
    assert bics[:2] == ["ALDRXXA0", "BANKZZ02"]
    assert len(set(bics)) == len(names)
    assert all(re.fullmatch(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}", bic) for bic in bics)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        ReadOptions(currency="ABC")
    with pytest.raises(ValueError, match="2 to 100 banks"):
        ReadOptions(banks=1)


def real(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} isn't here")
    return path


def test_the_real_labelled_file() -> None:
    path = real("eight_banks_labelled.csv.gz")
    rounded = Counter(reasons(path, rounding=True))
    assert sum(rounded.values()) == 19_313
    assert rounded["same_bank"] == 3_537
    assert rounded["taken"] > 15_700
    assert Counter(reasons(path))["taken"] < 1_000


def test_the_real_amlsim_file() -> None:
    path = real("amlsim_20k_accounts_transactions.csv.gz")
    found = Counter(reasons(path, banks=6))
    assert sum(found.values()) == 120_558
    assert set(found) == {"taken", "same_bank"}
    assert 95_000 < found["taken"] < 105_000
