"""The best selection of an instance, by branch and bound within a limit of work.

The tree is searched best bound first: from the open node of the greatest bound, go down to a selection (a *plunge*),
improve that by local steps, and open what was left on the way. The bound of the whole is the greatest of an open
node, and only falls; the best selection only gets better. No step depends on the limit, so more work goes on
where less work would have ended.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from netting.certificate import Certificate, Node
from netting.kernels.compile import SUM_MAX
from netting.liquidity.instance import Instance
from netting.liquidity.network import compilable, network
from netting.liquidity.vectors import Vectors

LEAST = 10_000
"""Undecided parts of less than a 10,000th of all are left to local search."""
WEIGHTY = 3_000
"""Undecided parts of more than a 3,000th of all are looked at both ways before they are branched on."""
LAST = 300_000
"""Undecided parts of less than a 300,000th of all are rounded without looking at the flow again."""
LOCAL_WORK = 50
FIRST_WORK = 3
LOCAL_MAX = 300_000
"""Local search after a plunge, and from the first selections: so many looks for each item, and at most so many."""
LOCAL_COST = 10
"""A look of the local search takes about as long as so many of the flow's."""
LEVELS = (1_000, 3_000, 10_000, 30_000)
"""Climbing holds the items of more than a 1,000th of all, then those of more than a 3,000th, and so on."""
CLIMB_WORK = 30_000_000
CLIMB_LEAST = 3_000_000
"""A climb ends at so much work, of which so much is left for each level."""
CLIMB_SHARE = 2
"""One part in so many of all the work is for climbing."""
MULTIPLIERS_MAX = 2**24
"""The tree isn't grown beyond so many multipliers (128 MB)."""
INTERPRETED_MAX = 64
"""Up to so many items the kernels are interpreted: they are done before a compiled one is loaded."""


class Branching:
    """The search for one instance: `start` with selections, then `step` until it is proven or enough was done.

    `best` holds the amounts that settle, item by item: all, nothing, or a part where an item may be split. `value` is
    what they are worth, and `work` counts looks at entries of vectors.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._network = network(instance)
        fits = compilable(instance, self._network)
        compiled = len(instance.items) > INTERPRETED_MAX and fits
        self._vectors = Vectors(instance, self._network, compiled=compiled)
        self._kernel = self._vectors.branch_kernel
        self._state, self._other = self._vectors.state(), self._vectors.state()
        self._width = len(self._network.liquidity)
        self._most, self._other_most = self._vectors.zeros(self._width), self._vectors.zeros(self._width)
        self._amounts = [item.amount for item in instance.items]
        self._splits = any(item.split for item in instance.items)
        self._volume = sum(arc.capacity for arc in self._network.arcs if arc.item >= 0)
        grouped = {row for aggregate in instance.aggregates for row, *_ in aggregate.positions}
        self._free = [
            at
            for at, item in enumerate(instance.items)
            if all(by > 0 and row not in grouped for row, by in item.changes)
        ]
        self.best = [0] * len(instance.items)
        self.value = 0
        _, self.work = self._vectors.flow_kernel.solve(self._vectors.graph, self._state, self._vectors.scratch)
        self._plunges, self._improved_value, self._climbed = 0, 0, 0
        self._rooms = self._vectors.vector(self._vectors.rooms())
        # Climbing multiplies by potentials; up to this one, which they don't reach in practice, that fits in an int64.
        self._top = SUM_MAX // (16 * self._network.plenty) if fits else SUM_MAX * self._network.plenty
        self._open: list[tuple[int, int]] = []
        # The bound of nodes that can't be branched on: a part of a split breaks what the relaxation doesn't know.
        self._unbranched_bound = 0
        self._unbranched: set[int] = set()
        self._tree = self._new_tree(2, None)
        self._tree.size[0], self._tree.parent[0], self._tree.item[0] = 1, -1, -1
        self._tree.bound[0] = self._state.total[0]
        self._go_to(0)
        self._push(0)

    @property
    def bound(self) -> int:
        """No selection is worth more."""
        return max(self.value, self._worth(max(self._unbranched_bound, -self._open[0][0] if self._open else 0)))

    @property
    def scale(self) -> int:
        """The multipliers of the proof are in units of 1/scale."""
        return self._network.scale

    def start(self, selection: Sequence[int]) -> None:
        """Take a selection that breaks nothing, given by the indices of its items, and improve it."""
        for at in range(len(self.best)):
            self._vectors.search.selected[at] = 0
        for at in selection:
            self._vectors.search.selected[at] = 1
        self._fill_rooms()
        self._improve(FIRST_WORK)

    def start_greedy(self) -> None:
        """Take what fits in the queue's order, and what fits the greatest first, and improve both."""
        for ordered in (True, False):
            for at in range(len(self.best)):
                self._vectors.search.selected[at] = 0
            for at in self._free:
                self._vectors.search.selected[at] = 1
            self._fill_rooms()
            if ordered:
                self.work += LOCAL_COST * int(
                    self._vectors.selection_kernel.in_order(self._vectors.rows, self._vectors.search)
                )
            self._improve(FIRST_WORK)

    def start_rounded(self) -> None:
        """Round the relaxation's optimum, before anything is branched on."""
        self._go_to(0)
        self._reach()

    def step(self) -> bool:
        """Go down from the most promising open node; tell whether there was one."""
        while self._open and self._worth(-self._open[0][0]) <= self.value:
            heapq.heappop(self._open)
        if not self._open or self._tree.size[0] * self._width > MULTIPLIERS_MAX:
            return False
        _, node = heapq.heappop(self._open)
        if not self._go_to(node):
            return True
        v, first = self._vectors, int(self._tree.size[0])
        self._tree = self._new_tree(first + 2 * self._kernel.PLUNGE_MAX + 2, self._tree)
        outcome, reached, steps, swapped = self._kernel.plunge(
            v.graph, self._state, self._other, v.scratch, v.fixings, self._most, self._other_most, v.work, self._tree,
            node, self.value * self._network.scale, self._volume // LEAST, self._volume // WEIGHTY,
        )  # fmt: skip
        if swapped:
            self._swap()
        self.work += int(steps)
        self._plunges += 1
        stuck = self._tree.bound[reached] < 0
        if stuck:
            # Neither side of the last item leaves anything feasible: make selections of what there was before.
            self._go_to(int(self._tree.parent[reached]))
        if stuck or outcome != self._kernel.PRUNED:
            self._reach()
            if self._climbed * CLIMB_SHARE <= self.work:
                self._climb()
                self._go_to(int(reached))
            if outcome == self._kernel.INTEGRAL and self._worth(int(self._tree.bound[reached])) > self.value:
                self._branch_on_undecided(int(reached))
        branched = {int(self._tree.parent[t]) for t in range(first, self._tree.size[0], 2)}
        for t in (int(reached), *range(first, self._tree.size[0])):
            if t not in branched:
                self._push(t)
                branched.add(t)
        return True

    def certificate(self) -> Certificate:
        """Return the proof of the bound."""
        tree, width = self._tree, self._width
        inner = {int(tree.parent[t]) for t in range(int(tree.size[0]))}
        nodes: list[Node] = []
        for t in range(int(tree.size[0])):
            multipliers: tuple[int, ...] = ()
            if t not in inner and tree.proof[t] >= 0:
                at = int(tree.proof[t]) * width
                potential = [int(tree.multiplier[at + i]) for i in range(width)]
                multipliers = tuple(
                    max(0, potential[plus] - (potential[minus] if minus >= 0 else 0)) if plus >= 0 else 0
                    for plus, minus in self._network.shares
                )
            bound = None if tree.bound[t] < 0 else self._worth(int(tree.bound[t]))
            item = self.instance.items[tree.item[t]].id if tree.item[t] >= 0 else None
            nodes.append(Node(int(tree.parent[t]), item, bool(tree.side[t]), bound, multipliers))
        return Certificate(self.bound, self._network.scale, tuple(nodes))

    def _worth(self, scaled: int) -> int:
        return scaled // self._network.scale

    def _push(self, t: int) -> None:
        if (
            t not in self._unbranched
            and self._tree.bound[t] >= 0
            and self._worth(int(self._tree.bound[t])) > self.value
        ):
            heapq.heappush(self._open, (-int(self._tree.bound[t]), t))

    def _new_tree(self, nodes: int, old: Any) -> Any:
        """Return a tree with room for so many nodes, with those of the old one."""
        if old is not None and len(old.item) >= nodes:
            return old
        nodes = max(nodes, 2 * len(old.item) if old is not None else 0)
        lengths = {"multiplier": nodes * self._width, "size": 1}
        tree = self._kernel.Tree(**{f: self._vectors.zeros(lengths.get(f, nodes)) for f in self._kernel.Tree._fields})
        for vector, entries in zip(tree, old or (), strict=False):
            vector[: len(entries)] = entries
        return tree

    def _go_to(self, node: int) -> bool:
        """Bring the state to a node of the tree, and note its bound; tell whether anything is feasible there."""
        v = self._vectors
        path: list[int] = []
        at = node
        while self._tree.parent[at] >= 0:
            path.append(at)
            at = int(self._tree.parent[at])
        path.reverse()
        items = v.vector([int(self._tree.item[t]) for t in path])
        sides = v.vector([int(self._tree.side[t]) for t in path])
        status, steps = self._kernel.descend(
            v.graph, self._state, v.scratch, v.fixings, self._most, v.work, items, sides, len(path)
        )
        self._kernel.record(self._tree, self._state, node, status, v.graph, v.work)
        self.work += int(steps)
        return bool(status == self._kernel.FEASIBLE)

    def _swap(self) -> None:
        self._state, self._other = self._other, self._state
        self._most, self._other_most = self._other_most, self._most

    def _branch_on_undecided(self, node: int) -> None:
        """Branch on an item that isn't fixed, where the relaxation is whole but breaks what it doesn't know."""
        fixed, settles = set[int](), set[int]()
        at = node
        while self._tree.parent[at] >= 0:
            (settles if self._tree.side[at] else fixed).add(int(self._tree.item[at]))
            at = int(self._tree.parent[at])
        fixed |= settles
        undecided = [at for at, item in enumerate(self.instance.items) if at not in fixed and not item.split]
        torn_item = int(self._kernel.torn_item(self._vectors.fixings, self._state))
        if torn_item < 0 and self._splits and not undecided:
            self._unbranched_bound = max(self._unbranched_bound, int(self._tree.bound[node]))
            self._unbranched.add(node)
            return
        if torn_item < 0 and not undecided:
            # All is decided: that is worth what it is, or breaks what the relaxation doesn't know.
            amounts = [self._amounts[k] if k in settles else 0 for k in range(len(self.best))]
            fits = self.instance.fits(self.instance.rooms(amounts))
            self.offer(amounts)
            worth = sum(item.value for k, item in enumerate(self.instance.items) if k in settles)
            self._tree.bound[node] = worth * self._network.scale if fits else -1
            self._tree.proof[node] = -1
            return
        k = torn_item if torn_item >= 0 else max(undecided, key=lambda at: (self.instance.items[at].value, -at))
        self._tree = self._new_tree(int(self._tree.size[0]) + 2, self._tree)
        self._kernel.grow(self._tree, k, node, int(self._tree.bound[node]))

    # --- selections

    def _reach(self) -> None:
        """Make selections of the relaxation's optimum: as it is, and mended and improved."""
        v, selected = self._vectors, self._vectors.search.selected
        steps, swapped = v.rounding_kernel.round_flow(
            v.graph,
            self._state,
            self._other,
            v.scratch,
            v.fixings,
            self._most,
            self._other_most,
            v.work,
            self._volume // LAST,
        )
        if swapped:
            self._swap()
        self.work += int(steps)
        v.rounding_kernel.mark_settling(v.fixings, self._state, selected)
        if self._splits:
            self._top_up()
        for at in self._free:
            selected[at] = 1
        self._fill_rooms()
        self.work += LOCAL_COST * int(self._vectors.search_kernel.round_off(self._vectors.rows, self._vectors.search))
        self._improve()

    def _climb(self) -> None:
        """Improve the selection found last by what the flow says of its largest items, then of ever smaller ones."""
        v, kernel, before = self._vectors, self._vectors.climb_kernel, self.work
        selection, value = list(v.search.best), self._improved_value
        sizes, order, rank = v.by_size
        work_left = CLIMB_WORK
        for after, share in zip(range(len(LEVELS) - 1, -1, -1), LEVELS, strict=True):
            count = bisect_left(sizes, -(self._volume // share), key=lambda size: -size)
            if count < self._width:  # The flow leaves about as many undecided: too few to hold.
                continue
            self._go_to(0)
            for at, settles in enumerate(selection):
                v.search.selected[at] = settles
            status, steps = kernel.hold(
                v.graph, self._state, v.scratch, v.fixings, v.work, order, count, v.search.selected
            )
            self.work += int(steps)
            if status or not kernel.low(self._state, self._top):
                break
            steps, swapped = kernel.climb(
                v.graph, self._state, self._other, v.scratch, v.fixings, v.rows, v.work, order, rank, count,
                work_left - after * CLIMB_LEAST, self._top,
            )  # fmt: skip
            if swapped:
                self._swap()
            self.work += int(steps)
            work_left -= int(steps)
            kernel.allow(v.fixings, self._state, self._most)
            self._reach()
            if self._improved_value > value:
                selection, value = list(v.search.best), self._improved_value
        self._climbed += self.work - before

    def _fill_rooms(self) -> None:
        self._vectors.selection_kernel.fill_rooms(self._vectors.rows, self._vectors.search, self._rooms)

    def _improve(self, for_each: int = LOCAL_WORK) -> None:
        """Improve the selection in `search.selected` by local steps, and keep it if it is the best."""
        search, items = self._vectors.search, len(self.best)
        limit = min(for_each * items, LOCAL_MAX)
        value, steps = self._vectors.search_kernel.improve(self._vectors.rows, search, limit, 7 + self._plunges)
        self.work += LOCAL_COST * int(steps)
        self._improved_value = int(value)
        if value > self.value:
            self.offer([self._amounts[at] if search.best[at] else 0 for at in range(items)])
        if self._splits:
            for at in range(items):
                search.selected[at] = search.best[at]
            self._top_up()

    def _top_up(self) -> None:
        """Let items that may be split settle in the parts that are worth most beside what settles whole."""
        net, state, changed_arcs = self._network, self._other, self._vectors.work.changed_arcs
        for a, arc in enumerate(net.arcs):
            whole = arc.item >= 0 and not self.instance.items[arc.item].split
            take = whole and self._vectors.search.selected[arc.item]
            state.lower[a] = arc.capacity if take else 0
            state.upper[a] = arc.capacity if take or not whole else 0
            state.flow[a] = 0
            changed_arcs[a] = a
        for i, liquidity in enumerate(net.liquidity):
            state.slack[i] = liquidity
        status, steps = self._vectors.flow_kernel.solve(self._vectors.graph, state, self._vectors.scratch)
        self.work += int(steps)
        if status != self._vectors.flow_kernel.OPTIMAL:
            return
        amounts = [self._amounts[at] if self._vectors.search.selected[at] else 0 for at in range(len(self.best))]
        for a, arc in enumerate(net.arcs):
            if arc.item >= 0 and self.instance.items[arc.item].split:
                amounts[arc.item] = int(state.flow[a])
        self.offer(self.instance.cut(amounts))

    def offer(self, amounts: list[int]) -> None:
        """Keep a selection if it is worth more than the best and breaks nothing."""
        value = sum(item.worth(amount) for item, amount in zip(self.instance.items, amounts, strict=True) if amount)
        if value > self.value and self.instance.fits(self.instance.rooms(amounts)):
            self.best, self.value = amounts, value
