"""The network that relaxes an instance: what can be said of it as a flow.

The network has a node for each account, and an arc for each payment, which may carry a part. What the rows say
beyond that becomes nodes and free arcs where it can:

- reserved liquidity: payments that may not use it start from a node of their own, which passes on what it has to the
  account's node, never back;
- a bilateral limit: the payments between two banks pass a node that can draw on the debtor up to the limit;
- two linked payments between the same two accounts are one arc for their difference, worth all that it discharges.

What a network can't say (linked payments in several places, aggregates, a bilateral limit beside reserved liquidity)
is left out of it, and only the rows enforce it: a relaxation may allow more, so its bound holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from netting.kernels.compile import SUM_MAX
from netting.liquidity.instance import Instance, Item, RowKind
from netting.queue import Payment

SCALE = 1024
"""The value of a unit of an arc is a whole number of 1/SCALE, where a pair's difference discharges more than itself."""
WEIGHT_MAX = SCALE * 16
"""A unit of an arc is worth no more; the rest of an item's value goes over an arc of its own that nothing limits."""


@dataclass(frozen=True, slots=True)
class Arc:
    """One arc of the network. `item` is -1 for a free one."""

    tail: int
    head: int
    capacity: int
    weight: int
    item: int


@dataclass(frozen=True, slots=True)
class Network:
    """The relaxation: nodes with liquidity, arcs, and how a node's multiplier falls to the rows.

    `scale` times the value of a selection is at most its flow's value. `shares` lists, for each row, the
    nodes (plus, minus) whose multipliers' difference is the row's, if above zero; (-1, -1) for a row without.
    `plenty` is more than all payments together.
    """

    liquidity: tuple[int, ...]
    arcs: tuple[Arc, ...]
    scale: int
    shares: tuple[tuple[int, int], ...]
    plenty: int


def network(instance: Instance) -> Network:
    """Return the relaxation of an instance."""
    return _Builder(instance).network()


class _Builder:
    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._liquidity: list[int] = []
        self._arcs: list[Arc] = []
        self._shares = [(-1, -1)] * len(instance.rows)
        # More than all payments together: a limit that is never met.
        self._plenty = sum(p.amount for item in instance.items for p in item.payments) + 1
        self._account: dict[tuple[str, ...], int] = {}
        self._unreserved: dict[tuple[str, ...], int] = {}
        self._bilateral: dict[tuple[str, ...], tuple[int, str]] = {}
        self._limited = {row.of for row in instance.rows if row.kind is RowKind.BILATERAL}

    def network(self) -> Network:
        for at, row in enumerate(self._instance.rows):
            if row.kind is RowKind.ACCOUNT:
                self._account[row.of] = node = self._node(row.room)
                self._shares[at] = (node, -1)
            elif row.kind is RowKind.UNRESERVED:
                account = self._account[row.of]
                # The row's room comes in here; the rest of the account's is reserved.
                self._unreserved[row.of] = node = self._node(row.room)
                self._liquidity[account] -= self._liquidity[node]
                self._shares[at] = (node, account)
                self._arcs.append(Arc(node, account, self._plenty, 0, -1))
        for at, row in enumerate(self._instance.rows):
            if row.kind is RowKind.BILATERAL:
                self._add_bilateral(at, row.of, row.room)
        singles = [self._single(item) for item in self._instance.items]
        scale = 1
        if any(
            payment is not None and payment.amount and item.value % payment.amount
            for item, payment in self._zip(singles)
        ):
            scale = SCALE
        for at, (item, payment) in enumerate(self._zip(singles)):
            if payment is None:
                for leg in item.payments:
                    weight = scale * self._instance.rate(leg.currency)
                    self._arcs.append(Arc(*self._ends(leg, leg), leg.amount, weight, at))
                continue
            exact = -(-scale * item.value // payment.amount) if payment.amount else 0
            weight = min(exact, WEIGHT_MAX)
            ends = self._ends(payment, item.payments[0])
            if payment.amount == 0 or weight < exact:
                # What the arc's weight doesn't say is worth as much on an arc that nothing limits.
                self._arcs.append(Arc(*self._outside(), 1, scale * item.value - weight * payment.amount, at))
            if payment.amount == 0:
                continue
            self._arcs.append(Arc(*ends, payment.amount, weight, at))
        return Network(tuple(self._liquidity), tuple(self._arcs), scale, tuple(self._shares), self._plenty)

    def _single(self, item: Item) -> Payment | None:
        """Return an item as one payment of its difference, if all its payments are between the same two accounts.

        Not where what comes in isn't reserved, but what goes out may use what is: that moves more than a difference.
        """
        first = item.payments[0]
        if len(item.payments) == 1:
            return first
        amount = 0
        for payment in item.payments:
            if (payment.debtor, payment.currency) in self._unreserved and self._instance.urgent(payment):
                return None
            if (payment.debtor, payment.creditor, payment.currency) == (first.debtor, first.creditor, first.currency):
                amount += payment.amount
            elif (payment.creditor, payment.debtor, payment.currency) == (first.debtor, first.creditor, first.currency):
                amount -= payment.amount
            else:
                return None
        if amount < 0:
            return replace(first, debtor=first.creditor, creditor=first.debtor, amount=-amount)
        return replace(first, amount=amount)

    def _zip(self, singles: list[Payment | None]) -> Iterator[tuple[Item, Payment | None]]:
        return zip(self._instance.items, singles, strict=True)

    def _outside(self) -> tuple[int, int]:
        return self._account_node(("", "", "from")), self._account_node(("", "", "to"))

    def _node(self, liquidity: int) -> int:
        self._liquidity.append(min(liquidity, self._plenty))
        return len(self._liquidity) - 1

    def _account_node(self, account: tuple[str, ...]) -> int:
        if account not in self._account:
            self._account[account] = self._node(self._plenty)
        return self._account[account]

    def _add_bilateral(self, at: int, of: tuple[str, ...], room: int) -> None:
        debtor, creditor, currency = of
        if (debtor, currency) in self._unreserved or (creditor, currency) in self._unreserved:
            return
        pair = (min(debtor, creditor), max(debtor, creditor), currency)
        if pair not in self._bilateral:
            # The node stands beside the debtor of the first limit; the payments of both directions pass it.
            self._bilateral[pair] = (self._node(0), debtor)
        node, beside = self._bilateral[pair]
        account = self._account_node((beside, currency))
        is_mutual = (creditor, debtor, currency) in self._limited
        if debtor == beside:
            self._arcs.append(Arc(account, node, room, 0, -1))
            self._shares[at] = (node, account)
            if not is_mutual:
                self._arcs.append(Arc(node, account, self._plenty, 0, -1))
        else:
            self._arcs.append(Arc(node, account, room, 0, -1))
            self._shares[at] = (account, node)

    def _ends(self, way: Payment, paid: Payment) -> tuple[int, int]:
        """Return the nodes of an arc that goes the way of one payment, with the urgency of another."""
        debtor, creditor, currency = way.debtor, way.creditor, way.currency
        tail, head = self._account_node((debtor, currency)), self._account_node((creditor, currency))
        if not self._unreserved and not self._bilateral:
            return tail, head
        if not self._instance.urgent(paid):
            tail = self._unreserved.get((debtor, currency), tail)
        head = self._unreserved.get((creditor, currency), head)
        node_between = self._bilateral.get((min(debtor, creditor), max(debtor, creditor), currency))
        if node_between is not None:
            node, beside = node_between
            return (node, head) if beside == debtor else (tail, node)
        return tail, head


def compilable(instance: Instance, net: Network) -> bool:
    """Tell whether all sums stay below 2^62, so that the kernels can run on int64."""
    gross = 4 * net.plenty + sum(arc.capacity for arc in net.arcs if arc.weight)
    weight = max((arc.weight for arc in net.arcs if arc.capacity > 1), default=1)
    worth = 0
    for aggregate in instance.aggregates:
        for row, above, _, short in aggregate.positions:
            worth += (instance.rows[row].room + abs(above) + gross) * short
    value = net.scale * sum(item.value for item in instance.items)
    return max(4 * gross * weight, worth, 2 * value) < SUM_MAX
