"""Request bodies as JSON in which no object names a member twice: two readers of such a text may differ.

Nor is one deeper or wider than anything that a node takes.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

import msgspec

from compliance.terminal import shown

NAME_SHOWN = 40
"""Characters of a repeated member's name that an answer repeats."""
DEPTH_MAX = 32
MEMBERS_MAX = 1_024
"""Of one object."""
ITEMS_MAX = 65_536
"""Of one array."""
_TOO_DEEP = f"more than {DEPTH_MAX} levels"


def read_strictly(body: bytes) -> Any:
    """Read a body as plain objects, arrays, texts and numbers. Raises msgspec.DecodeError."""
    try:
        # The standard parser lets through what isn't Unicode text: half of a surrogate pair.
        msgspec.json.decode(body)
        document = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise msgspec.DecodeError(_TOO_DEEP) from error
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    _require_bounded(document)
    return document


def _require_bounded(document: Any) -> None:
    """Raise DecodeError for a document that is deeper or wider than anything a node takes."""
    level = [document] if isinstance(document, (dict, list)) else []
    for _ in range(DEPTH_MAX):
        if not level:
            return
        if any(len(inner) > (MEMBERS_MAX if isinstance(inner, dict) else ITEMS_MAX) for inner in level):
            raise msgspec.DecodeError(f"more than {MEMBERS_MAX} members of an object, or {ITEMS_MAX} items of an array")
        level = [
            value
            for inner in level
            for value in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(value, (dict, list))
        ]
    if level:
        raise msgspec.DecodeError(_TOO_DEEP)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        repeated = next(name for name, times in Counter(name for name, _ in members).items() if times > 1)
        raise ValueError(f"the member {shown(repeated, characters_max=NAME_SHOWN)} is repeated")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't JSON")
