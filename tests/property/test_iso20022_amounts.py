"""Amounts and whole requests survive the way onto the wire and back, whatever they are."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.federation.iso20022 import (
    MessageRefused,
    Movement,
    read_notification,
    read_settlement_request,
    read_status,
    settlement_request,
)
from gateway.federation.iso20022.values import control_sum_agrees, read_amount, write_amount, write_control_sum
from gateway.federation.money import EXPONENTS

CURRENCIES = st.sampled_from(sorted(EXPONENTS))
AMOUNTS = st.integers(1, 10**18 - 1)
BANKS = ("ALFADEFF", "BETADEFF", "GAMMDEFF", "DELTDEFF")


@given(AMOUNTS, CURRENCIES)
def test_amounts_round_trip(amount: int, currency: str) -> None:
    text = write_amount(amount, currency)
    assert read_amount(text, currency) == amount
    assert len(text.partition(".")[2]) == EXPONENTS[currency]


@given(st.lists(st.tuples(st.integers(1, 10**12), CURRENCIES), min_size=1, max_size=20))
def test_a_control_sum_agrees_with_its_amounts_and_with_no_others(amounts: list[tuple[int, str]]) -> None:
    text = write_control_sum(amounts)
    assert control_sum_agrees(text, amounts)
    (first, currency), *others = amounts
    assert not control_sum_agrees(text, [(first + 1, currency), *others])


@given(st.lists(st.tuples(st.sampled_from(BANKS[1:]), CURRENCIES, st.integers(-(10**12), 10**12)), max_size=12))
def test_requests_round_trip(nets: list[tuple[str, str, int]]) -> None:
    balanced: defaultdict[tuple[str, str], int] = defaultdict(int)
    for bank, currency, net in nets:
        balanced[bank, currency] += net
        balanced[BANKS[0], currency] -= net
    movements = [Movement(bank, currency, net) for (bank, currency), net in balanced.items()]
    moving = [movement for movement in movements if movement.amount]
    if not moving:
        return
    message = settlement_request(
        message_id="1",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        sender="CNCDXXC0",
        receiver="AGNTXXS0",
        cycle="2026-01-02-01",
        value_date=date(2026, 1, 2),
        movements=movements,
    )
    assert sorted(read_settlement_request(message).movements) == sorted(moving)


@given(st.binary(max_size=400))
def test_whatever_comes_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    for read in (read_settlement_request, read_status, read_notification):
        try:
            read(data)
        except MessageRefused:
            continue
        raise AssertionError("noise was taken for a message")
