"""One row of a payment file: the payment it is, or why it is none. Pure: text in, values out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from compliance.bic import BicError, normal_bic
from compliance.iban import IbanFault, iban_fault, normal_account
from compliance.plain_text import TextError, normal_text
from gateway.federation.messages.base import INSTANT_PATTERN, REFERENCE_CHARACTERS_MAX, UETR_PATTERN
from gateway.federation.money import EXPONENTS, AmountError, AmountReason, parse_amount
from participants.payments.row_identity import REFERENCES, Content, references_of, row_id

AMOUNT_MINOR_MAX = 10**15 - 1
NAME_CHARACTERS_MAX = 140

_ACCOUNT = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_STEP = re.compile(r"[0-9]{1,9}")
_IBAN_FAULTS = {
    IbanFault.LENGTH: "an IBAN of this country is longer or shorter",
    IbanFault.CHECK_DIGITS: "the check digits of the IBAN are wrong",
}
_UETR, _INSTANT = re.compile(UETR_PATTERN), re.compile(INSTANT_PATTERN)
_NUMBERED_BANK = re.compile(r"bank_([0-9]{2})")
_IDENTITY = re.compile(rf"({_UUID.pattern})/([0-9]{{1,7}})")


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
    REFERENCE = "reference_invalid"
    EXPIRY = "expiry_invalid"
    ID = "id_invalid"
    DUPLICATE_ID = "id_duplicate"


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """One payment of a file. `line` counts from 1; `step` is the file's own time, 0 where it has none.

    `equal_before` says how many equal rows stand before it, of a payment that has no id of its own.
    """

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
    equal_before: int | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    """What it says besides (`row_identity.REFERENCES`)."""

    def fields(self) -> dict[str, str]:
        """Return the row as it is written in our own format, so that it is the same payment wherever it is read."""
        own = self.equal_before is None
        return {
            "id": self.id if own else "",
            "debtor_bank": self.debtor_bank,
            "debtor_account": self.debtor_account,
            "debtor_name": self.debtor_name,
            "creditor_bank": self.creditor_bank,
            "creditor_account": self.creditor_account,
            "creditor_name": self.creditor_name,
            "amount": _amount_text(self.amount_minor, self.currency),
            "currency": self.currency,
            "remittance": self.remittance,
            **{member: self.references.get(member, "") for member in REFERENCES},
            "identity": "" if own else f"{self.id}/{self.equal_before}",
        }


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One row that isn't paid: a stable reason, and what was wrong with it.

    `reason` is a RowReason or an AmountReason, or the code by which the bank refused the order. `last_line` is where
    the row ends, 0 where that is `line`; `fields` are its members as far as they could be read.
    """

    line: int
    reason: str
    detail: str
    last_line: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where the row stands, for people."""
        return f"lines {self.line} to {self.last_line}" if self.last_line > self.line else f"line {self.line}"

    def is_of_other_than(self, bank: str) -> bool:
        """Tell whether the row is for another bank to pay or to refuse."""
        with suppress(BicError):
            return normal_bic(self.fields.get("debtor_bank", "")) != bank
        return False


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


def completed(fields: Mapping[str, str], options: ReadOptions, *, amount_written: str = "") -> dict[str, str]:
    """Return the members of a row with those that its format leaves open.

    `amount_written` is the amount as it stood there, should it be none.
    """
    whole = {"step": "0", "currency": options.currency, "remittance": "", **fields}
    for party in ("debtor", "creditor"):
        account = whole[f"{party}_account"]
        if f"{party}_bank" not in whole:
            whole[f"{party}_bank"] = spread_account(account, options.banks)
        whole.setdefault(f"{party}_name", f"Customer {account}")
    whole["amount_written"] = amount_written or whole["amount"]
    return whole


def payment_row(
    line: int, fields: Mapping[str, str], options: ReadOptions, *, equal_before: Callable[[Content], int]
) -> PaymentRow:
    """Check the members of one row in the order of RowReason; raises RowRefusedError.

    `equal_before` counts equal rows, for a payment that has no id of its own.
    """
    step = fields["step"]
    if not _STEP.fullmatch(step):
        raise RowRefusedError(RowReason.STEP, f"step {step[:40]!r} isn't a whole number")
    debtor_bank, creditor_bank = _bank(fields["debtor_bank"]), _bank(fields["creditor_bank"])
    debtor_account, creditor_account = _account(fields["debtor_account"]), _account(fields["creditor_account"])
    if debtor_bank == creditor_bank:
        raise RowRefusedError(RowReason.SAME_BANK, f"both accounts are at {debtor_bank}: nothing to clear")
    currency = fields["currency"]
    if currency not in EXPONENTS:
        raise RowRefusedError(RowReason.CURRENCY, f"{currency[:10]!r} isn't an ISO 4217 currency")
    amount_minor = _amount(fields, currency, rounding=options.rounding)
    debtor_name, creditor_name = (
        _text(fields[member], RowReason.NAME, member, characters_min=1) for member in ("debtor_name", "creditor_name")
    )
    remittance = _text(fields["remittance"], RowReason.REMITTANCE, "remittance")
    references = _references(fields)
    identifier, number = fields.get("id", ""), None
    if identifier and not _UUID.fullmatch(identifier):
        raise RowRefusedError(RowReason.ID, f"id {identifier[:60]!r} isn't a UUID in lower case")
    if not identifier:
        content = Content(
            debtor_bank=debtor_bank,
            debtor_account=debtor_account,
            debtor_name=debtor_name,
            creditor_bank=creditor_bank,
            creditor_account=creditor_account,
            creditor_name=creditor_name,
            amount_minor=str(amount_minor),
            currency=currency,
            remittance=remittance,
            references=references_of(references),
        )
        number = _number_of(content, fields.get("identity", ""))
        if number is None:
            number = equal_before(content)
        identifier = row_id(content, number)
    return PaymentRow(
        line=line,
        debtor_bank=debtor_bank,
        debtor_account=debtor_account,
        creditor_bank=creditor_bank,
        creditor_account=creditor_account,
        currency=currency,
        amount_minor=amount_minor,
        id=identifier,
        debtor_name=debtor_name,
        creditor_name=creditor_name,
        remittance=remittance,
        step=int(step),
        equal_before=number,
        references=references,
    )


def _references(fields: Mapping[str, str]) -> dict[str, str]:
    """Return what a row says of its references. Raises RowRefusedError."""
    said = {member: fields[member] for member in REFERENCES if fields.get(member)}
    for member in ("end_to_end_id", "instruction_id"):
        if member in said:
            said[member] = _text(
                said[member], RowReason.REFERENCE, member, characters_min=1, characters_max=REFERENCE_CHARACTERS_MAX
            )
    if "uetr" in said and not _UETR.fullmatch(said["uetr"]):
        raise RowRefusedError(RowReason.REFERENCE, f"uetr {said['uetr'][:60]!r} isn't a UUID version 4 in lower case")
    if "expires_at" in said and not _INSTANT.fullmatch(said["expires_at"]):
        detail = f"expires_at {said['expires_at'][:40]!r} isn't an instant in UTC such as 2026-11-28T15:30:00Z"
        raise RowRefusedError(RowReason.EXPIRY, detail)
    return said


def _number_of(content: Content, identity: str) -> int | None:
    """Return how many equal rows stood before one that was refused; None if it isn't that row any more."""
    if not identity:
        return None
    match = _IDENTITY.fullmatch(identity)
    if match is None:
        raise RowRefusedError(RowReason.ID, f"identity {identity[:60]!r} isn't what a report of refused rows writes")
    return int(match[2]) if row_id(content, int(match[2])) == match[1] else None


def _bank(text: str) -> str:
    """Read a bank: the one place where a row's BICs are read."""
    try:
        return normal_bic(text)
    except BicError as error:
        raise RowRefusedError(RowReason.BANK, f"bank {error}") from None


def _account(text: str) -> str:
    """Read an account: the one place where a row's accounts are read."""
    account = normal_account(text)
    if not _ACCOUNT.fullmatch(account):
        raise RowRefusedError(RowReason.ACCOUNT, f"account {account[:80]!r}: 1 to 64 of A-Z a-z 0-9 . _ : / -")
    if (fault := iban_fault(account)) is not None:
        raise RowRefusedError(RowReason(fault.value), f"account {account[:80]!r}: {_IBAN_FAULTS[fault]}")
    return account


def _amount(fields: Mapping[str, str], currency: str, *, rounding: bool) -> int:
    text, written = fields["amount"], fields["amount_written"][:40]
    if not text and written:
        detail = f"amount {written!r} may have thousands or three decimals: write it without a mark before thousands"
        raise RowRefusedError(AmountReason.NOT_A_NUMBER, detail)
    try:
        amount = parse_amount(text, currency, rounding=rounding)
    except AmountError as error:
        raise RowRefusedError(error.reason, f"amount {written!r}: {error}") from error
    if amount == 0:
        raise RowRefusedError(RowReason.AMOUNT_ZERO, f"amount {written!r} is nothing in {currency}")
    if amount > AMOUNT_MINOR_MAX:
        raise RowRefusedError(RowReason.AMOUNT_TOO_LARGE, f"amount {written!r} is over 15 digits of minor units")
    return amount


def _amount_text(amount_minor: int, currency: str) -> str:
    """Write an amount so that it shows no decimal mark unless it needs one."""
    whole, rest = divmod(amount_minor, 10 ** EXPONENTS[currency])
    return f"{whole}.{rest:0{EXPONENTS[currency]}}" if rest else str(whole)


def _text(
    value: str,
    reason: RowReason,
    member: str,
    *,
    characters_min: int = 0,
    characters_max: int = NAME_CHARACTERS_MAX,
) -> str:
    try:
        return normal_text(value, member, characters_max=characters_max, stated=characters_min > 0)
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
