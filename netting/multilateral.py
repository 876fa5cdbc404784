"""Multilateral netting: each participant's claims and debts of a currency become one position against all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from netting.model import Obligation, canonicalise


class ConservationError(ArithmeticError):
    """Positions that don't sum to zero: a broken program, never a property of the input."""


@dataclass(frozen=True, slots=True)
class Position:
    """What one participant receives and pays in one currency."""

    participant: str
    receives: int
    pays: int

    @property
    def net(self) -> int:
        """Return what is owed to the participant; negative when the participant owes."""
        return self.receives - self.pays


@dataclass(frozen=True, slots=True)
class CurrencyNetting:
    """One currency netted. Positions are ordered by participant and their nets sum to zero.

    `gross` is what would move payment by payment, `bilateral` what would move if each pair settled its
    difference, `multilateral` what moves when each participant settles its net: the sum of the positive nets.
    """

    currency: str
    obligations: int
    gross: int
    bilateral: int
    multilateral: int
    positions: tuple[Position, ...]

    @property
    def saving(self) -> int:
        """Return the value that needn't move because of multilateral netting."""
        return self.gross - self.multilateral


def net(obligations: Iterable[Obligation]) -> tuple[CurrencyNetting, ...]:
    """Net obligations exactly, currency by currency in alphabetical order.

    A function of the set of obligations: their order doesn't matter. Raises ObligationRefusedError for obligations
    that can't be netted. O(n log n), for the canonical order.
    """
    ordered = canonicalise(obligations)
    return tuple(_net_currency(currency, tuple(group)) for currency, group in groupby(ordered, lambda o: o.currency))


def _net_currency(currency: str, obligations: tuple[Obligation, ...]) -> CurrencyNetting:
    receives: defaultdict[str, int] = defaultdict(int)
    pays: defaultdict[str, int] = defaultdict(int)
    pairs: defaultdict[tuple[str, str], int] = defaultdict(int)
    gross = 0
    for obligation in obligations:
        gross += obligation.amount
        pays[obligation.debtor] += obligation.amount
        receives[obligation.creditor] += obligation.amount
        pair = obligation.pair
        pairs[pair] += obligation.amount if pair[0] == obligation.debtor else -obligation.amount
    positions = tuple(Position(name, receives[name], pays[name]) for name in sorted(receives.keys() | pays.keys()))
    if sum(position.net for position in positions) != 0:
        raise ConservationError(f"{currency}: positions don't sum to zero")
    return CurrencyNetting(
        currency=currency,
        obligations=len(obligations),
        gross=gross,
        bilateral=sum(abs(value) for value in pairs.values()),
        multilateral=sum(position.net for position in positions if position.net > 0),
        positions=positions,
    )
