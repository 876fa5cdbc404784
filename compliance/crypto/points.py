"""Which 32 bytes are a public key of Ed25519 that only the holder of its private key can sign for.

OpenSSL takes any 32 bytes, and looks at them when it verifies. Under a point of small order a signature that anybody
can write verifies for many messages, and a point that is encoded in two ways has two names.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
"""RFC 8032, section 5.1."""
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})
"""The y of all eight points whose order divides 8: two of each but 1 and -1, which have x = 0 (the list of libsodium's
`ge25519_has_small_order`, without the encodings that aren't canonical)."""
_POINT_BYTES = 32


class PointReason(StrEnum):
    """Why bytes are no public key, in order of precedence."""

    WRONG_LENGTH = "point_wrong_length"
    NOT_CANONICAL = "point_not_canonical"
    SMALL_ORDER = "point_small_order"
    OFF_CURVE = "point_off_curve"


class PointError(ValueError):
    """Bytes that are no public key of Ed25519. `reason` is stable."""

    def __init__(self, reason: PointReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


# A trust list names the same keys again and again, and a power of 255 bits takes a tenth of a millisecond.
@lru_cache(maxsize=8_192)
def require_point(encoded: bytes) -> None:
    """Check that bytes encode a point of the curve, in its one form, that isn't of small order. Raises PointError.

    Decoding as in RFC 8032, section 5.1.3, as far as to tell whether there is an x: x² = (y² - 1) / (d y² + 1) has a
    root if the product of both is a square, by Euler's criterion.
    """
    if len(encoded) != _POINT_BYTES:
        raise PointError(PointReason.WRONG_LENGTH)
    y = int.from_bytes(encoded, "little") & ~(1 << 255)
    if y >= _P:
        raise PointError(PointReason.NOT_CANONICAL)
    # Before the curve: 1 and -1 with the sign of x set have no x of that sign, and are none of the eight either.
    if y in _SMALL_ORDER:
        raise PointError(PointReason.SMALL_ORDER)
    y2 = y * y % _P
    if pow((y2 - 1) * (_D * y2 + 1), (_P - 1) // 2, _P) != 1:
        raise PointError(PointReason.OFF_CURVE)
