"""Gridlock resolution in the order of the queues: the largest set of prefixes that can settle.

Each account pays in the order of its queue (priority, sequence, id), and nothing overtakes. Start with everything
settled. While a limit is broken, the last payment of the queue that breaks it can't settle, whatever else does;
so take it out, and go on. What remains is the largest set of prefixes there is, and it doesn't depend on the
order of the steps. Source: Bech and Soramäki, Gridlock Resolution in Interbank Payment Systems (Bank of Finland
DP 9/2001); the order-independence also in Private Liquidity Matching (eprint 2021/475).

A limit over several currencies takes out the participant's last payment in any of them, which is a choice: then the
set is one that can't be made larger, not the largest.
"""

from __future__ import annotations

from collections import defaultdict

from netting.liquidity.instance import Instance
from netting.queue import Account, order_key


def prefixes(instance: Instance) -> list[int]:
    """Return the indices of the items that settle, in order. O(payments · rows of a payment)."""
    return _Queues(instance).fixpoint()


class _Queues:
    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._rooms = [row.room for row in instance.rows]
        self._settles = [True] * len(instance.items)
        # The items that an account pays in, the next to be taken out last. A split payment settles whole here.
        self._queue: defaultdict[Account, list[int]] = defaultdict(list)
        ordered = [(payment, at) for at, item in enumerate(instance.items) for payment in item.payments]
        if len(ordered) > len(instance.items):  # The other payments of a link stand behind its first.
            ordered.sort(key=lambda entry: order_key(entry[0]))
        # Where each item stands: (account, position) of each of its payments.
        self._places: defaultdict[int, list[tuple[Account, int]]] = defaultdict(list)
        for payment, at in ordered:
            account = (payment.debtor, payment.currency)
            queue = self._queue[account]
            self._places[at].append((account, len(queue)))
            queue.append(at)
        self._members: defaultdict[str, list[Account]] = defaultdict(list)
        for account in sorted(self._queue):
            self._members[account[0]].append(account)
        self._aggregate_of_row = {
            row: aggregate for aggregate in instance.aggregates for row, *_ in aggregate.positions
        }
        self._broken: list[int] = []

    def fixpoint(self) -> list[int]:
        for item in self._instance.items:
            for row, change in item.changes:
                self._rooms[row] += change
        self._broken = list(range(len(self._rooms)))
        while self._broken:
            row = self._broken.pop()
            # The last of the queue that uses the row must go, and with it all that stands behind it.
            of = self._instance.rows[row].of
            while self._rooms[row] < 0:
                self._take_out(self._queue[of[0], of[-1]][-1])
            aggregate = self._aggregate_of_row.get(row)
            while aggregate is not None and aggregate.worth(self._rooms) < aggregate.floor:
                self._take_out(
                    max(queue[-1] for a in self._members[aggregate.participant] if (queue := self._queue[a]))
                )
        return [at for at, settles in enumerate(self._settles) if settles]

    def _take_out(self, at: int) -> None:
        """Take an item out, and with it whatever stands behind one of its payments in a queue."""
        stack = [at]
        while stack:
            at = stack.pop()
            if not self._settles[at]:
                continue
            self._settles[at] = False
            for row, change in self._instance.items[at].changes:
                self._rooms[row] -= change
                if change > 0:
                    self._broken.append(row)
            for account, position in self._places[at]:
                queue = self._queue[account]
                stack += queue[position:]
                del queue[position:]
