"""Many obligations as columns: indexes of names and amounts, checked once and then netted at full speed.

A column is an array (int16 or int32 for indexes, int64 for amounts) where there are many obligations, and a list of
Python's integers where there are few or an amount needs more than 63 bits. Both are netted to the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from netting.model import AMOUNT_MAX, Obligation, ObligationReason, ObligationRefusedError, objection

ARRAYS_FROM = 100_000
"""Fewer obligations are netted sooner than the compiled kernels are loaded."""

_INT16, _INT32, _INT63 = 2**15, 2**31, 2**63

Column = Any
"""A one-dimensional numpy array or a list of integers."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Obligation k: `participants[debtor[k]]` owes `participants[creditor[k]]` `amount[k]` of
    `currencies[currency[k]]`, in minor units.

    Names are sorted, each is there once, and there may be names that nobody owes anything. Many obligations may
    have the same debtor and creditor. Raises ObligationRefusedError, and ValueError for what is no batch at all:
    names out of order, columns of different length or type, an index without a name. O(n).
    """

    currencies: tuple[str, ...]
    participants: tuple[str, ...]
    currency: Column
    debtor: Column
    creditor: Column
    amount: Column

    def __post_init__(self) -> None:
        """Check everything that netting relies on."""
        for names in (self.currencies, self.participants):
            if any(name >= following for name, following in itertools.pairwise(names)):
                raise ValueError("names aren't sorted, or one is there twice")
        if len({len(column) for column in self._columns()}) != 1 or len({type(c) for c in self._columns()}) != 1:
            raise ValueError("the columns differ in length or type")
        if isinstance(self.amount, list):
            _check_lists(self)
        else:
            _check_arrays(self)

    def __len__(self) -> int:
        """Return how many obligations there are."""
        return len(self.amount)

    @property
    def is_arrays(self) -> bool:
        """Return whether the columns are arrays, so that compiled kernels can net them."""
        return not isinstance(self.amount, list)

    def lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Return the columns as lists of Python's integers."""
        currency, debtor, creditor, amount = (c if isinstance(c, list) else c.tolist() for c in self._columns())
        return currency, debtor, creditor, amount

    def obligation(self, at: int) -> Obligation:
        """Return one obligation with its names."""
        return Obligation(
            self.currencies[self.currency[at]],
            self.participants[self.debtor[at]],
            self.participants[self.creditor[at]],
            int(self.amount[at]),
        )

    def _columns(self) -> tuple[Column, Column, Column, Column]:
        return self.currency, self.debtor, self.creditor, self.amount


Entry = tuple[str | None, str, str, str, int]
"""An obligation as it is written down: id if it has one, currency, debtor, creditor, amount in minor units."""


def collect(entries: Iterable[Entry], participants: Collection[str] | None = None) -> Batch:
    """Return obligations as a batch. Raises ObligationRefusedError for the first that can't be netted.

    Ids must differ where they are given. If `participants` are given, nobody else may owe or be owed.
    """
    allowed = None if participants is None else frozenset(participants)
    ids: set[str] = set()
    bank_numbers = {name: number for number, name in enumerate(sorted(allowed or ()))}
    currency_numbers: dict[str, int] = {}
    columns: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    totals: list[int] = []
    add_currency, add_debtor, add_creditor, add_amount = (column.append for column in columns)
    for at, (obligation_id, currency, debtor, creditor, amount) in enumerate(entries):
        fault = None
        if allowed is not None or debtor == creditor or not 0 < amount <= AMOUNT_MAX:
            fault = objection(debtor, creditor, amount, allowed)
        if obligation_id is not None:
            if obligation_id in ids:
                fault = ObligationReason.DUPLICATE_ID, "id"
            ids.add(obligation_id)
        currency_number = currency_numbers.get(currency)
        if currency_number is None:
            currency_number = currency_numbers[currency] = len(totals)
            totals.append(0)
        totals[currency_number] = total = totals[currency_number] + amount
        if fault is None and total > AMOUNT_MAX:
            fault = ObligationReason.SUM_OVERFLOW, "amount"
        if fault is not None:
            raise ObligationRefusedError(
                fault[0], Obligation(currency, debtor, creditor, amount), field=fault[1], at=at
            )
        add_currency(currency_number)
        add_debtor(bank_numbers.setdefault(debtor, len(bank_numbers)))
        add_creditor(bank_numbers.setdefault(creditor, len(bank_numbers)))
        add_amount(amount)
    return _batch(currency_numbers, bank_numbers, columns)


def _batch(currency_numbers: dict[str, int], bank_numbers: dict[str, int], columns: tuple[list[int], ...]) -> Batch:
    """Number the names, met in any order, in alphabetical order, and make arrays of many obligations."""
    currencies, new_currency = _renumber(currency_numbers)
    participants, new_bank = _renumber(bank_numbers)
    currency, debtor, creditor, amount = columns
    if (
        len(amount) < ARRAYS_FROM
        or max(amount) >= _INT63
        or len(bank_numbers) > _INT32
        or len(currency_numbers) > _INT16
    ):
        renumbered = (
            [new_currency[number] for number in currency],
            [new_bank[number] for number in debtor],
            [new_bank[number] for number in creditor],
            amount,
        )
        return Batch(currencies, participants, *renumbered)
    import numpy as np

    bank = np.array(new_bank, np.int16 if len(bank_numbers) <= _INT16 else np.int32)
    return Batch(
        currencies,
        participants,
        np.array(new_currency, np.int16)[currency],
        bank[debtor],
        bank[creditor],
        np.array(amount, np.int64),
    )


def _renumber(numbers: dict[str, int]) -> tuple[tuple[str, ...], list[int]]:
    """Return the names in order, and by the number that each has the place it gets."""
    names = tuple(sorted(numbers))
    places = [0] * len(names)
    for place, name in enumerate(names):
        places[numbers[name]] = place
    return names, places


def _check_lists(batch: Batch) -> None:
    totals = [0] * len(batch.currencies)
    for at, (currency, debtor, creditor, amount) in enumerate(zip(*batch.lists(), strict=True)):
        _check_index(currency, batch.currencies)
        _check_index(debtor, batch.participants)
        _check_index(creditor, batch.participants)
        fault = objection(batch.participants[debtor], batch.participants[creditor], amount)
        totals[currency] += amount
        if fault is None and totals[currency] > AMOUNT_MAX:
            fault = ObligationReason.SUM_OVERFLOW, "amount"
        if fault is not None:
            raise ObligationRefusedError(fault[0], batch.obligation(at), field=fault[1], at=at)


def _check_index(index: int, names: Sequence[str]) -> None:
    if not 0 <= index < len(names):
        raise ValueError(f"index {index} of {len(names)} names")


def _check_arrays(batch: Batch) -> None:
    """Check as `_check_lists` does; no sum of int64 amounts can need 39 digits."""
    if not len(batch):
        return
    indexes = (
        (batch.currency, batch.currencies),
        (batch.debtor, batch.participants),
        (batch.creditor, batch.participants),
    )
    for column, names in indexes:
        if column.dtype.name not in ("int16", "int32"):
            raise ValueError(f"indexes are int16 or int32, not {column.dtype}")
        _check_index(int(column.min()), names)
        _check_index(int(column.max()), names)
    if batch.amount.dtype.name != "int64":
        raise ValueError(f"amounts are int64, not {batch.amount.dtype}")
    to_self = batch.debtor == batch.creditor
    not_positive = batch.amount <= 0
    if to_self.any() or not_positive.any():
        at = int((to_self | not_positive).argmax())
        obligation = batch.obligation(at)
        fault = objection(obligation.debtor, obligation.creditor, obligation.amount)
        assert fault is not None
        raise ObligationRefusedError(fault[0], obligation, field=fault[1], at=at)
