"""Money as people read and write it, from and to integer minor units (ISO 4217)."""

from __future__ import annotations

import re
from enum import StrEnum

_TWO_DECIMALS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP
COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN
NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
"""

_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"

# The number of decimals of every active currency of ISO 4217. Units without decimals by nature (gold, SDR) aren't in.
EXPONENTS: dict[str, int] = {
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
    **dict.fromkeys(_FOUR_DECIMALS.split(), 4),
}

# The longest amount any of our formats can hold has 38 digits.
DIGITS_MAX = 38
_AMOUNT = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


class AmountReason(StrEnum):
    """Why a text is no amount, in order of precedence."""

    UNKNOWN_CURRENCY = "unknown_currency"
    SIGNED = "signed"
    NOT_A_NUMBER = "not_a_number"
    TOO_MANY_DECIMALS = "too_many_decimals"
    TOO_LARGE = "too_large"


class AmountError(ValueError):
    """A text that isn't an amount of its currency."""

    def __init__(self, reason: AmountReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def exponent(currency: str) -> int:
    """Return the number of decimals of a currency; raises AmountError."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise AmountError(
            AmountReason.UNKNOWN_CURRENCY, f"not an active ISO 4217 currency: {currency[:16]!r}"
        ) from None


def format_minor(amount: int, currency: str) -> str:
    """Write minor units for people: `format_minor(123450, "EUR")` is "1,234.50". Raises AmountError."""
    decimals = exponent(currency)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**decimals)
    return f"{sign}{whole:,}.{rest:0{decimals}}" if decimals else f"{sign}{whole:,}"


def parse_amount(text: str, currency: str, *, rounding: bool = False) -> int:
    """Read a plain decimal number ("1234.5") as minor units; raises AmountError.

    Refuses signs, exponents, group separators, "NaN", and more decimals than the currency has; with `rounding`
    these are rounded half to even (for sources whose amounts carry binary-float noise).
    """
    decimals = exponent(currency)
    if text[:1] in ("+", "-"):
        raise AmountError(AmountReason.SIGNED, "an amount has no sign")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise AmountError(AmountReason.NOT_A_NUMBER, f"not a plain decimal number: {text[:40]!r}")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > decimals and not rounding:
        raise AmountError(
            AmountReason.TOO_MANY_DECIMALS, f"{currency} has {decimals} decimals, the amount has {len(fraction)}"
        )
    kept, dropped = fraction[:decimals].ljust(decimals, "0"), fraction[decimals:]
    if len(whole) + decimals > DIGITS_MAX:
        raise AmountError(AmountReason.TOO_LARGE, f"an amount has at most {DIGITS_MAX} digits")
    minor = int(whole + kept)
    return minor + _round_up(minor, dropped)


def _round_up(minor: int, dropped: str) -> int:
    """Tell (0 or 1) whether the dropped digits round a number up, half to even."""
    half = "5" + "0" * (len(dropped) - 1)
    if not dropped or dropped < half:
        return 0
    return 1 if dropped > half else minor % 2
