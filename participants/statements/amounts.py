"""Amounts and days as the formats write them, to minor units and dates, or refused with their place."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from gateway.federation.money import EXPONENTS, AmountError, AmountReason, format_minor, parse_amount
from participants.statements.reasons import StatementFileReason as Reason
from participants.statements.reasons import StatementRefused
from participants.statements.statement import Place

# What 64 bits hold with room for sums, and what ISO 20022 can write.
DIGITS_MAX = 18
ENTRIES_MAX = 1_000_000
"""Of one file."""
_ZONE = r"(?:Z|[+-][0-9]{2}:[0-9]{2})?"
_ISO = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?)?{_ZONE}")
AMOUNT_MAX = 10**DIGITS_MAX - 1
_REASONS = {
    AmountReason.UNKNOWN_CURRENCY: Reason.CURRENCY_UNKNOWN,
    AmountReason.TOO_MANY_DECIMALS: Reason.CURRENCY_DECIMALS_WRONG,
    AmountReason.TOO_LARGE: Reason.AMOUNT_TOO_LARGE,
}


def minor_units(text: str, currency: str, place: Place) -> int:
    """Return an unsigned amount with a decimal point, or without decimals, as minor units. Raises StatementRefused."""
    try:
        amount = parse_amount(text, currency)
    except AmountError as error:
        raise StatementRefused(_REASONS.get(error.reason, Reason.AMOUNT_MALFORMED), str(error), place) from None
    if amount > AMOUNT_MAX:
        raise StatementRefused(Reason.AMOUNT_TOO_LARGE, f"an amount has at most {DIGITS_MAX} digits", place)
    return amount


def check_entries(number: int, place: Place) -> None:
    """Raise StatementRefused for more entries than a file may have."""
    if number > ENTRIES_MAX:
        raise StatementRefused(Reason.FILE_TOO_LARGE, f"more than {ENTRIES_MAX:,} entries", place)


def check_currency(currency: str, place: Place) -> str:
    """Return an active currency of ISO 4217. Raises StatementRefused."""
    if currency not in EXPONENTS:
        detail = f"not an active ISO 4217 currency: {currency[:16]!r}"
        raise StatementRefused(Reason.CURRENCY_UNKNOWN, detail, place)
    return currency


def shown(amount: int, currency: str) -> str:
    """Return an amount for people, of any size."""
    return f"{format_minor(amount, currency)} {currency}"


@lru_cache(maxsize=4096)
def iso_day(text: str) -> date | None:
    """Return the day of a date or of a time that ISO 8601 writes with one; None if there is no such day.

    The day is the one written, in whatever time zone: that is the day that its bank calls it.
    """
    if not _ISO.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def short_day(text: str) -> tuple[date, bool] | None:
    """Return the day of six digits YYMMDD, and whether it was moved; None if there is no such day.

    Years up to 79 are of this century, as SWIFT has it. The 29 and 30 February that banks write who count months of
    thirty days is the last of February.
    """
    if len(text) != 6 or not (text.isascii() and text.isdigit()):
        return None
    year, month, day = int(text[:2]), int(text[2:4]), int(text[4:])
    year += 2000 if year < 80 else 1900
    try:
        return date(year, month, day), False
    except ValueError:
        if month == 2 and day in (29, 30):
            return date.fromordinal(date(year, 3, 1).toordinal() - 1), True
        return None
