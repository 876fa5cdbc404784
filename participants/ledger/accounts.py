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

Kind = Literal["customer", "reserved", "due_to", "due_from", "nostro", "internal"]

LIABILITY = (-BALANCE_MAX, 0)
ASSET = (0, BALANCE_MAX)
EITHER = (-BALANCE_MAX, BALANCE_MAX)
BOUNDS: dict[Kind, tuple[int, int]] = {
    "customer": LIABILITY,
    "reserved": LIABILITY,
    "due_to": LIABILITY,
    "due_from": ASSET,
    "nostro": EITHER,
    "internal": EITHER,
}


class AccountState(StrEnum):
    """What may be posted to an account, from all to nothing. Less is one person's word, more takes two."""

    OPEN = "open"
    DEBITS_BLOCKED = "debits_blocked"
    """Money comes in, and none goes out."""
    BLOCKED = "blocked"
    """Nothing moves. What was reserved before comes back all the same where a payment ends unposted."""
    CLOSED = "closed"
    """For good: empty, and nothing moves any more."""

    @property
    def takes_debits(self) -> bool:
        return self is AccountState.OPEN

    @property
    def takes_credits(self) -> bool:
        return self in (AccountState.OPEN, AccountState.DEBITS_BLOCKED)

    def loosens(self, before: AccountState) -> bool:
        """Tell whether more may be posted than before."""
        order = tuple(AccountState)
        return order.index(self) < order.index(before)


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
    state: AccountState = AccountState.OPEN
    changes: int = 0
    """How many events changed its state or name."""


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
    INTERNAL_OPENS_EMPTY = "internal_account_opens_empty"
    """An internal account begins at zero: what is on it came by entries."""
    INTERNAL_UNKNOWN = "internal_account_unknown"
    """There is no internal account of that code and currency that is open."""
    BALANCE_OUT_OF_RANGE = "balance_out_of_range"


class AccountOutcome(Struct, frozen=True, omit_defaults=True):
    """The answer on one account: opened, exists already, proposed, or refused with its reason."""

    code: str
    currency: str
    status: str
    reason: str | None = None
