"""What a statement says, whatever format it came in: an account, what it opened and closed with, and its entries.

Amounts are integers of minor units. An entry or a balance is positive where the account has more money by it (a credit)
and negative where it has less (a debit), as the statement's sender books it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

from msgspec import Struct

Status = Literal["booked", "pending", "info"]
"""Whether an entry is part of the balances: only what is booked is."""


class Place(Struct, frozen=True):
    """Where in the file something stands: its line, counted from 1, and its field.

    A field is named as its format names it: `Ntry[3]/Amt`, `:61:`, `16 amount`, or a column.
    """

    line: int
    field: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}" if self.field else f"line {self.line}"


class Balance(Struct, frozen=True):
    """What an account had at the beginning or the end of a day; `date` is None where the statement doesn't say."""

    amount_minor: int
    currency: str
    date: date | None
    place: Place


class Entry(Struct, frozen=True, kw_only=True):
    """A movement on the account.

    `references` has every reference by its own name: end_to_end_id, instruction_id, uetr, tx_id, msg_id, customer,
    bank, and others. `reference` is the one that both sides most likely know it by. `reversal` says that it takes
    an earlier entry back; its amount has the sign that it is booked with. `code` is the bank transaction code as text.
    """

    place: Place
    amount_minor: int
    currency: str
    value_date: date | None = None
    booking_date: date | None = None
    reversal: bool = False
    status: Status = "booked"
    reference: str | None = None
    references: Mapping[str, str] = {}
    counterparty: str | None = None
    counterparty_account: str | None = None
    counterparty_agent: str | None = None
    text: str | None = None
    code: str | None = None


class Finding(Struct, frozen=True):
    """Something that a reader of the statement should know and that doesn't make it wrong."""

    code: str
    detail: str
    place: Place


class Statement(Struct, frozen=True, kw_only=True):
    """One statement of one account: of a day, a page of it, or a report within the day.

    `format` is what it is written in: `camt.053.001.08`, `MT940`, `BAI2`, `CSV`. `sequence` is its number and page as
    written. A report of movements has no balances: `opening` and `closing` are None there.
    """

    format: str
    place: Place
    account: str | None
    currency: str | None
    reference: str | None = None
    sequence: str | None = None
    opening: Balance | None = None
    closing: Balance | None = None
    entries: tuple[Entry, ...] = ()
    findings: tuple[Finding, ...] = ()


_NO_REFERENCE = frozenset({"", "NOTPROVIDED", "NONREF", "NONE", "N/A"})
"""What is written where there is no reference, without spaces and in capitals."""
_BEST_FIRST = (
    "end_to_end_id",
    "uetr",
    "tx_id",
    "instruction_id",
    "customer",
    "creditor_reference",
    "bank",
    "account_servicer",
)


def best_reference(references: Mapping[str, str]) -> str | None:
    """Return the reference that both sides most likely know an entry by, or None if there is none."""
    for name in _BEST_FIRST:
        text = references.get(name)
        if text and not says_nothing(text):
            return text
    return None


def says_nothing(reference: str) -> bool:
    """Tell whether a reference only says that there is none."""
    return reference.strip().replace(" ", "").upper() in _NO_REFERENCE
