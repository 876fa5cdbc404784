"""Texts, times and amounts as ISO 20022 writes them, to and from our own types.

Money is an integer of minor units inside and an unsigned decimal number on the wire. The conversion is done on
digits, exactly; no floating point and no rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime

from gateway.federation.iso20022.reasons import MessageReason, MessageRefused
from gateway.federation.money import EXPONENTS

BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")
TEXT_35 = re.compile(r"[!-~]([ -~]{0,33}[!-~])?")
TEXT_105 = re.compile(r"[!-~]([ -~]{0,103}[!-~])?")
COUNT = re.compile(r"0|[1-9][0-9]{0,14}")
CODE = re.compile(r"[A-Z0-9]{1,4}")
DIRECTION = re.compile(r"CRDT|DBIT")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
# Amounts are looked at more closely by `read_amount`, which tells what is wrong with them.
ANY_TEXT = re.compile(r".{0,64}", re.DOTALL)

_DECIMAL = re.compile(r"(?P<whole>[0-9]{1,18})(\.(?P<fraction>[0-9]{1,17}))?")
_DIGITS_MAX = 18
_SCALE = 17  # fraction digits of an ISO 20022 DecimalNumber


def write_amount(amount: int, currency: str) -> str:
    """Return a positive amount of minor units as the decimal text of its currency: 123450 EUR is "1234.50"."""
    exponent = _exponent(currency)
    if amount <= 0 or len(str(amount)) > _DIGITS_MAX:
        raise MessageRefused(MessageReason.AMOUNT_MALFORMED, "an amount is positive and has at most 18 digits")
    digits = str(amount).rjust(exponent + 1, "0")
    return f"{digits[:-exponent]}.{digits[-exponent:]}" if exponent else digits


def read_amount(text: str, currency: str, *, pointer: str | None = None) -> int:
    """Return the minor units of a positive decimal text.

    Raises `MessageRefused`: currency_unknown, amount_malformed (sign, exponent form, zero, over 18 digits),
    currency_decimals_wrong (more decimals than the currency has, even zeros).
    """
    exponent = _exponent(currency, pointer=pointer)
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise MessageRefused(MessageReason.AMOUNT_MALFORMED, "not a plain positive decimal", pointer=pointer)
    fraction = match["fraction"] or ""
    if len(fraction) > exponent:
        detail = f"{currency} has {exponent} decimals, not {len(fraction)}"
        raise MessageRefused(MessageReason.CURRENCY_DECIMALS_WRONG, detail, pointer=pointer)
    amount = int(match["whole"] + fraction.ljust(exponent, "0"))
    if amount == 0 or len(str(amount)) > _DIGITS_MAX:
        raise MessageRefused(MessageReason.AMOUNT_MALFORMED, "zero, or over 18 digits", pointer=pointer)
    return amount


def _exponent(currency: str, *, pointer: str | None = None) -> int:
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise MessageRefused(MessageReason.CURRENCY_UNKNOWN, "not an ISO 4217 currency", pointer=pointer)
    return exponent


def write_control_sum(amounts: Iterable[tuple[int, str]]) -> str | None:
    """Return the plain sum of unsigned amounts irrespective of currency, as ISO 20022 defines a control sum.

    None for a sum of more than the 18 digits that an ISO 20022 number has: amounts of currencies with no decimals and
    with three come to that long before any one of them is too long. A message has no control sum then.
    """
    digits = str(_scaled_sum(amounts)).rjust(_SCALE + 1, "0")
    whole, fraction = digits[:-_SCALE], digits[-_SCALE:].rstrip("0")
    if len(whole) + len(fraction) > _DIGITS_MAX:
        return None
    return f"{whole}.{fraction}" if fraction else whole


def control_sum_agrees(text: str | None, amounts: Iterable[tuple[int, str]]) -> bool:
    """Tell whether a control sum is the sum of unsigned amounts irrespective of currency.

    None, where a message has no control sum, agrees with a sum that can't be written, and with no other.
    """
    if text is None:
        return write_control_sum(amounts) is None
    match = _DECIMAL.fullmatch(text)
    if match is None:
        return False
    return int(match["whole"] + (match["fraction"] or "").ljust(_SCALE, "0")) == _scaled_sum(amounts)


def _scaled_sum(amounts: Iterable[tuple[int, str]]) -> int:
    scaled: int = sum(abs(amount) * 10 ** (_SCALE - _exponent(currency)) for amount, currency in amounts)
    return scaled


def write_time(at: datetime) -> str:
    """Return a moment in UTC with microseconds. A time without a zone is a broken program: ValueError."""
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_time(text: str, *, pointer: str | None = None) -> datetime:
    """Return a moment in UTC; the wire form must say its offset."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "no such time", pointer=pointer) from None


def read_date(text: str, *, pointer: str | None = None) -> date:
    """Return a calendar date."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise MessageRefused(MessageReason.VALUE_MALFORMED, "no such date", pointer=pointer) from None
