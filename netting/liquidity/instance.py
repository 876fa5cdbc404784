"""A queue and its limits as vectors: what the search works on.

An *item* is what settles together: one payment, or linked ones. A *row* is one thing that must not run out: the room
of an account, the part of it that isn't reserved, the room of one bank towards another. Settling an item changes
the room of a few rows by whole numbers; a set of items can settle when no row ends below zero.

    room[row] + Σ change[item, row] ≥ 0        maximise Σ value[item]

Accounts in several currencies may share an aggregate limit, which isn't linear: see `Aggregated`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from netting.queue import Account, Limits, Payment, link_groups

PPM = 1_000_000


class RowKind(StrEnum):
    """What must not run out."""

    ACCOUNT = "account"
    """What an account may pay out."""
    UNRESERVED = "unreserved"
    """The part of it that isn't kept for urgent payments."""
    BILATERAL = "bilateral"
    """What one bank may pay another net."""
    POSITION = "position"
    """Nothing: the row of an account without a limit, whose position an aggregate has to know."""


@dataclass(frozen=True, slots=True)
class Row:
    """One limit: `of` names what it limits (participant and currency, or debtor, creditor and currency), `room` ≥ 0."""

    kind: RowKind
    of: tuple[str, ...]
    room: int


@dataclass(frozen=True, slots=True)
class Item:
    """What settles together: `amount` in all, of a value. `changes` maps rows to what settling adds to their room."""

    payments: tuple[Payment, ...]
    amount: int
    value: int
    changes: tuple[tuple[int, int], ...]

    @property
    def id(self) -> str:
        """The id of the first payment in the queue's order."""
        return self.payments[0].id

    @property
    def split(self) -> bool:
        """Whether a part may settle."""
        return self.payments[0].split

    def worth(self, amount: int) -> int:
        """Return the value of an amount that settles: of all, or of a part of a split payment."""
        return self.value if amount == self.amount else self.value // self.amount * amount


@dataclass(frozen=True, slots=True)
class AggregateLimit:
    """One participant's limit over its currencies: Σ worth of each position after haircut ≥ `floor`.

    For each position: (row, what the row's room is above the balance, worth of a unit when long, when short), the
    worths in parts per million of the base currency.
    """

    participant: str
    positions: tuple[tuple[int, int, int, int], ...]
    floor: int

    def worth(self, rooms: Sequence[int]) -> int:
        """Return the adjusted worth of the positions, given the rooms of all rows."""
        total = 0
        for row, above, long, short in self.positions:
            position = rooms[row] - above
            total += position * (long if position > 0 else short)
        return total


@dataclass(frozen=True, slots=True)
class Instance:
    """Items in the queue's order, and the rows and aggregates that limit them."""

    items: tuple[Item, ...]
    rows: tuple[Row, ...]
    aggregates: tuple[AggregateLimit, ...]
    urgent_priority: int
    rates: Mapping[str, int]

    def rate(self, currency: str) -> int:
        """Return what a minor unit of the currency is worth, 1 where values aren't compared."""
        return self.rates.get(currency, 1)

    def urgent(self, payment: Payment) -> bool:
        """Tell whether a payment may use what is reserved."""
        return payment.priority <= self.urgent_priority

    def rooms(self, amounts: Sequence[int]) -> list[int]:
        """Return the room of each row after the items settle by these amounts: all, nothing, or a part of a split."""
        rooms = [row.room for row in self.rows]
        for item, amount in zip(self.items, amounts, strict=True):
            if amount:
                part = item.split and amount < item.amount
                for row, change in item.changes:
                    rooms[row] += (amount if change > 0 else -amount) if part else change
        return rooms

    def cut(self, amounts: Sequence[int]) -> list[int]:
        """Return the amounts with split items cut, the last in the queue's order first, until the rows are kept."""
        reduced, rooms = list(amounts), self.rooms(amounts)
        for at in range(len(self.items) - 1, -1, -1):
            item = self.items[at]
            if not item.split or reduced[at] == 0:
                continue
            short = max(0, *(-rooms[row] for row, change in item.changes if change < 0), 0)
            if cut := min(short, reduced[at]):
                reduced[at] -= cut
                for row, change in item.changes:
                    rooms[row] += cut if change < 0 else -cut
        return reduced

    def fits(self, rooms: Sequence[int]) -> bool:
        """Tell whether no row and no aggregate ends below its limit."""
        return all(room >= 0 for room in rooms) and all(
            aggregate.worth(rooms) >= aggregate.floor for aggregate in self.aggregates
        )


def instance_of(payments: tuple[Payment, ...], limits: Limits) -> Instance:
    """Return the vectors for payments in the queue's order, already checked by `queue.canonical_queue`."""
    rows = _Rows(payments, limits)
    rates = limits.rates
    items: list[Item] = []
    plain = rows.plain and not rates
    for group in link_groups(payments):
        if plain and len(group) == 1:
            amount = group[0].amount
            items.append(Item(group, amount, amount, rows.transfer(group[0])))
            continue
        changes: dict[int, int] = {}
        for payment in group:
            for row, change in rows.changes(payment):
                changes[row] = changes.get(row, 0) + change
        amount = sum(payment.amount for payment in group)
        value = sum(payment.amount * rates.get(payment.currency, 1) for payment in group) if rates else amount
        items.append(Item(group, amount, value, tuple(sorted((row, by) for row, by in changes.items() if by != 0))))
    return Instance(tuple(items), tuple(rows.rows), rows.aggregates(), limits.urgent, rates)


class _Rows:
    """Makes the rows that the payments touch, and says what a payment changes."""

    def __init__(self, payments: tuple[Payment, ...], limits: Limits) -> None:
        self._limits = limits
        self.rows: list[Row] = []
        self._account: dict[Account, int] = {}
        self._unreserved: dict[Account, int] = {}
        self._bilateral: dict[tuple[str, str, str], int] = {}
        self._above: dict[Account, int] = {}
        accounts = {(name, p.currency) for p in payments for name in (p.debtor, p.creditor)}
        limited = limits.aggregate.limits.keys() if limits.aggregate is not None else frozenset[str]()
        # What a bank has in a currency without payments counts for its aggregate too.
        accounts |= {(name, of) for name, of in limits.balances if name in limited and of in limits.rates}
        # An account without a limit gets a row only to know its position; this much room never runs out.
        plenty = sum(payment.amount for payment in payments)
        for account in sorted(accounts):
            balance, cap = limits.balances.get(account, 0), limits.cap(account)
            if cap is not None:
                self._add(self._account, account, RowKind.ACCOUNT, account, max(0, balance + cap))
                if reserved := limits.reserved.get(account, 0):
                    self._add(self._unreserved, account, RowKind.UNRESERVED, account, max(0, balance + cap - reserved))
            elif account[0] in limited:
                self._add(self._account, account, RowKind.POSITION, account, plenty)
            if account in self._account:
                self._above[account] = self.rows[self._account[account]].room - balance
        pairs = {(p.debtor, p.creditor, p.currency) for p in payments}
        for key in sorted(pairs & limits.bilateral.keys()):
            self._add(self._bilateral, key, RowKind.BILATERAL, key, limits.bilateral[key])

    def _add(self, index: dict[Any, int], key: Any, kind: RowKind, of: tuple[str, ...], room: int) -> None:
        index[key] = len(self.rows)
        self.rows.append(Row(kind, of, room))

    @property
    def plain(self) -> bool:
        """Whether accounts are all that limits."""
        return not self._unreserved and not self._bilateral

    def transfer(self, payment: Payment) -> tuple[tuple[int, int], ...]:
        """Return what a payment changes where accounts are all that limits, in the order of the rows."""
        out = self._account.get((payment.debtor, payment.currency))
        back = self._account.get((payment.creditor, payment.currency))
        changes = ((out, -payment.amount), (back, payment.amount))
        return tuple(sorted((row, by) for row, by in changes if row is not None))

    def changes(self, payment: Payment) -> list[tuple[int, int]]:
        debtor, creditor, currency = payment.debtor, payment.creditor, payment.currency
        urgent = payment.priority <= self._limits.urgent
        out = [
            self._account.get((debtor, currency)),
            None if urgent else self._unreserved.get((debtor, currency)),
            self._bilateral.get((debtor, creditor, currency)),
        ]
        back = [
            self._account.get((creditor, currency)),
            self._unreserved.get((creditor, currency)),
            self._bilateral.get((creditor, debtor, currency)),
        ]
        return [(row, -payment.amount) for row in out if row is not None] + [
            (row, payment.amount) for row in back if row is not None
        ]

    def aggregates(self) -> tuple[AggregateLimit, ...]:
        rule = self._limits.aggregate
        if rule is None:
            return ()
        limits: list[AggregateLimit] = []
        for participant, limit in sorted(rule.limits.items()):
            positions: list[tuple[int, int, int, int]] = []
            for (name, currency), row in sorted(self._account.items()):
                if name == participant:
                    rate, haircut = rule.rates[currency], rule.haircuts_ppm.get(currency, 0)
                    worths = rate * max(0, PPM - haircut), rate * (PPM + haircut)
                    positions.append((row, self._above[name, currency], *worths))
            if positions:
                unlimited = AggregateLimit(participant, tuple(positions), 0)
                now = unlimited.worth([row.room for row in self.rows])
                limits.append(AggregateLimit(participant, tuple(positions), min(now, -limit * PPM)))
        return tuple(limits)
