"""What every message is made of: closed requests, open answers, and the forms of ids, accounts and names."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from compliance.bic import SPELLED_BIC_PATTERN
from compliance.plain_text import SEEN, STATED_PATTERN, TEXT_PATTERN
from compliance.statements import form, whole

Uuid = Annotated[
    str,
    form(
        whole(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        "a UUID in small letters (RFC 9562)",
        "0190a7d8-5f3c-7c1e-9a51-3f2b8c6d4e10",
    ),
]
ACCOUNT_PATTERN = whole(r"[A-Za-z0-9._:/-]{1,64}")
AccountCode = Annotated[
    str, form(ACCOUNT_PATTERN, "an account: 1 to 64 letters, digits and any of . _ : / -", "DE89370400440532013000")
]
TEXT_CHARACTERS_MAX = 140
# What was signed and journalled: of new text more is asked where it comes in (`compliance.plain_text`).
_NO_CONTROLS = whole(r"[^\x00-\x1f\x7f]*")
PartyName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TEXT_CHARACTERS_MAX,
        pattern=_NO_CONTROLS,
        description="a name of 1 to 140 characters, none a control",
        examples=["Ada Alder"],
    ),
]
Remittance = Annotated[
    str,
    Meta(
        max_length=TEXT_CHARACTERS_MAX,
        pattern=_NO_CONTROLS,
        description="a text of at most 140 characters, none a control",
        examples=["invoice 17"],
    ),
]

# By the one rule for text from the first, and it may say nothing.
FreeText = Annotated[
    str,
    Meta(
        max_length=TEXT_CHARACTERS_MAX,
        pattern=TEXT_PATTERN,
        description=f"a text of at most {TEXT_CHARACTERS_MAX} characters, {SEEN.removeprefix('not blank, and ')}",
        examples=["invoice 17"],
    ),
]
REFERENCE_CHARACTERS_MAX = 35
# ISO 20022's Max35Text, by the one rule for text from the first.
OwnReference = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=REFERENCE_CHARACTERS_MAX,
        pattern=STATED_PATTERN,
        description=f"a reference of 1 to {REFERENCE_CHARACTERS_MAX} characters, {SEEN}",
        examples=["INV-2026-17"],
    ),
]
UETR_PATTERN = whole(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
Uetr = Annotated[
    str,
    form(UETR_PATTERN, "a UUID of version 4 in small letters (UETR)", "5f0c2ad4-8a86-4b1e-9d4e-0c3c2a6f7b11"),
]
_DAY_OF_YEAR = (
    r"((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_DAY = r"20(0[48]|[2468][048]|[13579][26])-02-29"
_TIME_OF_DAY = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
# A day and time that there is, in this century: whoever reads it can compute with it.
INSTANT_PATTERN = whole(rf"(20[0-9]{{2}}-{_DAY_OF_YEAR}|{_LEAP_DAY})T{_TIME_OF_DAY}Z")
Instant = Annotated[str, form(INSTANT_PATTERN, "an instant of this century in UTC (RFC 3339)", "2026-11-30T16:00:00Z")]

# Of requests: `compliance.bic.normal_bic` makes the one form of it.
SpelledBic = Annotated[
    str,
    form(SPELLED_BIC_PATTERN, "a BIC: 8 or 11 letters and digits, the fifth and sixth letters (ISO 9362)", "BRCHXXB0"),
]

# Of requests: a person's reason, by the one rule for text. What is signed and stored is read as `statements.Reason`.
GivenReason = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=STATED_PATTERN,
        description=f"a reason of 1 to 500 characters, {SEEN}",
        examples=["asked for by the customer"],
    ),
]

WORDS: Final = "words"
_WORD = whole(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class Request(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of what a service takes. Closed: nothing that somebody asks for is passed over."""


class Answer(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of what a client reads, in answers, feeds and views. Open: a newer service may say more."""


def open_words(*known: str) -> Meta:
    """Return what makes a `str` of an answer one of these words, or another that a newer service says.

    `gateway.federation.http.answers` tells of an unknown one; whoever reads it treats it as none of those it knows.
    """
    return Meta(
        pattern=_WORD, extra={WORDS: known}, extra_json_schema={"x-extensible-enum": [str(word) for word in known]}
    )
