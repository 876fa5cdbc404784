"""One row of a payment file: the payment it is, or why it is none. Pure: text in, values out."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from compliance.bic import BicError, normal_bic
from compliance.iban import IbanFault, iban_fault, normal_account
from compliance.plain_text import TextError, normal_text
from gateway.federation.money import EXPONENTS, AmountError, AmountReason, parse_amount

AMOUNT_MINOR_MAX = 10**15 - 1
NAME_CHARACTERS_MAX = 140

_ACCOUNT = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_STEP = re.compile(r"[0-9]{1,9}")
_IBAN_FAULTS = {
    IbanFault.LENGTH: "an IBAN of this country is longer or shorter",
    IbanFault.CHECK_DIGITS: "the check digits of the IBAN are wrong",
}
_NUMBERED_BANK = re.compile(r"bank_([0-9]{2})")
_NAMESPACE = uuid.UUID("6f0b7c3e-4d0f-5a0e-9f39-0d1f6ad0c0de")


class RowReason(StrEnum):
    """Why one row is refused, in order of precedence. Amounts add the reasons of `money.AmountError`."""

    LINE_TOO_LONG = "line_too_long"
    ENCODING = "encoding_wrong"
    MALFORMED = "row_malformed"
    COLUMNS = "columns_wrong"
    STEP = "step_invalid"
    BANK = "bank_invalid"
    ACCOUNT = "account_invalid"
    IBAN_LENGTH = "iban_length_wrong"
    IBAN_CHECK_DIGITS = "iban_check_digits_wrong"
    SAME_BANK = "same_bank"
    CURRENCY = "currency_unknown"
    AMOUNT_ZERO = "amount_zero"
    AMOUNT_TOO_LARGE = "amount_too_large"
    NAME = "name_invalid"
    REMITTANCE = "remittance_invalid"
    ID = "id_invalid"
    DUPLICATE_ID = "id_duplicate"


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """One payment of a file. `line` counts from 1; `step` is the file's own time, 0 where it has none."""

    line: int
    debtor_bank: str
    debtor_account: str
    creditor_bank: str
    creditor_account: str
    currency: str
    amount_minor: int
    id: str
    debtor_name: str
    creditor_name: str
    remittance: str = ""
    step: int = 0


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One line that isn't paid: a stable reason, and what was wrong with it.

    `reason` is a RowReason or an AmountReason, or the code by which the bank refused the order.
    """

    line: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a file may leave open: its currency, the number of banks to spread over, and whether to round."""

    currency: str = "EUR"
    banks: int = 6
    rounding: bool = False

    def __post_init__(self) -> None:
        if self.currency not in EXPONENTS:
            raise ValueError(f"{self.currency} isn't an ISO 4217 currency")
        if not 2 <= self.banks <= 100:
            raise ValueError(f"accounts are spread over 2 to 100 banks, not {self.banks}")


class RowRefusedError(Exception):
    """What the checks of one row raise; it never leaves the readers."""

    def __init__(self, reason: RowReason | AmountReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def payment_row(line: int, fields: Mapping[str, str], options: ReadOptions, *, digest: str) -> PaymentRow:
    """Check the members of one row in the order of RowReason; raises RowRefusedError.

    `digest` is of the file, for a payment that has no id of its own.
    """
    step = fields.get("step", "0")
    if not _STEP.fullmatch(step):
        raise RowRefusedError(RowReason.STEP, f"step {step[:40]!r} isn't a whole number")
    debtor_account, creditor_account = (
        normal_account(fields["debtor_account"]),
        normal_account(fields["creditor_account"]),
    )
    # A simulator's file has steps, and names banks as it likes.
    named = "step" in fields
    debtor_bank = _bank(fields.get("debtor_bank"), debtor_account, options, named=named)
    creditor_bank = _bank(fields.get("creditor_bank"), creditor_account, options, named=named)
    for account in (debtor_account, creditor_account):
        if not _ACCOUNT.fullmatch(account):
            raise RowRefusedError(RowReason.ACCOUNT, f"account {account[:80]!r}: 1 to 64 of A-Z a-z 0-9 . _ : / -")
        if (fault := iban_fault(account)) is not None:
            raise RowRefusedError(RowReason(fault.value), f"account {account[:80]!r}: {_IBAN_FAULTS[fault]}")
    if debtor_bank == creditor_bank:
        raise RowRefusedError(RowReason.SAME_BANK, f"both accounts are at {debtor_bank}: nothing to clear")
    currency = fields.get("currency", options.currency)
    if currency not in EXPONENTS:
        raise RowRefusedError(RowReason.CURRENCY, f"{currency[:10]!r} isn't an ISO 4217 currency")
    amount_minor = _amount(fields["amount"], currency, rounding=options.rounding)
    names = [
        _text(fields.get(member, f"Customer {account}"), RowReason.NAME, member, characters_min=1)
        for member, account in (("debtor_name", debtor_account), ("creditor_name", creditor_account))
    ]
    remittance = _text(fields.get("remittance", ""), RowReason.REMITTANCE, "remittance")
    identifier = fields.get("id") or payment_id(digest, line)
    if not _UUID.fullmatch(identifier):
        raise RowRefusedError(RowReason.ID, f"id {identifier[:60]!r} isn't a UUID in lower case")
    return PaymentRow(
        line=line,
        debtor_bank=debtor_bank,
        debtor_account=debtor_account,
        creditor_bank=creditor_bank,
        creditor_account=creditor_account,
        currency=currency,
        amount_minor=amount_minor,
        id=identifier,
        debtor_name=names[0],
        creditor_name=names[1],
        remittance=remittance,
        step=int(step),
    )


def _bank(name: str | None, account: str, options: ReadOptions, *, named: bool) -> str:
    if name is None:
        return spread_account(account, options.banks)
    if not name or len(name) > 64 or not name.isprintable():
        raise RowRefusedError(RowReason.BANK, f"bank {name[:64]!r}: 1 to 64 printable characters")
    try:
        return bank_bic(name) if named else normal_bic(name)
    except BicError as error:
        raise RowRefusedError(RowReason.BANK, f"bank {error}") from None


def _amount(text: str, currency: str, *, rounding: bool) -> int:
    try:
        amount = parse_amount(text, currency, rounding=rounding)
    except AmountError as error:
        raise RowRefusedError(error.reason, f"amount {text[:40]!r}: {error}") from error
    if amount == 0:
        raise RowRefusedError(RowReason.AMOUNT_ZERO, f"amount {text[:40]!r} is nothing in {currency}")
    if amount > AMOUNT_MINOR_MAX:
        raise RowRefusedError(RowReason.AMOUNT_TOO_LARGE, f"amount {text[:40]!r} is over 15 digits of minor units")
    return amount


def _text(value: str, reason: RowReason, member: str, *, characters_min: int = 0) -> str:
    if not characters_min <= len(value) <= NAME_CHARACTERS_MAX:
        detail = f"{member}: {characters_min} to {NAME_CHARACTERS_MAX} characters, not {len(value)}"
        raise RowRefusedError(reason, detail)
    try:
        return normal_text(value, member, characters_max=NAME_CHARACTERS_MAX, stated=characters_min > 0)
    except TextError as error:
        raise RowRefusedError(reason, str(error)) from None


@lru_cache(maxsize=4_096)
def bank_bic(name: str) -> str:
    """Return the BIC that stands for a bank of a file: its own name if that is one, else an invented one.

    "bank_02" becomes BANKZZ02; other names get six characters of a hash. ZZ is no country (ISO 3166 leaves it to
    users), so an invented BIC is never somebody's.
    """
    with suppress(BicError):
        return normal_bic(name)
    numbered = _NUMBERED_BANK.fullmatch(name)
    if numbered:
        return f"BANKZZ{numbered[1]}"
    return _invented_bic(name)


def _invented_bic(name: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    letters = "".join(alphabet[byte & 31] for byte in hashlib.sha256(name.encode()).digest()[:6])
    return f"{letters[:4]}ZZ{letters[4:]}"


@lru_cache(maxsize=1 << 17)
def spread_account(account: str, banks: int) -> str:
    """Return the BIC of the bank that keeps an account of a file without banks: a stable hash of its number."""
    number = int.from_bytes(hashlib.sha256(account.encode()).digest()[:8], "big") % banks
    return f"BANKZZ{number:02d}"


def payment_id(digest: str, line: int) -> str:
    """Return the id of a payment that has none: a UUID version 5 of its file's digest and the line."""
    return str(uuid.uuid5(_NAMESPACE, f"{digest}/{line}"))
