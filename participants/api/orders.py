"""What a customer channel may write, and the normal form of it: the only one that is decided on, signed and stored.

A BIC may be spelled as ISO 9362 reads it, an IBAN in groups or small letters, and text in any normal form of Unicode.
What is in its normal form already, as nearly all is, takes the short way (`hot_path`).
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta
from msgspec.structs import asdict, force_setattr

from compliance.bic import HEAD_OFFICE, normal_bic
from compliance.iban import SPELLED_ACCOUNT_PATTERN, normal_account
from compliance.plain_text import SEEN, STATED_PATTERN, is_normal, normal_text
from compliance.return_reasons import ReturnReason
from compliance.statements import PaymentAmount, form
from gateway.federation.messages.base import (
    REFERENCE_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    FreeText,
    Request,
    SpelledBic,
    Uuid,
)
from participants.ledger.account_events import AccountOpening
from participants.ledger.events import PaymentOrder
from participants.payments.orders import ReadableOrder

SpelledAccount = Annotated[
    str,
    form(
        SPELLED_ACCOUNT_PATTERN,
        "an IBAN, also in groups and small letters, or a code of 1 to 64 letters, digits and any of . _ : / -",
        "DE89370400440532013000",
    ),
]
StatedText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TEXT_CHARACTERS_MAX,
        pattern=STATED_PATTERN,
        description=f"a text of 1 to {TEXT_CHARACTERS_MAX} characters, {SEEN}",
        examples=["Ada Alder"],
    ),
]
_SMALL_IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{11,}")
# How the canonical form of an order writes a name that begins with a space, and may hold nothing else.
_BEGINS_BLANK = '_name":" '


class OrderRequest(PaymentOrder, frozen=True, kw_only=True, gc=False):
    """What a bank's own customer channel asks for: a payment's terms and the bank they go to."""

    creditor_agent: SpelledBic
    """As ISO 9362 reads it: `bankdeff` and `BANKDEFFXXX` are `BANKDEFF`."""
    debtor_account: SpelledAccount
    debtor_name: StatedText
    creditor_account: SpelledAccount
    """An IBAN may be in groups and small letters, and its check digits are checked; or a code of the other bank's."""
    creditor_name: StatedText
    remittance: FreeText = ""

    def __post_init__(self) -> None:
        force_setattr(self, "creditor_agent", normal_bic(self.creditor_agent))
        normalise_accounts(self, "debtor_account", "creditor_account")
        for member in ("debtor_name", "creditor_name", "remittance"):
            normalise_text(self, member, stated=member != "remittance")
        for member in ("end_to_end_id", "instruction_id"):
            if getattr(self, member) is not None:
                normalise_text(self, member, characters_max=REFERENCE_CHARACTERS_MAX)
        if self.return_reason is not None and self.returns is None:
            raise ValueError("return_reason: only a payment that `returns` another one has it")
        if self.return_reason is ReturnReason.NARR:
            require_told(self.remittance, "remittance")

    def order(self) -> PaymentOrder:
        """Return the order that is meant."""
        return PaymentOrder(**asdict(self))


class OpeningRequest(AccountOpening, frozen=True, kw_only=True):
    """An account and the money it opens with, which is on the internal account `against`.

    Where none is named, it is the one that stands against the nostro (`CONCORDAT_FUNDING_ACCOUNT`).
    """

    code: SpelledAccount
    """An IBAN, whose check digits are checked, or a code of the bank's own."""
    name: StatedText
    against: SpelledAccount | None = None

    def __post_init__(self) -> None:
        normalise_accounts(self, "code", "against")
        normalise_text(self, "name")

    def opening(self) -> AccountOpening:
        """Return the opening that is meant."""
        return AccountOpening(**asdict(self))


class ReturnRequest(Request, frozen=True, kw_only=True):
    """The id of the payment that gives another one back; made by the client, so asking twice returns once.

    Without an amount it gives back all that is left of it.
    """

    id: Uuid
    amount_minor: PaymentAmount | None = None
    reason: ReturnReason | None = None
    """Why, as ISO 20022 has it. `NARR` says that the remittance tells, and needs one."""
    remittance: FreeText = ""

    def __post_init__(self) -> None:
        normalise_text(self, "remittance", stated=False)
        if self.reason is ReturnReason.NARR:
            require_told(self.remittance, "remittance")


def is_plain(order: ReadableOrder) -> bool:
    """Tell whether an order is in its normal form as it came, so that `OrderRequest` would make nothing else of it.

    Asked for every order, so it asks what is cheap; what it isn't sure of is looked at again on the long way.
    """
    value, text = order.value, order.text
    return (
        value.creditor_agent[8:] != HEAD_OFFICE
        and (
            value.return_reason is None or (value.returns is not None and value.return_reason is not ReturnReason.NARR)
        )
        and _BEGINS_BLANK not in text
        and (value.debtor_account.isupper() or not _SMALL_IBAN.fullmatch(value.debtor_account))
        and (value.creditor_account.isupper() or not _SMALL_IBAN.fullmatch(value.creditor_account))
        and (text.isascii() or (is_normal(text) and all(map(str.strip, (value.debtor_name, value.creditor_name)))))
    )


def require_told(text: str, member: str) -> None:
    """Raise ValueError unless a text tells why, where the reason says that it does."""
    if not text.strip():
        raise ValueError(f"{member}: missing; the reason NARR says that it tells why, so it needs one")


def normalise_accounts(said: Request | PaymentOrder | AccountOpening, *members: str) -> None:
    for member in members:
        if (account := getattr(said, member)) is not None:
            force_setattr(said, member, normal_account(account))


def normalise_text(
    said: Request | PaymentOrder | AccountOpening,
    member: str,
    *,
    stated: bool = True,
    characters_max: int = TEXT_CHARACTERS_MAX,
) -> None:
    text = normal_text(getattr(said, member), member, characters_max=characters_max, stated=stated)
    force_setattr(said, member, text)
