"""The loops over a million ids: keyed hashes, coded symbols, taking symbols apart. Compiled, over arrays of uint64.

What is compiled is kept where the netting kernels are (`netting.kernels.compile`); all that calls each other is in
this one file, so numba itself sees when it is out of date. Nothing here trusts a number: every loop ends by the
lengths of its arrays, and whoever calls made those.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

import numpy as np

from netting.kernels.compile import toolchain

kernel, _ = toolchain(__name__)

_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    ],
    np.int64,
)
_MULTIPLIER = np.uint64(0xDA942042E4DD58B5)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_BIT = np.uint64(1)
RECORD_WORDS = 8
"""Of 64 bits, in the record that an id is made of."""
TOUCHES_A_SYMBOL_MAX = 64
"""Of a symbol each id that is taken out is in 2 ln m others on average, 24 where there are 131,072."""


@kernel
def _turn(word: Any, bits: int) -> Any:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@kernel
def _mix(v: Any, a: int, b: int, c: int, d: int, x: Any, y: Any) -> None:
    v[a] = v[a] + v[b] + x
    v[d] = _turn(v[d] ^ v[a], 32)
    v[c] = v[c] + v[d]
    v[b] = _turn(v[b] ^ v[c], 24)
    v[a] = v[a] + v[b] + y
    v[d] = _turn(v[d] ^ v[a], 16)
    v[c] = v[c] + v[d]
    v[b] = _turn(v[b] ^ v[c], 63)


@kernel
def compress(state: Any, v: Any, block: Any, length: int, is_last: bool) -> None:
    """Take a block of 16 words into the state of a BLAKE2b (RFC 7693, 3.2). `v` is room for 16 words."""
    for i in range(8):
        v[i] = state[i]
        v[i + 8] = _IV[i]
    v[12] ^= np.uint64(length)
    if is_last:
        v[14] ^= _ALL
    for r in range(12):
        s = _SIGMA[r]
        _mix(v, 0, 4, 8, 12, block[s[0]], block[s[1]])
        _mix(v, 1, 5, 9, 13, block[s[2]], block[s[3]])
        _mix(v, 2, 6, 10, 14, block[s[4]], block[s[5]])
        _mix(v, 3, 7, 11, 15, block[s[6]], block[s[7]])
        _mix(v, 0, 5, 10, 15, block[s[8]], block[s[9]])
        _mix(v, 1, 6, 11, 12, block[s[10]], block[s[11]])
        _mix(v, 2, 7, 8, 13, block[s[12]], block[s[13]])
        _mix(v, 3, 4, 9, 14, block[s[14]], block[s[15]])
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]


@kernel
def keyed_ids(key: Any, records: Any, ids: Any) -> None:
    """Set ids[i] to the BLAKE2b-128 of records[i], 64 bytes, under a key of 32 bytes (four words)."""
    v, block, keyed, state = (
        np.zeros(16, np.uint64),
        np.zeros(16, np.uint64),
        np.zeros(8, np.uint64),
        np.zeros(8, np.uint64),
    )
    for i in range(8):
        keyed[i] = _IV[i]
    keyed[0] ^= np.uint64(0x01010000 | (32 << 8) | 16)
    for i in range(4):
        block[i] = key[i]
    # The key's own block is the same for all records.
    compress(keyed, v, block, 128, False)
    for i in range(16):
        block[i] = np.uint64(0)
    for n in range(len(records)):
        for i in range(8):
            state[i] = keyed[i]
            block[i] = records[n, i]
        compress(state, v, block, 192, True)
        ids[n, 0] = state[0]
        ids[n, 1] = state[1]


@kernel
def check_of(key: Any, first: Any, second: Any) -> Any:
    """Return the SipHash-2-4 of an id, two words, under the first two words of a key."""
    a = key[0] ^ np.uint64(0x736F6D6570736575)
    b = key[1] ^ np.uint64(0x646F72616E646F6D)
    c = key[0] ^ np.uint64(0x6C7967656E657261)
    d = key[1] ^ np.uint64(0x7465646279746573)
    for step in range(4):
        word = first if step == 0 else second if step == 1 else np.uint64(16) << np.uint64(56)
        if step < 3:
            d ^= word
        else:
            c ^= np.uint64(0xFF)
        for _ in range(2 if step < 3 else 4):
            a += b
            b = _turn(b, 51) ^ a
            a = _turn(a, 32)
            c += d
            d = _turn(d, 48) ^ c
            a += d
            d = _turn(d, 43) ^ a
            c += b
            b = _turn(b, 47) ^ c
            c = _turn(c, 32)
        if step < 3:
            a ^= word
    return a ^ b ^ c ^ d


@kernel
def checks_of(key: Any, ids: Any, checks: Any) -> None:
    """Set checks[i] to the keyed check of ids[i]."""
    for n in range(len(ids)):
        checks[n] = check_of(key, ids[n, 0], ids[n, 1])


@kernel
def _following(at: Any, draw: Any) -> Any:
    """Return the symbol that an id is in after symbol `at`: in the i-th with probability 1 / (1 + i/2).

    Yang et al., "Practical Rateless Set Reconciliation", SIGCOMM 2024, 4.2. At least the next one: a draw made on
    purpose would otherwise stay where it is.
    """
    skip = np.uint64(ceil((np.float64(at) + 1.5) * (4294967296.0 / sqrt(np.float64(draw) + 1.0) - 1.0)))
    return at + max(skip, _BIT)


@kernel
def extend(ids: Any, checks: Any, draws: Any, places: Any, first: int, symbols: Any, sums: Any) -> None:
    """Make the symbols from `first` on, as many as there is room for, of ids that were in all before it.

    `draws` and `places` say of each id how far it is: its generator, and the next symbol that it is in.
    """
    last = np.uint64(first + len(sums))
    start = np.uint64(first)
    for n in range(len(ids)):
        place = places[n]
        if place >= last:
            continue
        draw = draws[n]
        while place < last:
            at = place - start
            symbols[at, 0] ^= ids[n, 0]
            symbols[at, 1] ^= ids[n, 1]
            sums[at] ^= checks[n]
            draw *= _MULTIPLIER
            place = _following(place, draw)
        draws[n] = draw
        places[n] = place


@kernel
def take_apart(key: Any, symbols: Any, sums: Any, ids: Any) -> int:
    """Take out of the symbols, which are changed, each id that stands alone in one; return how many `ids` holds then.

    It ends after as many ids as there are symbols, and after so many touches of symbols as that takes, whatever
    somebody wrote into them.
    """
    m = len(sums)
    waiting, is_waiting = np.zeros(m, np.int64), np.zeros(m, np.uint8)
    count, taken, touches = 0, 0, 0
    for i in range(m - 1, -1, -1):
        waiting[count] = i
        is_waiting[i] = 1
        count += 1
    while count > 0 and taken < len(ids) and touches < TOUCHES_A_SYMBOL_MAX * m:
        count -= 1
        i = waiting[count]
        is_waiting[i] = 0
        first, second = symbols[i, 0], symbols[i, 1]
        if first == np.uint64(0) and second == np.uint64(0):
            continue
        check = check_of(key, first, second)
        if check != sums[i]:
            continue
        ids[taken, 0] = first
        ids[taken, 1] = second
        taken += 1
        draw, place = check, np.uint64(0)
        while place < np.uint64(m):
            j = np.int64(place)
            symbols[j, 0] ^= first
            symbols[j, 1] ^= second
            sums[j] ^= check
            touches += 1
            if is_waiting[j] == 0:
                waiting[count] = j
                is_waiting[j] = 1
                count += 1
            draw *= _MULTIPLIER
            place = _following(place, draw)
    return taken


@kernel
def bit_counts(ids: Any, counts: Any) -> None:
    """Count for each of the 64 bits of the ids' second words in how many it is set."""
    for n in range(len(ids)):
        word = ids[n, 1]
        for bit in range(64):
            counts[bit] += np.int64((word >> np.uint64(bit)) & _BIT)
