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
