"""A bank's payments as a set of keyed ids, sorted, with its root and the symbols that stand for it.

An id is the BLAKE2b-128 of a record under a secret that the two banks share (decision 24): whoever chooses payments
can't choose ids. A record that is there twice counts as two: each after the first carries its number, so any multiset
is a set of ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compliance.crypto import merkle

Words = NDArray[np.uint64]

RECORD_BYTES = 64
SECRET_BYTES = 32
ID_BYTES = 16
SYMBOL_BYTES = 24
IDS_MAX = 2**21
"""In one set: it takes about 100 bytes of memory for each."""
SYMBOLS_MAX = 2**16
"""Of one set. They show about 48,000 differences; whoever differs by more compares less at once."""
BITS = 64
ROOT_PARTS = 4096
_COPY_WORD = RECORD_BYTES // 8 - 1
_COPY_SHIFT = np.uint64(32)


def records_of(rows: Iterable[bytes]) -> Words:
    """Return records of 64 bytes each as an array."""
    return np.frombuffer(b"".join(rows), np.uint64).reshape(-1, RECORD_BYTES // 8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Summary:
    """What one bank tells the other of its set before anything else. 256 bytes, count and root.

    `bits` say of each of 64 bits in how many ids it is set, less half of the count.
    """

    count: int
    root: bytes
    bits: NDArray[np.int64]

    def distance(self, other: Summary) -> int:
        """Return about how many ids are in one of the sets only, within 18 % two times of three.

        Each bit of an id that only one has is a coin (Alon, Matias, Szegedy, 1996): the mean of the squares of how far
        64 sums of such coins are apart is how many there are.
        """
        # Twice the difference is the sum of the coins, each 1 or -1.
        coins = 2.0 * (self.bits - other.bits)
        return max(abs(self.count - other.count), round(float((coins * coins).mean())))


class IdSet:
    """The ids of a bank's records, sorted. `places[i]` says which record the i-th id is of."""

    def __init__(self, secret: bytes, records: Words) -> None:
        """`records` are rows of eight words. Raises ValueError for more than `IDS_MAX`."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a secret of {len(secret)} bytes")
        if len(records) > IDS_MAX:
            raise ValueError(f"{len(records)} records in one set, {IDS_MAX} at most")
        self.key = np.frombuffer(secret, np.uint64).copy()
        ids = _ids(self.key, records)
        self.ids, self.places = _sorted(ids)
        repeated = np.flatnonzero((self.ids[1:] == self.ids[:-1]).all(axis=1)) + 1
        if len(repeated):
            self.ids, self.places = _sorted(self._numbered(records, ids, repeated))
        self._symbols: _Symbols | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def _numbered(self, records: Words, ids: Words, repeated: NDArray[np.int64]) -> Words:
        """Return the ids, those that are there more than once each with the number of its copy in its record."""
        copies = np.zeros(len(ids), np.uint64)
        for at in repeated.tolist():
            copies[at] = copies[at - 1] + np.uint64(1)
        places = self.places[repeated]
        numbered = records[places].copy()
        numbered[:, _COPY_WORD] ^= copies[repeated] << _COPY_SHIFT
        ids[places] = _ids(self.key, numbered)
        return ids

    @cached_property
    def summary(self) -> Summary:
        from participants.reconciliation import kernels

        counts = np.zeros(BITS, np.int64)
        kernels.bit_counts(self.ids, counts)
        return Summary(count=len(self), root=root_of(self.ids), bits=counts - len(self) // 2)

    def symbols(self, first: int, count: int) -> Words:
        """Return coded symbols (Yang et al., SIGCOMM 2024): rows of an xor of ids, two words, and of their checks.

        Made on from where the last ones ended, and kept: the same are the same, however often they are asked for.
        Raises ValueError beyond `SYMBOLS_MAX`.
        """
        if not (first >= 0 and count >= 0 and first + count <= SYMBOLS_MAX):
            raise ValueError(f"symbols {first} to {first + count}")
        if self._symbols is None:
            self._symbols = _Symbols(self.key, self.ids)
        return self._symbols.through(first + count)[first : first + count]

    def split(self, ids: Words) -> tuple[NDArray[np.int64], Words]:
        """Return which ids are in this set, by their places in `ids`, and the others."""
        at, is_here = _find(self.ids, ids)
        return at[is_here], ids[~is_here]

    def changed(self, *, without: NDArray[np.int64], more: Words) -> Words:
        """Return the sorted ids of this set without some places, and with other ids."""
        kept = np.delete(self.ids, without, axis=0)
        added, _ = _sorted(more)
        at, _ = _find(kept, added)
        return np.insert(kept, at, added, axis=0)


class _Symbols:
    """The symbols of one set so far, and how far each id is in them."""

    def __init__(self, key: Words, ids: Words) -> None:
        from participants.reconciliation import kernels

        self._kernels = kernels
        self._ids = ids
        self._checks = np.empty(len(ids), np.uint64)
        kernels.checks_of(key, ids, self._checks)
        self._draws, self._following = self._checks.copy(), np.zeros(len(ids), np.uint64)
        self._made = np.empty((0, 3), np.uint64)

    def through(self, end: int) -> Words:
        if end > len(self._made):
            first = len(self._made)
            symbols, sums = np.zeros((end - first, 2), np.uint64), np.zeros(end - first, np.uint64)
            self._kernels.extend(self._ids, self._checks, self._draws, self._following, first, symbols, sums)
            self._made = np.concatenate((self._made, np.column_stack((symbols, sums))))
        return self._made


def root_of(ids: Words) -> bytes:
    """Return the RFC 6962 root over sorted ids. Its 4,096 leaves are the ids of equal parts of all that there can be.

    With a leaf for each id it would take ten times as long, and prove the same: one root, one set.
    """
    parts = np.arange(1, ROOT_PARTS, dtype=np.uint64) << np.uint64(64 - ROOT_PARTS.bit_length() + 1)
    ends = [*np.searchsorted(ids[:, 0], parts).tolist(), len(ids)]
    data, start, leaves = memoryview(ids.tobytes()), 0, []
    for end in ends:
        leaves.append(hashlib.sha256(b"\x00" + data[start * ID_BYTES : end * ID_BYTES]).digest())
        start = end
    return merkle.root(leaves)


def as_ids(data: bytes) -> Words:
    """Return ids from their bytes."""
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def _ids(key: Words, records: Words) -> Words:
    from participants.reconciliation import kernels

    ids = np.empty((len(records), 2), np.uint64)
    kernels.keyed_ids(key, records, ids)
    return ids


def _sorted(ids: Words) -> tuple[Words, NDArray[np.int64]]:
    places = np.argsort(ids[:, 0])
    first = ids[places, 0]
    if (first[1:] == first[:-1]).any():
        places = np.lexsort((ids[:, 1], ids[:, 0]))
    return ids[places], places


def _find(among: Words, ids: Words) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each of some ids is among sorted ones, or would be, and whether it is there."""
    at = np.searchsorted(among[:, 0], ids[:, 0])
    is_here = np.zeros(len(ids), np.bool_)
    for n, (first, second) in enumerate(ids):
        place = int(at[n])
        # Two ids begin alike once in 2^25 sets of a million.
        while place < len(among) and among[place, 0] == first and among[place, 1] < second:
            place += 1
        at[n] = place
        is_here[n] = place < len(among) and bool(among[place, 0] == first and among[place, 1] == second)
    return at, is_here


def symbol_bytes(symbols: Words) -> bytes:
    """Return symbols as they travel, 24 bytes each."""
    return np.ascontiguousarray(symbols).tobytes()


def read_symbols(data: bytes) -> Words:
    """Return symbols from what travelled. Raises ValueError."""
    if len(data) % SYMBOL_BYTES:
        raise ValueError(f"{len(data)} bytes of symbols")
    return np.frombuffer(data, np.uint64).reshape(-1, 3)
