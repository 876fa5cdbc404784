"""Request bodies as JSON in which no object names a member twice: two readers of such a text may differ."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import msgspec

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def decode_strictly(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body as the decoder's type. Raises msgspec.DecodeError, for what isn't of the type ValidationError.

    The type leaves its defaults out when it is written and holds no floating-point number, like every message and
    document. Then nothing can be said in fewer bytes than msgspec takes, so a body of just that length repeats
    nothing, and only the others (with white space, escapes, or repeated members) are looked at again.
    """
    try:
        document = decoder.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason}") from error
    if len(_encode(document)) != len(body):
        read_strictly(body)
    return document


def read_strictly(body: bytes) -> Any:
    """Read a body as plain objects, arrays, texts and numbers. Raises msgspec.DecodeError."""
    try:
        # The standard parser lets through what isn't Unicode text: half of a surrogate pair.
        msgspec.json.decode(body)
        return json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        raise ValueError("a member is repeated")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't JSON")
