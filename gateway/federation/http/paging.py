"""Paging by opaque cursor: stable while rows are added, and the same everywhere.

Every list takes `limit` and `cursor`. Where there are more rows, the header `Link` names the following page; a list
that is an object says its cursor as `next` too. A list that was answered whole before there were pages still is, unless
a `limit` is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response
from litestar.params import QueryParameter
from msgspec import Struct

from compliance.crypto.dsse import Envelope
from compliance.crypto.keys import b64url, unb64url
from gateway.federation.problems import Refusal, ServiceReason

LIMIT_MAX = 1_000
LIMIT_DEFAULT = 100
CURSOR_CHARS_MAX = 512
NUMBER_MAX = 2**53
"""No row of any list has a larger one, and what is computed with it still fits where the database counts."""

WHOLE = 2**31 - 1
"""Rows of a page of which nobody said how many."""
T = TypeVar("T")
Key = tuple[str | int, ...]
"""The sort key of the last row of a page."""


class Page(Struct, frozen=True):
    """What a client asks for: at most `limit` rows after `after` (None: from the beginning)."""

    limit: int = LIMIT_DEFAULT
    after: Key | None = None

    def number(self) -> int | None:
        """Return the number that the page begins after; raises Refusal (cursor_malformed, 400)."""
        match self.after:
            case None:
                return None
            case (int(number),) if 0 <= number <= NUMBER_MAX:
                return number
        raise _malformed()

    def text(self) -> str | None:
        """Return the text that the page begins after; raises Refusal (cursor_malformed, 400)."""
        match self.after:
            case None:
                return None
            case (str(text),) if text.isascii() and text.isprintable():
                return text
        raise _malformed()


class Rows(list[T]):
    """A page of a list that is answered as an array; `next` is the cursor of the following one, None at the end."""

    def __init__(self, rows: Iterable[T], next: str | None) -> None:  # noqa: A002 - as pages that are objects call it
        super().__init__(rows)
        self.next = next


def rows_of(page: Page, rows: Iterable[T], key: Callable[[T], Key]) -> Rows[T]:
    """Return a page of rows that are all at hand, in the order that they have.

    If the row that it begins after is there no more, it begins at the first: rather one twice than one left out.
    Raises Refusal (cursor_malformed, 400) for a cursor of another list.
    """
    listed = list(rows)
    if page.after is None and len(listed) <= page.limit:
        return Rows(listed, None)
    times: Counter[Key] = Counter()
    keys: list[Key] = []
    for row in listed:
        # With how often it stood there before, which tells rows apart that have the same key.
        keys.append((*key(row), times[key(row)]))
        times[key(row)] += 1
    begin = 0
    if page.after is not None and keys:
        if [*map(type, page.after)] != [*map(type, keys[0])]:
            raise _malformed()
        begin = keys.index(page.after) + 1 if page.after in keys else 0
    end = begin + page.limit
    return Rows(listed[begin:end], encode_cursor(*keys[end - 1]) if end < len(listed) else None)


def envelope_key(envelope: Envelope) -> Key:
    """Return the sort key of a signed document in a list: the digest of what is signed."""
    return (sha256(envelope.payload.encode()).hexdigest(),)


class PageResponse(Response[Any]):
    """An answer that names the following page, if it is one of a list."""

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> Any:
        """Return what is sent."""
        following = getattr(self.content, "next", None)
        if isinstance(following, str):
            query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
            self.headers["Link"] = f'<{request.url.path}?{urlencode([*query, ("cursor", following)])}>; rel="next"'
        return super().to_asgi_response(app, request, **options)


def encode_cursor(*key: str | int) -> str:
    """Return the cursor that continues after the row with this sort key."""
    return b64url(msgspec.json.encode(key))


def decode_cursor(cursor: str) -> Key:
    """Return the sort key in a cursor; raises Refusal (cursor_malformed, 400)."""
    try:
        return msgspec.json.decode(unb64url(cursor), type=Key)
    except (ValueError, msgspec.MsgspecError):
        raise _malformed() from None


def _malformed() -> Refusal:
    return Refusal(ServiceReason.CURSOR_MALFORMED, "not a cursor of this list")


def provide_page(
    limit: Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX, description="Rows at most.")] = LIMIT_DEFAULT,
    cursor: Annotated[
        str | None, QueryParameter(max_length=CURSOR_CHARS_MAX, description="`next` of the page before.")
    ] = None,
) -> Page:
    """The dependency `page` of every node: `page: NamedDependency[Page]`."""
    return Page(limit, None if cursor is None else decode_cursor(cursor))


def provide_part(
    limit: Annotated[
        int | None, QueryParameter(ge=1, le=LIMIT_MAX, description="Rows at most; all of them if left out.")
    ] = None,
    cursor: Annotated[
        str | None, QueryParameter(max_length=CURSOR_CHARS_MAX, description="Of the page before, by its header `Link`.")
    ] = None,
) -> Page:
    """The dependency `part` of every node: a page of a list that is whole if nobody asks for less."""
    return Page(WHOLE if limit is None else limit, None if cursor is None else decode_cursor(cursor))
