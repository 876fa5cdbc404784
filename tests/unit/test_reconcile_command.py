"""`concordat reconcile`: what it reads and refuses, what it writes, and what its exit code says."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import cli

HEADER = "reference,amount,currency,value_date\n"
EQUAL = HEADER + "P1,100.00,EUR,2026-11-02\nP2,7,JPY,2026-11-03\nP3,1.125,KWD,2026-11-03\n"


def run(directory: Path, a: str | bytes, b: str | bytes, *options: str) -> Any:
    return CliRunner().invoke(cli.app, ["reconcile", *written(directory, a, b), *options])


def lines(directory: Path, a: str | bytes, b: str | bytes, *options: str) -> list[dict[str, Any]]:
    """Return what --json writes, to a file in place of a terminal."""
    with (directory / "answer").open("w+") as answer, redirect_stdout(answer):
        code = cli.app(["reconcile", *written(directory, a, b), "--json", *options], standalone_mode=False)
        answer.seek(0)
        documents = [json.loads(line) for line in answer]
    assert (code or 0) == (1 if documents[:-1] else 0)
    assert list(documents[-1]) == ["summary"]
    return documents


def written(directory: Path, a: str | bytes, b: str | bytes) -> list[str]:
    for name, content in (("a", a), ("b", b)):
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [str(directory / "a"), str(directory / "b")]


def kinds(directory: Path, a: str | bytes, b: str | bytes, *options: str) -> list[str]:
    return [line["kind"] for line in lines(directory, a, b, *options)[:-1]]


def test_a_line_for_each_break_and_a_summary(tmp_path: Path) -> None:
    a = "reference,amount,currency,value_date,branch\nP1,1000.5,EUR,2026-11-02,north\nP2,5.00,EUR,2026-11-02,south\n"
    b = HEADER + "P1,1000.49,EUR,2026-11-02\nP2,5,EUR,2026-11-02\n"
    answer = lines(tmp_path, a, b)
    assert answer[0] == {
        "kind": "amount",
        "a": {
            "line": 2,
            "reference": "P1",
            "amount": "1000.50",
            "currency": "EUR",
            "value_date": "2026-11-02",
            "branch": "north",
        },
        "b": {"line": 2, "reference": "P1", "amount": "1000.49", "currency": "EUR", "value_date": "2026-11-02"},
        "reference": "P1",
        "why": "the amount is 1000.50 EUR in A, 1000.49 EUR in B",
        "difference": "0.01",
        "pass": "reference",
    }
    summary = answer[1]["summary"]
    assert summary["matches"] == 1
    assert summary["kinds"] == {"amount": 1}
    assert summary["currencies"]["EUR"] == {
        "a": "1005.50",
        "b": "1005.49",
        "difference": "0.01",
        "of_breaks": "0.01",
        "of_matches": "0.00",
    }


def test_a_missing_row_is_null(tmp_path: Path) -> None:
    missing = lines(tmp_path, EQUAL, HEADER)
    assert [(line["kind"], line["b"]) for line in missing[:-1]] == [("missing_in_b", None)] * 3
    assert [(line["kind"], line["a"]) for line in lines(tmp_path, HEADER, EQUAL)[:-1]] == [("missing_in_a", None)] * 3


def test_more_rows_than_one_are_beside_the_first(tmp_path: Path) -> None:
    answer = lines(tmp_path, HEADER + "P,9.00,EUR,2026-11-02\n", HEADER + "P,4,EUR,2026-11-02\nP,4,EUR,2026-11-02\n")
    assert (answer[0]["kind"], answer[0]["b"]["line"], answer[0]["more_b"][0]["line"]) == ("amount", 2, 3)


READ: dict[str, bytes] = {
    "as it is": EQUAL.encode(),
    "byte order mark": b"\xef\xbb\xbf" + EQUAL.encode(),
    "lines as on Windows": EQUAL.replace("\n", "\r\n").encode(),
    "no last line end": EQUAL.rstrip().encode(),
    "blank lines": EQUAL.replace("\nP2", "\n\nP2").encode() + b"\n\n",
    "header in other letters": EQUAL.replace("value_date", "Value Date").replace("amount", "AMOUNT").encode(),
    "other order": (
        b"currency,value_date,reference,amount\n"
        b"EUR,2026-11-02,P1,100\nJPY,2026-11-03,P2,7\nKWD,2026-11-03,P3,1.125\n"
    ),
    "spaces": EQUAL.replace(",", " , ").encode(),
    "quotes": EQUAL.replace("P1", '"P1"').replace("100.00", '"100.00"').encode(),
    "semicolons and commas": EQUAL.replace(",", ";").replace(".", ",").encode(),
    "tabs": EQUAL.replace(",", "\t").encode(),
    "currency in small letters": EQUAL.replace("EUR", "eur").encode(),
    "gzip": gzip.compress(EQUAL.encode()),
    "plus signs": EQUAL.replace("100.00", "+100.00").encode(),
}  # fmt: skip


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_dialects_are_read(content: bytes, tmp_path: Path) -> None:
    done = run(tmp_path, EQUAL, content)
    assert done.exit_code == 0, done.output


def test_groups_and_decimal_commas_are_read(tmp_path: Path) -> None:
    a = "reference;amount;currency;value_date\nP1;1.234,56;EUR;2026-11-02\nP2;-1.000.000,00;EUR;2026-11-02\n"
    b = HEADER + 'P1,"1,234.56",EUR,2026-11-02\nP2,-1000000,EUR,2026-11-02\n'
    assert kinds(tmp_path, a, b) == []


BAD = {
    "no such column": ("reference,amount,currency\nP,1,EUR\n", "columns_wrong: {}: line 1"),
    "a column twice": (
        HEADER.replace("value_date", "value_date,Amount") + "P,1,EUR,2026-11-02,1\n",
        "columns_wrong: {}: line 1: Amount",
    ),
    "above the header": ("Report of May\n" + EQUAL, "header_not_first: {}: line 1"),
    "nothing": ("", "file_empty: {}"),
    "UTF-16": (EQUAL.encode("utf-16"), "encoding_wrong: {}: line 1"),
    "Latin-1": (HEADER.encode() + b"P1,1,EUR,2026-11-02\nP\xe9,1,EUR,2026-11-02\n", "encoding_wrong: {}: line 3"),
    "too few fields": (EQUAL + "P4,1,EUR\n", "row_malformed: {}: line 5"),
    "too many fields": (EQUAL + "P4,1,EUR,2026-11-02,x\n", "row_malformed: {}: line 5"),
    "one too few, one too many": (EQUAL + "P4,1,EUR\nP5,1,EUR,2026-11-02,x\n", "row_malformed: {}: line 5"),
    "quotes within": (EQUAL + 'P"4,1,EUR,2026-11-02\n', "quoting_wrong: {}: line 5"),
    "an open quote": (EQUAL + '"P4,1,EUR,2026-11-02\n', "quoting_wrong: {}: line 5"),
    "no currency": (EQUAL + "P4,1,EURO,2026-11-02\n", "currency_unknown: {}: line 5: currency"),
    "gold": (EQUAL + "P4,1,XAU,2026-11-02\n", "currency_unknown: {}: line 5: currency"),
    "an empty amount": (EQUAL + "P4,,EUR,2026-11-02\n", "amount_malformed: {}: line 5: amount"),
    "a float": (EQUAL + "P4,1e2,EUR,2026-11-02\n", "amount_malformed: {}: line 5: amount"),
    "two signs": (EQUAL + "P4,--1,EUR,2026-11-02\n", "amount_malformed: {}: line 5: amount"),
    "not a number": (EQUAL + "P4,nan,EUR,2026-11-02\n", "amount_malformed: {}: line 5: amount"),
    "no digit before the point": (EQUAL + "P4,.5,EUR,2026-11-02\n", "amount_malformed: {}: line 5: amount"),
    "cents of a cent": (EQUAL + "P4,1.001,EUR,2026-11-02\n", "too_many_decimals: {}: line 5: amount"),
    "sen": (EQUAL + "P4,1.0,JPY,2026-11-02\n", "too_many_decimals: {}: line 5: amount"),
    "19 digits": (EQUAL + "P4,12345678901234567.89,EUR,2026-11-02\n", "amount_too_large: {}: line 5: amount"),
    "two marks": (EQUAL.replace(",", ";") + "P4;1,25;EUR;2026-11-02\n", "decimal_mark_unclear: {}: line 5: amount"),
    "a mark of nothing certain": (
        "reference;amount;currency;value_date\nP;1.234;EUR;2026-11-02\n",
        "decimal_mark_unclear: {}: line 2: amount",
    ),
    "no such day": (EQUAL + "P4,1,EUR,2026-02-30\n", "date_invalid: {}: line 5: value_date"),
    "another form of day": (EQUAL + "P4,1,EUR,02.11.2026\n", "date_invalid: {}: line 5: value_date"),
    "a day without a zero": (EQUAL + "P4,1,EUR,2026-11-2\n", "date_invalid: {}: line 5: value_date"),
    "cut off": (gzip.compress(EQUAL.encode() * 99)[:-20], "file_truncated: {}"),
    "zip": (b"PK\x03\x04" + EQUAL.encode(), "container_unknown: {}"),
    "XML of something else": ("<?xml version='1.0'?><a/>", "not_a_statement: {}"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD)
def test_what_cant_be_read_is_refused_with_its_place(content: str | bytes, says: str, tmp_path: Path) -> None:
    done = run(tmp_path, EQUAL, content, "--json")
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("concordat: " + says.format(tmp_path / "b"))
    assert done.stdout == ""


def test_a_file_that_isnt_there_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["reconcile", str(tmp_path), str(tmp_path / "b")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "file_unreadable" in done.stderr


def test_both_ways_of_reading_a_file_mean_the_same(tmp_path: Path) -> None:
    rows = [f"P{n} ,{n}.{n % 100:02},EUR,2026-11-{n % 28 + 1:02},text {n}" for n in range(500)]
    plain = HEADER.strip() + ",text\n" + "\n".join(rows) + "\n"
    quoted = plain.replace("text 7\n", '"text 7"\n')
    assert kinds(tmp_path, plain, quoted) == []


RULES = """
[columns]
reference = "End To End"
[a]
columns = { amount = "betrag", value_date = "valuta" }
currency = "EUR"
date_format = "DD.MM.YYYY"
negated = true
[materiality]
EUR = "0.05"
"""


def test_rules_name_columns_and_what_a_side_has_in_common(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(RULES)
    a = "end-to-end;betrag;valuta\nP1;-100,00;02.11.2026\n"
    b = "end_to_end,amount,currency,value_date\nP1,100.04,EUR,2026-11-02\n"
    answer = lines(tmp_path, a, b, "--rules", str(tmp_path / "rules"), "--matches", str(tmp_path / "m"))
    assert answer[0]["summary"]["currencies"]["EUR"]["of_matches"] == "-0.04"
    match = json.loads((tmp_path / "m").read_text())
    assert (match["a"], match["b"], match["difference"]) == ([2], [2], "-0.04")
    assert "isn't material" in match["why"]


@pytest.mark.parametrize(
    "text",
    [
        "passes = 3",
        "[[passes]]\nby = 'magic'",
        "[materiality]\nEUR = 'x'",
        "x = 1",
        "=",
        "[a]\ncolumns = {x = 'y'}",
        "[materiality]\nJPY = '1000000000000000000'",
    ],
)
def test_wrong_rules_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text(text)
    done = run(tmp_path, EQUAL, EQUAL, "--rules", str(tmp_path / "rules"))
    assert done.exit_code == 2
    assert done.stderr.startswith(f"concordat: rules_wrong: {tmp_path / 'rules'}")


def test_every_match_is_written_with_why(tmp_path: Path) -> None:
    a = HEADER + "P1,1,EUR,2026-11-02\n,2,EUR,2026-11-02\nP3,9,EUR,2026-11-02\n"
    b = HEADER + "P1,1,EUR,2026-11-02\nX,2,EUR,2026-11-03\nP3,4,EUR,2026-11-02\nP3,5,EUR,2026-11-02\n"
    assert kinds(tmp_path, a, b, "--matches", str(tmp_path / "m")) == []
    found = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert [(match["pass"], match["a"], match["b"]) for match in found] == [
        ("reference", [2], [2]),
        ("amount", [3], [3]),
        ("sum", [4], [4, 5]),
    ]
    assert found[1]["why"] == "by amount: the same amount, value dates 1 day apart"


def test_people_see_a_screenful_and_how_to_see_the_rest(tmp_path: Path) -> None:
    a = HEADER + "".join(f"P{n},1,EUR,2026-11-02\n" for n in range(200))
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "reconcile", *written(tmp_path, a, HEADER)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "and 180 more breaks; --json lists all" in done.stdout
    assert "200 breaks: 200 missing_in_b" in done.stdout
    assert len(done.stdout.splitlines()) < 100


MESSAGE = """<?xml version="1.0"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pacs.008.001.08"><FIToFICstmrCdtTrf>
<GrpHdr><MsgId>M</MsgId><NbOfTxs>2</NbOfTxs></GrpHdr>
{}
</FIToFICstmrCdtTrf></Document>"""
TRANSACTION = """<CdtTrfTxInf><PmtId><EndToEndId>{}</EndToEndId></PmtId>
<IntrBkSttlmAmt Ccy="EUR">{}</IntrBkSttlmAmt><IntrBkSttlmDt>2026-11-02</IntrBkSttlmDt></CdtTrfTxInf>"""


def test_payment_messages_are_read(tmp_path: Path) -> None:
    message = MESSAGE.format(TRANSACTION.format("P1", "100") + TRANSACTION.format("P2", "0.01"))
    assert kinds(tmp_path, HEADER + "P1,100,EUR,2026-11-02\nP2,0.02,EUR,2026-11-02\n", message) == ["amount"]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        pytest.param(MESSAGE.format(TRANSACTION.format("P1", "100")), "message_malformed: {}: line 3", id="count"),
        pytest.param(
            MESSAGE.format(2 * TRANSACTION.format("P", "1.001")), "too_many_decimals: {}: line 5", id="decimals"
        ),
        pytest.param(MESSAGE.format("<CdtTrfTxInf>"), "message_malformed: {}: line 5", id="not well-formed"),
        pytest.param("<!DOCTYPE a []>" + MESSAGE.format("")[22:], "message_malformed: {}", id="a DOCTYPE"),
    ],
)
def test_wrong_messages_are_refused(message: str, says: str, tmp_path: Path) -> None:
    done = run(tmp_path, EQUAL, message)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("concordat: " + says.format(tmp_path / "b"))


def test_no_figure_is_cut_off_to_fit_a_terminal(tmp_path: Path) -> None:
    a = HEADER + "P1,123456789012345.67,EUR,2026-11-02\n"
    done = run(tmp_path, a, HEADER + "P1,1,EUR,2026-11-02\n")
    assert "123,456,789,012,345.67  1.00  123,456,789,012,344.67  123,456,789,012,344.67        0.00" in done.output
