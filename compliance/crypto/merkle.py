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


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of a leaf hash, lowest first (RFC 6962, 2.1.1). Raises IndexError. O(leaves)."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    path: list[bytes] = []
    begin, end = 0, len(leaves)
    while end - begin > 1:
        middle = begin + (1 << ((end - begin - 1).bit_length() - 1))
        if index < middle:
            path.append(root(leaves[middle:end]))
            end = middle
        else:
            path.append(root(leaves[begin:middle]))
            begin = middle
    return path[::-1]


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
