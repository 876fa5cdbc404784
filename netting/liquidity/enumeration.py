"""The best selection of a small instance, by looking at every one that could be it.

Ties between selections of the same value go to the greater number of payments, then to the one that settles the
first item of the queue's order in which they differ. The order is (priority, age, id), so this is "then priority
and age, then id".
"""

from __future__ import annotations

from netting.liquidity.instance import Instance

ITEMS_MAX = 16
"""Up to so many items every selection is looked at: at most 2^16."""


def best(instance: Instance) -> tuple[list[int], int]:
    """Return the indices of the best items, and how many partial selections were looked at.

    Exact, for items that settle whole. Branches are left out only when what remains can't make up for a row that is
    below its limit, or can't reach the best value and count found so far.
    """
    search = _Search(instance)
    search.visit(0, 0, 0, [row.room for row in instance.rows])
    return search.best, search.visited


class _Search:
    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.best: list[int] = []
        self.visited = 0
        self._best_gain = (0, 0)
        self._selected: list[int] = []
        items = instance.items
        # What the items from `at` on add at most: to the value and count, and to the room of each row.
        self._value = [0] * (len(items) + 1)
        self._count = [0] * (len(items) + 1)
        self._refill = [[0] * len(instance.rows)]
        for at in range(len(items) - 1, -1, -1):
            self._value[at] = self._value[at + 1] + items[at].value
            self._count[at] = self._count[at + 1] + len(items[at].payments)
            refill = list(self._refill[0])
            for row, change in items[at].changes:
                refill[row] += max(0, change)
            self._refill.insert(0, refill)

    def visit(self, at: int, value: int, count: int, rooms: list[int]) -> None:
        self.visited += 1
        if (value + self._value[at], count + self._count[at]) <= self._best_gain:
            return
        refill = self._refill[at]
        if any(room + refill[row] < 0 for row, room in enumerate(rooms) if room < 0):
            return
        if at == len(self.instance.items):
            if self.instance.fits(rooms):
                self._best_gain, self.best = (value, count), list(self._selected)
            return
        item = self.instance.items[at]
        after = list(rooms)
        for row, change in item.changes:
            after[row] += change
        # Settling comes first, so that of equals the one found first is the one that settles the earlier item.
        self._selected.append(at)
        self.visit(at + 1, value + item.value, count + len(item.payments), after)
        self._selected.pop()
        self.visit(at + 1, value, count, rooms)
