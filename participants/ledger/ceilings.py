"""Changing what counterparties may owe: the coordinator's word is taken up, and the bank's own people set ceilings."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from compliance.person import one_person
from compliance.statements import Document
from gateway.federation.problems import RefusalReason
from participants.ledger.books import Books
from participants.ledger.command import Command
from participants.ledger.events import ExposureCeilings, ExposureLimit, ExposureLimits, subject_id
from participants.ledger.exposure import CEILINGS, LIMITS, Limits, raised
from participants.proposals import Proposal


class RecordLimits(Command[bool]):
    """Take up the limits in force at the coordinator; tell whether they are others than those that are known."""

    def __init__(self, limits: ExposureLimits) -> None:
        self.limits = limits

    def decide(self, books: Books) -> bool:
        if books.limits.version(LIMITS) and books.limits.scheme_and_granted == self.limits:
            return False
        _record(books, LIMITS, self.limits)
        return True


class CeilingReason(RefusalReason):
    """Why a ceiling isn't set, in order of precedence."""

    CURRENCY_NOT_CLEARED = "currency_not_cleared", 422
    """The rulebook doesn't clear it, so nothing is owed in it. A ceiling of before may be lifted."""
    SECOND_PERSON_MISSING = "ceiling_needs_second_person"
    """It lets others owe more: it is proposed, and set once another person asks for the very same."""


class Ceiling(Struct, frozen=True):
    """The most that a counterparty may owe, or all others may (None), as somebody asks for it; no limit lifts it."""

    counterparty: str | None
    currency: str
    limit_minor: str | None

    def among(self, ceilings: tuple[ExposureLimit, ...]) -> tuple[ExposureLimit, ...]:
        """Return all ceilings with this one in its place."""
        others = [c for c in ceilings if (c.counterparty, c.currency) != self._place]
        if self.limit_minor is not None:
            limit = ExposureLimit(currency=self.currency, limit_minor=self.limit_minor, counterparty=self.counterparty)
            others.append(limit)
        return in_order(others)

    def fault(self, limits: Limits) -> CeilingReason | None:
        """Return why it is set by nobody, whoever asks; None if it may be."""
        lifts = self.limit_minor is None
        return None if lifts or limits.clears(self.currency) else CeilingReason.CURRENCY_NOT_CLEARED

    def proposal(self, limits: Limits) -> Proposal:
        """Return what somebody proposes who wants it set in the place of what stands now; another change ends that."""
        before = next((c.limit_minor for c in limits.ceilings if (c.counterparty, c.currency) == self._place), "none")
        subject = f"{self.currency} of {self.counterparty or 'all'}: from {before} to {self.limit_minor or 'none'}"
        digest = sha256(f"{subject}, after {limits.version(CEILINGS)}".encode()).digest()
        content = {"currency": self.currency, "from": before, "limit_minor": self.limit_minor or "none"}
        if self.counterparty is not None:
            content["counterparty"] = self.counterparty
        return Proposal(subject, digest, content)

    @property
    def _place(self) -> tuple[str | None, str]:
        return self.counterparty, self.currency


class SetCeiling(Command[tuple[ExposureLimit, ...] | CeilingReason]):
    """Set a ceiling of the bank's own, and return all that stand then.

    One that lets others owe more takes two `people`, who agreed on it when the ceilings were at version `seen`.
    """

    def __init__(self, ceiling: Ceiling, *, people: tuple[str, ...], reason: str, seen: int | None = None) -> None:
        self.ceiling = ceiling
        self.people = people
        self.reason = reason
        self.seen = seen

    def decide(self, books: Books) -> tuple[ExposureLimit, ...] | CeilingReason:
        if (fault := self.ceiling.fault(books.limits)) is not None:
            return fault
        before = books.limits.ceilings
        ceilings = self.ceiling.among(before)
        if ceilings == before:
            return ceilings
        if raised(before, ceilings) and (one_person(self.people) or self.seen != books.limits.version(CEILINGS)):
            return CeilingReason.SECOND_PERSON_MISSING
        _record(books, CEILINGS, ExposureCeilings(ceilings=ceilings, people=self.people, reason=self.reason))
        return ceilings


def in_order(limits: Iterable[ExposureLimit]) -> tuple[ExposureLimit, ...]:
    """Return limits by currency and counterparty, those for everybody first."""
    return tuple(sorted(limits, key=lambda limit: (limit.currency, limit.counterparty or "")))


def _record(books: Books, type_: str, data: Document) -> None:
    event = books.record(subject_id(type_), books.limits.version(type_) + 1, type_, data)
    books.limits = books.limits.after(event)
