"""Accounts: their kinds, the bounds a balance stays in, and what is answered on opening one.

Debits are positive and credits negative, so an asset has a balance of zero or more and a liability one of zero or
less.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from msgspec import Struct

BIGINT_MAX = 2**63 - 1
# Balances stay this far inside a BIGINT, so that one more payment (below 10^15) can't overflow the column.
BALANCE_MAX = BIGINT_MAX - 10**15

Kind = Literal["customer", "reserved", "due_to", "due_from", "nostro"]

LIABILITY = (-BALANCE_MAX, 0)
ASSET = (0, BALANCE_MAX)
EITHER = (-BALANCE_MAX, BALANCE_MAX)
BOUNDS: dict[Kind, tuple[int, int]] = {
    "customer": LIABILITY,
    "reserved": LIABILITY,
    "due_to": LIABILITY,
    "due_from": ASSET,
    "nostro": EITHER,
}


class AccountKey(NamedTuple):
    kind: Kind
    code: str
    currency: str


@dataclass(slots=True)
class Account:
    """An account and where it stands. `balance` is debits minus credits in minor units."""

    id: int
    key: AccountKey
    balance: int
    version: int
    lowest: int
    highest: int


class AccountReason(StrEnum):
    """Why an account isn't opened, in order of precedence."""

    ACCOUNT_EXISTS = "account_exists"
    IBAN_LENGTH_WRONG = "iban_length_wrong"
    """Its code begins as an IBAN, and those of its country are longer or shorter."""
    IBAN_CHECK_DIGITS_WRONG = "iban_check_digits_wrong"
    CURRENCY_NOT_CLEARED = "currency_not_cleared"
    """The rulebook doesn't clear it: what is paid to it would never settle."""
    SECOND_PERSON_MISSING = "opening_needs_second_person"
    """It opens with money: the account is proposed, and opened once another person asks for the same."""
    BALANCE_OUT_OF_RANGE = "balance_out_of_range"


class AccountOutcome(Struct, frozen=True, omit_defaults=True):
    """The answer on one account: opened, exists already, proposed, or refused with its reason."""

    code: str
    currency: str
    status: str
    reason: str | None = None
