"""What every message is made of: closed requests, open answers, and the forms of ids, accounts and names."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from compliance.bic import SPELLED_BIC_PATTERN
from compliance.plain_text import SEEN, STATED_PATTERN
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
