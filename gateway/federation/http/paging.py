"""Paging by opaque cursor: stable while rows are added, and the same everywhere."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from litestar.datastructures import ResponseHeader
from litestar.params import QueryParameter
from msgspec import Struct

from compliance.crypto.keys import b64url, unb64url
from gateway.federation.problems import Refusal, ServiceReason

LIMIT_MAX = 1_000
LIMIT_DEFAULT = 100
CURSOR_CHARS_MAX = 512

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
            case (int(number),) if 0 <= number < 2**63:
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


def encode_cursor(*key: str | int) -> str:
    """Return the cursor that continues after the row with this sort key."""
    return b64url(msgspec.json.encode(key))


FOLLOWING_PAGE = ResponseHeader(
    name="Link", documentation_only=True, description='The following page, `rel="next"`, if there is one.'
)


def following_page(path: str, page: Page, after: int | None) -> dict[str, str]:
    """Return the header `Link` of a list that is an array: to what follows after a row, if anything does."""
    if after is None:
        return {}
    query = urlencode({"limit": page.limit, "cursor": encode_cursor(after)})
    return {"Link": f'<{path}?{query}>; rel="next"'}


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
