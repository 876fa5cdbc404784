"""BAI2: records and what continues them, funds, control totals and counts."""

from __future__ import annotations

from datetime import date

import pytest
from statement_texts import BAI2, only, outcome

from participants.statements.reading import read


def test_a_report_says_all_that_it_says() -> None:
    statement = only(BAI2)
    assert (statement.format, statement.account, statement.currency) == ("BAI2", "0123456789", "USD")
    assert statement.opening is not None
    assert statement.closing is not None
    assert (statement.opening.amount_minor, statement.closing.amount_minor) == (100_000, 97_500)
    credit, debit = statement.entries
    assert (credit.amount_minor, credit.value_date, credit.booking_date) == (
        2500,
        date(2026, 11, 28),
        date(2026, 11, 27),
    )
    assert (credit.reference, credit.references) == ("CUST1", {"bank": "BANK1", "customer": "CUST1"})
    assert (credit.text, credit.code, str(credit.place)) == ("INCOMING, WIRE FROM A/B", "195", "line 5, 16 amount")
    assert (debit.amount_minor, debit.reference, debit.text) == (-5000, "BANK2", "OUTGOING")


@pytest.mark.parametrize(
    ("before", "after", "reason", "line", "field"),
    [
        ("49,212500,6", "49,212501,6", "control_total_wrong", 8, "49 control total"),
        ("49,212500,6", "49,212500,5", "count_wrong", 8, "49 number of records"),
        ("98,212500,1,8", "98,212500,2,8", "count_wrong", 9, "98 number of accounts"),
        ("98,212500,1,8", "98,1,1,8", "control_total_wrong", 9, "98 control total"),
        ("99,212500,1,10", "99,212500,1,11", "count_wrong", 10, "99 number of records"),
        ("99,212500,1,10", "99,212500,2,10", "count_wrong", 10, "99 number of groups"),
        ("99,212500,1,10/\n", "", "file_truncated", 9, "99"),
        ("98,212500,1,8/\n", "", "structure_wrong", 9, "99 record"),
        ("49,212500,6/\n", "", "structure_wrong", 8, "98 record"),
        ("010,100000,,,015,97500", "010,100001,,,015,97499", "balance_wrong", 3, "03 015"),
        ("88,100,2500,1,,400,5000,1,", "88,100,5000,1,,400,2500,1,", "control_total_wrong", 3, "03 100"),
        ("88,100,2500,1,,400,5000,1,", "88,100,2500,0,,400,5000,1,", "count_wrong", 3, "03 100"),
        ("02,031001234,122099999,1,", "02,031001234,122099999,2,", "not_a_statement", 2, "02 status"),
        ("02,031001234,122099999,1,", "02,031001234,122099999,4,", "not_a_statement", 2, "02 status"),
        (",2/\n02", ",3/\n02", "format_unknown", 1, "01 version"),
        ("261127,2359,USD", "261127,2359,ZZZ", "currency_unknown", 2, "02 currency"),
        ("261127,2359,USD", "261327,2359,USD", "date_invalid", 2, "02 as-of date"),
        ("16,195,2500,V", "16,195,25.00,V", "amount_malformed", 5, "16 amount"),
        ("16,195,2500,V", "16,195,2500,Q", "field_malformed", 5, "16 funds"),
        ("16,195,2500,V", "16,1,2500,V", "field_malformed", 5, "16 type"),
        ("16,195,2500,V", "16,195," + "9" * 19 + ",V", "amount_too_large", 5, "16 amount"),
        ("16,195,2500,V", "16,195," + "9" * 9999 + ",V", "amount_too_large", 5, "16 amount"),
        ("01,122099999", "02,122099999", "structure_wrong", 1, "02 record"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(before: str, after: str, reason: str, line: int, field: str) -> None:
    assert BAI2.count(before) == 1
    assert outcome(BAI2.replace(before, after)) == (reason, line, field)


@pytest.mark.parametrize("lines", range(1, 9))
def test_a_file_that_is_cut_off_is_refused(lines: int) -> None:
    assert outcome("\n".join(BAI2.split("\n")[:lines]))[0] == "file_truncated"


def test_records_may_be_padded_wrapped_and_several_on_a_line() -> None:
    entries = [(entry.amount_minor, entry.reference) for entry in only(BAI2).entries]
    padded = "\n".join(line.ljust(80) for line in BAI2.split("\n") if line)
    for other in (padded, BAI2.replace("/\n", "/   "), BAI2.replace("\n", "\r\n"), "\ufeff" + BAI2):
        assert [(entry.amount_minor, entry.reference) for entry in only(other).entries] == entries
    wrapped = BAI2.replace("FROM A/B", "FROM\nA/B")
    assert only(wrapped).entries[0].text == "INCOMING, WIRE FROMA/B"


@pytest.mark.parametrize("funds", ["", "0", "1", "2", "Z", "S,1,2,3", "V,261128,", "D,2,0,1000,1,1500"])
def test_every_type_of_funds(funds: str) -> None:
    statement = only(BAI2.replace("16,195,2500,V,261128,,", f"16,195,2500,{funds},"))
    assert (statement.entries[0].reference, statement.entries[0].amount_minor) == ("CUST1", 2500)
    assert statement.entries[0].value_date == (date(2026, 11, 28) if funds[:1] == "V" else None)


def test_a_type_without_direction_is_information() -> None:
    more = BAI2.replace("16,495,5000,Z", "16,890,0,,,,NOTE/\n16,495,5000,Z").replace("500,6/", "500,7/")
    statement = only(more.replace(",1,8/", ",1,9/").replace(",1,10/", ",1,11/"))
    assert [(entry.amount_minor, entry.status) for entry in statement.entries][1] == (0, "info")
    assert [finding.code for finding in statement.findings] == ["type_without_direction"]


def test_decimals_are_those_of_the_currency() -> None:
    assert read(BAI2.replace("USD", "JPY").encode())[0].currency == "JPY"


def test_days_of_an_account_meet() -> None:
    body = BAI2.split("\n")[1:9]
    later = [
        line.replace("1,261127", "1,261128").replace("010,100000", "010,97500").replace("015,97500", "015,95000")
        for line in body
    ]
    later = [line.replace("212500", "207500") for line in later]
    whole = "\n".join([BAI2.split("\n")[0], *body, *later, "99,420000,2,18/"])
    assert [statement.opening and statement.opening.amount_minor for statement in read(whole.encode())] == [
        100_000,
        97_500,
    ]
    apart = (
        whole.replace("010,97500,,,015,95000", "010,97501,,,015,95001")
        .replace("207500", "207502")
        .replace("420000", "420002")
    )
    assert outcome(apart)[0] == "balances_apart"
