"""A command: something to decide on the books, and what must have been read into them before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Set
from typing import Generic, TypeVar

from participants.ledger.accounts import AccountKey
from participants.ledger.books import Books
from participants.ledger.lanes import LaneKey

R = TypeVar("R")


class RecordedAlreadyError(Exception):
    """Another node of the bank, or this one before a lost answer, has recorded what a command records once."""


class Command(ABC, Generic[R]):
    """Something to decide on the books, and what must have been read into them before.

    Deciding again must be safe: a group of commands may be decided more than once before it is written. Deciding
    waits for nothing (no network, no disk, no signature): everybody's payments stand behind it.
    """

    assumes_new = True
    """`payment_ids` are taken to be unknown or unchanged, and read only when that turns out wrong."""

    judges_detached = False
    """Of payments that it names whose events are detached it says so for each; else it isn't decided at all."""

    def payment_ids(self) -> list[str]:
        """Return the payments that the command decides."""
        return []

    def known_payment_ids(self) -> list[str]:
        """Return other payments whose history must be read."""
        return []

    def recorded_as(self) -> tuple[str, int] | None:
        """Return subject and version of the event that this records once, whichever of the bank's nodes does it."""
        return None

    def account_keys(self, books: Books) -> Set[AccountKey]:  # noqa: ARG002 - overriding ones need it
        """Return the accounts that may be posted to, besides those of payments that are read."""
        return frozenset()

    def lane_keys(self, books: Books) -> Set[LaneKey]:  # noqa: ARG002 - overriding ones need it
        """Return the lanes that may be numbered or looked at, besides those of incoming payments that are read."""
        return frozenset()

    def awaited_account(self) -> AccountKey | None:
        """Return the account of which it must be known what payments may still come back to it, or go on."""
        return None

    @abstractmethod
    def decide(self, books: Books) -> R:
        """Decide, add the rows to the books, and return the answer."""
