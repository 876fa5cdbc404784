"""A lane: the accepted payments of one sender to one receiver in one currency, numbered 1, 2, 3 …"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from compliance.crypto.merkle import Tree


class LaneKey(NamedTuple):
    sender: str
    receiver: str
    currency: str


@dataclass(slots=True)
class Lane:
    """A lane's tree and total over payments 1..tree.size, and numbered payments beyond a gap.

    Payments 1..settled_sequence are settled.
    """

    id: int
    key: LaneKey
    tree: Tree = field(default_factory=Tree)
    total: int = 0
    beyond: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    settled_sequence: int = 0

    @property
    def last_sequence(self) -> int:
        """The last number given, at the receiver, whose numbers have no gap."""
        return self.tree.size + len(self.beyond)

    def has(self, sequence: int) -> bool:
        """Tell whether a number is given to a payment already."""
        return sequence <= self.tree.size or sequence in self.beyond

    def grow(self) -> bool:
        """Take numbered payments into the tree as far as there is no gap; tell whether there were any."""
        leaves: list[bytes] = []
        while (entry := self.beyond.pop(self.tree.size + len(leaves) + 1, None)) is not None:
            leaves.append(entry[0])
            self.total += entry[1]
        if leaves:
            self.tree = self.tree.append(leaves)
        return bool(leaves)
