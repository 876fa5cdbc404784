"""JSON Schema as any reader takes it, and examples, both made of the types that requests are checked against."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

_NO_LINE_END = r"(?!\n)$"
"""How our patterns end in Python, where `$` alone lets a line end follow; elsewhere it lets none."""


def portable(schema: Any) -> Any:
    """Return a schema without what some readers refuse: patterns that look ahead, and `items` that is no schema."""
    match schema:
        case dict():
            said = {name: portable(value) for name, value in schema.items()}
            if isinstance(pattern := said.get("pattern"), str) and pattern.endswith(_NO_LINE_END):
                said["pattern"] = pattern.removesuffix(_NO_LINE_END) + "$"
            if "type" not in said and _is_of_texts(said.get("enum")):
                said["type"] = "string"
            if said.get("items") is False and isinstance(said.get("prefixItems"), list):
                kinds = said.pop("prefixItems")
                said["items"] = kinds[0] if all(kind == kinds[0] for kind in kinds) else {"anyOf": kinds}
            return said
        case list():
            return [portable(item) for item in schema]
        case _:
            return schema


def _is_of_texts(words: Any) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def example_of(kind: Any) -> Any:
    """Return an example of a type, as JSON: what it must say, and what else it gives an example of."""
    return _example(inspect.type_info(kind), ())


def _example(info: inspect.Type, given: tuple[Any, ...]) -> Any:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=more):
            return _example(inner, tuple((more or {}).get("examples", given)))
        case inspect.UnionType(types=types):
            return _example(next(kind for kind in types if not isinstance(kind, inspect.NoneType)), given)
        case inspect.StructType(fields=fields):
            return {field.encode_name: _example(field.type, ()) for field in fields if field.required}
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return [_example(item, ())]
        case inspect.TupleType(item_types=items):
            return [_example(item, ()) for item in items]
        case inspect.DictType(value_type=value):
            return {"name": _example(value, ())}
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.EnumType(cls=cls):
            return next(iter(cls)).value
        case inspect.IntType() | inspect.FloatType():
            return max(info.ge or 0, 1)
        case inspect.BoolType():
            return True
        case inspect.BytesType():
            return "aWQsbmFtZQo="
        case inspect.StrType():
            return given[0] if given else "e30="
        case _:
            return None
