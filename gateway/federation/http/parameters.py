"""Parameters of paths and queries that have the form of a member of a message."""

from __future__ import annotations

from typing import Any, get_args

from msgspec import Meta


def form_of(kind: Any) -> dict[str, Any]:
    """Return what a type of messages asks of a text, for a parameter of it: `PathParameter(**form_of(CycleId))`.

    Litestar leaves aside what an annotation says beside the parameter's own definition.
    """
    (meta,) = [meta for meta in get_args(kind) if isinstance(meta, Meta)]
    said = {name: getattr(meta, name) for name in ("pattern", "min_length", "max_length", "description")}
    return {name: value for name, value in said.items() if value is not None}
