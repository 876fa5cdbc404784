"""Accounts as people write them: an IBAN in its electronic form with its check digits checked (ISO 13616), or a code.

What begins as an IBAN is one: two letters of a country in the registry, two digits, and eleven or more letters and
digits besides, and nothing else but spaces between them. Anything else is a code of a bank's own, and taken as it is.
"""

from __future__ import annotations

import re
from enum import StrEnum

from compliance.statements import whole

# The length of an IBAN in each country, from the registry that SWIFT keeps for ISO 13616, release 99 (2024-12).
_REGISTRY = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18
FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24
SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
LENGTHS = {entry[:2]: int(entry[2:]) for entry in _REGISTRY.split()}
SHORTEST = min(LENGTHS.values())

_FORM = re.compile(rf"[A-Za-z]{{2}}[0-9]{{2}}[0-9A-Za-z]{{{SHORTEST - 4},}}")
_GROUPED = re.compile(r"[A-Za-z]{2} ?[0-9]{2}( ?[A-Za-z0-9]){11,60}")
SPELLED_ACCOUNT_PATTERN = whole(rf"([A-Za-z0-9._:/-]{{1,64}}|{_GROUPED.pattern})")
_DIGITS = str.maketrans({letter: str(10 + at) for at, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")})


class IbanFault(StrEnum):
    """What is wrong with an account that begins as an IBAN, in order of precedence."""

    LENGTH = "iban_length_wrong"
    """IBANs of this country are longer or shorter."""
    CHECK_DIGITS = "iban_check_digits_wrong"
    """The digits after the country don't go with the rest: something was mistyped."""


def normal_account(text: str) -> str:
    """Return an account in its one form: an IBAN without spaces and in capitals, a code as it is.

    Whether the check digits are right is for `iban_fault`.
    """
    if " " in text:
        text = text.replace(" ", "") if _GROUPED.fullmatch(text) else text
    return text.upper() if _begins_as_iban(text) else text


def iban_fault(account: str) -> IbanFault | None:
    """Return what is wrong with an account in its one form that begins as an IBAN; None if nothing, or if it's no IBAN.

    ISO 7064, MOD 97-10: with the first four characters moved to the end and A written as 10 and so on to Z as 35, the
    number leaves 1 when divided by 97.
    """
    if not _begins_as_iban(account):
        return None
    if len(account) != LENGTHS[account[:2].upper()]:
        return IbanFault.LENGTH
    number = int((account[4:] + account[:4]).upper().translate(_DIGITS))
    return None if number % 97 == 1 else IbanFault.CHECK_DIGITS


def iban_words(account: str) -> str:
    """Return in words what `iban_fault` finds wrong with an account; empty if nothing."""
    match iban_fault(account):
        case IbanFault.LENGTH:
            country = account[:2].upper()
            return f"has {len(account)} characters, and an IBAN of {country} has {LENGTHS[country]}"
        case IbanFault.CHECK_DIGITS:
            return "has check digits that don't go with the rest: something in it was mistyped"
    return ""


def _begins_as_iban(account: str) -> bool:
    return account[:2].upper() in LENGTHS and _FORM.fullmatch(account) is not None
