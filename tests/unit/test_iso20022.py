"""ISO 20022 messages: what is written is valid and is read back; what is read says what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from lxml import etree
from support import DATA

from gateway.federation.iso20022 import (
    DEFINITIONS,
    MessageReason,
    MessageRefused,
    Movement,
    Notification,
    SettlementRequest,
    notification,
    read_notification,
    read_settlement_request,
    read_status,
    require_schemas,
    settlement_request,
    status_report,
)
from gateway.federation.iso20022.schemas import XSD_DIR_VARIABLE
from gateway.federation.iso20022.values import control_sum_agrees, read_amount, write_amount, write_control_sum
from gateway.federation.settings import SettingsError

ISO20022 = DATA / "iso20022"
needs_schemas = pytest.mark.skipif(
    not (ISO20022 / "xsd").is_dir(), reason="the official ISO 20022 schemas aren't here: set CONCORDAT_DATA"
)
needs_samples = pytest.mark.skipif(
    not (ISO20022 / "samples").is_dir(), reason="the ISO 20022 samples aren't here: set CONCORDAT_DATA"
)

CREATED_AT = datetime(2026, 1, 2, 16, 30, 0, 123456, tzinfo=UTC)
MOVEMENTS = (
    Movement("ALFADEFF", "EUR", 123_45),
    Movement("BETADEFF", "EUR", -100_00),
    Movement("GAMMDEFF", "EUR", -23_45),
    Movement("ALFADEFF", "JPY", -5_000),
    Movement("BETADEFF", "JPY", 5_000),
    Movement("ALFADEFF", "KWD", 1),
    Movement("GAMMDEFF", "KWD", -1),
    Movement("BETADEFF", "KWD", 0),
)


def request_message(movements: tuple[Movement, ...] = MOVEMENTS) -> bytes:
    return settlement_request(
        message_id="2026-01-02-01/1",
        created_at=CREATED_AT,
        sender="CNCDXXC0",
        receiver="AGNTXXS0",
        cycle="2026-01-02-01",
        value_date=date(2026, 1, 2),
        movements=movements,
    )


def request() -> SettlementRequest:
    return read_settlement_request(request_message())


def settled_message() -> bytes:
    return status_report(
        message_id="A1",
        created_at=CREATED_AT,
        request=request(),
        status="ACSC",
        reference="S000000000001",
        settled_at=CREATED_AT,
    )


def rejected_message() -> bytes:
    return status_report(
        message_id="A2",
        created_at=CREATED_AT,
        request=request(),
        status="RJCT",
        reason_code="AM04",
        reason_text="BETADEFF EUR short by 1.00\nGAMMDEFF EUR short by 23.45",
    )


def pending_message() -> bytes:
    return status_report(message_id="A3", created_at=CREATED_AT, request=request(), status="PDNG")


def booked(**changes: object) -> Notification:
    entry = {
        "message_id": "N1-1",
        "created_at": CREATED_AT,
        "sender": "AGNTXXS0",
        "participant": "ALFADEFF",
        "account": "ALFADEFF-EUR",
        "sequence": 1,
        "currency": "EUR",
        "amount": -123_45,
        "reference": "S000000000001",
        "booked_at": CREATED_AT,
        "value_date": date(2026, 1, 2),
        "settlement": "2026-01-02-01/1",
        "cycle": "2026-01-02-01",
    }
    return Notification(**{**entry, **changes})  # type: ignore[arg-type]


FUNDED = booked(amount=5, settlement=None, cycle=None)
MESSAGES: dict[str, Callable[[], bytes]] = {
    "request": request_message,
    "settled": settled_message,
    "rejected": rejected_message,
    "pending": pending_message,
    "debited": lambda: notification(booked()),
    "funded": lambda: notification(FUNDED),
}


@needs_schemas
@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_is_valid_against_the_official_schemas(name: str) -> None:
    for element in etree.fromstring(MESSAGES[name]()):
        definition = str(etree.QName(element).namespace).rpartition(":")[2]
        schema = etree.XMLSchema(etree.parse(ISO20022 / "xsd" / f"{definition}.xsd"))
        schema.assertValid(etree.fromstring(etree.tostring(element)))


def test_a_request_is_read_as_it_was_meant() -> None:
    read = request()
    assert (read.message_id, read.sender, read.receiver) == ("2026-01-02-01/1", "CNCDXXC0", "AGNTXXS0")
    assert (read.cycle, read.value_date, read.created_at) == ("2026-01-02-01", date(2026, 1, 2), CREATED_AT)
    assert sorted(read.movements) == sorted(m for m in MOVEMENTS if m.amount)


def test_a_request_lists_debits_first_and_depends_on_its_content_only() -> None:
    directions = [movement.amount > 0 for movement in request().movements]
    assert directions == sorted(directions)
    assert request_message(MOVEMENTS) == request_message(tuple(reversed(MOVEMENTS)))


@pytest.mark.parametrize(
    ("movements", "reason"),
    [
        ((), MessageReason.MOVEMENT_COUNT_WRONG),
        ((Movement("ALFADEFF", "EUR", 0), Movement("BETADEFF", "EUR", 0)), MessageReason.MOVEMENT_COUNT_WRONG),
        ((Movement("ALFADEFF", "EUR", 2), Movement("BETADEFF", "EUR", -1)), MessageReason.DEBITS_CREDITS_DIFFER),
        ((Movement("ALFADEFF", "EUR", 1), Movement("BETADEFF", "JPY", -1)), MessageReason.DEBITS_CREDITS_DIFFER),
        ((Movement("ALFADEFF", "EUR", 1), Movement("ALFADEFF", "EUR", -1)), MessageReason.DUPLICATE_MOVEMENT),
        ((Movement("ALFADEFF", "XXX", 1), Movement("BETADEFF", "XXX", -1)), MessageReason.CURRENCY_UNKNOWN),
        (
            (Movement("ALFADEFF", "JPY", 10**18), Movement("BETADEFF", "JPY", -(10**18))),
            MessageReason.AMOUNT_MALFORMED,
        ),
    ],
)
def test_a_request_that_no_agent_would_take_is_not_written(
    movements: tuple[Movement, ...], reason: MessageReason
) -> None:
    with pytest.raises(MessageRefused) as refused:
        request_message(movements)
    assert refused.value.reason == reason


def test_answers_are_read_as_they_were_meant() -> None:
    report = read_status(settled_message())
    assert (report.status, report.reference, report.settled_at) == ("ACSC", "S000000000001", CREATED_AT)
    assert (report.sender, report.receiver) == ("AGNTXXS0", "CNCDXXC0")
    assert report.original_message_id == "2026-01-02-01/1"
    rejected = read_status(rejected_message())
    assert (rejected.status, rejected.reason_code, rejected.reference) == ("RJCT", "AM04", None)
    assert rejected.reason_text == "BETADEFF EUR short by 1.00\nGAMMDEFF EUR short by 23.45"
    assert read_status(pending_message()).status == "PDNG"


def test_a_settlement_comes_with_its_reference_and_a_rejection_with_its_reason() -> None:
    with pytest.raises(MessageRefused):
        status_report(message_id="A1", created_at=CREATED_AT, request=request(), status="ACSC")
    with pytest.raises(MessageRefused):
        status_report(message_id="A1", created_at=CREATED_AT, request=request(), status="RJCT")


@pytest.mark.parametrize("entry", [booked(), FUNDED, booked(currency="KWD", account="ALFADEFF-KWD", amount=1)])
def test_a_notification_is_read_as_it_was_meant(entry: Notification) -> None:
    assert read_notification(notification(entry)) == entry


def test_times_are_written_in_utc_and_must_have_a_zone() -> None:
    local = CREATED_AT.astimezone(timezone(timedelta(hours=2)))
    assert notification(booked(created_at=local)) == notification(booked())
    with pytest.raises(ValueError, match="zone"):
        notification(booked(created_at=CREATED_AT.replace(tzinfo=None)))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1, "EUR", "0.01"),
        (100, "EUR", "1.00"),
        (10**18 - 1, "EUR", "9999999999999999.99"),
        (5_000, "JPY", "5000"),
        (1, "KWD", "0.001"),
        (12_345, "KWD", "12.345"),
        (1, "CLF", "0.0001"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(amount: int, currency: str, text: str) -> None:
    assert write_amount(amount, currency) == text
    assert read_amount(text, currency) == amount


def test_fewer_decimals_are_the_same_number() -> None:
    assert read_amount("12", "EUR") == read_amount("12.0", "EUR") == read_amount("0012.00", "EUR") == 1200


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("1.000", "EUR", MessageReason.CURRENCY_DECIMALS_WRONG),
        ("1.0", "JPY", MessageReason.CURRENCY_DECIMALS_WRONG),
        ("1.0000", "KWD", MessageReason.CURRENCY_DECIMALS_WRONG),
        ("0", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("0.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("-1.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("+1.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("1e2", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("NaN", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("INF", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("1,000.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("1.", "EUR", MessageReason.AMOUNT_MALFORMED),
        (".5", "EUR", MessageReason.AMOUNT_MALFORMED),
        (" 1.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("١.٠٠", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("12345678901234567.00", "EUR", MessageReason.AMOUNT_MALFORMED),
        ("1.00", "XXX", MessageReason.CURRENCY_UNKNOWN),
        ("1.00", "eur", MessageReason.CURRENCY_UNKNOWN),
    ],
)
def test_a_malformed_amount_is_refused(text: str, currency: str, reason: MessageReason) -> None:
    with pytest.raises(MessageRefused) as refused:
        read_amount(text, currency)
    assert refused.value.reason == reason


def test_the_control_sum_adds_numbers_whatever_their_currency() -> None:
    amounts = [(10_050, "EUR"), (-7, "JPY"), (1, "KWD")]
    assert write_control_sum(amounts) == "107.501"
    assert control_sum_agrees("107.501", amounts)
    assert control_sum_agrees("107.50100", amounts)
    assert not control_sum_agrees("107.5010000000001", amounts)
    assert not control_sum_agrees("-107.501", amounts)
    assert not control_sum_agrees(None, amounts)


LARGE_AND_SMALL = (
    Movement("ALFADEFF", "JPY", 500_000_000_000_000),
    Movement("BETADEFF", "JPY", -500_000_000_000_000),
    Movement("ALFADEFF", "KWD", -1),
    Movement("BETADEFF", "KWD", 1),
)
LARGEST = (Movement("ALFADEFF", "JPY", 10**18 - 1), Movement("BETADEFF", "JPY", 1 - 10**18))


@pytest.mark.parametrize("validated", [False, pytest.param(True, marks=needs_schemas)])
@pytest.mark.parametrize("movements", [LARGE_AND_SMALL, LARGEST])
def test_a_control_sum_of_more_than_18_digits_is_left_out(
    monkeypatch: pytest.MonkeyPatch, movements: tuple[Movement, ...], validated: bool
) -> None:
    if validated:
        monkeypatch.setenv(XSD_DIR_VARIABLE, str(ISO20022 / "xsd"))
    message = request_message(movements)
    assert b"CtrlSum" not in message
    assert set(read_settlement_request(message).movements) == set(movements)
    assert not control_sum_agrees("1000000000000000", [(m.amount, m.currency) for m in movements])


@needs_schemas
def test_with_the_schemas_at_hand_messages_are_validated_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(XSD_DIR_VARIABLE, str(ISO20022 / "xsd"))
    assert read_settlement_request(request_message()) == request()
    # Valid by our profile, but a reference longer than the schema lets it be.
    with pytest.raises(MessageRefused) as refused:
        notification(booked(account="A" * 40))
    assert refused.value.reason == MessageReason.SCHEMA_INVALID


def test_a_schema_that_is_missing_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require_schemas(*DEFINITIONS)
    monkeypatch.setenv(XSD_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(SettingsError, match=XSD_DIR_VARIABLE):
        require_schemas(*DEFINITIONS)


def samples() -> Iterator[Path]:
    return (path for path in sorted((ISO20022 / "samples").rglob("*")) if path.is_file())


@needs_samples
@pytest.mark.parametrize("read", [read_settlement_request, read_status, read_notification])
def test_messages_of_other_schemes_are_refused_with_a_reason(read: Callable[[bytes], object]) -> None:
    for path in samples():
        with pytest.raises(MessageRefused) as refused:
            read(path.read_bytes())
        assert refused.value.reason in set(MessageReason), path


@needs_samples
def test_foreign_documents_in_our_envelope_are_refused_with_a_reason_or_read() -> None:
    """The same samples behind a header of ours, so that the closed profiles are what meets them."""
    reasons = set()
    for path in samples():
        try:
            document = next(etree.parse(path).iter("{*}Document"), None)
        except etree.XMLSyntaxError:
            continue
        for message, read in ((settled_message(), read_status), (notification(FUNDED), read_notification)):
            envelope = etree.fromstring(message)
            if document is None or etree.QName(document).namespace != etree.QName(envelope[1]).namespace:
                continue
            envelope.replace(envelope[1], etree.fromstring(etree.tostring(document)))
            with pytest.raises(MessageRefused) as refused:
                read(etree.tostring(envelope))
            assert refused.value.pointer is not None, path
            reasons.add(refused.value.reason)
    assert reasons
