"""MT940 and MT942: fields, dialects, pages and totals."""

from __future__ import annotations

from datetime import date

import pytest
from statement_texts import MT940, MT942, only, outcome, refused

from participants.statements.mt_details import details
from participants.statements.reading import read

HEADER = "{1:F01BANKDEFFXXXX0000000000}{2:O9401200261127BANKDEFFXXXX00000000002611271200N}{4:\n"


def page(number: str, opening: str, closing: str, *, first: str = "F", last: str = "F", entry: str = "C1,") -> str:
    return (
        f":20:S\n:25:ACCOUNT\n:28C:{number}\n:60{first}:C261126EUR{opening}\n:61:261127{entry}NTRFREF\n"
        f":62{last}:C261127EUR{closing}\n-\n"
    )


def quiet(number: str, day: str, amount: str) -> str:
    return f":20:S\n:25:ACCOUNT\n:28C:{number}\n:60F:C{day}EUR{amount}\n:62F:C{day}EUR{amount}\n-\n"


def test_a_statement_says_all_that_it_says() -> None:
    statement = only(MT940)
    assert (statement.format, statement.account, statement.currency) == ("MT940", "DE89370400440532013000", "EUR")
    assert (statement.reference, statement.sequence) == ("STATEMENT", "5/1")
    assert statement.opening is not None
    assert statement.closing is not None
    assert (statement.opening.amount_minor, statement.opening.date) == (100_000, date(2026, 11, 26))
    assert (statement.closing.amount_minor, str(statement.closing.place)) == (99_500, "line 8, :62F:")
    debit, credit = statement.entries
    assert (debit.amount_minor, debit.value_date, debit.booking_date) == (-1250, date(2026, 11, 27), date(2026, 11, 27))
    assert debit.references == {"end_to_end_id": "E2E-1", "customer": "INV-1", "bank": "B-1"}
    assert (debit.reference, debit.text, debit.counterparty) == ("E2E-1", "Rent", "Ada Rossi")
    assert (debit.counterparty_account, debit.counterparty_agent) == ("DE12500105170648489890", "BYLADEMM")
    assert (credit.amount_minor, credit.reference, credit.text) == (750, None, None)
    assert (credit.place.line, credit.code) == (7, "NTRF")


@pytest.mark.parametrize("text", [MT940, MT942], ids=["MT940", "MT942"])
def test_what_stands_around_it_doesnt_matter(text: str) -> None:
    entries = [(entry.amount_minor, entry.reference) for entry in only(text).entries]
    blocks = HEADER.replace("O940", "O942") if text is MT942 else HEADER
    for other in (
        text.replace("\n", "\r\n"),
        text.replace("\n", "\r"),
        "\ufeff" + text,
        "\x01" + text.rstrip() + "\x03",
        "ABNANL2A\n940\nABNANL2A\n" + text,
        "0000 01INGBNL2AXXXX00001\n0000 01INGBNL2AXXXX00001\n940 00\n" + text.rstrip() + "XXX\n",
        ":940:\n" + text,
        blocks.replace("{4:", "\n{4:") + text.rstrip() + "}\n{5:{CHK:123}}\n",
        "\n\n" + text + "\n\n\x1a",
        blocks + text.rstrip() + "}{5:{CHK:123}}\n",
    ):
        assert [(entry.amount_minor, entry.reference) for entry in only(other).entries] == entries


def test_a_report_within_the_day_is_counted_and_summed() -> None:
    statement = only(MT942)
    assert (statement.format, statement.opening, statement.closing) == ("MT942", None, None)
    assert [entry.amount_minor for entry in statement.entries] == [-1250, 750, 100]
    assert outcome(MT942.replace(":90C:2", ":90C:3"))[0] == "count_wrong"
    assert outcome(MT942.replace("EUR8,50", "EUR8,51")) == ("control_total_wrong", 10, ":90C:")
    assert outcome(MT942.replace(":90D:1EUR", ":90D:1USD"))[0] == "currency_differs"


@pytest.mark.parametrize(
    ("before", "after", "reason", "line", "field"),
    [
        ("EUR995,00", "EUR995,01", "balance_wrong", 8, ":62F:"),
        (":61:261127C7,5", ":61:261127D7,5", "balance_wrong", 8, ":62F:"),
        ("C261127EUR995", "C261127USD995", "currency_differs", 8, ":62F:"),
        ("261127C7,5", "261127CD7,5", "currency_differs", 7, ":61:"),
        ("EUR1000,00", "XXX1000,00", "currency_unknown", 4, ":60F:"),
        ("C7,5N", "C7,505N", "currency_decimals_wrong", 7, ":61:"),
        ("C7,5N", "C1234567890123456789,N", "amount_too_large", 7, ":61:"),
        ("C7,5N", "C7.5N", "field_malformed", 7, ":61:"),
        ("C7,5N", "C-7,5N", "field_malformed", 7, ":61:"),
        ("C7,5N", "C1E3,N", "field_malformed", 7, ":61:"),
        ("C7,5N", "CNaNN", "field_malformed", 7, ":61:"),
        (":61:261127C", ":61:261131C", "date_invalid", 7, ":61:"),
        (":61:2611271127D", ":61:2611271332D", "date_invalid", 5, ":61:"),
        (":60F:C261126", ":60F:C261301", "date_invalid", 4, ":60F:"),
        (":28C:5/1", ":28C:five", "field_malformed", 3, ":28C:"),
        (":28C:5/1\n", "", "field_missing", 1, ":28C:"),
        (":25:DE89370400440532013000\n", "", "field_missing", 1, ":25:"),
        (":60F:C261126EUR1000,00\n", "", "field_missing", 1, ":60F:"),
        (":28C:5/1\n", ":28C:5/1\n:28C:6/1\n", "structure_wrong", 4, ":28C:"),
        (":20:STATEMENT\n", "", "structure_wrong", 1, ":25:"),
        ("-\n", "-\n:61:261127C1,NTRFREF\n", "structure_wrong", 10, ":61:"),
        ("-\n", "-\nsomething else\n", "structure_wrong", 10, ""),
        (":61:2611271127D", ":86:of nothing\n:61:2611271127D", "structure_wrong", 5, ":86:"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(before: str, after: str, reason: str, line: int, field: str) -> None:
    assert MT940.count(before) == 1
    assert outcome(MT940.replace(before, after)) == (reason, line, field)


@pytest.mark.parametrize("lines", range(4, 8))
def test_a_file_that_is_cut_off_is_never_half_a_statement(lines: int) -> None:
    assert outcome("\n".join(MT940.split("\n")[:lines]))[0] == "file_truncated"
    blocks = HEADER + "\n".join(MT940.split("\n")[:8])
    assert outcome(blocks) == ("file_truncated", 1, "{")


def test_marks_of_debit_and_credit() -> None:
    entries = only(
        ":20:S\n:25:A\n:28C:1\n:34F:EUR0,\n:61:261127RC5,NTRFX\n:61:261127RD7,NTRFX\n:61:261127EC9,NTRFX\n"
        ":61:2611270101CR3,NTRFX\n:61:2611270000C1,NET NONREF\n-\n"
    ).entries
    assert [(entry.amount_minor, entry.reversal, entry.status) for entry in entries] == [
        (-500, True, "booked"),
        (700, True, "booked"),
        (900, False, "pending"),
        (300, False, "booked"),
        (100, False, "booked"),
    ]
    assert (entries[4].booking_date, entries[4].code, entries[4].reference) == (None, "NET", None)
    assert entries[3].booking_date == date(2027, 1, 1), "the year that is nearest to the value date"


def test_pages_follow_each_other() -> None:
    pages = page("5/1", "1,", "2,", last="M") + page("5/2", "2,", "3,", first="M", last="M")
    pages += page("5/3", "3,", "4,", first="M") + page("6/1", "4,", "5,")
    assert [statement.sequence for statement in read(pages.encode())] == ["5/1", "5/2", "5/3", "6/1"]
    assert not any(statement.findings for statement in read(pages.encode()))
    first, second = page("5/1", "1,", "2,", last="M"), page("5/2", "2,", "3,", first="M")
    assert [finding.code for finding in only(first).findings] == ["page_not_last"]
    assert [finding.code for finding in only(second).findings] == ["page_not_first"]


@pytest.mark.parametrize(
    ("pages", "reason", "line"),
    [
        (page("5/1", "1,", "2,") * 2, "statement_duplicate", 10),
        (page("5/1", "1,", "2,", last="M") + page("5/3", "2,", "3,", first="M"), "sequence_gap", 10),
        (page("5/1", "1,", "2,", last="M") + page("6/1", "2,", "3,"), "sequence_gap", 10),
        (page("5/1", "1,", "2,") + page("5/2", "2,", "3,", first="M"), "sequence_gap", 10),
        (page("5/1", "1,", "2,") + page("7/1", "2,", "3,"), "sequence_gap", 10),
        (page("6/1", "2,", "3,") + page("5/1", "1,", "2,"), "sequence_gap", 10),
        (page("5/1", "1,", "2,") + page("6/1", "3,", "4,"), "balances_apart", 11),
        (quiet("0", "261127", "1,") + quiet("0", "261126", "1,"), "sequence_gap", 9),
        (page("0", "1,", "2,", entry="C1,") * 2, "statement_duplicate", 10),
    ],
    ids=["twice", "page missing", "last page missing", "page after the last", "number missing", "other order",
         "balances apart", "days in another order", "twice without a number"],
)  # fmt: skip
def test_what_is_missing_between_pages_is_refused(pages: str, reason: str, line: int) -> None:
    assert outcome(pages)[:2] == (reason, line)


def test_days_that_nothing_vouches_for_are_noted() -> None:
    friday, monday, tuesday = quiet("0", "261127", "1,"), quiet("0", "261130", "1,"), quiet("0", "261201", "1,")
    assert not any(statement.findings for statement in read((friday + monday).encode()))
    found = [finding.code for statement in read((friday + tuesday).encode()) for finding in statement.findings]
    assert found == ["days_missing"]


def test_numbers_that_are_days_have_no_gap_at_a_weekend() -> None:
    friday, saturday, monday = (
        quiet("331/1", "261127", "1,"),
        quiet("332/1", "261128", "1,"),
        quiet("334/1", "261130", "1,"),
    )
    assert len(read((friday + monday).encode())) == 2
    assert len(read((friday + saturday + monday).encode())) == 3
    assert outcome(friday + quiet("335/1", "261201", "1,"))[0] == "sequence_gap"
    assert outcome(friday + quiet("333/1", "261130", "1,"))[0] == "sequence_gap"


@pytest.mark.parametrize(
    ("written", "account"),
    [
        ("DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("DE89370400440532013000EUR", "DE89370400440532013000"),
        ("DE89370400440532013000 EUR", "DE89370400440532013000"),
        ("9999.99.999 EUR", "9999.99.999"),
        ("37040044/0532013000", "37040044/0532013000"),
        ("KONTOEUR", "KONTOEUR"),
        ("DE89370400440532013001EUR", "DE89370400440532013001EUR"),
    ],
)
def test_accounts_as_banks_write_them(written: str, account: str) -> None:
    assert only(MT940.replace("DE89370400440532013000", written)).account == account


def test_numbers_made_of_times_are_none() -> None:
    assert len(read((quiet("1810118101", "261127", "1,") + quiet("1810218102", "261130", "1,")).encode())) == 2


def test_a_text_may_be_in_several_fields() -> None:
    more = MT940.replace("NTRFNONREF\n", "NTRFNONREF\n:86:BETALING\n:86:FACTUUR 1\n:NS:own\n")
    assert only(more).entries[1].text == "BETALING FACTUUR 1"
    assert only(more).entries[0].counterparty == "Ada Rossi"


def test_numbers_begin_again_with_the_year() -> None:
    assert len(read((quiet("253/1", "261231", "1,") + quiet("1/1", "270104", "1,")).encode())) == 2


def test_a_text_may_begin_a_line_like_a_time_or_a_field() -> None:
    text = MT940.replace("?32Ada", "2026-11-27T13\n:20:11?32Ada")
    assert only(text).entries[0].counterparty == "Ada Rossi"
    # But a statement that begins there isn't swallowed by the text before.
    swallowed = MT940.replace(":61:261127C7,5NTRFNONREF\n:62F:C261127EUR995,00\n-\n", "") + MT940
    assert outcome(swallowed)[0] == "field_missing"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "/EREF/E-1//CNTP/NL91ABNA0417164300/ABNANL2A/Jan Jansen/AMSTERDAM//REMI/USTD//INVOICE 1/",
            ("E-1", "Jan Jansen", "NL91ABNA0417164300", "ABNANL2A", "INVOICE 1"),
        ),
        (
            "/TRTP/SEPA OVERBOEKING/IBAN/NL91ABNA0417164300/BIC/ABNANL2A\n/NAME/JAN JANSEN/REMI/RENT/EREF/E-2",
            ("E-2", "JAN JANSEN", "NL91ABNA0417164300", "ABNANL2A", "RENT"),
        ),
        ("020~00PRZELEW~20Faktura 1~32Jan Nowak~3112345", (None, "Jan Nowak", "12345", None, "Faktura 1")),
        (
            "911 PRZELEW; NA RACH.: 12345; DLA: Jan Nowak; TYT.: Faktura; TNR: 1.1",
            (None, "Jan Nowak", "12345", None, "Faktura"),
        ),
        ("Some text\nin lines", (None, None, None, None, "Some text in lines")),
        ("166?20EREF+NOT?21PROVIDED?22SVWZ+A?23B", ("NOTPROVIDED", None, None, None, "AB")),
        ("000>100000000000>20ALGEMENE>21 KOSTEN>310390123456", (None, None, "0390123456", None, "ALGEMENE KOSTEN")),
        ("?00SEPA?20EREF+E-3?32Ada", ("E-3", "Ada", None, None, None)),
        ("999", (None, None, None, None, "999")),
        ("/just/slashes/", (None, None, None, None, "/just/slashes/")),
    ],
)
def test_dialects_of_the_text(text: str, expected: tuple[str | None, ...]) -> None:
    said = details(text)
    found = said.references.get("end_to_end_id"), said.counterparty, said.account, said.agent, said.text
    assert found == expected


def test_the_last_of_february_by_months_of_thirty_days() -> None:
    statement = only(MT940.replace(":61:261127C7", ":61:260230C7"))
    assert statement.entries[1].value_date == date(2026, 2, 28)
    assert [(finding.code, finding.place.line) for finding in statement.findings] == [("day_moved", 7)]
    assert outcome(MT940.replace(":61:261127C7", ":61:260431C7"))[0] == "date_invalid"


def test_other_messages_are_no_statements() -> None:
    customer = ":20:REF\n:23B:CRED\n:32A:261127EUR100,\n:50K:/1\nA\n:59:/2\nB\n:71A:SHA\n"
    assert outcome(customer)[0] == "not_a_statement"
    assert outcome(HEADER.replace("O940", "O103") + customer + "-}")[0] == "not_a_statement"


def test_latin_1_is_read_and_said() -> None:
    statement = only(MT940.replace("Rent", "Miete für März").encode("latin-1"))
    assert statement.entries[0].text == "Miete für März"
    assert [(finding.code, finding.place.line) for finding in statement.findings] == [("encoding_assumed", 6)]
    assert refused(MT940.encode() + b"\x00").reason == "encoding_wrong"
    assert refused(MT940.encode("utf-16")).reason == "encoding_wrong"
