"""An instance and its network as flat vectors, and the kernels that work on them."""

from __future__ import annotations

import itertools
from functools import cached_property
from types import ModuleType
from typing import Any

from netting.kernels.compile import load, vector, zeros
from netting.liquidity.instance import Instance
from netting.liquidity.network import Network


class Vectors:
    """The vectors of an instance and its network, compiled or interpreted, and the kernels that go with them."""

    def __init__(self, instance: Instance, net: Network, *, compiled: bool) -> None:
        self.instance = instance
        self.network = net
        self.compiled = compiled
        self.selection_kernel: Any = load("netting.kernels.selection", compiled=compiled)
        self.search_kernel: Any = load("netting.kernels.search", compiled=compiled)
        self.branch_kernel: Any = load("netting.kernels.branch", compiled=compiled)
        self.rounding_kernel: Any = load("netting.kernels.rounding", compiled=compiled)
        self.climb_kernel: Any = load("netting.kernels.climb", compiled=compiled)
        self.flow_kernel: Any = load("netting.kernels.flow", compiled=compiled)
        self.rows = self._rows(self.selection_kernel)
        self.search = self._search(self.selection_kernel)
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
            changed_arcs=self.zeros(2 * len(arcs) + 2),
            stack=self.zeros(2 * len(arcs) + nodes + 2),
            candidate=self.zeros(self.branch_kernel.CANDIDATES),
            score=self.zeros(self.branch_kernel.CANDIDATES),
        )

    def vector(self, values: Any) -> Any:
        return vector(values, compiled=self.compiled)

    def zeros(self, count: int) -> Any:
        return zeros(count, compiled=self.compiled)

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

    @cached_property
    def by_size(self) -> tuple[list[int], Any, Any]:
        """The sizes of whole items with an arc, the largest first; which these are; and the place of each item."""
        start, arc = self.fixings.item_start, self.fixings.item_arc
        sized = sorted(
            (-max(int(self.capacity[arc[e]]) for e in range(start[at], start[at + 1])), at)
            for at, item in enumerate(self.instance.items)
            if start[at] < start[at + 1] and not item.split
        )
        rank = [len(sized)] * len(self.instance.items)
        for place, (_, at) in enumerate(sized):
            rank[at] = place
        return [-size for size, _ in sized], self.vector(at for _, at in sized), self.vector(rank)

    def rooms(self) -> list[int]:
        """Return the room of each row before anything settles, cut where no row could need more."""
        exact = {row for aggregate in self.instance.aggregates for row, *_ in aggregate.positions}
        return [
            row.room if at in exact else min(row.room, self.network.plenty) for at, row in enumerate(self.instance.rows)
        ]

    def _rows(self, kernel: ModuleType) -> Any:
        instance = self.instance
        starts, entries = [0], list[tuple[int, int, int]]()
        for at, item in enumerate(instance.items):
            for row, change in item.changes:
                entries.append((row, -abs(change), at if change > 0 else ~at))
            starts.append(len(entries))
        named: dict[str, Any] = {}
        for name, of in (
            ("use", [(row, amount, ~at) for row, amount, at in entries if at < 0]),
            ("fill", [entry for entry in entries if entry[2] >= 0]),
        ):
            start, item, amount = self._grouped(of, len(instance.rows))
            named |= {f"{name}_start": start, f"{name}_item": item, f"{name}_amount": amount}
        group_of = [-1] * len(instance.rows)
        positions = [position for aggregate in instance.aggregates for position in aggregate.positions]
        for group, aggregate in enumerate(instance.aggregates):
            for row, *_ in aggregate.positions:
                group_of[row] = group
        return kernel.Rows(
            value=self.vector(item.value for item in instance.items),
            item_start=self.vector(starts),
            item_row=self.vector([row for row, _, _ in entries]),
            item_change=self.vector([amount if at < 0 else -amount for _, amount, at in entries]),
            **named,
            group_of=self.vector(group_of),
            group_start=self._starts([aggregate.positions for aggregate in instance.aggregates]),
            group_row=self.vector(position[0] for position in positions),
            group_above=self.vector(position[1] for position in positions),
            group_long=self.vector(position[2] for position in positions),
            group_short=self.vector(position[3] for position in positions),
            group_floor=self.vector(aggregate.floor for aggregate in instance.aggregates),
        )

    def _grouped(self, entries: list[tuple[int, int, int]], groups: int) -> tuple[Any, Any, Any]:
        """Return (start, member, amount) for entries (group, minus amount, member): the greatest of a group first."""
        entries.sort()
        counts = [0] * (groups + 1)
        for group, _, _ in entries:
            counts[group + 1] += 1
        return (
            self.vector(list(itertools.accumulate(counts))),
            self.vector([member for _, _, member in entries]),
            self.vector([-amount for _, amount, _ in entries]),
        )

    def _starts(self, lists: Any) -> Any:
        return self.vector(list(itertools.accumulate((len(entries) for entries in lists), initial=0)))

    def _search(self, kernel: ModuleType) -> Any:
        chains: Any = load("netting.kernels.chains", compiled=self.compiled)
        items, rows = len(self.instance.items), len(self.instance.rows)
        return kernel.Search(
            selected=self.zeros(items),
            room=self.zeros(rows),
            best=self.zeros(items),
            stamp=self.zeros(items),
            waiting=self.zeros(items),
            listed=self.zeros(items),
            queue=self.zeros(rows),
            queued=self.zeros(rows),
            changes=self.zeros(4096),
            log=self.zeros(chains.DEPTH + 1),
            best_log=self.zeros(chains.DEPTH + 1),
            pending=self.zeros(chains.PENDING * (chains.DEPTH + 2)),
            frame=self.zeros(chains.FRAME * (chains.DEPTH + 2)),
            chain=self.zeros(4),
        )

    def _fixings(self, kernel: ModuleType, tail: Any, head: Any) -> Any:
        items = self.instance.items
        of_item: list[list[int]] = [[] for _ in items]
        out: list[tuple[int, int, int]] = []
        item_of = []
        for at, arc in enumerate(self.network.arcs):
            whole = arc.item >= 0 and not items[arc.item].split
            item_of.append(arc.item if whole else -1)
            if arc.item >= 0:
                of_item[arc.item].append(at)
            if whole:
                out.append((arc.tail, -arc.capacity, at))
        out_start, out_arc, _ = self._grouped(out, len(self.network.liquidity))
        # Free arcs pass on what several rows limit together, which a reader of the proof needn't follow.
        passed = {arc.head for arc in self.network.arcs if arc.item < 0}
        plenty = 2 * self.network.plenty
        return kernel.Fixings(
            item_start=self._starts(of_item),
            item_arc=self.vector(at for entries in of_item for at in entries),
            item_of=self.vector(item_of),
            out_start=out_start,
            out_arc=out_arc,
            capacity=self.capacity,
            liquidity=self.vector(
                liquidity + plenty if node in passed else liquidity
                for node, liquidity in enumerate(self.network.liquidity)
            ),
            tail=tail,
            head=head,
        )
