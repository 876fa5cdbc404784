"""Amounts as people write them, and as integers of minor units."""

from __future__ import annotations

from contextlib import suppress
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.federation.money import EXPONENTS, AmountError, AmountReason, format_minor, parse_amount

currencies = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123450, "EUR", "1,234.50"),
        (5, "EUR", "0.05"),
        (0, "EUR", "0.00"),
        (-123450, "EUR", "-1,234.50"),
        (1234, "JPY", "1,234"),
        (0, "JPY", "0"),
        (1234567, "KWD", "1,234.567"),
        (12345, "CLF", "1.2345"),
    ],
)
def test_amounts_are_written_with_the_currency_s_decimals(amount: int, currency: str, text: str) -> None:
    assert format_minor(amount, currency) == text


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [
        ("1234.50", "EUR", 123450),
        ("1234.5", "EUR", 123450),
        ("1234", "EUR", 123400),
        ("0.01", "EUR", 1),
        ("007", "EUR", 700),
        ("1234", "JPY", 1234),
        ("1.234", "KWD", 1234),
        ("0", "KWD", 0),
    ],
)
def test_amounts_are_read_into_minor_units(text: str, currency: str, amount: int) -> None:
    assert parse_amount(text, currency) == amount


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("1", "XXX", AmountReason.UNKNOWN_CURRENCY),
        ("1", "eur", AmountReason.UNKNOWN_CURRENCY),
        ("1", "HRK", AmountReason.UNKNOWN_CURRENCY),
        ("-1", "EUR", AmountReason.SIGNED),
        ("+1", "EUR", AmountReason.SIGNED),
        ("-0", "EUR", AmountReason.SIGNED),
        ("", "EUR", AmountReason.NOT_A_NUMBER),
        ("NaN", "EUR", AmountReason.NOT_A_NUMBER),
        ("Infinity", "EUR", AmountReason.NOT_A_NUMBER),
        ("1e5", "EUR", AmountReason.NOT_A_NUMBER),
        ("1_000", "EUR", AmountReason.NOT_A_NUMBER),
        (" 1", "EUR", AmountReason.NOT_A_NUMBER),
        ("1\n", "EUR", AmountReason.NOT_A_NUMBER),
        ("1,000.00", "EUR", AmountReason.NOT_A_NUMBER),
        ("1,50", "EUR", AmountReason.NOT_A_NUMBER),
        (".5", "EUR", AmountReason.NOT_A_NUMBER),
        ("5.", "EUR", AmountReason.NOT_A_NUMBER),
        ("1.2.3", "EUR", AmountReason.NOT_A_NUMBER),
        ("0x10", "EUR", AmountReason.NOT_A_NUMBER),
        ("١٢", "EUR", AmountReason.NOT_A_NUMBER),
        ("½", "EUR", AmountReason.NOT_A_NUMBER),
        ("1.234", "EUR", AmountReason.TOO_MANY_DECIMALS),
        ("1.000", "EUR", AmountReason.TOO_MANY_DECIMALS),
        ("1.0", "JPY", AmountReason.TOO_MANY_DECIMALS),
        ("1" * 37, "EUR", AmountReason.TOO_LARGE),
    ],
)
def test_what_isn_t_an_amount_is_refused_for_its_reason(text: str, currency: str, reason: AmountReason) -> None:
    with pytest.raises(AmountError) as refused:
        parse_amount(text, currency)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0.125", 12), ("0.135", 14), ("0.1250000001", 13), ("0.1149999999", 11), ("99.999", 10000), ("1.2", 120)],
)
def test_float_noise_is_rounded_half_to_even_on_request(text: str, amount: int) -> None:
    assert parse_amount(text, "EUR", rounding=True) == amount


@given(st.integers(min_value=0, max_value=10**34 - 1), currencies)
def test_what_is_written_reads_as_the_same(amount: int, currency: str) -> None:
    assert parse_amount(format_minor(amount, currency).replace(",", ""), currency) == amount


@given(st.integers(min_value=0, max_value=10**20), st.text("0123456789", max_size=12), currencies)
def test_rounding_agrees_with_decimal(whole: int, fraction: str, currency: str) -> None:
    text = f"{whole}.{fraction}" if fraction else str(whole)
    with localcontext() as context:
        context.prec = 60
        expected = (Decimal(text) * 10 ** EXPONENTS[currency]).to_integral_value(ROUND_HALF_EVEN)
    assert parse_amount(text, currency, rounding=True) == expected


@given(st.text(max_size=20), currencies)
def test_any_text_is_an_amount_or_refused(text: str, currency: str) -> None:
    with suppress(AmountError):
        assert parse_amount(text, currency) >= 0


def test_every_currency_has_a_code_and_a_sane_exponent() -> None:
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in EXPONENTS)
    assert set(EXPONENTS.values()) == {0, 2, 3, 4}
    assert (EXPONENTS["EUR"], EXPONENTS["JPY"], EXPONENTS["KWD"]) == (2, 0, 3)
