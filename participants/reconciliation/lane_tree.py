"""Finding the payments of a lane that two banks have otherwise, where both number alike: down the lane's own tree.

Both compare the digests of subtrees and go on into those that differ. What is said of a subtree's parts is hashed
again and must give what was said of the whole, so the other bank can't show leaves that aren't under its root.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from compliance.crypto import merkle
from participants.reconciliation.faults import ComparisonFault, Fault

LEVELS_AT_ONCE = 4
"""So far down a question goes: five questions for a million payments, each with 16 parts of what differs."""
NODES_MAX = 1024
"""In one question."""
LEAVES_MAX = 2**18
"""So many may have to be read for one question: a part's own, or those of the batch that it ends in."""
BATCH_LEAVES = 8192
DIFFERING_MAX = 256
"""Where more parts differ, the numbers don't mean the same, and the sets are compared instead."""


class Node(NamedTuple):
    """The subtree over payments at * 2^level + 1 to (at + 1) * 2^level of a lane, as far as there are."""

    level: int
    at: int

    def range(self, size: int) -> tuple[int, int]:
        """Return after which number it begins, and through which it goes, in a lane of so many payments."""
        return self.at << self.level, min((self.at + 1) << self.level, size)

    def parts(self, size: int) -> list[Node]:
        """Return the subtrees that it is made of, `LEVELS_AT_ONCE` further down."""
        level = max(0, self.level - LEVELS_AT_ONCE)
        first = self.at << (self.level - level)
        after, through = self.range(size)
        return [Node(level, first + n) for n in range((through - after + (1 << level) - 1) >> level)]


def whole(size: int) -> Node:
    """Return the subtree over all of a lane."""
    return Node((size - 1).bit_length(), 0)


def cost(nodes: Sequence[Node]) -> int:
    """Return how many leaves have to be read at most for the digests of subtrees."""
    return sum(min(1 << node.level, BATCH_LEAVES) for node in nodes)


def questions(nodes: Sequence[Node]) -> list[list[Node]]:
    """Divide what is to be asked into questions that are answered."""
    divided: list[list[Node]] = [[]]
    left = LEAVES_MAX
    for node in nodes:
        price = cost([node])
        if price > left or len(divided[-1]) == NODES_MAX:
            divided.append([])
            left = LEAVES_MAX
        divided[-1].append(node)
        left -= price
    return divided


class Descent:
    """Where the lane of `size` payments differs, as far as was heard."""

    def __init__(self, size: int, *, ours: bytes, theirs: bytes) -> None:
        """`ours` and `theirs` are the roots over all of the lane's payments."""
        self._size = size
        top = whole(size)
        self._theirs = {top: theirs}
        self.differing = [top] if size and ours != theirs else []

    @property
    def is_done(self) -> bool:
        """Whether the differing payments are known, or are too many to go on."""
        return not self.differing or self.differing[0].level == 0 or self.is_shifted

    @property
    def is_shifted(self) -> bool:
        """Whether so much differs that the numbers can't mean the same."""
        return len(self.differing) > DIFFERING_MAX

    def next(self) -> list[Node]:
        """Return the subtrees whose digests are needed from both banks."""
        return [] if self.is_done else [part for node in self.differing for part in node.parts(self._size)]

    def take(self, *, ours: Mapping[Node, bytes], theirs: Mapping[Node, bytes]) -> None:
        """Take the digests that were needed. Raises ComparisonFault where the other's aren't parts of what it said."""
        differing = []
        for node in self.differing:
            parts = node.parts(self._size)
            if merkle.root([theirs[part] for part in parts]) != self._theirs[node]:
                detail = f"the parts of subtree {node.at} of level {node.level} don't give what was said of it"
                raise ComparisonFault(Fault.DIGESTS_CONTRADICT, detail)
            differing += [part for part in parts if ours[part] != theirs[part]]
        self._theirs = dict(theirs)
        self.differing = differing

    def keep_first(self) -> None:
        """Go on into the first part that differs alone."""
        del self.differing[1:]

    def numbers(self) -> list[int]:
        """Return the numbers of the payments that differ, once they are known."""
        return [node.at + 1 for node in self.differing]

    def leaf(self, number: int) -> bytes:
        """Return the leaf that the other bank has under a number that differs."""
        return self._theirs[Node(0, number - 1)]
