"""A batch read by one expression a payment is what the patterns of the members make of it, and as canonical."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compliance.crypto import canonical
from gateway.federation.messages import payment_forms
from gateway.federation.messages.payments import PaymentBatch
from participants.ledger import events

PLAIN = {
    "id": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    "amount_minor": "123450",
    "currency": "EUR",
    "debtor_account": "DE89370400440532013000",
    "debtor_name": "Ada Alder",
    "creditor_account": "acc-7",
    "creditor_name": "Bo Ølsen",
}
BESIDES = {
    "remittance": "invoice 17",
    "end_to_end_id": "INV-17",
    "instruction_id": "I-17",
    "uetr": "5f0c2ad4-8a86-4b1e-9d4e-0c3c2a6f7b11",
    "expires_at": "2026-11-30T16:00:00Z",
    "returns": "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e11",
    "return_reason": "AC04",
}
NEAR = ["", " ", "x\n", '"', "\\", "\x7f", "\u2028", "0", "1" * 16, "a" * 36, "é" * 140, "é" * 141, None, 7, {}]
SAID = st.sampled_from(NEAR) | st.text(max_size=150)


def batch(*payments: dict[str, Any], **changed: Any) -> bytes:
    said = {"sender": "ALDRXXA0", "receiver": "BRCHXXB0", "root": "0" * 64, "payments": payments, **changed}
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def read(data: bytes, decode: Any) -> PaymentBatch | tuple[str, str]:
    try:
        read: PaymentBatch = decode(data)
    except (msgspec.MsgspecError, canonical.NotCanonicalError) as error:
        return type(error).__name__, str(error)
    return read


def strictly(data: bytes) -> PaymentBatch:
    return canonical.decode(data, PaymentBatch)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    besides=st.sets(st.sampled_from(sorted(BESIDES))),
    changed=st.dictionaries(st.sampled_from(sorted(PLAIN | BESIDES | {"else": 1})), SAID, max_size=2),
    left_out=st.sets(st.sampled_from(sorted(PLAIN)), max_size=1),
    around=st.dictionaries(st.sampled_from(["sender", "receiver", "root", "withdrawn", "else"]), SAID, max_size=1),
)
@example(besides=set(), changed={"debtor_name": "a\n"}, left_out=set(), around={})
@example(besides=set(), changed={"remittance": ""}, left_out=set(), around={})
@example(besides=set(), changed={}, left_out=set(), around={"withdrawn": False})
def test_what_is_read_is_what_the_patterns_read(
    besides: set[str], changed: dict[str, Any], left_out: set[str], around: dict[str, Any]
) -> None:
    odd = {**PLAIN, **{member: BESIDES[member] for member in besides}, **changed}
    data = batch(PLAIN, {member: said for member, said in odd.items() if member not in left_out}, **around)
    assert read(data, payment_forms.decode_batch) == read(data, strictly)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff" + batch(PLAIN),
        b" " + batch(PLAIN),
        batch(PLAIN).replace(b'"currency":"EUR"', b'"currency":"EUR","currency":"EUR"'),
        batch(PLAIN).replace(b"Ada", b"\\u0041da"),
        batch(PLAIN).replace(b"Ada", b"\xffda"),
        batch(PLAIN).replace(b'"root"', b'"receiver":"BRCHXXB0","root"'),
        batch(),
        b"[" * 100_000,
    ],
)
def test_what_is_no_canonical_batch_is_refused_alike(data: bytes) -> None:
    assert isinstance(read(data, strictly), tuple)
    assert read(data, payment_forms.decode_batch) == read(data, strictly)


def test_a_plain_batch_is_left_to_no_pattern() -> None:
    plain = PLAIN | {member: said for member, said in BESIDES.items() if not member.startswith("return")}
    assert payment_forms._plain_batch(batch(PLAIN, plain)) == strictly(batch(PLAIN, plain))


@pytest.mark.parametrize("actor", ["mona", "", 'a"b', "a\\b", "é"])
def test_an_order_in_the_journal_is_read_as_the_patterns_read_it(actor: str) -> None:
    text = canonical.encode({**PLAIN, "creditor_agent": "BRCHXXB0", "actor": actor}).decode()
    row = events.EventRow(1, PLAIN["id"], 1, "payment.reserved", 2, text)
    assert events.read(row).data == msgspec.json.decode(text, type=events.OrderTaken)
