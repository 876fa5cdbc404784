"""What makes two rows of payment files the same payment: their content, and how many equal rows stood before.

A payment's id follows from both, for the bank that pays, whatever the file is called and however it is written: a
corrected, re-saved or re-ordered file has the ids of the file before wherever it says the same. Two equal rows of one
file differ by their place among equals, so they are two payments.

The form of the identity is for good. Another one would pay again what was paid under this one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_NAMESPACE = uuid.UUID("0f3f6c52-6c0b-5b6e-8f0e-5b8f1a9d2c47")
REFERENCES = ("end_to_end_id", "expires_at", "instruction_id", "uetr")
"""What a row may say besides, in the order of its identity."""
# No text of a payment holds it.
_BETWEEN = "\x1f"


class Content(NamedTuple):
    """All that a row says of a payment, in normal form. `amount_minor` is in minor units."""

    debtor_bank: str
    debtor_account: str
    debtor_name: str
    creditor_bank: str
    creditor_account: str
    creditor_name: str
    amount_minor: str
    currency: str
    remittance: str
    references: tuple[str, ...] = ()
    """What it says besides, each as a member, an equals sign and its value, in the order of REFERENCES."""


def references_of(said: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a row says besides, as its content has it: nothing where it says nothing."""
    return tuple(f"{member}={said[member]}" for member in REFERENCES if said.get(member))


def row_id(content: Content, equal_before: int) -> str:
    """Return the id of the payment that a row stands for: a UUID version 5."""
    *said, besides = content
    return str(uuid.uuid5(_NAMESPACE, _BETWEEN.join((*said, *besides, str(equal_before)))))


def row_ids(content: Content, count: int) -> Iterator[str]:
    """Yield the ids of so many equal rows."""
    return (row_id(content, number) for number in range(count))


def following_id(id_: str) -> str:
    """Return the id under which a payment is tried again whose own is another's, or was refused after it was taken.

    It follows from the one before, so whoever tries again tries the same, and nothing is paid twice.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{id_}{_BETWEEN}following"))
