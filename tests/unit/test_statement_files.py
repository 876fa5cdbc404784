"""Statements of the real world: each is read, or refused with the reason that it is wrong by.

What is expected of each was found by looking at it. Of those that are refused: balances that don't add up (entries were
taken out before they were published), a message cut off, a total that isn't that of the entries, a currency withdrawn
in 2002, a header that names another message, a status that doesn't exist; and what is no statement.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support import DATA

from gateway.federation.iso20022.camt053 import AccountStatement
from participants.statements.reading import read
from participants.statements.reasons import StatementRefused

LIST = Path(__file__).parent / "data" / "statement_files.csv"
PARTS = ("statements", "iso20022/samples")

with LIST.open(encoding="utf-8", newline="") as _stream:
    EXPECTED = {row["file"]: tuple(row.values())[1:] for row in csv.DictReader(_stream)}


def present() -> None:
    if not (DATA / "statements").exists():
        pytest.skip(f"{DATA} isn't here: no statement of the real world is read")


def outcome(path: Path) -> tuple[str, str, str]:
    try:
        statements = read(path)
    except StatementRefused as refusal:
        return refusal.reason.value, str(refusal.place.line), refusal.place.field
    entries = sum(len(statement.entries) for statement in statements)
    return statements[0].format, str(len(statements)), str(entries)


def test_every_file_of_the_real_world_has_its_outcome() -> None:
    present()
    assert {name: outcome(DATA / name) for name in EXPECTED} == EXPECTED


def test_no_file_is_left_out() -> None:
    present()
    files = {
        str(path.relative_to(DATA))
        for part in PARTS
        for path in (DATA / part).rglob("*")
        if path.is_file() and path.name != "PROVENANCE.json"
    }
    assert files == EXPECTED.keys()


def test_dialects_say_who_paid_and_for_what() -> None:
    present()
    polish = read(DATA / "statements/mt940/mBank/mt940.sta")[0].entries[0]
    assert (polish.counterparty, polish.text) == ("JAN NOWAK UL. NIJAKA 1 M 2 31-234 KRAKOW", "PRZELEW SRODKOW")
    assert polish.reference == "MB170119012058"
    dutch = read(DATA / "statements/mt940/ASNB/mt940.txt")[0].entries[0]
    assert (dutch.counterparty, dutch.counterparty_account) == ("hr gjlm paulissen", "NL47INGB9999999999")
    assert (dutch.text, dutch.reference, dutch.amount_minor) == ("Betaling sieraden", None, -6500)
    swiss = DATA / "iso20022/samples/moov-iso20022"
    batch = read(next(swiss.glob("200519_camt054-ESR*")))[0]
    assert len({entry.references["creditor_reference"] for entry in batch.entries}) > 1
    finnish = read(swiss / "FI_camt_053_sample.xml.xml")[0]
    assert [entry.reference for entry in finnish.entries[2:5]] == ["TITOT1106ID01", "TITOT1106ID02", "TITOT1106ID03"]


def test_a_statement_of_our_own_is_read_back() -> None:
    from datetime import UTC, date, datetime

    from gateway.federation.iso20022.camt053 import StatementEntry, StatementParty, account_statement

    at = datetime(2026, 11, 27, 10, tzinfo=UTC)
    transaction = ("PMNT", "RCDT", "ESCT")
    party = StatementParty(agent="BRCHXXB0", account="B-1", name="Jan Novák")
    written = AccountStatement(
        id="S-1",
        created_at=at,
        begins_at=at,
        ends_at=at,
        day=date(2026, 11, 27),
        bank="ALDRXXA0",
        account="A-1",
        account_number=1,
        name="Ada Rossi",
        currency="EUR",
        opening=-500,
        closing=700,
        final=True,
        entries=(
            StatementEntry(1500, at, date(2026, 11, 27), "R-1", transaction, "T-1", "E-1", "I-1", party=party),
            StatementEntry(-300, at, date(2026, 11, 28), "R-2", transaction, text="rent"),
        ),
    )
    statement = read(account_statement(written))[0]
    assert statement.opening is not None
    assert statement.closing is not None
    assert (statement.account, statement.currency) == ("A-1", "EUR")
    assert (statement.opening.amount_minor, statement.closing.amount_minor) == (-500, 700)
    credit, debit = statement.entries
    assert (credit.amount_minor, credit.reference, credit.references["tx_id"]) == (1500, "E-1", "T-1")
    assert (credit.counterparty, credit.counterparty_account, credit.counterparty_agent) == (
        "Jan Novák",
        "B-1",
        "BRCHXXB0",
    )
    assert (debit.amount_minor, debit.text, debit.value_date) == (-300, "rent", date(2026, 11, 28))
