"""References that go with a payment: their forms, the bytes of payments without any, the short way, payment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compliance.crypto import canonical
from compliance.return_reasons import ReturnReason
from gateway.federation.messages.payments import PaymentTerms, leaf_of
from participants.api.orders import OrderRequest
from participants.api.single_orders import readable_order
from participants.intake.files import PaymentRow, RefusedRow, inspect_file, read_rows
from participants.intake.intake import order_of
from participants.ledger.events import EventData
from participants.payments.row_identity import Content, row_id

TERMS = {
    "id": "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c11", "amount_minor": "1050", "currency": "EUR", "debtor_account": "a-1",
    "debtor_name": "Anton", "creditor_account": "b-1", "creditor_name": "Berta",
}  # fmt: skip
ORDER = TERMS | {"creditor_agent": "BETAFRPP"}
RETURNS = "018f5d3e-7a31-7cc2-9d6a-0d2f9a3b7c12"
SAID = {
    "end_to_end_id": "INV-17/2026", "instruction_id": "run 4, line 9", "uetr": "eb6305c9-1f7f-49de-aed0-16487c27b42d",
    "expires_at": "2026-11-28T17:00:00Z", "returns": RETURNS, "return_reason": "AC04",
}  # fmt: skip
COLUMNS = (
    "debtor_bank,debtor_account,debtor_name,creditor_bank,creditor_account,creditor_name,amount,currency,remittance"
)
ROW = "ALDRXXA0,A-1,Ada Alder,BRCHXXB0,B-1,Bruno Birch,11.00,EUR,rent"
CONTENT = Content("ALDRXXA0", "A-1", "Ada Alder", "BRCHXXB0", "B-1", "Bruno Birch", "1100", "EUR", "rent")


def short(order: Any) -> Any:
    """Return what the short way makes of an order."""
    found = readable_order(json.dumps(order, separators=(",", ":")).encode(), maker="mona")
    return None if found is None else [found]


def read(tmp_path: Path, *lines: str) -> list[PaymentRow | RefusedRow]:
    path = tmp_path / "payments.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(read_rows(inspect_file(path)))


def test_a_payment_without_references_has_the_bytes_that_it_had() -> None:
    """Both banks' Merkle trees and every import before are made of these."""
    leaf = leaf_of(msgspec.convert(TERMS, PaymentTerms)).hex()
    assert leaf == "85a8cc0381b61973bd79cb9848e4744b407c6f28e8d0782e2637c10344876b1d"
    assert row_id(CONTENT, 0) == "755736b5-c7a3-5b62-a038-5fbdadc36d9e"


@pytest.mark.parametrize("member", SAID)
def test_what_is_said_is_signed_and_journalled(member: str) -> None:
    said = {member: SAID[member]} | ({"returns": RETURNS} if member == "return_reason" else {})
    terms = msgspec.convert(TERMS | said, PaymentTerms)
    assert json.loads(canonical.encode(terms)) == TERMS | said
    (order,) = short(ORDER | said)
    assert json.loads(order.text) == ORDER | said | {"actor": "mona"}
    assert order.value.terms() == terms
    assert canonical.decode(canonical.encode(terms), PaymentTerms) == terms
    assert EventData.orders([json.dumps(ORDER | said).encode()], maker="mona")[0].value.terms() == terms


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("end_to_end_id", ""), ("end_to_end_id", " "), ("end_to_end_id", "x" * 36), ("end_to_end_id", "a\nb"),
        ("end_to_end_id", "a\u202eb"), ("instruction_id", "\x85"), ("instruction_id", "x" * 36),
        ("uetr", "EB6305C9-1F7F-49DE-AED0-16487C27B42D"), ("uetr", "eb6305c9-1f7f-19de-aed0-16487c27b42d"),
        ("uetr", "x"), ("expires_at", "2026-11-28T17:00:00"), ("expires_at", "2026-11-28T17:00:00+01:00"),
        ("expires_at", "2026-02-29T17:00:00Z"), ("expires_at", "2026-04-31T17:00:00Z"),
        ("expires_at", "2026-11-28T24:00:00Z"), ("expires_at", "2026-11-28T17:00:60Z"), ("expires_at", "2026-11-28"),
        ("return_reason", "ac04"), ("return_reason", "XX99"),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_has_another_form_is_taken_nowhere(member: str, value: str) -> None:
    said = {"returns": RETURNS, member: value}
    for form, members in ((PaymentTerms, TERMS), (OrderRequest, ORDER)):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(members | said, form)
    assert short(ORDER | said) is None


def test_the_day_of_a_leap_year() -> None:
    msgspec.convert(TERMS | {"expires_at": "2028-02-29T23:59:59.999999Z"}, PaymentTerms)


def test_a_reason_to_give_back_is_of_a_return() -> None:
    assert short(ORDER | {"return_reason": "AC04"}) is None
    with pytest.raises(msgspec.ValidationError, match="returns"):
        msgspec.convert(ORDER | {"return_reason": "AC04"}, OrderRequest)


def test_a_reference_becomes_nfc_on_the_long_way() -> None:
    said = ORDER | {"end_to_end_id": "Zoe\u0308 7"}
    assert short(said) is None
    assert msgspec.convert(said, OrderRequest).order().end_to_end_id == "Zoë 7"
    with pytest.raises(msgspec.ValidationError):
        # Composed it would be longer than there is room for.
        msgspec.convert(ORDER | {"end_to_end_id": "\u0958" * 35}, OrderRequest)


def test_every_reason_has_its_code_and_meaning() -> None:
    assert all(
        reason.value == reason.name and len(reason) == 4 and reason.meaning[-1] == "." for reason in ReturnReason
    )
    assert {"FOCR", "AC04", "CUST", "MD07", "DUPL"} <= {*ReturnReason}


# --- payment files -----------------------------------------------------------------------------------------


def test_a_file_may_say_them_and_a_row_without_is_the_payment_that_it_was(tmp_path: Path) -> None:
    columns = f"{COLUMNS},end_to_end_id,Instruction ID,uetr,expires_at"
    said = f"INV-17,line 9,{SAID['uetr']},2026-11-28T17:00:00Z"
    rows = read(tmp_path, columns, f"{ROW},,,,", *[f"{ROW},{said}"] * 2, f"{ROW},INV-18,,,")
    plain, full, again, other = (row for row in rows if isinstance(row, PaymentRow))
    assert plain.id == row_id(CONTENT, 0)
    assert len({plain.id, full.id, again.id, other.id}) == 4
    assert (full.equal_before, again.equal_before) == (0, 1)
    order = order_of(full)
    assert (order.end_to_end_id, order.instruction_id, order.uetr, order.expires_at) == tuple(said.split(","))
    assert order_of(plain).end_to_end_id is None
    # As a report of refused rows writes it, it is the same payment.
    path = tmp_path / "again.csv"
    fields = full.fields()
    path.write_text(f"{','.join(fields)}\n{','.join(fields.values())}\n", encoding="utf-8")
    (reread,) = read_rows(inspect_file(path))
    assert isinstance(reread, PaymentRow)
    assert (reread.id, reread.references) == (full.id, full.references)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"{'x' * 36},,,", "reference_invalid"), (",a\x85b,,", "reference_invalid"), (",,X,", "reference_invalid"),
        (",,,2026-02-30T00:00:00Z", "expiry_invalid"), (",,,tomorrow", "expiry_invalid"),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_row_that_says_them_wrongly(tmp_path: Path, said: str, reason: str) -> None:
    (row,) = read(tmp_path, f"{COLUMNS},end_to_end_id,instruction_id,uetr,expires_at", f"{ROW},{said}")
    assert isinstance(row, RefusedRow)
    assert row.reason == reason
