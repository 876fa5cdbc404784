"""Multilateral netting: each participant's claims and debts of a currency become one position against all others.

Amounts are minor units. Source: BIS, Report of the Committee on Interbank Netting Schemes (Lamfalussy report), 1990.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

from netting.batch import Batch, collect
from netting.figures import Pairs, bilateral, multilateral
from netting.model import AMOUNT_MAX, Obligation, canonicalise


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


def net_pairs(currency: str, pairs: Iterable[tuple[str, str, int, int]]) -> CurrencyNetting:
    """Net what pairs owe each other in one currency, each as (first, second, forth, back): see `Pair`.

    Each pair is there once, first before second in the alphabet, and nothing is negative. Everybody in a pair has a
    position, of zeros where nothing is owed; the netting doesn't repeat the pairs. The same as `net` says of the
    obligations, without sorting them or loading kernels. Raises ObligationRefusedError for a sum of more than 38
    digits. O(pairs).
    """
    given = pairs if isinstance(pairs, list) else list(pairs)
    receives, pays = defaultdict[str, int](int), defaultdict[str, int](int)
    bilateral_sum = obligations = 0
    for first, second, forth, back in given:
        pays[first] += forth
        receives[second] += forth
        pays[second] += back
        receives[first] += back
        bilateral_sum += abs(forth - back)
        obligations += (forth > 0) + (back > 0)
    gross = sum(pays.values())
    if gross > AMOUNT_MAX:
        # Raises, and names the first of them in canonical order that is too much.
        canonicalise(
            Obligation(currency, debtor, creditor, amount)
            for first, second, forth, back in given
            for debtor, creditor, amount in ((first, second, forth), (second, first, back))
            if amount
        )
    positions = tuple(Position(name, receives[name], pays[name]) for name in sorted(pays))
    return CurrencyNetting(
        currency=currency,
        obligations=obligations,
        gross=gross,
        bilateral=bilateral_sum,
        multilateral=sum(position.net for position in positions if position.net > 0),
        positions=positions,
    )


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
