"""camt.052, .053 and .054: versions, envelopes, batches, totals and pages."""

from __future__ import annotations

from datetime import date

import pytest
from lxml import etree
from statement_texts import CAMT, NAMESPACE, balance, document, entry, only, outcome, statement
from support import DATA

from participants.statements import camt, camt_elements
from participants.statements.reading import read

BALANCES = balance("OPBD", "1000.00") + balance("CLBD", "995.00")
FAMILIES = {
    "052": ("BkToCstmrAcctRpt", "Rpt"),
    "053": ("BkToCstmrStmt", "Stmt"),
    "054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}
TWO = statement(BALANCES + entry("12.50", "DBIT") + entry("7.50"))


def transaction(amount: str | None, reference: str, *, sign: str = "DBIT", currency: str = "EUR") -> str:
    said = "" if amount is None else f'<Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd>'
    return f"<TxDtls><Refs><EndToEndId>{reference}</EndToEndId></Refs>{said}</TxDtls>"


def batch(*transactions: str, number: int | None = None) -> str:
    said = "" if number is None else f"<Btch><PmtInfId>P-1</PmtInfId><NbOfTxs>{number}</NbOfTxs></Btch>"
    return f"<NtryDtls>{said}{''.join(transactions)}</NtryDtls>"


def of_batch(details: str) -> bytes:
    return document(statement(BALANCES + entry("12.50", "DBIT", details=details) + entry("7.50")))


def paged(page: int, content: str, *, last: bool, number: int = 5) -> str:
    said = f"<StmtPgntn><PgNb>{page}</PgNb><LastPgInd>{str(last).lower()}</LastPgInd></StmtPgntn>"
    return statement(content, number=number, extra=said)


def test_a_statement_says_all_that_it_says() -> None:
    details = (
        "<NtryDtls><TxDtls><Refs><InstrId>I-1</InstrId><EndToEndId>NOTPROVIDED</EndToEndId><UETR>U-1</UETR></Refs>"
        "<RltdPties><Dbtr><Nm>me</Nm></Dbtr><Cdtr><Pty><Nm>Ada <!-- the first -->Rossi</Nm></Pty></Cdtr>"
        "<CdtrAcct><Id><Othr><Id>77</Id></Othr></Id></CdtrAcct></RltdPties>"
        "<RltdAgts><CdtrAgt><FinInstnId><BICFI>BRCHXXB0</BICFI></FinInstnId></CdtrAgt></RltdAgts>"
        "<RmtInf><Ustrd>rent,</Ustrd><Ustrd>November</Ustrd><Strd><CdtrRefInf><Ref>RF1</Ref></CdtrRefInf></Strd></RmtInf>"
        "</TxDtls></NtryDtls>"
    )
    read_one = only(of_batch(details))
    assert (read_one.format, read_one.account, read_one.currency) == (
        "camt.053.001.08",
        "DE89370400440532013000",
        "EUR",
    )
    assert (read_one.reference, read_one.sequence) == ("S-5", "5")
    assert read_one.opening is not None
    assert (read_one.opening.amount_minor, read_one.opening.date) == (100_000, date(2026, 11, 27))
    debit, credit = read_one.entries
    assert (debit.amount_minor, debit.value_date, debit.booking_date) == (-1250, date(2026, 11, 27), date(2026, 11, 27))
    assert (debit.reference, debit.references["creditor_reference"]) == ("U-1", "RF1")
    assert (debit.counterparty, debit.counterparty_account, debit.counterparty_agent) == ("Ada Rossi", "77", "BRCHXXB0")
    assert (debit.text, debit.code, str(debit.place)) == ("rent, November", "NTRF", "line 4, Ntry[1]")
    assert (credit.amount_minor, credit.reference, credit.counterparty) == (750, None, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_versions_02_to_12_and_no_others(family: str) -> None:
    body, name = FAMILIES[family]
    content = statement(BALANCES + entry("12.50", "DBIT") + entry("7.50"), name=name)
    for version in range(2, 13):
        definition = f"camt.{family}.001.{version:02}"
        assert only(document(content, namespace=camt.PREFIX + definition, body=body)).format == definition
    for version in ("01", "13", "99"):
        namespace = f"{camt.PREFIX}camt.{family}.001.{version}"
        assert outcome(document(content, namespace=namespace, body=body))[0] == "format_unknown"


def test_other_documents_are_no_statements() -> None:
    for namespace in (camt.PREFIX + "pacs.008.001.08", camt.PREFIX + "camt.055.001.08", "urn:mine", NAMESPACE.upper()):
        assert outcome(document(TWO, namespace=namespace))[0] == "not_a_statement"
    assert outcome("<html/>")[0] == "not_a_statement"
    assert outcome(CAMT.replace(b"BkToCstmrStmt", b"BkToCstmrDbtCdtNtfctn"))[0] == "structure_wrong"


def test_an_envelope_and_its_header() -> None:
    body = CAMT.split(b"\n", 1)[1].decode()
    header = (
        '<h:AppHdr xmlns:h="urn:iso:std:iso:20022:tech:xsd:head.001.001.02"><h:MsgDefIdr>{}</h:MsgDefIdr></h:AppHdr>'
    )
    for wrapper in ("<Envelope>{}{}</Envelope>", "<a><b>{}</b><c>{}</c></a>"):
        assert len(only(wrapper.format(header.format("camt.053.001.08"), body)).entries) == 2
        assert outcome(wrapper.format(header.format("camt.053.001.02"), body))[0] == "header_differs"
    assert outcome(f"<a>{body}{body}</a>")[0] == "structure_wrong"
    with_prefix = (
        CAMT.replace(b"<", b"<c:").replace(b"<c:/", b"</c:").replace(b"<c:?", b"<?").replace(b"xmlns", b"xmlns:c")
    )
    assert len(only(with_prefix).entries) == 2


@pytest.mark.parametrize(
    ("before", "after", "reason", "field"),
    [
        ("995.00", "996.00", "balance_wrong", "Bal[2]"),
        ('<Amt Ccy="EUR">7.50', '<Amt Ccy="USD">7.50', "currency_differs", "Ntry[2]"),
        ('<Amt Ccy="EUR">995', '<Amt Ccy="USD">995', "currency_differs", "Bal[2]"),
        ('<Amt Ccy="EUR">7.50', '<Amt Ccy="DEM">7.50', "currency_unknown", "Ntry[2]"),
        ('<Amt Ccy="EUR">7.50', "<Amt>7.50", "field_missing", "Ntry[2]/Amt"),
        ('<Amt Ccy="EUR">7.50</Amt>', "", "field_missing", "Ntry[2]/Amt"),
        ("7.50", "7.505", "currency_decimals_wrong", "Ntry[2]"),
        ("7.50", "7,50", "amount_malformed", "Ntry[2]"),
        ("7.50", "-7.50", "amount_malformed", "Ntry[2]"),
        ("7.50", "NaN", "amount_malformed", "Ntry[2]"),
        ("7.50", "INF", "amount_malformed", "Ntry[2]"),
        ("7.50", "75E-1", "amount_malformed", "Ntry[2]"),
        ("7.50", "\u0667.50", "amount_malformed", "Ntry[2]"),
        ("7.50", "9" * 19, "amount_too_large", "Ntry[2]"),
        ("7.50", "9" * 4000, "amount_too_large", "Ntry[2]"),
        ("7.50", "7<!-- -->0.00", "balance_wrong", "Bal[2]"),
        ("7.50", "7<x/>.50", "structure_wrong", "Amt"),
        ("DBIT</CdtDbtInd><Sts>", "DEBIT</CdtDbtInd><Sts>", "field_malformed", "Ntry[1]/CdtDbtInd"),
        ("<CdtDbtInd>DBIT</CdtDbtInd><Sts>", "<Sts>", "field_missing", "Ntry[1]/CdtDbtInd"),
        ("<Acct>", "<Acct><Ccy>USD</Ccy>", "structure_wrong", "Ccy"),
        ("<Id>S-5</Id>", "", "field_missing", "Stmt/Id"),
        ("2026-11-27T10:00:00", "2026-13-27T10:00:00", "date_invalid", "Ntry[1]/ValDt"),
        ("<ValDt><DtTm>2026-11-27T10:00:00+01:00", "<ValDt><DtTm>2026-W48-5T10:00:00", "date_invalid", "Ntry[1]/ValDt"),
        ("<ValDt><DtTm>2026-11-27T10:00:00+01:00", "<ValDt><DtTm>2026-11-27Tnoon", "date_invalid", "Ntry[1]/ValDt"),
        ("7.50", "\u00a07.50", "amount_malformed", "Ntry[2]"),
        ("<Cd>BOOK</Cd>", "<Cd>DONE</Cd>", "field_malformed", "Ntry[1]/Sts"),
        ("<ElctrncSeqNb>5", "<ElctrncSeqNb>five", "field_malformed", "ElctrncSeqNb"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(before: str, after: str, reason: str, field: str) -> None:
    data = CAMT.decode().replace(before, after, 1)
    assert data != CAMT.decode()
    found = outcome(data)
    assert (found[0], found[2]) == (reason, field)
    assert found[1] == 4


def test_a_batch_is_an_entry_for_each_transaction() -> None:
    both = only(of_batch(batch(transaction("10.00", "E-1"), transaction("2.50", "E-2"), number=2)))
    assert [(e.amount_minor, e.reference) for e in both.entries] == [(-1000, "E-1"), (-250, "E-2"), (750, None)]
    assert both.entries[1].references["payment_information_id"] == "P-1"
    assert str(both.entries[1].place) == "line 4, Ntry[1]/TxDtls[2]"
    mixed = only(of_batch(batch(transaction("13.00", "E-1"), transaction("0.50", "E-2", sign="CRDT"))))
    assert [e.amount_minor for e in mixed.entries] == [-1300, 50, 750]
    assert not both.findings + mixed.findings


@pytest.mark.parametrize(
    ("details", "finding", "reference"),
    [
        (batch(transaction("10.00", "E-1"), transaction("2.49", "E-2")), "details_apart", None),
        (batch(transaction("10.00", "E-1"), transaction(None, "E-2")), "details_apart", None),
        (batch(transaction("10.00", "E-1"), transaction("2.50", "E-2", currency="USD")), "details_apart", None),
        (batch(transaction("12.50", "E-1", sign="CRDT")), "details_differ", "E-1"),
        (batch(transaction("2.50", "E-1"), number=3), "batch_incomplete", None),
    ],
)
def test_a_batch_that_doesnt_add_up_is_one_entry(details: str, finding: str, reference: str | None) -> None:
    statement_read = only(of_batch(details))
    assert [(e.amount_minor, e.reference) for e in statement_read.entries] == [(-1250, reference), (750, None)]
    assert [said.code for said in statement_read.findings] == [finding]


def test_only_what_is_booked_is_in_the_balances() -> None:
    content = (
        BALANCES + entry("12.50", "DBIT") + entry("7.50") + entry("99.00", status="PDNG") + entry("1.00", status="INFO")
    )
    assert [e.status for e in only(document(statement(content))).entries] == ["booked", "booked", "pending", "info"]


def test_of_a_reversal_the_other_side_is_that_of_the_entry_taken_back() -> None:
    parties = (
        "<NtryDtls><TxDtls><RltdPties><Dbtr><Nm>A</Nm></Dbtr><Cdtr><Nm>B</Nm></Cdtr></RltdPties></TxDtls></NtryDtls>"
    )
    back = entry("7.50", details=parties).replace("<Sts>", "<RvslInd>true</RvslInd><Sts>")
    entries = only(document(statement(BALANCES + entry("12.50", "DBIT", details=parties) + back))).entries
    assert [(e.counterparty, e.reversal) for e in entries] == [("B", False), ("B", True)]


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        ("<TtlNtries><NbOfNtries>2</NbOfNtries><Sum>20.00000</Sum></TtlNtries>", None),
        ("<TtlNtries><NbOfNtries>3</NbOfNtries></TtlNtries>", "count_wrong"),
        ("<TtlNtries><Sum>20.01</Sum></TtlNtries>", "control_total_wrong"),
        ("<TtlCdtNtries><NbOfNtries>1</NbOfNtries><Sum>7.5</Sum></TtlCdtNtries>", None),
        ("<TtlDbtNtries><NbOfNtries>1</NbOfNtries><Sum>7.5</Sum></TtlDbtNtries>", "control_total_wrong"),
    ],
)
def test_totals_are_those_of_the_entries(summary: str, reason: str | None) -> None:
    data = document(statement(f"<TxsSummry>{summary}</TxsSummry>{BALANCES}" + entry("12.50", "DBIT") + entry("7.50")))
    if reason is None:
        assert len(only(data).entries) == 2
    else:
        assert outcome(data)[0] == reason


def test_statements_follow_each_other() -> None:
    def day(number: int | None, opening: str, closing: str) -> str:
        return statement(balance("OPBD", opening) + balance("CLBD", closing) + entry("1.00"), number=number)

    assert len(read(document(day(5, "1.00", "2.00"), day(6, "2.00", "3.00")))) == 2
    assert outcome(document(day(5, "1.00", "2.00"), day(7, "2.00", "3.00")))[0] == "sequence_gap"
    assert outcome(document(day(6, "2.00", "3.00"), day(5, "1.00", "2.00")))[0] == "sequence_gap"
    assert outcome(document(day(5, "1.00", "2.00"), day(5, "1.00", "2.00")))[0] == "statement_duplicate"
    assert outcome(document(day(5, "1.00", "2.00"), day(6, "2.01", "3.01")))[0] == "balances_apart"
    assert outcome(document(day(None, "1.00", "2.00"), day(None, "2.01", "3.01")))[0] == "balances_apart"


def test_pages_add_up_and_follow_each_other() -> None:
    first = paged(1, balance("OPBD", "1.00") + balance("ITBD", "2.00") + entry("1.00"), last=False)
    second = paged(2, balance("ITBD", "2.00") + balance("CLBD", "3.00") + entry("1.00"), last=True)
    third = paged(3, balance("ITBD", "2.00") + balance("CLBD", "3.00") + entry("1.00"), last=True)
    assert [len(page.entries) for page in read(document(first, second))] == [1, 1]
    assert [finding.code for finding in only(document(first)).findings] == ["page_not_last"]
    assert [finding.code for finding in only(document(second)).findings] == ["page_not_first"]
    assert outcome(document(first, third))[0] == "sequence_gap"
    assert outcome(document(second, first))[0] == "sequence_gap"
    assert outcome(document(paged(0, BALANCES, last=True)))[::2] == ("field_malformed", "StmtPgntn/PgNb")


def test_a_message_may_be_a_page_itself() -> None:
    header = "<MsgPgntn><PgNb>2</PgNb><LastPgInd>true</LastPgInd></MsgPgntn>"
    page = document(statement(balance("CLBD", "3.00") + entry("1.00")), header=header)
    assert [finding.code for finding in only(page).findings] == ["page_not_first"]


def test_lines_beyond_what_the_parser_counts() -> None:
    lines = camt.LINES_KNOWN + 10
    data = CAMT.replace(b"<GrpHdr>", b"<!-- <Ntry> -->" + b"\n" * lines + b"<GrpHdr>").replace(
        b"</Ntry><Ntry>", b"</Ntry>\n<Ntry>"
    )
    assert [e.place.line for e in only(data).entries] == [lines + 4, lines + 5]


def test_all_that_is_read_of_an_entry_is_in_the_schemas() -> None:
    names: set[str] = set()
    paths = sorted((DATA / "iso20022/xsd").glob("camt.05[234].*.xsd"))
    if not paths:
        pytest.skip(f"no schemas in {DATA}")
    for path in paths:
        names |= {element.get("name", "") for element in etree.parse(path).iter("{*}element")}
    read_names = (camt_elements._TEXT_NAMES + camt_elements._HOLDER_NAMES).split()
    assert set(read_names) - names == set()


def test_what_the_tests_read_is_valid_by_the_schemas() -> None:
    path = DATA / "iso20022/xsd/camt.053.001.08.xsd"
    if not path.exists():
        pytest.skip(f"no schemas in {DATA}")
    details = batch(transaction("10.00", "E-1"), transaction("2.50", "E-2"), number=2)
    etree.XMLSchema(etree.parse(path)).assertValid(etree.fromstring(of_batch(details)))
