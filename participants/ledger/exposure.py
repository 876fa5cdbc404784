"""What each counterparty may owe this bank, unsettled: the limits in force, and which of them binds.

What a counterparty owes is the balance of *due from* it: all that was credited to customers here and isn't settled,
whatever this bank owes the other way (docs/decisions/0012-exposure.md). Limits are events of the ledger, so a change
of them moves its head as a payment does, and every writer decides on those that stand before the payment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import inf
from typing import NamedTuple

from compliance.cycle.exposure import UNSTATED_MINOR
from gateway.federation.money import EXPONENTS
from participants.ledger.events import Event, ExposureLimit, ExposureLimits, subject_id

LIMITS, CEILINGS = "exposure.limits", "exposure.ceilings"
SUBJECTS = {subject_id(LIMITS): LIMITS, subject_id(CEILINGS): CEILINGS}
"""Each of them is all in one event, of which the newest counts."""
NEAR_PERCENT = 80
"""From how much of its limit on what a counterparty owes is worth a warning."""


class Source(StrEnum):
    """Who set the limit that binds."""

    GRANTED = "granted"
    """The bank, at the coordinator: a bilateral limit."""
    SCHEME = "scheme"
    """The rulebook's default, where the bank granted none."""
    BANK = "bank"
    """The bank, in its own books: a ceiling."""


class Limit(NamedTuple):
    """The most that a counterparty may owe in a currency, in minor units, and who set it."""

    minor: int
    source: Source

    def near(self, owed: int) -> bool:
        """Tell whether so much is worth a warning."""
        return owed > 0 and self.minor * NEAR_PERCENT <= owed * 100


class Limits:
    """The limits in force, as the newest event of each type says them."""

    def __init__(self, newest: Mapping[str, Event] | None = None) -> None:
        self._newest = dict(newest or {})
        self.scheme_and_granted: ExposureLimits = ExposureLimits()
        self.ceilings: tuple[ExposureLimit, ...] = ()
        if LIMITS in self._newest:
            self.scheme_and_granted = self._newest[LIMITS].data
        if CEILINGS in self._newest:
            self.ceilings = self._newest[CEILINGS].data.ceilings
        self._scheme = _by_pair(self.scheme_and_granted.scheme)
        self._cleared = frozenset(currency for _, currency in self._scheme)
        self._granted = _by_pair(self.scheme_and_granted.granted)
        self._own = _by_pair(self.ceilings)

    def after(self, event: Event) -> Limits:
        """Return the limits after one more event."""
        return Limits({**self._newest, event.type: event})

    def version(self, type_: str) -> int:
        """Return how many events of a type there were."""
        return self._newest[type_].version if type_ in self._newest else 0

    def of(self, counterparty: str, currency: str) -> Limit:
        """Return the limit that binds: the bilateral one or the scheme's, or a ceiling of the bank that is less."""
        pair, everybody = (counterparty, currency), (None, currency)
        if pair in self._granted:
            limit = Limit(self._granted[pair], Source.GRANTED)
        else:
            limit = Limit(self._scheme.get(everybody, UNSTATED_MINOR), Source.SCHEME)
        ceiling = self._own.get(pair, self._own.get(everybody, limit.minor))
        return Limit(ceiling, Source.BANK) if ceiling < limit.minor else limit

    def clears(self, currency: str) -> bool:
        """Tell whether what is owed in a currency can ever settle: the scheme has a limit for each that it clears.

        Until the bank has heard the rulebook once, for any active currency of ISO 4217.
        """
        return currency in (self._cleared or EXPONENTS)

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """The counterparties and currencies that a limit names."""
        return {(bank, currency) for bank, currency in (*self._granted, *self._own) if bank is not None}


def raised(before: Iterable[ExposureLimit], after: Iterable[ExposureLimit]) -> bool:
    """Tell whether the bank's own ceilings let any counterparty owe more than those before, which takes two people.

    A counterparty's own ceiling takes the place of the one for all, so a new one may raise, and lifting one may lower.
    """
    old, new = _by_pair(before), _by_pair(after)
    return any(_ceiling(new, *pair) > _ceiling(old, *pair) for pair in old.keys() | new.keys())


def _ceiling(own: Mapping[tuple[str | None, str], int], counterparty: str | None, currency: str) -> float:
    return own.get((counterparty, currency), own.get((None, currency), inf))


def _by_pair(limits: Iterable[ExposureLimit]) -> dict[tuple[str | None, str], int]:
    return {(limit.counterparty, limit.currency): int(limit.limit_minor) for limit in limits}
