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
_PARAMETERS = 0x01010000 | (32 << 8) | 16
"""Of BLAKE2b: one block after another, a key of 32 bytes, a digest of 16."""
_MULTIPLIER = np.uint64(0xDA942042E4DD58B5)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_BIT = np.uint64(1)
TOUCHES_A_SYMBOL_MAX = 64
"""Of a symbol each id that is taken out is in 2 ln m others on average, 24 where there are 131,072."""


@kernel
def _turn(word: Any, bits: int) -> Any:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@kernel
def _mix(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a = a + b + x
    d = _turn(d ^ a, 32)
    c = c + d
    b = _turn(b ^ c, 24)
    a = a + b + y
    d = _turn(d ^ a, 16)
    c = c + d
    b = _turn(b ^ c, 63)
    return a, b, c, d


@kernel
def _round(v: Any, m0: Any, m1: Any, m2: Any, m3: Any, m4: Any, m5: Any, m6: Any, m7: Any,
           m8: Any, m9: Any, ma: Any, mb: Any, mc: Any, md: Any, me: Any, mf: Any) -> Any:  # fmt: skip
    """Return the sixteen words after one round. Words that aren't in an array stay in the processor's registers."""
    v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, va, vb, vc, vd, ve, vf = v
    v0, v4, v8, vc = _mix(v0, v4, v8, vc, m0, m1)
    v1, v5, v9, vd = _mix(v1, v5, v9, vd, m2, m3)
    v2, v6, va, ve = _mix(v2, v6, va, ve, m4, m5)
    v3, v7, vb, vf = _mix(v3, v7, vb, vf, m6, m7)
    v0, v5, va, vf = _mix(v0, v5, va, vf, m8, m9)
    v1, v6, vb, vc = _mix(v1, v6, vb, vc, ma, mb)
    v2, v7, v8, vd = _mix(v2, v7, v8, vd, mc, md)
    v3, v4, v9, ve = _mix(v3, v4, v9, ve, me, mf)
    return v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, va, vb, vc, vd, ve, vf


@kernel
def _compress(h: Any, m: Any, length: int, last: Any) -> Any:
    """Return what BLAKE2b (RFC 7693, 3.2) makes of eight words of state and a block whose last eight words are zero.

    `last` has all bits for the last block, none for another.
    """
    z = np.uint64(0)
    v = (
        h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7],
        _IV[0], _IV[1], _IV[2], _IV[3], _IV[4] ^ np.uint64(length), _IV[5], _IV[6] ^ last, _IV[7],
    )  # fmt: skip
    v = _round(v, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], z, z, z, z, z, z, z, z)
    v = _round(v, z, z, m[4], z, z, z, z, m[6], m[1], z, m[0], m[2], z, m[7], m[5], m[3])
    v = _round(v, z, z, z, m[0], m[5], m[2], z, z, z, z, m[3], m[6], m[7], m[1], z, m[4])
    v = _round(v, m[7], z, m[3], m[1], z, z, z, z, m[2], m[6], m[5], z, m[4], m[0], z, z)
    v = _round(v, z, m[0], m[5], m[7], m[2], m[4], z, z, z, m[1], z, z, m[6], z, m[3], z)
    v = _round(v, m[2], z, m[6], z, m[0], z, z, m[3], m[4], z, m[7], m[5], z, z, m[1], z)
    v = _round(v, z, m[5], m[1], z, z, z, m[4], z, m[0], m[7], m[6], m[3], z, m[2], z, z)
    v = _round(v, z, z, m[7], z, z, m[1], m[3], z, m[5], m[0], z, m[4], z, m[6], m[2], z)
    v = _round(v, m[6], z, z, z, z, m[3], m[0], z, z, m[2], z, m[7], m[1], m[4], z, m[5])
    v = _round(v, z, m[2], z, m[4], m[7], m[6], m[1], m[5], z, z, z, z, m[3], z, z, m[0])
    v = _round(v, m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], z, z, z, z, z, z, z, z)
    v = _round(v, z, z, m[4], z, z, z, z, m[6], m[1], z, m[0], m[2], z, m[7], m[5], m[3])
    return (
        h[0] ^ v[0] ^ v[8], h[1] ^ v[1] ^ v[9], h[2] ^ v[2] ^ v[10], h[3] ^ v[3] ^ v[11],
        h[4] ^ v[4] ^ v[12], h[5] ^ v[5] ^ v[13], h[6] ^ v[6] ^ v[14], h[7] ^ v[7] ^ v[15],
    )  # fmt: skip


@kernel
def keyed_ids(key: Any, records: Any, ids: Any) -> None:
    """Set ids[i] to the BLAKE2b-128 of records[i], 64 bytes, under a key of 32 bytes (four words)."""
    begin = (_IV[0] ^ np.uint64(_PARAMETERS), _IV[1], _IV[2], _IV[3], _IV[4], _IV[5], _IV[6], _IV[7])
    block = np.zeros(8, np.uint64)
    for i in range(4):
        block[i] = key[i]
    # The key's own block is the same for all records.
    keyed = _compress(begin, block, 128, np.uint64(0))
    for n in range(len(records)):
        made = _compress(keyed, records[n], 192, _ALL)
        ids[n, 0] = made[0]
        ids[n, 1] = made[1]


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
