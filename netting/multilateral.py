"""Multilateral netting: each participant's claims and debts of a currency become one position against all others.

Amounts are minor units. Source: BIS, Report of the Committee on Interbank Netting Schemes (Lamfalussy report), 1990.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

from netting.batch import Batch, collect
from netting.figures import Pairs, bilateral, multilateral
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


class Pair(NamedTuple):
    """What two participants owe each other: `first`, the one earlier in the alphabet, owes `forth`, is owed `back`."""

    first: str
    second: str
    forth: int
    back: int

    @property
    def net(self) -> int:
        """Return what the first owes the second after netting both ways; negative when the second owes."""
        return self.forth - self.back


@dataclass(frozen=True, slots=True)
class CurrencyNetting:
    """One currency netted. Positions are ordered by participant and their nets sum to zero.

    `gross` is what would move payment by payment, `bilateral` what would move if each pair settled its
    difference, `multilateral` what moves when each participant settles its net: the sum of the positive nets.
    `pairs` are those who owe each other anything, ordered by both names.
    """

    currency: str
    obligations: int
    gross: int
    bilateral: int
    multilateral: int
    positions: tuple[Position, ...]
    pairs: tuple[Pair, ...] = ()

    @property
    def saving(self) -> int:
        """Return the value that needn't move because of multilateral netting."""
        return self.gross - self.multilateral


def net(obligations: Iterable[Obligation]) -> tuple[CurrencyNetting, ...]:
    """Net obligations exactly, currency by currency in alphabetical order; one obligation stands for all of a kind.

    A function of the set of obligations: their order doesn't matter. Raises ObligationRefusedError for obligations
    that can't be netted. O(n log n), for the canonical order.
    """
    return net_batch(collect((None, o.currency, o.debtor, o.creditor, o.amount) for o in canonicalise(obligations)))


def net_batch(batch: Batch) -> tuple[CurrencyNetting, ...]:
    """Net a batch of single obligations exactly, currency by currency in alphabetical order.

    The order of the obligations doesn't matter. A participant has a position where it receives or pays anything.
    Nothing is refused: a batch is checked when it is made. O(n + participants · currencies).
    """
    nets, pairs = multilateral(batch), bilateral(batch)
    receives, pays = _integers(nets.receives), _integers(nets.pays)
    by_currency = _pairs(batch, pairs)
    counts = [0] * len(batch.currencies)
    for currency in _integers(batch.currency):
        counts[currency] += 1
    banks = len(batch.participants)
    nettings = []
    for at, (currency_name, count) in enumerate(zip(batch.currencies, counts, strict=True)):
        own = zip(
            batch.participants,
            receives[at * banks : (at + 1) * banks],
            pays[at * banks : (at + 1) * banks],
            strict=True,
        )
        positions = tuple(Position(name, got, paid) for name, got, paid in own if got or paid)
        if sum(position.net for position in positions) != 0:
            raise ConservationError(f"{currency_name}: positions don't sum to zero")
        nettings.append(
            CurrencyNetting(
                currency=currency_name,
                obligations=count,
                gross=sum(position.pays for position in positions),
                bilateral=sum(abs(forth - back) for _, _, forth, back in by_currency[at]),
                multilateral=sum(position.net for position in positions if position.net > 0),
                positions=positions,
                pairs=tuple(by_currency[at]),
            )
        )
    return tuple(nettings)


def _pairs(batch: Batch, pairs: Pairs) -> list[list[Pair]]:
    """Return the pairs of each currency with their names."""
    names = batch.participants
    start, forth, back = _integers(pairs.start), _integers(pairs.forth), _integers(pairs.back)
    second = [names[number] for number in _integers(pairs.second)]
    by_currency: list[list[Pair]] = [[] for _ in batch.currencies]
    for row in range(len(start) - 1):
        begin, end = start[row], start[row + 1]
        if begin < end:
            currency, first = divmod(row, len(names))
            own = zip(repeat(names[first]), second[begin:end], forth[begin:end], back[begin:end], strict=False)
            by_currency[currency].extend(map(Pair._make, own))
    return by_currency


def _integers(column: object) -> list[int]:
    """Return a column as Python's integers."""
    integers: list[int] = column if isinstance(column, list) else column.tolist()  # type: ignore[attr-defined]
    return integers
