"""The RFC 6962 Merkle tree over SHA-256, as an accumulator that grows in batches.

A tree of n leaves is kept as the heads of its perfect subtrees, largest first: one 32-byte hash for each bit
set in n. That is all it takes to append and to know the root, so neither costs more as the tree grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 || data) (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right) (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of `size` leaves: `peaks` are the heads of its perfect subtrees, largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaves: Iterable[bytes]) -> Tree:
        """Return the tree with leaf hashes added at its end. O(leaves + log size)."""
        size, peaks = self.size, list(self.peaks)
        for leaf in leaves:
            node, carry = leaf, size
            while carry & 1:
                node = node_hash(peaks.pop(), node)
                carry >>= 1
            peaks.append(node)
            size += 1
        return Tree(size, tuple(peaks))

    def root(self) -> bytes:
        """Return the tree head."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node

    def to_bytes(self) -> bytes:
        """Return the peaks, end to end; the size is stored beside them."""
        return b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Tree:
        """Read what `to_bytes` wrote. Raises ValueError if the number of peaks doesn't belong to the size."""
        if len(data) != 32 * size.bit_count():
            raise ValueError(f"{len(data)} bytes of peaks for a tree of {size} leaves")
        return cls(size, tuple(data[i : i + 32] for i in range(0, len(data), 32)))


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree head over leaf hashes."""
    return Tree().append(leaves).root()


class Paths:
    """The audit paths of all leaves of one tree, whose nodes are hashed once."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._size = len(leaves)
        self._levels = [list(leaves)]
        while len(level := self._levels[-1]) > 1:
            above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
            # A node without a sibling is its own parent (RFC 6962's tree has no copies of leaves).
            self._levels.append(above + level[len(above) * 2 :])

    def of(self, index: int) -> list[bytes]:
        """Return the audit path of a leaf, lowest first (RFC 6962, 2.1.1). Raises IndexError. O(log leaves)."""
        if not 0 <= index < self._size:
            raise IndexError(f"leaf {index} of {self._size}")
        path: list[bytes] = []
        for level in self._levels[:-1]:
            if (sibling := index ^ 1) < len(level):
                path.append(level[sibling])
            index >>= 1
        return path


def included_root(leaf: bytes, *, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the tree head that a leaf hash and its audit path lead to, None for a path of another length.

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        return None
    node, at, last = leaf, index, size - 1
    for beside in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            node = node_hash(beside, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, beside)
        at, last = at >> 1, last >> 1
    return node if last == 0 else None
