"""A CSV file means the same whether it is read by columns or record by record, and amounts are exact."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.federation.money import EXPONENTS
from participants.matching import csv_file
from participants.matching.columns import filled, units
from participants.matching.refusals import TableRefused
from participants.matching.rules import default_rules

RULES = default_rules()
HEADER = "reference,amount,currency,value_date"
FIELDS = st.sampled_from(
    ["", "R1", '"R1"', '"R,1"', '""', '"R""1"', 'R"1', " R1 ", '"R\n1"', "1.00", "EUR", "\r", '"', "é"]
)
ROWS = st.lists(FIELDS, min_size=3, max_size=5).map(",".join)
BODIES = st.lists(ROWS, max_size=5)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n"])


@settings(max_examples=800, deadline=None)
@given(body=BODIES, end=ENDS, last=st.booleans())
@example(body=[',,,""'], end="\n", last=False)
def test_both_ways_of_reading_mean_the_same(body: list[str], end: str, last: bool) -> None:
    content = (end.join([HEADER, *body]) + (end if last else "")).encode()
    header = csv_file._find_header("file", content, RULES, RULES.a)
    by_columns = csv_file._plain(header, content)
    if by_columns is None:
        return
    by_columns, by_records = filled(by_columns), filled(csv_file._records("file", header, content))
    assert by_columns.frame.rows() == by_records.frame.rows()
    assert by_columns.lines.to_list() == by_records.lines.to_list()


def test_a_row_of_nothing_is_passed_over_and_lines_are_counted() -> None:
    content = f'{HEADER}\nR1,1.00,EUR,2026-11-02\n,,,\n , ,"",\nR2,2.00,EUR,2026-11-02\n,,,\n'.encode()
    table = csv_file.read_csv("file", content, RULES, RULES.a)
    assert table.rows.select("line", "reference", "amount").rows() == [(2, "R1", 100), (5, "R2", 200)]


CODES = st.sampled_from(["EUR", "JPY", "KWD", "UYW"])


@settings(max_examples=150, deadline=None)
@given(amounts=st.lists(st.tuples(st.integers(-(10**14), 10**14), CODES), min_size=1, max_size=8))
def test_amounts_are_exact(amounts: list[tuple[int, str]]) -> None:
    rows = "".join(f"R,{units(amount, code)},{code},2026-11-02\n" for amount, code in amounts)
    content = f"{HEADER}\n{rows}".encode()
    table = csv_file.read_csv("file", content, RULES, RULES.a)
    assert table.rows["amount"].to_list() == [amount for amount, _ in amounts]
    for amount, code in amounts:
        assert Decimal(units(amount, code)) == Decimal(amount).scaleb(-EXPONENTS[code])


@settings(max_examples=300, deadline=None)
@given(text=st.text("0123456789.,-+e '", max_size=12), code=CODES)
def test_what_is_no_amount_is_refused_and_never_something_else(text: str, code: str) -> None:
    content = f'{HEADER}\nR,"{text}",{code},2026-11-02\n'.encode()
    refused: TableRefused | None = None
    try:
        read = csv_file.read_csv("file", content, RULES, RULES.a).rows["amount"].to_list()
    except TableRefused as error:
        refused = error
    if refused is not None:
        assert refused.line == 2
        return
    # With a point before the decimals, or with a comma.
    ways = (text.strip().replace(",", ""), text.strip().replace(".", "").replace(",", "."))
    assert read in [[int(Decimal(way).scaleb(EXPONENTS[code]))] for way in ways if way.count(".") < 2]
