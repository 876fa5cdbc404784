"""What a batch of obligations nets to: what everyone receives and pays, and what each pair owes both ways.

Many obligations are netted by compiled kernels over arrays, few ones and sums that may reach 2^62 by Python's
integers; the numbers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from netting.batch import Batch, Column


@dataclass(frozen=True, slots=True, eq=False)
class Nets:
    """Everybody's figures, at [currency * participants + participant], in minor units."""

    receives: Column
    pays: Column

    @property
    def net(self) -> Column:
        """Return receipts less payments; they add up to zero in each currency."""
        if isinstance(self.pays, list):
            return [got - paid for got, paid in zip(self.receives, self.pays, strict=True)]
        return self.receives - self.pays


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs that owe each other, in canonical order: by currency, first bank, second bank (the higher index).

    Row r is currency r // participants and first bank r % participants. Its pairs are `start[r]` to `start[r + 1]`:
    the first bank owes `second` the amount `forth`, and is owed `back`. In minor units.
    """

    start: Column
    second: Column
    forth: Column
    back: Column


def multilateral(batch: Batch) -> Nets:
    """Return what everyone receives and pays in each currency. O(n), exact."""
    if batch.is_arrays and len(batch):
        from netting import figures_compiled

        columns = (batch.currency, batch.debtor, batch.creditor, batch.amount)
        try:
            return Nets(*figures_compiled.multilateral(columns, len(batch.currencies), len(batch.participants)))
        except figures_compiled.SumTooLargeError:
            pass
    return _multilateral(batch)


def bilateral(batch: Batch) -> Pairs:
    """Return what each pair owes both ways in each currency, in canonical order. O(n), exact."""
    if batch.is_arrays and len(batch):
        from netting import figures_compiled

        columns = (batch.currency, batch.debtor, batch.creditor, batch.amount)
        try:
            return Pairs(*figures_compiled.bilateral(columns, len(batch.currencies), len(batch.participants)))
        except figures_compiled.SumTooLargeError:
            pass
    return _bilateral(batch)


def _multilateral(batch: Batch) -> Nets:
    banks = len(batch.participants)
    receives, pays = [0] * (len(batch.currencies) * banks), [0] * (len(batch.currencies) * banks)
    for currency, debtor, creditor, amount in zip(*batch.lists(), strict=True):
        pays[currency * banks + debtor] += amount
        receives[currency * banks + creditor] += amount
    return Nets(receives, pays)


def _bilateral(batch: Batch) -> Pairs:
    banks = len(batch.participants)
    sums: dict[tuple[int, int], list[int]] = {}
    for currency, debtor, creditor, amount in zip(*batch.lists(), strict=True):
        if debtor < creditor:
            sums.setdefault((currency * banks + debtor, creditor), [0, 0])[0] += amount
        else:
            sums.setdefault((currency * banks + creditor, debtor), [0, 0])[1] += amount
    start = [0] * (len(batch.currencies) * banks + 1)
    for row, _ in sums:
        start[row + 1] += 1
    for row in range(1, len(start)):
        start[row] += start[row - 1]
    cells = sorted(sums)
    return Pairs(start, [second for _, second in cells], [sums[c][0] for c in cells], [sums[c][1] for c in cells])
