"""Reading what another member answers: what it says beyond what we know is left aside, and told once in our log.

Members aren't all of one release. An answer, a page of the feed or a view may hold a member or a word that came later,
and is understood without it. What is signed stays closed: an envelope's payload is verified and parsed by itself, and
a document that stands in an answer is taken whole or not at all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import inspect

from compliance.statements import Document
from gateway.federation.messages.base import WORDS

T = TypeVar("T")
LOGGED_MAX = 200
"""Of one peer. Beyond this nothing more is told: what it makes up fills neither our memory nor our log."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_encode = msgspec.json.Encoder().encode
_Unknown = tuple[str, str, str | None]
"""Type, member and, where that holds one of several words, the word."""
_logged: defaultdict[str, set[_Unknown]] = defaultdict(set)
"""What was told, by peer."""
_log = structlog.get_logger(__name__)


def read_answer(content: bytes, kind: type[T], *, peer: str) -> T:
    """Return an answer as far as we know its kind. Raises msgspec.DecodeError for what isn't one even so.

    `peer` is who answered, for the log.
    """
    shape: Any = kind
    form = _form(shape)
    answer: T | None = None
    try:
        # An envelope is closed, because requests hold envelopes too; here it may say more than we know.
        with suppress(msgspec.ValidationError):
            answer = form.decoder.decode(content)
        if answer is not None and not form.has_words and len(_encode(answer)) == len(content):
            return answer  # Nothing was left out: it is as long as what we would have written.
        known = msgspec.json.decode(content)
        unknown: list[_Unknown] = []
        _leave_aside(known, form.root, unknown)
        if answer is None:
            answer = msgspec.convert(known, kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    # Told only now: what isn't an answer at all has no words to be told of.
    for unheard_of in unknown:
        _tell(peer, *unheard_of)
    return answer


@dataclass(frozen=True, slots=True)
class _Object:
    kind: str
    members: dict[str, _Place | None]


@dataclass(frozen=True, slots=True)
class _Items:
    """Of an array, or the values of a map."""

    place: _Place


@dataclass(frozen=True, slots=True)
class _Word:
    known: frozenset[str]


_Place = _Object | _Items | _Word
"""Where something may stand that we don't know."""


@dataclass(frozen=True, slots=True)
class _Form:
    decoder: msgspec.json.Decoder[Any]
    root: _Place | None
    has_words: bool


@cache
def _form(kind: Any) -> _Form:
    words: list[_Word] = []
    return _Form(msgspec.json.Decoder[Any](kind), _place(inspect.type_info(kind), words), bool(words))


def _place(info: inspect.Type, words: list[_Word]) -> _Place | None:
    match info:
        case inspect.StructType(cls=cls) if not issubclass(cls, Document):
            return _Object(cls.__name__, {field.encode_name: _place(field.type, words) for field in info.fields})
        case inspect.Metadata(type=inner, extra=extra):
            if extra is None or WORDS not in extra:
                return _place(inner, words)
            words.append(_Word(frozenset(extra[WORDS])))
            return words[-1]
        case inspect.ListType() | inspect.VarTupleType():
            items = _place(info.item_type, words)
        case inspect.DictType():
            items = _place(info.value_type, words)
        case inspect.UnionType():
            places = [place for member in info.types if (place := _place(member, words)) is not None]
            return places[0] if len(places) == 1 else None
        case _:
            return None
    return None if items is None else _Items(items)


def _leave_aside(value: Any, place: _Place | None, unknown: list[_Unknown], kind: str = "", member: str = "") -> None:
    """Take out of a parsed answer, in place, the members that we don't know; note them and words that we don't know."""
    match place, value:
        case _Object(), dict():
            for name in [name for name in value if name not in place.members]:
                del value[name]
                unknown.append((place.kind, name, None))
            for name, inner in value.items():
                _leave_aside(inner, place.members[name], unknown, place.kind, name)
        case _Items(), list():
            for item in value:
                _leave_aside(item, place.place, unknown, kind, member)
        case _Items(), dict():
            for item in value.values():
                _leave_aside(item, place.place, unknown, kind, member)
        case _Word(), str() if value not in place.known:
            unknown.append((kind, member, value))


def _tell(peer: str, kind: str, member: str, word: str | None) -> None:
    """Log something unknown, once in the life of the process."""
    # What else it could be, nobody knows, and it is to stand in a log. (A word of an answer has its form already.)
    name = member if _NAME.fullmatch(member) else "(not a name)"
    logged = _logged[peer]
    if (kind, name, word) in logged or len(logged) >= LOGGED_MAX:
        return
    logged.add((kind, name, word))
    more = {} if word is None else {"word": word}
    _log.warning("unknown in an answer", peer=peer, type=kind, member=name, **more)
