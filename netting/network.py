"""An instance as flat vectors for the kernels: its items and rows, and the network that relaxes them.

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
from types import ModuleType
from typing import Any

from netting.compile import SUM_MAX, load, vector
from netting.instance import Instance, Item
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
        self._limited = {row.of for row in instance.rows if row.kind == "bilateral"}

    def network(self) -> Network:
        for at, row in enumerate(self._instance.rows):
            if row.kind == "account":
                self._account[row.of] = node = self._node(row.room)
                self._shares[at] = (node, -1)
            elif row.kind == "unreserved":
                account = self._account[row.of]
                # The row's room comes in here; the rest of the account's is reserved.
                self._unreserved[row.of] = node = self._node(row.room)
                self._liquidity[account] -= self._liquidity[node]
                self._shares[at] = (node, account)
                self._arcs.append(Arc(node, account, self._plenty, 0, -1))
        for at, row in enumerate(self._instance.rows):
            if row.kind == "bilateral":
                self._add_bilateral(at, row.of, row.room)
        singles = [self._single(item) for item in self._instance.items]
        scale = 1
        if any(one is not None and one.amount and item.value % one.amount for item, one in self._zip(singles)):
            scale = SCALE
        for at, (item, one) in enumerate(self._zip(singles)):
            if one is None:
                for leg in item.payments:
                    weight = scale * self._instance.rate(leg.currency)
                    self._arcs.append(Arc(*self._ends(leg, leg), leg.amount, weight, at))
                continue
            exact = -(-scale * item.value // one.amount) if one.amount else 0
            weight = min(exact, WEIGHT_MAX)
            ends = self._ends(one, item.payments[0])
            if one.amount == 0 or weight < exact:
                # What the arc's weight doesn't say is worth as much on an arc that nothing limits.
                self._arcs.append(Arc(*self._outside(), 1, scale * item.value - weight * one.amount, at))
            if one.amount == 0:
                continue
            self._arcs.append(Arc(*ends, one.amount, weight, at))
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
        both = (creditor, debtor, currency) in self._limited
        if debtor == beside:
            self._arcs.append(Arc(account, node, room, 0, -1))
            self._shares[at] = (node, account)
            if not both:
                self._arcs.append(Arc(node, account, self._plenty, 0, -1))
        else:
            self._arcs.append(Arc(node, account, room, 0, -1))
            self._shares[at] = (account, node)

    def _ends(self, way: Payment, paid: Payment) -> tuple[int, int]:
        """Return the nodes of an arc that goes the way of one payment, with the urgency of another."""
        debtor, creditor, currency = way.debtor, way.creditor, way.currency
        tail, head = self._account_node((debtor, currency)), self._account_node((creditor, currency))
        if not self._instance.urgent(paid):
            tail = self._unreserved.get((debtor, currency), tail)
        head = self._unreserved.get((creditor, currency), head)
        passed = self._bilateral.get((min(debtor, creditor), max(debtor, creditor), currency))
        if passed is not None:
            node, beside = passed
            return (node, head) if beside == debtor else (tail, node)
        return tail, head


class Vectors:
    """The vectors of an instance and its network, compiled or interpreted, and the kernels that go with them."""

    def __init__(self, instance: Instance, net: Network, *, compiled: bool) -> None:
        self.instance = instance
        self.network = net
        self.compiled = compiled
        self.search_kernel: Any = load("netting.search_kernel", compiled=compiled)
        self.branch_kernel: Any = load("netting.branch_kernel", compiled=compiled)
        self.flow_kernel: Any = load("netting.flow_kernel", compiled=compiled)
        self.rows = self._rows(self.search_kernel)
        self.search = self._search(self.search_kernel)
        arcs = net.arcs
        tail, head = self.vector(a.tail for a in arcs), self.vector(a.head for a in arcs)
        self.capacity = self.vector(a.capacity for a in arcs)
        self.liquidity = self.vector(net.liquidity)
        weight = self.vector(a.weight for a in arcs)
        nodes = len(net.liquidity)
        self.graph = self.flow_kernel.index(nodes, tail, head, weight)
        self.scratch = self.flow_kernel.room(nodes)
        self.fixings = self._fixings(self.branch_kernel, tail, head)
        self.work = self.branch_kernel.Work(
            lower=self.zeros(len(arcs)),
            upper=self.zeros(len(arcs)),
            changed=self.zeros(2 * len(arcs) + 2),
            stack=self.zeros(2 * len(arcs) + nodes + 2),
            candidate=self.zeros(self.branch_kernel.CANDIDATES),
            score=self.zeros(self.branch_kernel.CANDIDATES),
        )

    def vector(self, values: Any) -> Any:
        return vector(values, compiled=self.compiled)

    def zeros(self, count: int) -> Any:
        return self.vector([0] * count)

    def state(self) -> Any:
        """Return a state of the flow with nothing fixed, before it is solved."""
        arcs, nodes = len(self.network.arcs), len(self.network.liquidity)
        return self.flow_kernel.State(
            lower=self.zeros(arcs),
            upper=self.vector(self.capacity),
            flow=self.zeros(arcs),
            slack=self.vector(self.liquidity),
            potential=self.zeros(nodes),
            total=self.zeros(1),
        )

    def rooms(self) -> list[int]:
        """Return the room of each row before anything settles, cut where no row could need more."""
        exact = {row for one in self.instance.aggregates for row, *_ in one.positions}
        return [
            row.room if at in exact else min(row.room, self.network.plenty) for at, row in enumerate(self.instance.rows)
        ]

    def _rows(self, kernel: ModuleType) -> Any:
        instance = self.instance
        uses: list[list[tuple[int, int]]] = [[] for _ in instance.rows]
        fills: list[list[tuple[int, int]]] = [[] for _ in instance.rows]
        starts, changes = [0], list[tuple[int, int]]()
        for at, item in enumerate(instance.items):
            changes += item.changes
            starts.append(len(changes))
            for row, change in item.changes:
                (uses if change < 0 else fills)[row].append((-abs(change), at))
        named: dict[str, Any] = {}
        for name, lists in (("use", uses), ("fill", fills)):
            ordered = [sorted(entries) for entries in lists]
            named[f"{name}_start"] = self._starts(ordered)
            named[f"{name}_item"] = self.vector(at for entries in ordered for _, at in entries)
            named[f"{name}_amount"] = self.vector(-amount for entries in ordered for amount, _ in entries)
        group_of = [-1] * len(instance.rows)
        positions = [position for one in instance.aggregates for position in one.positions]
        for group, one in enumerate(instance.aggregates):
            for row, *_ in one.positions:
                group_of[row] = group
        return kernel.Rows(
            value=self.vector(item.value for item in instance.items),
            item_start=self.vector(starts),
            item_row=self.vector(row for row, _ in changes),
            item_change=self.vector(change for _, change in changes),
            **named,
            group_of=self.vector(group_of),
            group_start=self._starts([one.positions for one in instance.aggregates]),
            group_row=self.vector(position[0] for position in positions),
            group_above=self.vector(position[1] for position in positions),
            group_long=self.vector(position[2] for position in positions),
            group_short=self.vector(position[3] for position in positions),
            group_floor=self.vector(one.floor for one in instance.aggregates),
        )

    def _starts(self, lists: Any) -> Any:
        starts = [0]
        for entries in lists:
            starts.append(starts[-1] + len(entries))
        return self.vector(starts)

    def _search(self, kernel: ModuleType) -> Any:
        items, rows = len(self.instance.items), len(self.instance.rows)
        return kernel.Search(
            taken=self.zeros(items),
            room=self.zeros(rows),
            best=self.zeros(items),
            stamp=self.zeros(items),
            waiting=self.zeros(items),
            listed=self.zeros(items),
            queue=self.zeros(rows),
            queued=self.zeros(rows),
            done=self.zeros(4096),
            log=self.zeros(kernel.DEPTH + 1),
            best_log=self.zeros(kernel.DEPTH + 1),
            pending=self.zeros(kernel.PENDING * (kernel.DEPTH + 2)),
            frame=self.zeros(8 * (kernel.DEPTH + 2)),
            chain=self.zeros(4),
        )

    def _fixings(self, kernel: ModuleType, tail: Any, head: Any) -> Any:
        items = self.instance.items
        of_item: list[list[int]] = [[] for _ in items]
        out: list[list[tuple[int, int]]] = [[] for _ in self.network.liquidity]
        item_of = []
        for at, arc in enumerate(self.network.arcs):
            whole = arc.item >= 0 and not items[arc.item].split
            item_of.append(arc.item if whole else -1)
            if arc.item >= 0:
                of_item[arc.item].append(at)
            if whole:
                out[arc.tail].append((-arc.capacity, at))
        ordered = [sorted(entries) for entries in out]
        # Free arcs pass on what several rows limit together, which a reader of the proof needn't follow.
        passed = {arc.head for arc in self.network.arcs if arc.item < 0}
        plenty = 2 * self.network.plenty
        return kernel.Fixings(
            item_start=self._starts(of_item),
            item_arc=self.vector(at for entries in of_item for at in entries),
            item_of=self.vector(item_of),
            out_start=self._starts(ordered),
            out_arc=self.vector(at for entries in ordered for _, at in entries),
            capacity=self.capacity,
            liquidity=self.vector(
                liquidity + plenty if node in passed else liquidity
                for node, liquidity in enumerate(self.network.liquidity)
            ),
            tail=tail,
            head=head,
        )


def compilable(instance: Instance, net: Network) -> bool:
    """Tell whether all sums stay below 2^62, so that the kernels can run on int64."""
    gross = 4 * net.plenty + sum(arc.capacity for arc in net.arcs if arc.weight)
    weight = max((arc.weight for arc in net.arcs if arc.capacity > 1), default=1)
    worth = 0
    for one in instance.aggregates:
        for row, above, _, short in one.positions:
            worth += (instance.rows[row].room + abs(above) + gross) * short
    value = net.scale * sum(item.value for item in instance.items)
    return max(4 * gross * weight, worth, 2 * value) < SUM_MAX
