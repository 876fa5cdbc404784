"""One normal form of BICs, accounts and texts from people, made where they come in."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import msgspec
import pytest

from compliance.bic import SPELLED_BIC_PATTERN, BicError, known_as, normal_bic
from compliance.crypto import dsse
from compliance.iban import LENGTHS, SPELLED_ACCOUNT_PATTERN, IbanFault, iban_fault, normal_account
from compliance.plain_text import SPACES, STATED_PATTERN, TEXT_PATTERN, TextError, is_normal, normal_text, text_fault
from gateway.federation.messages.participants import Invitation
from gateway.federation.settings import NodeSettings
from participants.api.holds import HoldOpinion
from participants.api.messages import EntryRequest, NameChange, StatedReason
from participants.api.orders import OpeningRequest, OrderRequest, ReturnRequest, is_plain
from participants.intake.files import PaymentRow, RefusedRow, inspect_file, read_rows
from participants.ledger.events import EventData

ORDER = {
    "id": "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "creditor_agent": "BETAFRPP", "amount_minor": "1050",
    "currency": "EUR", "debtor_account": "a-1", "debtor_name": "Anton", "creditor_account": "b-1",
    "creditor_name": "Berta",
}  # fmt: skip
IBAN = "DE89370400440532013000"
GROUPED = "DE89 3704 0044 0532 0130 00"
COMPOSED, DECOMPOSED = "Zoë", "Zoe\u0308"
UNSEEN = [
    "\u202e",
    "\u2066",
    "\x85",
    "\u2028",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\xad",
    "\x1b",
    "\n",
    "\t",
    "\u3164",
    "\x7f",
]
BLANK = ["", " ", "\xa0", "\u3000 "]


@pytest.mark.parametrize("spelled", ["BANKDEFF", "bankdeff", "BANKDEFFXXX", "bankdeffxxx", "BankDeFFxXx", " BANKDEFF "])
def test_spellings_of_one_bic(spelled: str) -> None:
    assert normal_bic(spelled) == "BANKDEFF"


def test_a_branch_is_another() -> None:
    assert normal_bic("bankdeff500") == "BANKDEFF500"


@pytest.mark.parametrize(
    "text", ["", "BANKDEF", "BANKDEFFX", "BANK1EFF", "BANKDEFFXXXX", "BANKDEFF\n", "BANKDEﬀ", "ſANKDEFF"]
)
def test_no_bic(text: str) -> None:
    with pytest.raises(BicError):
        normal_bic(text)
    assert not re.search(SPELLED_BIC_PATTERN, text)


def test_who_was_registered_with_xxx_stays_reachable() -> None:
    assert known_as("BANKDEFF", {"BANKDEFFXXX"}) == "BANKDEFFXXX"
    assert known_as("BANKDEFF", {"BANKDEFF", "BANKDEFFXXX"}) == "BANKDEFF"
    assert known_as("BANKDEFF", set()) == "BANKDEFF"
    assert known_as("BANKDEFF500", {"BANKDEFF"}) == "BANKDEFF500"


def test_settings_of_a_head_office(tmp_path: Path) -> None:
    def bic(text: str) -> str:
        return NodeSettings.from_env(environ={"CONCORDAT_BIC": text, "CONCORDAT_DATA_DIR": str(tmp_path)}).bic

    assert bic("bankdeffxxx") == bic("BANKDEFFXXX") == "BANKDEFF"
    payload = dsse.Envelope(payload="eyJtZW1iZXJzIjpbeyJiaWMiOiJCQU5LREVGRlhYWCJ9XX0=", payloadType="x", signatures=())
    (tmp_path / "trust-list.json").write_bytes(msgspec.json.encode(payload))
    assert bic("BANKDEFFXXX") == "BANKDEFFXXX", "registered so by an earlier release"
    assert bic("BANKDEFF") == "BANKDEFF"
    (tmp_path / "trust-list.json").write_bytes(b"\xff")
    assert bic("BANKDEFFXXX") == "BANKDEFF"


@pytest.mark.parametrize("spelled", [IBAN, GROUPED, IBAN.lower(), GROUPED.lower()])
def test_spellings_of_one_iban(spelled: str) -> None:
    assert normal_account(spelled) == IBAN
    assert iban_fault(IBAN) is None
    assert re.search(SPELLED_ACCOUNT_PATTERN, spelled)


@pytest.mark.parametrize(
    ("account", "fault"),
    [
        ("DE00370400440532013000", IbanFault.CHECK_DIGITS),
        ("DE89370400440532031000", IbanFault.CHECK_DIGITS),
        ("DE8937040044053201300", IbanFault.LENGTH),
        ("DE893704004405320130001", IbanFault.LENGTH),
        ("GB29NWBK60161331926819", None),
        ("NO9386011117947", None),
        ("MT84MALT011000012345MTLCAST001S", None),
    ],
)
def test_check_digits_and_length(account: str, fault: IbanFault | None) -> None:
    assert normal_account(account) == account
    assert iban_fault(account) is fault


@pytest.mark.parametrize(
    "code",
    ["A-1", "DE12", "de12savings", "DE89-3704-0044-0532-0130-00", "ZZ00370400440532013000", "BE42/savings/0001x"],
)
def test_codes_of_a_bank_are_its_own(code: str) -> None:
    assert normal_account(code) == code
    assert iban_fault(code) is None


def test_the_registry() -> None:
    assert len(LENGTHS) == 89
    assert all(15 <= length <= 34 for length in LENGTHS.values())


@pytest.mark.parametrize("letter", UNSEEN, ids=ascii)
def test_what_nobody_sees_is_no_text(letter: str) -> None:
    for text in (letter, f"A{letter}b", f"Ab{letter}"):
        assert text_fault(text) is not None
        assert not re.search(STATED_PATTERN, text)
        assert not re.search(TEXT_PATTERN, text)
        with pytest.raises(TextError):
            normal_text(text, "name", characters_max=140, stated=False)


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_a_name_says_something(text: str) -> None:
    assert text_fault(text) is not None
    assert not re.search(STATED_PATTERN, text)
    assert text_fault(text, stated=False) is None
    assert re.search(TEXT_PATTERN, text)


def test_all_that_unicode_calls_a_control_or_format() -> None:
    """Of every release of Unicode that Python knows."""
    letters = map(chr, (*range(0xD800), *range(0xE000, 0x110000)))
    unseen = [c for c in letters if unicodedata.category(c) in ("Cc", "Cf", "Co", "Zl", "Zp")]
    assert [hex(ord(c)) for c in unseen if text_fault(f"A{c}") is None] == []


def test_text_is_composed() -> None:
    assert normal_text(DECOMPOSED, "name", characters_max=140) == COMPOSED
    assert is_normal(COMPOSED)
    assert not is_normal(DECOMPOSED)


def test_an_order_as_people_spell_it() -> None:
    spelled = ORDER | {
        "creditor_agent": "betafrppxxx", "creditor_account": GROUPED.lower(), "debtor_name": DECOMPOSED,
        "remittance": DECOMPOSED,
    }  # fmt: skip
    order = msgspec.json.decode(json.dumps(spelled), type=OrderRequest).order()
    assert (order.creditor_agent, order.creditor_account) == ("BETAFRPP", IBAN)
    assert (order.debtor_name, order.remittance) == (COMPOSED, COMPOSED)


@pytest.mark.parametrize(
    "changes",
    [
        *({"debtor_name": f"A{letter}"} for letter in UNSEEN),
        *({"creditor_name": text} for text in BLANK),
        {"remittance": "a\u202eb"}, {"creditor_agent": "BETAFRP"}, {"creditor_account": "b 1"},
        {"debtor_name": "\ufb2c" * 140},
    ],
    ids=ascii,
)  # fmt: skip
def test_no_order(changes: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(ORDER | changes), type=OrderRequest)


@pytest.mark.parametrize("reason", ["\u202e", "one\ntwo", "\x85", " ", "\u200b"], ids=ascii)
def test_a_reason_says_something_that_can_be_read(reason: str) -> None:
    for type_, said in ((StatedReason, {}), (HoldOpinion, {"decision": "release"}), (Invitation, {})):
        assert msgspec.convert({**said, "reason": "Zoë agrees"}, type_)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**said, "reason": reason}, type_)


def test_openings_and_returns_are_judged_as_well() -> None:
    opening = msgspec.json.decode(
        json.dumps({"code": GROUPED, "currency": "EUR", "name": DECOMPOSED}), type=OpeningRequest
    ).opening()
    assert (opening.code, opening.name) == (IBAN, COMPOSED)
    for type_, said in (
        (OpeningRequest, {"code": "a-1", "currency": "EUR", "name": " "}),
        (ReturnRequest, {"id": ORDER["id"], "remittance": "\u2028"}),
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(said), type=type_)


ENTRY = {
    "id": ORDER["id"], "kind": "fee", "account": "a-1", "currency": "EUR", "amount_minor": "5", "against": "fees",
    "reference": "slip 1",
}  # fmt: skip


def test_texts_of_entries_and_names_of_accounts_are_composed() -> None:
    entry = msgspec.json.decode(json.dumps(ENTRY | {"text": DECOMPOSED, "account": GROUPED.lower()}), type=EntryRequest)
    assert (entry.text, entry.account) == (COMPOSED, IBAN)
    change = msgspec.json.decode(json.dumps({"name": DECOMPOSED, "reason": "married"}), type=NameChange)
    assert change.name == COMPOSED


@pytest.mark.parametrize("letter", UNSEEN, ids=ascii)
def test_texts_of_entries_and_names_of_accounts_are_judged(letter: str) -> None:
    for type_, said in (
        (EntryRequest, ENTRY | {"text": f"for{letter}"}),
        (EntryRequest, ENTRY | {"reference": f"slip{letter}"}),
        (EntryRequest, ENTRY | {"account": f"a{letter}1"}),
        (NameChange, {"name": f"Ada{letter}", "reason": "married"}),
        (NameChange, {"name": "Ada", "reason": f"married{letter}"}),
        (OpeningRequest, {"code": "a-1", "currency": "EUR", "name": f"Ada{letter}"}),
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(said), type=type_)


@pytest.mark.parametrize("name", BLANK, ids=ascii)
def test_an_account_has_a_name_that_can_be_seen(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({"name": name, "reason": "why"}), type=NameChange)


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({}, True), ({"debtor_name": COMPOSED}, True), ({"creditor_account": IBAN}, True),
        ({"debtor_name": DECOMPOSED}, False), ({"debtor_name": " A"}, False), ({"creditor_name": "A\u202eb"}, False),
        ({"creditor_agent": "BETAFRPPXXX"}, False), ({"creditor_account": IBAN.lower()}, False),
    ],
    ids=ascii,
)  # fmt: skip
def test_the_short_way_is_for_normal_forms(changes: dict[str, str], *, plain: bool) -> None:
    (order,) = EventData.orders([json.dumps(ORDER | changes).encode()], maker="mona")
    assert is_plain(order) is plain


HEADER = (
    "debtor_bank,debtor_account,debtor_name,creditor_bank,creditor_account,creditor_name,amount,currency,remittance"
)


def rows(tmp_path: Path, *lines: str) -> list[PaymentRow | RefusedRow]:
    path = tmp_path / "payments.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return list(read_rows(inspect_file(path)))


def banks_and_account(row: PaymentRow | RefusedRow) -> tuple[str, ...]:
    if isinstance(row, RefusedRow):
        return (row.reason,)
    return (row.debtor_bank, row.creditor_bank, row.creditor_account)


@pytest.mark.parametrize(
    ("payer", "payee", "account", "read"),
    [
        ("ALDRXXA0XXX", "BRCHXXB0", "B-1", ("ALDRXXA0", "BRCHXXB0", "B-1")),
        ("aldrxxa0", "brchxxb0xxx", "B-1", ("ALDRXXA0", "BRCHXXB0", "B-1")),
        ("ALDRXXA", "BRCHXXB0", "B-1", ("bank_invalid",)),
        ("ALDRXXA0", "BRCHXXB", "B-1", ("bank_invalid",)),
        ("ALDRXXA0", "ALDRXXA0XXX", "B-1", ("same_bank",)),
        ("ALDRXXA0", "BRCHXXB0", GROUPED, ("ALDRXXA0", "BRCHXXB0", IBAN)),
        ("ALDRXXA0", "BRCHXXB0", IBAN.lower(), ("ALDRXXA0", "BRCHXXB0", IBAN)),
        ("ALDRXXA0", "BRCHXXB0", "DE00370400440532013000", ("iban_check_digits_wrong",)),
        ("ALDRXXA0", "BRCHXXB0", IBAN[:-1], ("iban_length_wrong",)),
    ],
)
def test_rows_of_a_file(tmp_path: Path, payer: str, payee: str, account: str, read: tuple[str, ...]) -> None:
    (row,) = rows(tmp_path, f"{payer},A-1,Ada,{payee},{account},Bruno,2.00,EUR,x")
    assert banks_and_account(row) == read


def test_texts_of_a_file(tmp_path: Path) -> None:
    good, bad = rows(
        tmp_path,
        f"ALDRXXA0,A-1,{DECOMPOSED},BRCHXXB0,B-1,Bruno,2.00,EUR,{DECOMPOSED}",
        "ALDRXXA0,A-1,Ada,BRCHXXB0,B-1,Bru\u202eno,2.00,EUR,x",
    )
    assert isinstance(good, PaymentRow)
    assert (good.debtor_name, good.remittance) == (COMPOSED, COMPOSED)
    assert banks_and_account(bad) == ("name_invalid",)


def test_spaces_are_those_of_unicode() -> None:
    assert set(SPACES) == {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Zs"}
