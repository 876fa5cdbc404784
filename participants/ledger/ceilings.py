"""Changing what counterparties may owe: the coordinator's word is taken up, and the bank's own people set ceilings."""

from __future__ import annotations

from collections.abc import Iterable

from compliance.statements import Document
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import ExposureCeilings, ExposureLimit, ExposureLimits, subject_id
from participants.ledger.exposure import CEILINGS, LIMITS


class RecordLimits(Command[bool]):
    """Take up the limits in force at the coordinator; tell whether they are others than those that are known."""

    def __init__(self, limits: ExposureLimits) -> None:
        self.limits = limits

    def decide(self, books: Books) -> bool:
        if books.limits.version(LIMITS) and books.limits.scheme_and_granted == self.limits:
            return False
        _record(books, LIMITS, self.limits)
        return True


class SetCeiling(Command[tuple[ExposureLimit, ...]]):
    """Set the bank's own ceiling for a counterparty, or for all others (None), and return all that stand then.

    A limit of None lifts it.
    """

    def __init__(
        self, *, counterparty: str | None, currency: str, limit_minor: str | None, person: str, reason: str
    ) -> None:
        self.counterparty = counterparty
        self.currency = currency
        self.limit_minor = limit_minor
        self.person = person
        self.reason = reason

    def decide(self, books: Books) -> tuple[ExposureLimit, ...]:
        before = books.limits.ceilings
        others = [c for c in before if (c.counterparty, c.currency) != (self.counterparty, self.currency)]
        if self.limit_minor is not None:
            others.append(
                ExposureLimit(currency=self.currency, limit_minor=self.limit_minor, counterparty=self.counterparty)
            )
        ceilings = in_order(others)
        if ceilings != before:
            _record(books, CEILINGS, ExposureCeilings(ceilings=ceilings, person=self.person, reason=self.reason))
        return ceilings


def in_order(limits: Iterable[ExposureLimit]) -> tuple[ExposureLimit, ...]:
    """Return limits by currency and counterparty, those for everybody first."""
    return tuple(sorted(limits, key=lambda limit: (limit.currency, limit.counterparty or "")))


def _record(books: Books, type_: str, data: Document) -> None:
    event = books.record(subject_id(type_), books.limits.version(type_) + 1, type_, data)
    books.limits = books.limits.after(event)
