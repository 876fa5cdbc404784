"""Forged and corrupt settlement requests: each is refused, and for the right reason."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from gateway.federation.iso20022 import (
    MESSAGE_BYTES_MAX,
    MessageReason,
    MessageRefused,
    Movement,
    read_notification,
    read_settlement_request,
    read_status,
    settlement_request,
)

GENUINE = settlement_request(
    message_id="2026-01-02-01/1",
    created_at=datetime(2026, 1, 2, 16, 30, tzinfo=UTC),
    sender="CNCDXXC0",
    receiver="AGNTXXS0",
    cycle="2026-01-02-01",
    value_date=date(2026, 1, 2),
    movements=[Movement("ALFADEFF", "EUR", -150), Movement("BETADEFF", "EUR", 150)],
)
DECLARATION, _, ROOT = GENUINE.partition(b"\n")
DOCUMENT = GENUINE[GENUINE.index(b"<Document") : GENUINE.index(b"</BusinessMessage>")]
HEADER = GENUINE[GENUINE.index(b"<AppHdr") : GENUINE.index(b"<Document")]
FIRST_MOVEMENT = GENUINE[GENUINE.index(b"<MvmntRcrd>") : GENUINE.index(b"</MvmntRcrd>") + len(b"</MvmntRcrd>")]

LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%b">' % (ord("b") + n, b"&%c;" % (ord("a") + n) * 10) for n in range(9)
)


def forge(old: bytes, new: bytes, *, count: int = 1) -> bytes:
    assert old in GENUINE
    return GENUINE.replace(old, new, count)


def with_doctype(doctype: bytes) -> bytes:
    return DECLARATION + doctype + ROOT


R = MessageReason
FORGERIES: dict[str, tuple[bytes, MessageReason]] = {
    # --- XML itself
    "external entity": (
        with_doctype(b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>').replace(b"ALFADEFF", b"&x;"),
        R.DOCTYPE_REFUSED,
    ),
    "external document type": (with_doctype(b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd">'), R.DOCTYPE_REFUSED),
    "empty document type": (with_doctype(b"<!DOCTYPE BusinessMessage>"), R.DOCTYPE_REFUSED),
    "billion laughs": (with_doctype(LAUGHS + b"]>").replace(b"ALFADEFF", b"&j;"), R.DOCTYPE_REFUSED),
    "document type in another encoding": (
        with_doctype(b'<!DOCTYPE r [<!ENTITY x "y">]>').decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        R.XML_MALFORMED,
    ),
    "undeclared entity": (forge(b"ALFADEFF", b"&x;"), R.XML_MALFORMED),
    "oversize": (GENUINE + b" " * MESSAGE_BYTES_MAX, R.MESSAGE_TOO_LARGE),
    "oversize with a document type": (b"<!DOCTYPE r>" + b" " * MESSAGE_BYTES_MAX, R.MESSAGE_TOO_LARGE),
    "empty": (b"", R.XML_MALFORMED),
    "cut off": (GENUINE[:-20], R.XML_MALFORMED),
    "not UTF-8": (forge(b"ALFADEFF", b"ALFAD\xe9FF"), R.XML_MALFORMED),
    "second root": (GENUINE + ROOT, R.XML_MALFORMED),
    "too deep": (b"<a>" * 100_000, R.XML_MALFORMED),
    # --- the envelope
    "no envelope": (DOCUMENT, R.NAMESPACE_UNKNOWN),
    "envelope without a namespace": (
        forge(b' xmlns="https://concordat.example/ns/business-message/1"', b""),
        R.NAMESPACE_UNKNOWN,
    ),
    "unknown version of the document": (
        forge(b"xsd:pacs.029.001.02", b"xsd:pacs.029.001.01"),
        R.NAMESPACE_UNKNOWN,
    ),
    "unknown version of the header": (forge(b"head.001.001.02", b"head.001.001.03"), R.NAMESPACE_UNKNOWN),
    "second document": (forge(DOCUMENT, DOCUMENT * 2), R.ELEMENT_UNEXPECTED),
    "second header": (forge(HEADER, HEADER * 2), R.NAMESPACE_UNKNOWN),
    "no header": (forge(HEADER, b""), R.NAMESPACE_UNKNOWN),
    "no document": (forge(DOCUMENT, b""), R.ELEMENT_UNEXPECTED),
    "text in the envelope": (forge(b"<AppHdr", b"x<AppHdr"), R.ELEMENT_UNEXPECTED),
    # --- the header against the document
    "header naming another definition": (
        forge(b"<MsgDefIdr>pacs.029.001.02<", b"<MsgDefIdr>pacs.009.001.08<"),
        R.HEADER_MISMATCH,
    ),
    "header naming another document": (forge(b"<BizMsgIdr>2026-01-02-01/1<", b"<BizMsgIdr>1<"), R.HEADER_MISMATCH),
    # --- the closed profile
    "unknown element": (forge(b"<SttlmCycl>", b"<Bonus>1</Bonus><SttlmCycl>"), R.ELEMENT_UNEXPECTED),
    "element of another namespace": (
        forge(b"<SttlmCycl>", b'<SttlmCycl xmlns="urn:x">1</SttlmCycl><SttlmCycl>'),
        R.ELEMENT_UNEXPECTED,
    ),
    "supplementary data": (
        forge(b"</MulSttlmReq>", b"<SplmtryData><Envlp/></SplmtryData></MulSttlmReq>"),
        R.ELEMENT_UNEXPECTED,
    ),
    "unverified signature": (
        forge(b"<BizPrcgDt>", b"<Sgntr/><BizPrcgDt>"),
        R.ELEMENT_UNEXPECTED,
    ),
    "repeated element": (forge(b"<SttlmCycl>", b"<SttlmCycl>1</SttlmCycl><SttlmCycl>"), R.ELEMENT_UNEXPECTED),
    "second request": (forge(b"</SttlmReq>", b"</SttlmReq><SttlmReq/>"), R.ELEMENT_UNEXPECTED),
    "comment in an amount": (forge(b">1.50<", b">1<!-- -->1.50<"), R.ELEMENT_UNEXPECTED),
    "processing instruction": (forge(b"<SttlmCycl>", b"<?php x?><SttlmCycl>"), R.ELEMENT_UNEXPECTED),
    "missing element": (forge(b"<SttlmCycl>2026-01-02-01</SttlmCycl>", b""), R.ELEMENT_MISSING),
    "missing value date": (forge(b"<BizPrcgDt>2026-01-02T00:00:00Z</BizPrcgDt>", b""), R.ELEMENT_MISSING),
    "one movement": (forge(FIRST_MOVEMENT, b""), R.ELEMENT_MISSING),
    "unknown attribute": (forge(b"<SttlmCycl>", b'<SttlmCycl x="1">'), R.ATTRIBUTE_UNEXPECTED),
    "no currency": (forge(b' Ccy="EUR"', b""), R.ELEMENT_MISSING),
    "text between elements": (forge(b"<SttlmReq>", b"<SttlmReq>x"), R.VALUE_MALFORMED),
    "not a BIC": (forge(b"ALFADEFF", b"alfadeff"), R.VALUE_MALFORMED),
    "neither debit nor credit": (forge(b">DBIT<", b">BOTH<"), R.VALUE_MALFORMED),
    "no such day": (forge(b"<BizPrcgDt>2026-01-02", b"<BizPrcgDt>2026-02-30"), R.VALUE_MALFORMED),
    "time without a zone": (forge(b"2026-01-02T00:00:00Z", b"2026-01-02T00:00:00"), R.VALUE_MALFORMED),
    # --- money
    "unknown currency": (forge(b'Ccy="EUR"', b'Ccy="XXX"'), R.CURRENCY_UNKNOWN),
    "negative amount": (forge(b">1.50<", b">-1.50<"), R.AMOUNT_MALFORMED),
    "amount in exponent form": (forge(b">1.50<", b">15e-1<"), R.AMOUNT_MALFORMED),
    "too many decimals": (forge(b">1.50<", b">1.500<"), R.CURRENCY_DECIMALS_WRONG),
    "same participant twice": (forge(b"BETADEFF", b"ALFADEFF"), R.DUPLICATE_MOVEMENT),
    "wrong number of movements": (
        forge(b"<NbOfMvmntRcrds>2<", b"<NbOfMvmntRcrds>3<"),
        R.MOVEMENT_COUNT_WRONG,
    ),
    "wrong number of requests": (forge(b"<NbOfSttlmReqs>1<", b"<NbOfSttlmReqs>2<"), R.MOVEMENT_COUNT_WRONG),
    "wrong control sum": (forge(b"<CtrlSum>3<", b"<CtrlSum>3.01<"), R.CONTROL_SUM_WRONG),
    "no number as control sum": (forge(b"<CtrlSum>3<", b"<CtrlSum>NaN<"), R.CONTROL_SUM_WRONG),
    "no control sum": (forge(b"<CtrlSum>3</CtrlSum>", b""), R.CONTROL_SUM_WRONG),
    "one amount raised": (forge(b">1.50<", b">1.51<"), R.CONTROL_SUM_WRONG),
    "debits above credits, control sum mended": (
        forge(b">1.50<", b">1.51<").replace(b"<CtrlSum>3<", b"<CtrlSum>3.01<"),
        R.DEBITS_CREDITS_DIFFER,
    ),
    "both debits": (forge(b">CRDT<", b">DBIT<"), R.DEBITS_CREDITS_DIFFER),
    "balanced over two currencies only": (forge(b'Ccy="EUR"', b'Ccy="USD"'), R.DEBITS_CREDITS_DIFFER),
}


def test_the_genuine_message_is_taken() -> None:
    assert read_settlement_request(GENUINE).movements == (
        Movement("ALFADEFF", "EUR", -150),
        Movement("BETADEFF", "EUR", 150),
    )


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused(name: str) -> None:
    forged, reason = FORGERIES[name]
    with pytest.raises(MessageRefused) as refused:
        read_settlement_request(forged)
    assert refused.value.reason == reason
    assert refused.value.status == (413 if reason is R.MESSAGE_TOO_LARGE else 422)


@pytest.mark.parametrize("read", [read_status, read_notification])
def test_a_message_is_not_taken_for_another_kind(read: object) -> None:
    assert callable(read)
    with pytest.raises(MessageRefused) as refused:
        read(GENUINE)
    assert refused.value.reason == R.NAMESPACE_UNKNOWN


def test_schema_location_hints_are_ignored() -> None:
    hinted = forge(
        b"<MulSttlmReq>",
        b'<MulSttlmReq xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:x http://x/x.xsd">',
    )
    assert read_settlement_request(hinted) == read_settlement_request(GENUINE)
