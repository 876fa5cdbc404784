"""Canonical JSON (RFC 8785) for closed schemas of strings, integers, booleans, arrays and objects.

Our documents hold no floating-point number and no non-ASCII member name, so sorting the members is all that
RFC 8785 asks beyond compact JSON; `tests/property` compares with a full implementation.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.json.Encoder(order="sorted")


class NotCanonicalError(ValueError):
    """The bytes aren't the canonical form of the document they hold (this includes repeated members)."""


def encode(document: Any) -> bytes:
    """Return the canonical bytes of a document."""
    return _encoder.encode(document)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=True)


def decode(data: bytes, kind: type[T]) -> T:
    """Parse canonical bytes as `kind`.

    Raises `msgspec.ValidationError` or `msgspec.DecodeError` for what isn't a `kind`, and `NotCanonicalError`
    for bytes that differ from the canonical form of what they say: unsorted or repeated members, white space,
    an optional member written out with its default.
    """
    schema: Any = kind
    try:
        document: T = _decoder(schema).decode(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise msgspec.DecodeError("objects and arrays inside each other too deeply") from error
    if encode(document) != data:
        raise NotCanonicalError("not in canonical form (RFC 8785)")
    return document


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()
