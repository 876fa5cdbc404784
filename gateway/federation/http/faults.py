"""All that is wrong with a value of a request, in words: where, what it says, and what is right.

msgspec decides whether a value is taken, and stops at its first error. This is asked only once it has refused one, so
that whoever sent five faults is told of five; it never takes or refuses anything itself.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Container, Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import inspect

from compliance.terminal import shown
from gateway.federation.problems import ProblemError

ERRORS_MAX = 100
"""Of one answer; of a request with more the first are told, and that there are more."""
VALUE_SHOWN = 40
"""Characters of a value, or of a name, that an answer repeats."""
PATTERN_SHOWN = 100
_SECRET = re.compile(r"secret|token|assertion|password|passphrase|credential|private|authorization", re.IGNORECASE)
_PATH = re.compile(r" - at `\$([^`]*)`$")
_BRACKETS = re.compile(r"\[(\d+|\.\.\.)\]")


def body_faults(value: Any, kind: Any) -> tuple[ProblemError, ...]:
    """Return the faults of a parsed body, or the first hundred; none if nothing but msgspec finds one."""
    faults = list(islice(_faults(value, inspect.type_info(kind), "", None), ERRORS_MAX + 1))
    if len(faults) > ERRORS_MAX:
        faults[ERRORS_MAX:] = [ProblemError(f"there are more than these {ERRORS_MAX}")]
    return tuple(faults)


def text_fault(name: str, text: str, kind: Any) -> str | None:
    """Return what is wrong with a parameter's or header's text; None if nothing is."""
    try:
        msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        return _not(name, text, asked_for(inspect.type_info(kind)))
    return None


def asked_for(info: inspect.Type, described: str | None = None) -> str:
    """Return in words what a type takes: as the type itself describes it, or by its bounds."""
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=more):
            return asked_for(inner, _words(more, described))
        case inspect.UnionType(types=types):
            kinds = [inner for inner in types if not isinstance(inner, inspect.NoneType)]
            return described or " or ".join(asked_for(inner) for inner in kinds)
        case inspect.IntType() | inspect.FloatType():
            number = "a whole number" if isinstance(info, inspect.IntType) else "a number"
            return number + _bounds(info.ge, info.le)
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(map(str, values))
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(str(word.value) for word in cls)
        case inspect.StrType():
            matching = f" that matches {info.pattern[:PATTERN_SHOWN]}" if info.pattern else ""
            return described or "a text" + _bounds(info.min_length, info.max_length, " characters") + matching
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            return "an array" + _bounds(info.min_length, info.max_length, " items")
        case inspect.TupleType(item_types=item_types):
            return f"an array of {len(item_types)}"
        case inspect.DictType():
            return "an object" + _bounds(info.min_length, info.max_length, " members")
        case _:
            return _PLAIN.get(type(info), "an object")


_PLAIN: dict[type[inspect.Type], str] = {
    inspect.BoolType: "true or false",
    inspect.BytesType: "a text in base64",
    inspect.UUIDType: "a UUID",
    inspect.DateType: "a date, such as 2026-11-27",
    inspect.DateTimeType: "an instant of RFC 3339, such as 2026-11-27T15:30:00Z",
    inspect.NoneType: "null",
    inspect.RawType: "JSON",
    inspect.AnyType: "JSON",
}


def _words(said: dict[str, Any] | None, otherwise: str | None) -> str | None:
    """Return what a type says of its form. Its words follow "it takes"; a sentence says what something is for."""
    description = str((said or {}).get("description", ""))
    return description if description[:1].islower() else otherwise


def _bounds(least: float | None, most: float | None, unit: str = "") -> str:
    match least, most:
        case None, None:
            return ""
        case None, _:
            return f", at most {most}{unit}"
        case _, None:
            return f", at least {least}{unit}"
    return f" of {least} to {most}{unit}" if unit else f" from {least} to {most}"


def _not(name: str, value: Any, right: str) -> str:
    said = "what it says isn't shown" if _SECRET.search(name) else _said(value)
    return f"{shown(name, characters_max=VALUE_SHOWN)}: {said}; it takes {right}"


def _said(value: Any) -> str:
    match value:
        case str():
            return f"'{shown(value, characters_max=VALUE_SHOWN)}'"
        case dict():
            return "an object"
        case list():
            return f"an array of {len(value)}"
        case _:
            return shown(msgspec.json.encode(value).decode(), characters_max=VALUE_SHOWN)


def _faults(value: Any, info: inspect.Type, pointer: str, described: str | None) -> Iterator[ProblemError]:
    """Yield the faults of a value, outside in."""
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=more):
            yield from _faults(value, inner, pointer, _words(more, described))
        case inspect.UnionType(types=types):
            if value is None and info.includes_none:
                return
            kinds = [inner for inner in types if not isinstance(inner, inspect.NoneType)]
            if len(kinds) == 1:
                yield from _faults(value, kinds[0], pointer, described)
            elif all(any(_faults(value, inner, pointer, described)) for inner in kinds):
                yield _fault(value, info, pointer, described)
        case inspect.StructType() if isinstance(value, dict):
            yield from _faults_of_members(value, info, pointer)
        case inspect.ListType() | inspect.VarTupleType() if isinstance(value, list):
            if not _within(len(value), info.min_length, info.max_length):
                yield _fault(value, info, pointer, described)
            for at, item in enumerate(value):
                yield from _faults(item, info.item_type, f"{pointer}/{at}", None)
        case inspect.TupleType(item_types=item_types) if isinstance(value, list) and len(value) == len(item_types):
            for at, (item, item_type) in enumerate(zip(value, item_types, strict=True)):
                yield from _faults(item, item_type, f"{pointer}/{at}", None)
        case inspect.DictType() if isinstance(value, dict):
            if not _within(len(value), info.min_length, info.max_length):
                yield _fault(value, info, pointer, described)
            for name, item in value.items():
                yield from _faults(item, info.value_type, f"{pointer}/{_step(name)}", None)
        case _ if not _fits(value, info):
            yield _fault(value, info, pointer, described)


def _faults_of_members(value: dict[str, Any], info: inspect.StructType, pointer: str) -> Iterator[ProblemError]:
    if _is_taken(value, info.cls):
        return
    any_fault = False
    members = {field.encode_name: field for field in info.fields}
    for name in value.keys() - members.keys() if info.forbid_unknown_fields else ():
        any_fault = True
        known = ", ".join(members)
        said = f"{shown(name, characters_max=VALUE_SHOWN)}: no member of this object, which takes {known}"
        yield ProblemError(said, f"{pointer}/{_step(name)}")
    for name, field in members.items():
        if name in value:
            for fault in _faults(value[name], field.type, f"{pointer}/{name}", None):
                any_fault = True
                yield fault
        elif field.required:
            any_fault = True
            yield ProblemError(f"{name}: missing; it takes {asked_for(field.type)}", f"{pointer}/{name}")
    if not any_fault:
        yield from _faults_beyond_members(value, info.cls, members, pointer)


def _faults_beyond_members(
    value: dict[str, Any], cls: type, members: Container[str], pointer: str
) -> Iterator[ProblemError]:
    """Yield why an object isn't taken each of whose members is: what a type says beyond its members' forms.

    What it says begins with the member that it is about, which may be missing.
    """
    try:
        msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        message = str(error)
        path = _PATH.search(message)
        said = message[: path.start()] if path else message
        first = said.partition(":")[0]
        where = json_pointer(path[1]) if path else f"/{first}" if first in members else ""
        yield ProblemError(said, pointer + where)


def _is_taken(value: Any, cls: type) -> bool:
    try:
        msgspec.convert(value, cls)
    except msgspec.ValidationError:
        return False
    return True


def _fits(value: Any, info: inspect.Type) -> bool:
    """Tell whether a text, number or word is of a type; what isn't known here is."""
    match info:
        case inspect.StrType():
            return (
                isinstance(value, str)
                and _within(len(value), info.min_length, info.max_length)
                and (info.pattern is None or re.search(info.pattern, value) is not None)
            )
        case inspect.IntType():
            return type(value) is int and _within(value, info.ge, info.le) and (info.gt is None or value > info.gt)
        case inspect.FloatType():
            return type(value) in (int, float) and _within(value, info.ge, info.le)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.NoneType():
            return value is None
        case inspect.LiteralType(values=values):
            return any(type(value) is type(word) and value == word for word in values)
        case inspect.EnumType(cls=cls):
            return isinstance(value, str) and value in [word.value for word in cls]
        case inspect.BytesType():
            return isinstance(value, str) and _is_base64(value)
        case inspect.AnyType() | inspect.RawType():
            return True
        case _:
            return False


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _within(number: float, least: float | None, most: float | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)


def _fault(value: Any, info: inspect.Type, pointer: str, described: str | None) -> ProblemError:
    step = pointer.rpartition("/")[2]
    name = f"item {step}" if step.isdigit() else step or "the body"
    if value is None and not pointer:
        return ProblemError(f"the body is missing; it takes {asked_for(info, described)}", pointer)
    return ProblemError(_not(name, value, asked_for(info, described)), pointer)


def _step(name: str) -> str:
    """Return a member's name as a step of a JSON pointer, no longer than an answer repeats."""
    return shown(name, characters_max=VALUE_SHOWN).replace("~", "~0").replace("/", "~1")


def json_pointer(path: str) -> str:
    """Turn msgspec's path ("payments[3].amount_minor") into a JSON pointer (RFC 6901)."""
    steps = _BRACKETS.sub(r".\1", path).strip(".")
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps.split(".")) if steps else ""
