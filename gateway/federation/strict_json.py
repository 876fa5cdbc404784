"""Request bodies as JSON in which no object names a member twice: two readers of such a text may differ.

Nor is one deeper or wider than anything that a node takes; and one of too many values isn't read at all.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from compliance.terminal import shown

NAME_SHOWN = 40
"""Characters of a repeated member's name that an answer repeats."""
DEPTH_MAX = 32
MEMBERS_MAX = 1_024
"""Of one object."""
ITEMS_MAX = 65_536
"""Of one array."""
VALUES_MAX = 262_144
"""Of a document in all: a third more than the largest attestation has."""
_TOO_DEEP = f"more than {DEPTH_MAX} levels"
_BEFORE_NO_VALUE = bytes(set(range(256)) - set(b"{[,:"))


def read_strictly(body: bytes) -> Any:
    """Read a body as plain objects, arrays, texts and numbers. Raises msgspec.DecodeError."""
    refuse_crowd(body)
    try:
        document = msgspec.json.decode(body)
        # A colon stands behind each name, and in texts. With as many members as colons no two of them became one.
        if _members(document) != body.count(b":"):
            json.loads(body, object_pairs_hook=_unique)
    except RecursionError as error:
        raise msgspec.DecodeError(_TOO_DEEP) from error
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    return document


def refuse_crowd(body: bytes) -> None:
    """Raise DecodeError for a body of more values than any that a node takes, before one of them is made.

    They are counted by what stands before them. What stands in texts is counted with it; there is room for that.
    """
    if len(body) > VALUES_MAX and len(body.translate(None, _BEFORE_NO_VALUE)) > VALUES_MAX:
        raise msgspec.DecodeError(f"more than {VALUES_MAX} values")


def _members(document: Any) -> int:
    """Return how many members a document's objects have. Raises DecodeError if it is too deep or too wide."""
    level = [document] if isinstance(document, (dict, list)) else []
    members = 0
    for _ in range(DEPTH_MAX):
        if not level:
            return members
        if any(len(inner) > (MEMBERS_MAX if isinstance(inner, dict) else ITEMS_MAX) for inner in level):
            raise msgspec.DecodeError(f"more than {MEMBERS_MAX} members of an object, or {ITEMS_MAX} items of an array")
        members += sum(len(inner) for inner in level if isinstance(inner, dict))
        level = [
            value
            for inner in level
            for value in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(value, (dict, list))
        ]
    if level:
        raise msgspec.DecodeError(_TOO_DEEP)
    return members


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        repeated = next(name for name, times in Counter(name for name, _ in members).items() if times > 1)
        raise ValueError(f"the member {shown(repeated, characters_max=NAME_SHOWN)} is repeated")
    return document
